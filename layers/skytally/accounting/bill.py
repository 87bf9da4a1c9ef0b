"""A provider's bill: CSV as spreadsheets of any country write it, read exactly or refused with line and column.

::

    cloud;core_hours;cost;currency          comma, semicolon or tab; the order of columns, other columns, capitals and
                                            blanks do not matter
    uvic;1.234.567,5;12 345,00;EUR          decimal point or comma, the same in the whole bill; thousands in groups of
                                            three
    uvic;-24,0;-1,20;EUR                    a credit: -24,0 or 24,0- or (24,0)
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from typing import BinaryIO

from msgspec import Struct

from skytally.core.errors import Malformed

SEPARATORS = ",;\t"
HOURS_COLUMNS, MONEY_COLUMNS = ("cloud", "core_hours"), ("cost", "currency")
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
CHUNK_BYTES, MAX_LINE_CHARACTERS, MAX_CLOUDS = 1 << 16, 1 << 20, 10_000
MAX_VALUE = Decimal(10) ** 12
CURRENCY = re.compile(r"[A-Z]{3}")


def _form(decimal: str, others: str) -> re.Pattern[str]:
    """Return the pattern of numbers with a decimal separator; a number has one kind of thousands separator."""
    grouped = rf"[1-9][0-9]{{0,2}}(?P<group>[{others} \u00a0\u202f'’])[0-9]{{3}}(?:(?P=group)[0-9]{{3}})*"
    return re.compile(
        rf"(?P<whole>{grouped}|[0-9]+)(?:{re.escape(decimal)}(?P<part>[0-9]+))?(?P<power>[eE][+-]?[0-9]{{1,3}})?"
    )


FORMS = {".": _form(".", ","), ",": _form(",", ".")}
SIGNED = re.compile(r"[-−](?P<before>.+)|(?P<behind>.+)[-−]|\((?P<inside>.+)\)|\+?(?P<positive>.+)")


class Billed(Struct, frozen=True):
    """The sums of a cloud's lines; the cost is None if the bill has no such column."""

    core_hours: float
    cost: float | None = None
    currency: str | None = None


def read(file: BinaryIO, decimal: str | None = None) -> dict[str, Billed]:
    """Return the sums of each cloud's lines, in bounded memory; `decimal` is the decimal separator if it is known.

    Raise Malformed with line and column for a bill that is unreadable or ambiguous.
    """
    encoding = _encoding(file)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        return _sums(_rows(text, encoding), _Sums(decimal))
    finally:
        text.detach()


def _sums(rows: Iterator[tuple[int, list[str]]], sums: "_Sums") -> dict[str, Billed]:
    _, header = next(rows, (1, []))
    columns = _columns(header)
    for line, row in rows:
        if len(row) > len(header):
            raise Malformed(
                f"line {line} of the bill has {len(row)} fields and its header {len(header)}: quote numbers that have "
                "commas"
            )
        cells = {name: row[place].strip() if place < len(row) else "" for name, place in columns.items()}
        for name, cell in cells.items():
            if not cell:
                raise Malformed(
                    f"line {line}, column {name} of the bill is empty: fill it in, with 0 for nothing, or remove the "
                    "line"
                )
        sums.add(line, cells)
    return sums.total()


def _encoding(file: BinaryIO) -> str:
    """Return a file's encoding: by its byte order mark, else UTF-8, else Windows-1252."""
    if not file.seekable():
        raise Malformed("the bill must be a file, because it is read twice")
    start = file.read(3)
    file.seek(0)
    for bom, encoding in BOMS.items():
        if start.startswith(bom):
            return encoding
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := file.read(CHUNK_BYTES):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    finally:
        file.seek(0)
    return "utf-8"


def _rows(text: io.TextIOWrapper, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank with the line where it begins, the header first."""
    lines = _lines(text)
    line = 1
    try:
        first = next(lines, "")
        separator = max(SEPARATORS, key=lambda candidate: _fit(first, candidate))
        reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
        for row in reader:
            if any(cell.strip() for cell in row):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise Malformed(f"line {line} of the bill is no CSV ({error}): close its quotation marks") from None
    except UnicodeError:
        raise Malformed(
            f"line {line} of the bill, or one soon after it, is no {encoding} text: save the bill as UTF-8"
        ) from None


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_CHARACTERS):
        number += 1
        if len(line) == MAX_LINE_CHARACTERS:
            raise Malformed(f"line {number} of the bill is longer than a million characters: name a CSV file")
        yield line


def _fit(line: str, separator: str) -> tuple[int, int]:
    """Return how many of our columns, and how many columns in all, a header has with a separator."""
    names = [_plain(cell) for cell in line.split(separator)]
    return len({*HOURS_COLUMNS, *MONEY_COLUMNS} & set(names)), len(names)


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "_", name.strip().strip('"').strip().lower())


def _columns(header: list[str]) -> dict[str, int]:
    """Return the positions of the used columns; costs are used if the bill has a currency column too."""
    names = [_plain(cell) for cell in header]
    used = HOURS_COLUMNS + (MONEY_COLUMNS if set(MONEY_COLUMNS) <= set(names) else ())
    for name in used:
        if names.count(name) != 1:
            first_cells = ", ".join(repr(cell[:40]) for cell in header[:8])
            raise Malformed(
                f"line 1 of the bill names the columns, {' and '.join(used)} among them, by comma, semicolon or tab; "
                f"it has {names.count(name) or 'no'} {name} ({first_cells}): rename or remove columns"
            )
    return {name: names.index(name) for name in used}


class _Sums:
    """Sums of a bill's lines, kept for each decimal separator until a line rules it out."""

    def __init__(self, decimal: str | None) -> None:
        self._sums: dict[str, dict[str, dict[str, Decimal]]] = {
            decimal: {} for decimal in ((decimal,) if decimal else FORMS)
        }
        self._currencies: dict[str, tuple[str, int]] = {}
        self._decided_by = "--decimal" if decimal else ""
        self._ambiguity = ""

    def add(self, line: int, cells: dict[str, str]) -> None:
        """Add a line; raise Malformed if it contradicts the lines before it."""
        cloud = cells["cloud"]
        if "currency" in cells:
            self._check_currency(line, cloud, cells["currency"])
        for column in ("core_hours", "cost"):
            if column in cells:
                self._add_number(cloud, column, cells[column], f"line {line}, column {column} of the bill")

    def total(self) -> dict[str, Billed]:
        """Return the sums of each cloud; raise Malformed if the bill is ambiguous."""
        first, *others = self._sums.values()
        if self._ambiguity and others:
            raise Malformed(f"{self._ambiguity}, and no other line says which: name the decimal separator by --decimal")
        currencies = {cloud: currency for cloud, (currency, _) in self._currencies.items()}
        return {
            cloud: Billed(
                float(sums["core_hours"]), float(sums["cost"]) if "cost" in sums else None, currencies.get(cloud)
            )
            for cloud, sums in first.items()
        }

    def _add_number(self, cloud: str, column: str, text: str, place: str) -> None:
        values = {decimal: value for decimal in self._sums if (value := number(text, decimal)) is not None}
        if not values:
            self._refuse(text, place)
        for decimal in [decimal for decimal in self._sums if decimal not in values]:
            del self._sums[decimal]
            self._decided_by = f"{place.partition(',')[0]} ({text[:40]})"
        if len(set(values.values())) > 1 and not self._ambiguity:
            self._ambiguity = f"{place}: {text[:40]} may be {' or '.join(str(value) for value in values.values())}"
        for decimal, value in values.items():
            sums = self._sums[decimal].setdefault(cloud, {})
            if len(self._sums[decimal]) > MAX_CLOUDS:
                raise Malformed(f"{place}: this is cloud {len(self._sums[decimal])}: is cloud the right column?")
            sums[column] = sums.get(column, Decimal()) + value

    def _refuse(self, text: str, place: str) -> None:
        if any(number(text, decimal) is not None for decimal in FORMS):
            raise Malformed(
                f"{place}: {text[:40]} has another decimal separator than {self._decided_by}: use one in the whole bill"
            )
        raise Malformed(f"{place}: {text[:40]!r} is no number below 10¹²: write it as 1234.5, without a unit")

    def _check_currency(self, line: int, cloud: str, currency: str) -> None:
        if not CURRENCY.fullmatch(currency):
            raise Malformed(f"line {line}, column currency of the bill: {currency[:40]!r} is no code such as EUR")
        first_currency, first_line = self._currencies.setdefault(cloud, (currency, line))
        if first_currency != currency:
            raise Malformed(
                f"line {line}, column currency of the bill: {currency}, and line {first_line} has {first_currency} "
                f"for {cloud}: compare a bill of each currency by itself"
            )


def number(text: str, decimal: str) -> Decimal | None:
    """Return the number of a text with a decimal separator, or None if it is no number."""
    signed = SIGNED.fullmatch(text)
    if signed is None:
        return None
    form = FORMS[decimal].fullmatch(signed[signed.lastgroup or "positive"].strip())
    if form is None:
        return None
    value = Decimal(f"{re.sub('[^0-9]', '', form['whole'])}.{form['part'] or 0}{form['power'] or ''}")
    if value >= MAX_VALUE:
        return None
    return value if signed.lastgroup == "positive" else -value
