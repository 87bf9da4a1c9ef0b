"""Documents in one SQLite file: a table an index, a column a field, one writer thread per process.

::

    <index>(key TEXT PRIMARY KEY, version INTEGER, <a column per field of the record>)     moments as ms since 1970, UTC

Writes that arrive together share one transaction and one fsync: a caller waits for the commit that holds its documents, never for a
timer. WAL lets readers and other processes go on meanwhile. Versions decide inside the database, so any number of processes may write.
"""

import queue
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from skytally.documents import INDICES, Document
from skytally.errors import Unavailable
from skytally.ports import Outcome, Query, Row, Write

D = TypeVar("D", bound=Document)

BUSY_SECONDS = 10.0
COMMIT_WRITES = 20_000
PAGE_KEYS = 500
INDEXED = {
    "usage": ("month",),
    "interval": ("until_at",),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Batch = tuple[Sequence[Write], Future[list[Outcome]]]


def _name(field: str) -> str:
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
        names = ["key", "version", *(_name(column) for column in self.columns)]
        self._moments = [name for name, column in self.columns.items() if column is datetime]
        values = f"INSERT INTO {_name(name)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        updates = ", ".join(f"{column} = excluded.{column}" for column in names[1:])
        self.create = f"{values} ON CONFLICT (key) DO NOTHING"
        self.put = f"{values} ON CONFLICT (key) DO UPDATE SET {updates} WHERE excluded.version >= version"

    def schema(self) -> Iterator[str]:
        """Write the statements that make the table where it is not there."""
        types = {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER", datetime: "INTEGER", dict: "TEXT"}
        columns = "".join(f", {_name(name)} {types[column]}" for name, column in self.columns.items())
        yield f"CREATE TABLE IF NOT EXISTS {_name(self.name)} (key TEXT PRIMARY KEY, version INTEGER NOT NULL{columns}) WITHOUT ROWID"
        for column in INDEXED.get(self.name, ()):
            yield f"CREATE INDEX IF NOT EXISTS {self.name}_{column} ON {_name(self.name)} ({_name(column)})"

    def row(self, write: Write) -> tuple[Any, ...]:
        """Put a document into the order of the columns."""
        values = [getattr(write.document, name) for name in self.columns]
        return (write.key, write.version, *[to_ms(v) if isinstance(v, datetime) else v for v in values])

    def document(self, row: sqlite3.Row, kind: type[D]) -> D:
        """Make the record again."""
        fields = {name: row[name] for name in self.columns}
        for name in self._moments:
            if fields[name] is not None:
                fields[name] = from_ms(fields[name])
        return msgspec.convert(fields, kind, strict=False)


def _column_type(hint: Any) -> type:
    parts = [part for part in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if part is not type(None)]
    column: type = get_origin(parts[0]) or parts[0]
    return column


def to_ms(moment: datetime) -> int:
    """Count whole milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Answer the moment in UTC."""
    return EPOCH + timedelta(milliseconds=ms)


TABLES = {name: Table(name, kind) for name, kind in INDICES.items()}


class SqliteDocuments:
    """The documents port on one file; safe from any thread, and beside other processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._closed = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make_tables()
        self._writer = threading.Thread(target=self._write_forever, name="documents-writer", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Finish what is queued and let go of the file."""
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        for connection in self._connections:
            connection.close()

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next commit; see the port."""
        future: Future[list[Outcome]] = Future()
        if self._closed:
            future.set_exception(Unavailable("the document store is shutting down: ask again"))
        elif writes:
            self._queue.put((writes, future))
        else:
            future.set_result([])
        return future

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Read one document; see the port."""
        return self.get_many(index, [key], kind)[0]

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Read several documents, in the order asked."""
        found: dict[str, D] = {}
        for start in range(0, len(keys), PAGE_KEYS):
            page = keys[start : start + PAGE_KEYS]
            sql = f"SELECT * FROM {_name(index)} WHERE key IN ({', '.join('?' * len(page))})"  # noqa: S608
            found |= {row["key"]: TABLES[index].document(row, kind) for row in self._select(sql, page)}
        return [found.get(key) for key in keys]

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """List documents in key order; see the port."""
        condition, values = _conditions(where)
        for row in self._select(f"SELECT * FROM {_name(index)} WHERE {condition} ORDER BY key", values):  # noqa: S608
            yield row["key"], TABLES[index].document(row, kind)

    def table(self, query: Query) -> list[Row]:
        """Sum a window; see the port."""
        return self._sums(query, [(query.from_at, query.until_at)], with_time=False)

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Sum each step of a window; see the port."""
        steps = []
        start = query.from_at
        while start < query.until_at:
            steps.append((start, min(start + step, query.until_at)))
            start += step
        return self._sums(query, steps, with_time=True)

    def refresh(self) -> None:
        """Do nothing: SQLite shows every commit at once."""

    def _sums(self, query: Query, steps: list[tuple[datetime, datetime]], *, with_time: bool) -> list[Row]:
        """Join documents with the steps that they overlap, each counted by its part inside.

        A document that lies whole inside a step is added as the integer it is, so that only what is cut carries fractions.
        """
        condition, values = _conditions(query.where)
        dimensions = ["at", *query.by] if with_time else list(query.by)
        inside = "from_at >= step_from AND until_at <= step_until"
        part = "CAST(MIN(until_at, step_until) - MAX(from_at, step_from) AS REAL) / (until_at - from_at)"
        columns = [f"step_from AS {_name(d)}" if d == "at" else _name(d) for d in dimensions]
        columns += [f"SUM(CASE WHEN {inside} THEN {_name(s)} ELSE {_name(s)} * {part} END) AS {_name(s)}" for s in query.sums]
        columns += [f"COUNT(DISTINCT {_name(d)}) AS {_name(f'{d}_count')}" for d in query.distinct]
        group = (
            f"GROUP BY {', '.join(_name(d) for d in dimensions)} ORDER BY {', '.join(_name(d) for d in dimensions)}" if dimensions else ""
        )
        marks = ", ".join(["(?, ?)"] * len(steps))
        sql = (
            f"WITH steps(step_from, step_until) AS (VALUES {marks}) "  # noqa: S608
            f"SELECT {', '.join(columns)} FROM steps JOIN {_name(query.index)} ON until_at > step_from AND from_at < step_until "
            f"WHERE until_at > ? AND from_at < ? AND {condition} {group}"
        )
        bounds = [to_ms(moment) for step in steps for moment in step]
        rows = self._select(sql, [*bounds, to_ms(query.from_at), to_ms(query.until_at), *values])
        return [_with_moment(dict(row)) for row in rows]

    def _select(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        try:
            return self._reader().execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            raise Unavailable("the document store does not answer: ask again") from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise Unavailable("the document store cannot be opened: check SKYTALLY_DOCUMENTS") from error
        return connection

    def _make_tables(self) -> None:
        connection = self._connect()
        try:
            with _transaction(connection):
                for table in TABLES.values():
                    for statement in table.schema():
                        connection.execute(statement)
        except sqlite3.Error as error:
            raise Unavailable("the document store cannot be set up: check SKYTALLY_DOCUMENTS") from error
        finally:
            connection.close()

    def _write_forever(self) -> None:
        connection: sqlite3.Connection | None = None
        batches: list[Batch] | None
        while (batches := self._next_batches()) is not None:
            try:
                connection = connection or self._connect()
                outcomes = _commit(connection, [writes for writes, _ in batches])
            except (sqlite3.Error, Unavailable):
                _close(connection)
                connection = None
                _fail(batches)
            else:
                _answer(batches, outcomes)
        _close(connection)

    def _next_batches(self) -> list[Batch] | None:
        """Wait for a batch and take along all that arrived meanwhile; None at the end."""
        batch = self._queue.get()
        batches: list[Batch] = []
        size = 0
        while batch is not None:
            batches.append(batch)
            size += len(batch[0])
            if size >= COMMIT_WRITES or self._queue.empty():
                return batches
            batch = self._queue.get()
        if batches:
            self._queue.put(None)
            return batches
        return None


def _commit(connection: sqlite3.Connection, batches: list[Sequence[Write]]) -> list[list[Outcome]]:
    """Keep all in one transaction; answers an outcome for each write of each batch."""
    with _transaction(connection):
        return [[_keep(connection, write) for write in batch] for batch in batches]


def _keep(connection: sqlite3.Connection, write: Write) -> Outcome:
    table = TABLES[write.index]
    cursor = connection.execute(table.create if write.create else table.put, table.row(write))
    return Outcome.STORED if cursor.rowcount else Outcome.STALE


class _transaction:  # noqa: N801
    """Commit at the end, or roll everything back."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _close(connection: sqlite3.Connection | None) -> None:
    """Let go of a connection, whatever state it is in; the next batch opens another."""
    if connection is not None:
        connection.close()


def _answer(batches: Sequence[Batch], outcomes: Sequence[list[Outcome]]) -> None:
    """Answer the callers that still wait: one whose request was given up has cancelled its future."""
    for (_, future), outcome in zip(batches, outcomes, strict=True):
        if future.set_running_or_notify_cancel():
            future.set_result(outcome)


def _fail(batches: Sequence[Batch]) -> None:
    for _, future in batches:
        if future.set_running_or_notify_cancel():
            future.set_exception(Unavailable("the document store did not keep this: ask again"))


def _conditions(where: Mapping[str, Sequence[str]]) -> tuple[str, list[str]]:
    parts = [f"{_name(field)} IN ({', '.join('?' * len(values))})" for field, values in where.items()]
    return " AND ".join(parts) or "1", [value for values in where.values() for value in values]


def _with_moment(row: Row) -> Row:
    return row | {"at": from_ms(row["at"])} if "at" in row else row
