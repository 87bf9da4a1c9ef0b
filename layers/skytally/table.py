"""Tables as CSV (RFC 4180) that a spreadsheet opens without harm.

Invariant: wherever a spreadsheet splits a file, at our commas or inside a value at another separator or a line's
end, no cell of text begins with what it takes for a formula. Numbers are written as they are.
"""

import csv as writer
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from skytally.plain_text import visible
from skytally.rounding import money

ROWS_AT_ONCE = 1_000
# Columns whose names lack their unit.
HEADERS = {"coverage": "coverage_share", "efficiency": "efficiency_share"}
# What begins a formula, also in full width; what separates cells somewhere; and what is seen and is neither.
FORMULA_STARTS, SEPARATORS, SIGNS = "=+-@＝＋－＠", ";,|\t\r\n", "!#$%&()*./:<>?[\\]^`{}~"
_STARTS = re.compile(f"[{re.escape(FORMULA_STARTS)}]")
# What may stand before a cell's first visible character: separators, quotes, blanks, and whatever else is no word.
_LEADING = rf"[^\w{re.escape(SIGNS + FORMULA_STARTS)}]"
_LEADINGS = re.compile(f"^{_LEADING}*|{_LEADING}+")


def csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows under a header of their names with units; what is not known stays empty, and costs have their currency's decimals.

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
    header = [{name: HEADERS.get(name, name) for name in names}]
    while page := header + list(islice(left, ROWS_AT_ONCE)):
        yield _lines(page, names)
        header = []


def _lines(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> str:
    out = io.StringIO()
    writer.DictWriter(out, names, lineterminator="\r\n").writerows(map(_cells, rows))
    return out.getvalue()


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    cells = {name: _cell(value) for name, value in row.items()}
    has_cost = isinstance(row.get("cost"), float)
    return cells | ({"cost": money(row["cost"], row.get("currency"))} if has_cost else {})


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    if isinstance(value, str):
        return visible(guarded(value), keep="\t\r\n")
    return "" if value is None else value


def guarded(text: str) -> str:
    """Return a text with an apostrophe before each formula that it holds as a cell, whatever splits it into cells."""
    return _LEADINGS.sub(_guard, text) if _STARTS.search(text) else text


def _guard(leading: re.Match[str]) -> str:
    """Put an apostrophe behind what leads to a formula where a separator is in it, and before it at the text's begin."""
    run = leading[0]
    if not _STARTS.match(leading.string, leading.end()):
        return run
    is_split = any(letter in SEPARATORS for letter in run)
    return "'" * (leading.start() == 0) + run + "'" * is_split
