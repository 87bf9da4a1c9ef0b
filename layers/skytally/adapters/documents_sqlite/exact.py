"""Sums of readable documents, exact for integers of any size.

SQLite's own SUM is exact, or fails beyond 64 bits. Then Python adds up the same rows, which takes some times as long.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from skytally.core import storable
from skytally.core.ports import Query, Row

# Writes a statement, given the name of the function that adds up in it.
Statement = Callable[[str], str]


class ExactSum:
    """An SQL aggregate function; its result is a text for an integer of more than 64 bits."""

    def __init__(self) -> None:
        self._sum: float = 0

    def step(self, value: Any) -> None:
        """Add a number; ignore anything else."""
        if isinstance(value, int | float):
            self._sum += value

    def finalize(self) -> float | str:
        """Return the sum."""
        is_large = isinstance(self._sum, int) and abs(self._sum) >= storable.END_OF_INTEGERS
        return str(self._sum) if is_large else self._sum


def prepare(connection: sqlite3.Connection) -> None:
    """Register the functions that `rows` needs on a connection."""
    connection.create_aggregate("exact_sum", 1, ExactSum)  # type: ignore[arg-type]  # its answer may be text


def fetched(reader: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
    """Return all rows of a statement; a text that is no UTF-8 stays bytes, so that only its document is unreadable."""
    try:
        return reader.execute(sql, values).fetchall()
    except sqlite3.OperationalError as error:
        if not str(error).startswith("Could not decode to UTF-8"):
            raise
    reader.text_factory = _text
    try:
        return reader.execute(sql, values).fetchall()
    finally:
        reader.text_factory = str


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def rows(reader: sqlite3.Connection, query: Query, statement: Statement, values: Sequence[Any]) -> list[Row]:
    """Return the rows of a query's sums, without rows that lack a mandatory dimension."""
    try:
        rows_found = fetched(reader, statement("SUM"), values)
    except sqlite3.OperationalError as error:
        if not is_overflow(error):
            raise
        rows_found = fetched(reader, statement("exact_sum"), values)
    names = rows_found[0].keys() if rows_found else []
    needed = [name for name in query.by if name in storable.required(query.index)]
    sums = [name for name in names if name not in query.by]
    named = (dict(zip(names, row, strict=True)) for row in rows_found)
    return [_with_numbers(row, sums) for row in named if _is_readable(row, query.by, needed)]


def is_overflow(error: sqlite3.OperationalError) -> bool:
    """Return whether SUM failed because of more than 64 bits."""
    return str(error) == "integer overflow"


def _is_readable(row: Row, dimensions: Sequence[str], needed: Sequence[str]) -> bool:
    for name in needed:
        if row[name] is None:
            return False
    return bytes not in {type(row[name]) for name in dimensions}


def _with_numbers(row: Row, sums: Sequence[str]) -> Row:
    """Return a row whose sums are numbers; the sum of absent values is 0."""
    for name in sums:
        value = row[name]
        if not value or isinstance(value, str):
            row[name] = int(value or 0)
    return row
