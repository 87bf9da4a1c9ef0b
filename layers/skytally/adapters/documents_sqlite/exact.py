"""Sums of readable documents, exact for integers of any size.

SQLite's own SUM is exact, or fails beyond 64 bits. Then Python adds up the same rows, which takes some times as long.
"""

import sqlite3
from collections.abc import Callable, Sequence
from types import NoneType
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


def fetched(reader: sqlite3.Connection, sql: str, values: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return all rows of a statement, and the names of their columns.

    A text that is no UTF-8 stays bytes, so that only its document is unreadable.
    """
    try:
        return _fetched(reader, sql, values)
    except sqlite3.OperationalError as error:
        if not str(error).startswith("Could not decode to UTF-8"):
            raise
    reader.text_factory = _text
    try:
        return _fetched(reader, sql, values)
    finally:
        reader.text_factory = str


def _fetched(reader: sqlite3.Connection, sql: str, values: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
    cursor = reader.execute(sql, values)
    return [column[0] for column in cursor.description], cursor.fetchall()


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def rows(reader: sqlite3.Connection, query: Query, statement: Statement, values: Sequence[Any]) -> list[Row]:
    """Return the rows of a query's sums, without rows that lack a mandatory dimension."""
    try:
        names, found = fetched(reader, statement("SUM"), values)
    except sqlite3.OperationalError as error:
        if not is_overflow(error):
            raise
        names, found = fetched(reader, statement("exact_sum"), values)
    # Columns are checked at once: of many rows, most have nothing to convert or leave out.
    columns = zip(*found, strict=True) if found else [()] * len(names)
    types = {name: {*map(type, column)} for name, column in zip(names, columns, strict=True)}
    named = [dict(zip(names, row, strict=True)) for row in found]
    needed = [name for name in query.by if name in storable.required(query.index)]
    if any(NoneType in types[name] for name in needed) or any(bytes in types[name] for name in query.by):
        named = [row for row in named if _is_readable(row, query.by, needed)]
    for name in types.keys() - {*query.by}:
        if types[name] != {int}:
            for row in named:
                row[name] = _number(row[name])
    return named


def is_overflow(error: sqlite3.OperationalError) -> bool:
    """Return whether SUM failed because of more than 64 bits."""
    return str(error) == "integer overflow"


def _is_readable(row: Row, dimensions: Sequence[str], needed: Sequence[str]) -> bool:
    for name in needed:
        if row[name] is None:
            return False
    return bytes not in {type(row[name]) for name in dimensions}


def _number(value: float | str | None) -> float:
    """Return a sum as a number; that of absent values is 0."""
    return int(value or 0) if not value or isinstance(value, str) else value
