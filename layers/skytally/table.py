"""Tables as CSV (RFC 4180) that a spreadsheet opens without harm."""

import csv as writer
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
ROWS_AT_ONCE = 1_000


def csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows under a header of their names, which hold the units; what is not known stays empty.

    A name that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    return "".join(csv_pieces(rows))


def csv_pieces(rows: Iterable[Mapping[str, Any]], names: Sequence[str] | None = None) -> Iterator[str]:
    """Write the same piece by piece, of any number of rows; with names, their header stands there also without rows."""
    left = iter(rows)
    if names is None:
        first = next(left, None)
        if first is None:
            return
        names, left = list(first), chain([first], left)
    header = [dict(zip(names, names, strict=True))]
    while page := header + list(islice(left, ROWS_AT_ONCE)):
        yield _lines(page, names)
        header = []


def _lines(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    out = io.StringIO()
    writer.DictWriter(out, names, lineterminator="\r\n").writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(value)
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value
