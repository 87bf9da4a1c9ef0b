"""How each index lies in SQLite: a table an index, a column a field, made from the records."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from skytally.documents import INDICES, Document
from skytally.ports import Write

D = TypeVar("D", bound=Document)

INDEXED = {
    "usage": ("month",),
    "interval": ("until_at",),
    "heartbeat": ("noted", "job_id", "last_seen_at"),
    "placed_vm": ("vm",),
    "placement": ("batch_id", "batch_number", "vm"),
    "job": ("final_at", "seen_at", "batch_id", "batch_number", "host", "vm"),
}
# What an index holds besides, so that adding up a window reads it alone.
COVERED = {
    "interval": (
        "from_at",
        "label",
        "vm",
        "cloud",
        "site",
        "group",
        "wall_ms",
        "core_ms",
        "user_ms",
        "nice_ms",
        "system_ms",
        "suspended_ms",
    )
}
TYPES = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER", datetime: "INTEGER", dict: "TEXT"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def quoted(field: str) -> str:
    """Let nothing but a field's name into a statement."""
    if not field.isidentifier():
        raise ValueError(f"{field!r} is no field")
    return f'"{field}"'


class Table:
    """How one index lies in SQLite: its statements and the conversions of its columns, made once from the record's fields."""

    def __init__(self, name: str, kind: type[Document]) -> None:
        self.name, self.kind = name, kind
        hints = get_type_hints(kind)
        self.columns = {field.name: _column_type(hints[field.name]) for field in msgspec.structs.fields(kind)}
        names = ["key", "version", *(quoted(column) for column in self.columns)]
        self.selected = ", ".join(names)
        self._moments_at = [at for at, column in enumerate(self.columns.values()) if column is datetime]
        self._flags_at = [at for at, column in enumerate(self.columns.values()) if column is bool]
        self._fields = _getter(list(self.columns))
        values = f"INSERT INTO {quoted(name)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        updates = ", ".join(f"{column} = excluded.{column}" for column in names[1:])
        self.create = f"{values} ON CONFLICT (key) DO NOTHING"
        self.put = f"{values} ON CONFLICT (key) DO UPDATE SET {updates} WHERE excluded.version >= version"

    def schema(self, there: Collection[str]) -> Iterator[str]:
        """Write the statements that make the table, or add the columns to it that an earlier version did not know."""
        columns = [f"{quoted(name)} {TYPES[column]}" for name, column in self.columns.items() if name not in there]
        if there:
            yield from (f"ALTER TABLE {quoted(self.name)} ADD COLUMN {column}" for column in columns)
        else:
            yield f"CREATE TABLE {quoted(self.name)} ({', '.join(['key TEXT PRIMARY KEY', 'version INTEGER NOT NULL', *columns])})"
        for column in INDEXED.get(self.name, ()):
            name, more = f"{self.name}_{column}", COVERED.get(self.name, ())
            if more:
                yield f"DROP INDEX IF EXISTS {name}"
                name += "_covering"
            held = ", ".join(map(quoted, (column, *more)))
            yield f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(self.name)} ({held})"

    def row(self, write: Write) -> list[Any]:
        """Put a document into the order of the columns."""
        values = [write.key, write.version, *self._fields(write.document)]
        for at in self._moments_at:
            if values[at + 2] is not None:
                values[at + 2] = to_ms(values[at + 2])
        return values

    def document(self, row: sqlite3.Row, kind: type[D]) -> D:
        """Make the record of a row of the selected columns again, as it was when it was checked and written."""
        values = list(row[2:])
        for at in self._moments_at:
            if values[at] is not None:
                values[at] = from_ms(values[at])
        for at in self._flags_at:
            values[at] = bool(values[at])
        return kind(**dict(zip(self.columns, values, strict=True)))


def _getter(names: list[str]) -> Callable[[Document], tuple[Any, ...]]:
    """Read the fields of a record at once, in the order of the columns."""
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda document: (get(document),)


def _column_type(hint: Any) -> type:
    parts = [part for part in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if part is not type(None)]
    column: type = get_origin(parts[0]) or parts[0]
    return column


def to_ms(moment: datetime) -> int:
    """Count whole milliseconds since 1970."""
    since = moment - EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


def from_ms(ms: int) -> datetime:
    """Answer the moment in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


TABLES = {name: Table(name, kind) for name, kind in INDICES.items()}


def conditions(where: Mapping[str, Sequence[str]]) -> tuple[str, list[str]]:
    """Hold fields to values: the condition, and the values for it."""
    parts = [f"{quoted(field)} IN ({', '.join('?' * len(values))})" for field, values in where.items()]
    return " AND ".join(parts) or "1", [value for values in where.values() for value in values]
