"""Listings: the rows of a view in the order that is asked for, and as many of them as are asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, overload

from msgspec import Struct

from skytally.core.errors import Malformed

Rows = Sequence[Mapping[str, Any]]
WAYS = {"up": False, "down": True}
MOST_DIGITS = 9


class PageRequest(Struct, frozen=True):
    """An order, a column with -up or -down behind it, and a part of a listing;
    all rows in their own order, where nothing is asked for.
    """

    sort: str = ""
    offset: int = 0
    limit: int | None = None


def cut(query: Mapping[str, str]) -> PageRequest:
    """Read the order and the part that a query asks for; raises Malformed."""
    limit = _number(query, "limit") if "limit" in query else None
    return PageRequest(query.get("sort", ""), _number(query, "offset") if "offset" in query else 0, limit)


def _number(query: Mapping[str, str], field: str) -> int:
    text = query[field]
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        raise Malformed(f"{field} must be a whole number", field=field)
    return int(text)


class LazyRows(Sequence[Mapping[str, Any]]):
    """Rows of which some columns are known, and the rest is worked out of those rows alone that somebody looks at."""

    def __init__(self, known: Sequence[Mapping[str, Any]], rest: Callable[[int], Mapping[str, Any]]) -> None:
        self.known = known
        self._row = cache(lambda at: {**known[at], **rest(at)})

    def __len__(self) -> int:
        return len(self.known)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> Mapping[str, Any] | Rows:
        """Return a row, or several, whole."""
        places = range(len(self.known))[at]
        return self._row(places) if isinstance(places, int) else [self._row(place) for place in places]


def listed(rows: Rows, asked: PageRequest) -> Rows:
    """Order rows and cut them.

    Names order as people count (vm-2 before vm-10); what is not known comes last, whichever way.
    """
    places = _ordered(rows, asked.sort) if asked.sort and rows else range(len(rows))
    return [rows[place] for place in places[asked.offset :][: asked.limit]]


def _ordered(rows: Rows, sort: str) -> Sequence[int]:
    """Return the places of rows in an order."""
    name, _, way = sort.rpartition("-")
    if way not in WAYS or name not in rows[0]:
        raise Malformed(f"sort must be one of {', '.join(rows[0])}, with -up or -down behind it", field="sort")
    sketched = rows.known if isinstance(rows, LazyRows) and name in rows.known[0] else rows
    told = {place: _order(row[name]) for place, row in enumerate(sketched) if row[name] is not None}
    known = sorted(told, key=lambda place: told[place], reverse=WAYS[way])
    return [*known, *(place for place in range(len(rows)) if place not in told)]


def _order(value: Any) -> Any:
    """Return what a value is compared by."""
    if isinstance(value, list):
        return [_order(one) for one in value]
    if not isinstance(value, str):
        return value
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"(\d{1,15})", value.casefold())
    ]
