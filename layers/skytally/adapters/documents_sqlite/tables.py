"""The SQLite tables: one table per index, one column per field, made from the records."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from skytally.core import storable
from skytally.core.documents import INDICES, Document
from skytally.core.ports import Write
from skytally.core.timestamps import from_ms, to_ms

INDEXED = {
    "usage": ("month",),
    "interval": ("until_at",),
    "heartbeat": ("noted", "job_id", "last_seen_at"),
    "placed_vm": ("vm",),
    "placement": ("batch_id", "batch_number", "vm"),
    "job": ("final_at", "seen_at", "batch_id", "batch_number", "host", "vm"),
}
# Columns of covering indices, so that sums of a window read only the index.
COVERED = {
    "usage": ("cloud", "boot_at"),
    "interval": (
        "from_at",
        "label",
        "vm",
        "cloud",
        "site",
        "group",
        "flavor",
        "wall_ms",
        "core_ms",
        "user_ms",
        "nice_ms",
        "system_ms",
        "suspended_ms",
    ),
}
MOST_PADDED = 512
# A column that was added later is NULL in older rows.
FLAGS = {0: False, 1: True, None: False}
TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER", datetime: "INTEGER"}


def quoted(field: str) -> str:
    """Return a quoted field name; raise ValueError for anything else, so that no statement can be injected."""
    if not field.isidentifier():
        raise ValueError(f"{field!r} is no field")
    return f'"{field}"'


class Table:
    """One index as a table: its statements and the conversions of its columns, made once from the record's fields."""

    def __init__(self, name: str, kind: type[Document]) -> None:
        self.name, self.columns = name, storable.field_types(kind)
        names = ["key", "version", *(quoted(column) for column in self.columns)]
        self.selected = ", ".join(names)
        self.places = {column: at for at, column in enumerate(("key", "version", *self.columns))}
        self._moments_at = [at for at, column in enumerate(self.columns.values()) if column is datetime]
        self._flags_at = [at for at, column in enumerate(self.columns.values()) if column is bool]
        self._insert = f"INSERT INTO {quoted(name)} ({', '.join(names)}) VALUES"
        self._values = f"({', '.join('?' * len(names))})"
        self._update = ", ".join(f"{column} = excluded.{column}" for column in names[1:])

    def schema(self, existing: Collection[str], made: Mapping[str, str]) -> Iterator[str]:
        """Return the statements that create the table, or add columns that an earlier version did not have.

        `made` are the statements that an earlier version made tables and indices with, by name.
        """
        columns = [f"{quoted(name)} {TYPES[column]}" for name, column in self.columns.items() if name not in existing]
        if existing:
            yield from (f"ALTER TABLE {quoted(self.name)} ADD COLUMN {column}" for column in columns)
        else:
            yield (
                f"CREATE TABLE {quoted(self.name)} "
                f"({', '.join(['key TEXT PRIMARY KEY', 'version INTEGER NOT NULL', *columns])})"
            )
        for column in INDEXED.get(self.name, ()):
            name, more = f"{self.name}_{column}", COVERED.get(self.name, ())
            if more:
                yield f"DROP INDEX IF EXISTS {name}"
                name += "_covering"
            indexed = ", ".join(map(quoted, (column, *more)))
            create = f"CREATE INDEX {name} ON {quoted(self.name)} ({indexed})"
            if made.get(name) != create:
                yield f"DROP INDEX IF EXISTS {name}"
                yield create

    def put(self, rows: int) -> str:
        """Return the statement that writes so many rows, whatever their keys had before."""
        values = ", ".join([self._values] * rows)
        return f"{self._insert} {values} ON CONFLICT (key) DO UPDATE SET {self._update}"

    def row(self, write: Write, values: tuple[Any, ...]) -> list[Any]:
        """Return the row of a write whose document has these values: key, version and a value for each column."""
        row = [write.key, write.version, *values]
        for at in self._moments_at:
            moment = row[at + 2]
            if moment is not None:
                row[at + 2] = to_ms(moment)
        return row

    def values(self, row: Sequence[Any]) -> list[Any]:
        """Return the values of a selected row's fields; one that cannot be converted stays as it is."""
        values = [*row[2:]]
        for at in self._moments_at:
            value = values[at]
            if type(value) is int and 0 <= value < LATEST_MS:
                values[at] = from_ms(value)
        for at in self._flags_at:
            values[at] = FLAGS.get(values[at], values[at])
        return values


LATEST_MS = to_ms(storable.LATEST)
TABLES = {name: Table(name, kind) for name, kind in INDICES.items()}


def conditions(where: Mapping[str, Sequence[str]]) -> tuple[str, list[str]]:
    """Return an SQL condition of fields by values, and its values."""
    lists = {field: padded(values) for field, values in where.items()}
    parts = [f"{quoted(field)} IN ({', '.join('?' * len(values))})" for field, values in lists.items()]
    return " AND ".join(parts) or "1", [value for values in lists.values() for value in values]


def padded(values: Sequence[str]) -> list[str]:
    """Return the values of a list with the last one repeated, so that lists of all lengths make ten statements.

    Each connection keeps its last 128 statements, and one of 500 values takes 100 kB.
    """
    count = len(values)
    missing = (1 << (count - 1).bit_length()) - count if 0 < count <= MOST_PADDED else 0
    return [*values, *(values[-1] for _ in range(missing))]
