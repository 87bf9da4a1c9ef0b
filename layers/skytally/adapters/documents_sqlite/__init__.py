"""Documents in one SQLite file: a table an index, a column a field, one writer thread per process.

::

    <index>(key TEXT PRIMARY KEY, version INTEGER, <a column per field of the record>)     moments as ms since 1970, UTC

Writes that arrive together share one transaction and one fsync: a caller waits for the commit that holds its documents, never for a
timer. WAL lets readers and other processes go on meanwhile. Versions decide inside the database, so any number of processes may write.
"""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from skytally.adapters.documents_sqlite import days, hours, intervals, points
from skytally.adapters.documents_sqlite.tables import TABLES, conditions, quoted, to_ms
from skytally.commits import CommitQueue
from skytally.documents import Document
from skytally.errors import Unavailable
from skytally.ports import Outcome, Query, Room, Row, Write

D = TypeVar("D", bound=Document)
S = TypeVar("S", int, range)

BUSY_SECONDS = 10.0
COMMIT_WRITES = 20_000
PAGE_KEYS = 500
PAGE_ROWS = 5_000


class SqliteDocuments:
    """The documents port on one file; safe from any thread, and beside other processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing: sqlite3.Connection | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make_tables()
        self._commits = CommitQueue(self._commit, writers=1, most_writes=COMMIT_WRITES)

    def close(self) -> None:
        """Finish what is queued and let go of the file."""
        self._commits.close()
        _close(self._writing)
        for connection in self._connections:
            connection.close()

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next commit; see the port."""
        return self._commits.put(writes)

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Read one document; see the port."""
        return self.get_many(index, [key], kind)[0]

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Read several documents, in the order asked."""
        found: dict[str, D] = {}
        for start in range(0, len(keys), PAGE_KEYS):
            page = keys[start : start + PAGE_KEYS]
            sql = f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE key IN ({', '.join('?' * len(page))})"  # noqa: S608
            found |= {row["key"]: TABLES[index].document(row, kind) for row in self._select(sql, page)}
        return [found.get(key) for key in keys]

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """List documents in key order; see the port."""
        condition, values = conditions(where)
        for row in self._select(f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE {condition} ORDER BY key", values):  # noqa: S608
            yield row["key"], TABLES[index].document(row, kind)

    def during(
        self, index: str, kind: type[D], moment: str, span: tuple[datetime, datetime], where: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, D]]:
        """List documents of a span in the order of their moments; see the port."""
        condition, values = conditions(where)
        rest = f"{quoted(moment)} < ? AND {condition} ORDER BY {quoted(moment)}, key LIMIT {PAGE_ROWS}"
        sql = f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE ({quoted(moment)}, key) > (?, ?) AND {rest}"  # noqa: S608
        behind: tuple[int, str] = (to_ms(span[0]), "")
        page: list[sqlite3.Row] | None = None
        while page is None or len(page) == PAGE_ROWS:
            page = self._select(sql, [*behind, to_ms(span[1]), *values])
            for row in page:
                yield row["key"], TABLES[index].document(row, kind)
                behind = (row[moment], row["key"])

    def stored(self, index: str, kind: type[D], after: str = "") -> Iterator[tuple[str, int, D]]:
        """List documents with their versions; see the port."""
        page: list[sqlite3.Row] | None = None
        while page is None or len(page) == PAGE_ROWS:
            sql = f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE key > ? ORDER BY key LIMIT {PAGE_ROWS}"  # noqa: S608
            page = self._select(sql, [after])
            for row in page:
                yield row["key"], row["version"], TABLES[index].document(row, kind)
                after = row["key"]

    def count(self, index: str) -> int:
        """Count an index; see the port."""
        return int(self._select(f"SELECT COUNT(*) FROM {quoted(index)}", [])[0][0])  # noqa: S608

    def forget(self, index: str, moment: str, before: datetime) -> int:
        """Remove what is older, a bounded number in each transaction, so that writers get their turn; see the port."""
        chosen = f"SELECT rowid FROM {quoted(index)} WHERE {quoted(moment)} < ? LIMIT {PAGE_ROWS}"  # noqa: S608
        gone = removed = PAGE_ROWS
        with _answering():
            while removed == PAGE_ROWS:
                with _transaction(self._reader()):
                    sql = f"DELETE FROM {quoted(index)} WHERE rowid IN ({chosen})"  # noqa: S608
                    removed = self._reader().execute(sql, [to_ms(before)]).rowcount
                gone += removed
        return gone - PAGE_ROWS

    def install(self, now: datetime) -> list[str]:  # noqa: ARG002
        """Do nothing: the file is set up when it is opened."""
        return []

    def table(self, query: Query) -> list[Row]:
        """Sum a window; see the port."""
        with _answering():
            reader = self._reader()
            if query.moment is not None:
                return points.table(reader, query)
            self._keep(partial(days.missing, reader, query), days.keep)
            with _snapshot(reader):
                return days.table(reader, query)

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Sum each step of a window; see the port."""
        with _answering():
            reader = self._reader()
            if query.moment is not None:
                return points.series(reader, query, step)
            self._keep(partial(hours.missing, reader, query, step), hours.keep)
            with _snapshot(reader):
                return hours.series(reader, query, step)

    def _keep(self, missing: Callable[[], list[S]], keep: Callable[[sqlite3.Connection, S], None]) -> None:
        """Add up what nobody has added up since it last changed, a turn at a time, so that writers get theirs."""
        for span in missing():
            with _transaction(self._reader()):
                # Another reader may have done it while this one waited.
                if span in missing():
                    keep(self._reader(), span)

    def rooms(self) -> list[Room]:
        """Answer the disk that the file lies on; see the port."""
        try:
            disk = shutil.disk_usage(self._path.parent)
        except OSError:
            raise Unavailable("the document store's disk cannot be looked at: check SKYTALLY_DOCUMENTS") from None
        return [Room.of_disk("the disk of the documents", disk.free, disk.total)]

    def refresh(self) -> None:
        """Do nothing: SQLite shows every commit at once."""

    def _select(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with _answering():
            return self._reader().execute(sql, values).fetchall()

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
                    there = [row["name"] for row in connection.execute(f"PRAGMA table_info({quoted(table.name)})")]
                    for statement in table.schema(there):
                        connection.execute(statement)
                for statement in (*intervals.schema(), *days.schema(), *hours.schema()):
                    connection.execute(statement)
        except sqlite3.Error as error:
            raise Unavailable("the document store cannot be set up: check SKYTALLY_DOCUMENTS") from error
        finally:
            connection.close()

    def _commit(self, batches: list[Sequence[Write]]) -> list[list[Outcome]]:
        """Keep all in one transaction; answers an outcome for each write of each batch."""
        try:
            self._writing = self._writing or self._connect()
            with _transaction(self._writing):
                return [[_keep(self._writing, write) for write in batch] for batch in batches]
        except sqlite3.Error as error:
            _close(self._writing)
            self._writing = None
            raise Unavailable("the document store did not keep this: ask again") from error


def _keep(connection: sqlite3.Connection, write: Write) -> Outcome:
    table = TABLES[write.index]
    cursor = connection.execute(table.create if write.create else table.put, table.row(write))
    return Outcome.STORED if cursor.rowcount else Outcome.STALE


@contextmanager
def _answering() -> Iterator[None]:
    """Say that the store is away where SQLite cannot do what it is asked."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable("the document store does not answer: ask again") from error


@contextmanager
def _snapshot(reader: sqlite3.Connection) -> Iterator[None]:
    """Read everything within as of one moment."""
    reader.execute("BEGIN")
    try:
        yield
    finally:
        reader.execute("COMMIT")


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
