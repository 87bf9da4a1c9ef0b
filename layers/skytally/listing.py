"""Listings: the rows of a view in the order that is asked for, and as many of them as are asked for."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from skytally.errors import Malformed

Rows = Sequence[Mapping[str, Any]]
WAYS = {"up": False, "down": True}
MOST_DIGITS = 9


class Cut(Struct, frozen=True):
    """An order, a column with -up or -down behind it, and a part of a listing; all rows in their own order, where nothing is asked for."""

    sort: str = ""
    offset: int = 0
    limit: int | None = None


def cut(query: Mapping[str, str]) -> Cut:
    """Read the order and the part that a query asks for; raises Malformed."""
    limit = _number(query, "limit") if "limit" in query else None
    return Cut(query.get("sort", ""), _number(query, "offset") if "offset" in query else 0, limit)


def _number(query: Mapping[str, str], field: str) -> int:
    text = query[field]
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        raise Malformed(f"{field} must be a whole number", field=field)
    return int(text)


def listed(rows: Rows, asked: Cut) -> Rows:
    """Order rows and cut them. Names order as people count (vm-2 before vm-10); what is not known comes last, whichever way."""
    ordered = _ordered(rows, asked.sort) if asked.sort and rows else rows
    return ordered[asked.offset :][: asked.limit]


def _ordered(rows: Rows, sort: str) -> Rows:
    name, _, way = sort.rpartition("-")
    if way not in WAYS or name not in rows[0]:
        raise Malformed(f"sort must be one of {', '.join(rows[0])}, with -up or -down behind it", field="sort")
    known = sorted((row for row in rows if row[name] is not None), key=lambda row: _order(row[name]), reverse=WAYS[way])
    return [*known, *(row for row in rows if row[name] is None)]


def _order(value: Any) -> Any:
    """Answer what a value is compared by."""
    if isinstance(value, list):
        return [_order(one) for one in value]
    if not isinstance(value, str):
        return value
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d{1,15})", value.casefold())]
