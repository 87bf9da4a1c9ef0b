"""A commit's writes: their outcomes follow from the stored versions, and many rows are written by one statement.

The caller holds the file's write lock, so nobody changes a version in between. A statement of many rows is one call
into SQLite. Each call lets other threads run Python, and has to wait for them afterwards.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct

from skytally.adapters.documents_sqlite.tables import Table, padded, quoted
from skytally.core.ports import Outcome

KEYS_PER_STATEMENT = 500
MOST_ROWS = 32


class PreparedWrite(Struct, gc=False):
    """A write as a row of its table; it begins with the key and the version."""

    table: Table
    row: list[Any]
    create: bool


def apply(connection: sqlite3.Connection, writes: Sequence[PreparedWrite]) -> list[Outcome]:
    """Write documents in the caller's transaction and return their outcomes, in order."""
    outcomes = [Outcome.STALE] * len(writes)
    positions: dict[Table, list[int]] = defaultdict(list)
    for position, write in enumerate(writes):
        positions[write.table].append(position)
    for table, its_positions in positions.items():
        versions = _versions(connection, table, {writes[position].row[0] for position in its_positions})
        rows: dict[str, list[Any]] = {}
        for position in its_positions:
            write = writes[position]
            key, version = write.row[0], write.row[1]
            if key not in versions or (not write.create and _is_old(versions[key], version)):
                versions[key], rows[key] = version, write.row
                outcomes[position] = Outcome.STORED
        _put(connection, table, list(rows.values()))
    return outcomes


def _is_old(stored: Any, version: int) -> bool:
    """Return whether a version may replace a stored one; one that is no number is never replaced."""
    return isinstance(stored, int | float) and stored <= version


def _versions(connection: sqlite3.Connection, table: Table, keys: Collection[str]) -> dict[str, Any]:
    """Return the stored versions of those keys that are there."""
    versions: dict[str, Any] = {}
    remaining = list(keys)
    for start in range(0, len(remaining), KEYS_PER_STATEMENT):
        page = padded(remaining[start : start + KEYS_PER_STATEMENT])
        sql = f"SELECT key, version FROM {quoted(table.name)} WHERE key IN ({', '.join('?' * len(page))})"  # noqa: S608
        versions.update(tuple(row) for row in connection.execute(sql, page))
    return versions


def _put(connection: sqlite3.Connection, table: Table, rows: Sequence[list[Any]]) -> None:
    """Write rows, as many at once as a power of two: a connection keeps each statement that it has met."""
    start = 0
    while start < len(rows):
        count = 1 << (min(len(rows) - start, MOST_ROWS).bit_length() - 1)
        connection.execute(table.put(count), list(chain.from_iterable(rows[start : start + count])))
        start += count
