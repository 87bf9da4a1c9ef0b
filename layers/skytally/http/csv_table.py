"""Tables as CSV (RFC 4180) that are safe to open in a spreadsheet.

Invariant: wherever a spreadsheet splits a file, at our separators or inside a value at another separator or line end,
no text cell begins like a formula. Numbers are written unchanged.
"""

import csv as writer
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from skytally.core.errors import Malformed
from skytally.core.plain_text import visible
from skytally.core.rounding import CURRENCIES, money

ROWS_AT_ONCE = 1_000
# Columns whose names lack their unit.
HEADERS = {"coverage": "coverage_share", "efficiency": "efficiency_share"}
# What separates cells where decimals have a point, and where they have a comma.
DELIMITERS = {".": ",", ",": ";"}
MOMENT_NAMES = {"at", "from", "until"}
# Our own writing of a moment, of which spreadsheets take the second for a time and the rest for text.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z")
# What begins a formula, also in full width; what separates cells somewhere; and what is seen and is neither.
FORMULA_STARTS, SEPARATORS, SIGNS = "=+-@＝＋－＠", ";,|\t\r\n", "!#$%&()*./:<>?[\\]^`{}~"
_STARTS = re.compile(f"[{re.escape(FORMULA_STARTS)}]")
# What may stand before a cell's first visible character: separators, quotes, blanks, and whatever else is no word.
_LEADING = rf"[^\w{re.escape(SIGNS + FORMULA_STARTS)}]"
_LEADINGS = re.compile(f"^{_LEADING}*|{_LEADING}+")


def csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None, decimal: str = ".") -> str:
    """Return rows under a header of names with units; unknown values are empty.

    Costs have their currency's decimals, times are UTC to the second. With a decimal comma, as in many countries,
    semicolons separate cells. A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    return "".join(csv_pieces(rows, names, decimal))


def csv_pieces(
    rows: Iterable[Mapping[str, Any]], names: Sequence[str] | None = None, decimal: str = "."
) -> Iterator[str]:
    """Return the same piece by piece, for any number of rows; with `names` there is a header even without rows."""
    if decimal not in DELIMITERS:
        raise Malformed("decimal must be . or ,", field="decimal")
    left = iter(rows)
    if names is None:
        first = next(left, None)
        if first is None:
            return
        names, left = list(first), chain([first], left)
    header = _lines([map(_header, names)], decimal)
    while page := list(islice(left, ROWS_AT_ONCE)):
        yield header + _lines(([_cell(name, row, decimal) for name in names] for row in page), decimal)
        header = ""
    if header:
        yield header


def _lines(rows: Iterable[Iterable[Any]], decimal: str) -> str:
    out = io.StringIO()
    writer.writer(out, delimiter=DELIMITERS[decimal], lineterminator="\r\n").writerows(rows)
    return out.getvalue()


def _header(name: str) -> str:
    return f"{name}_utc" if _is_moment(name) else HEADERS.get(name, name)


def _is_moment(name: str) -> bool:
    return name.endswith("_at") or name in MOMENT_NAMES


def _cell(name: str, row: Mapping[str, Any], decimal: str) -> Any:
    value = row.get(name)
    if isinstance(value, list):
        value = "; ".join(" ".join(map(str, item.values())) if isinstance(item, dict) else str(item) for item in value)
    if isinstance(value, str):
        moment = _MOMENT.fullmatch(value) if _is_moment(name) else None
        return " ".join(moment.group(1, 2)) if moment else visible(guarded(value), keep="\t\r\n")
    if isinstance(value, float):
        value = money(value, row.get(CURRENCIES[name])) if name in CURRENCIES else value
        return str(value).replace(".", decimal)
    return "" if value is None else value


def guarded(text: str) -> str:
    """Return a text with an apostrophe before each formula, however a spreadsheet splits the text into cells."""
    return _LEADINGS.sub(_guard, text) if _STARTS.search(text) else text


def _guard(leading: re.Match[str]) -> str:
    """Return the characters before a formula with an apostrophe: at the text's start, and after a separator."""
    run = leading[0]
    if not _STARTS.match(leading.string, leading.end()):
        return run
    is_split = any(letter in SEPARATORS for letter in run)
    return "'" * (leading.start() == 0) + run + "'" * is_split
