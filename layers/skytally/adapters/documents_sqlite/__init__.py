"""Documents in one SQLite file: one table per index, one column per field, one writer thread per process.

::

    <index>(key TEXT PRIMARY KEY, version INTEGER, <a column per field of the record>)     moments as ms since 1970, UTC

Writes that arrive together share one transaction and one fsync. A caller waits for the commit of its own documents,
never for a timer. With WAL, readers and other processes go on meanwhile. The database compares versions, so any number
of processes may write.

An unreadable row is skipped and noted, whatever somebody wrote into the file by hand.
"""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from skytally.adapters.documents_sqlite import commits, days, exact, hours, intervals, points, strike_outs
from skytally.adapters.documents_sqlite.commits import PreparedWrite
from skytally.adapters.documents_sqlite.tables import TABLES, conditions, padded, quoted
from skytally.core import storable
from skytally.core.commit_queue import CommitQueue
from skytally.core.documents import Document
from skytally.core.errors import Unavailable
from skytally.core.ports import DiskUsage, Installed, Outcome, Query, Row, Skipped, Write
from skytally.core.timestamps import to_ms
from skytally.core.unreadable import Notes

D = TypeVar("D", bound=Document)
S = TypeVar("S", int, range)

BUSY_SECONDS = 8.0
# How often a writer looks whether another process has committed.
TURN_SECONDS = 0.0002
# The bits of an error code that an extended one shares with it.
PRIMARY_CODE = 0xFF
COMMIT_WRITES = 20_000
PAGE_KEYS = 500
PAGE_ROWS = 5_000
# A row without a text as key is no document, and has no place in the order of keys.
IS_KEY = "typeof(key) = 'text'"


class SqliteDocuments:
    """The documents port on one file; safe for threads and concurrent processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._writing: sqlite3.Connection | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make_tables()
        self._commits = CommitQueue(
            _prepare, self._commit, writers=1, most_writes=COMMIT_WRITES, take_turn=self._take_turn
        )
        self._notes = Notes(self.write)

    def close(self) -> None:
        """Finish queued writes and close the file."""
        self._commits.close()
        self._end_writing()
        for connection in self._connections:
            connection.close()

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next commit; see the port."""
        return self._commits.put(writes)

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Return one document; see the port."""
        return self.get_many(index, [key], kind)[0]

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Return several documents in the order of the keys."""
        documents: dict[str, D] = {}
        for start in range(0, len(keys), PAGE_KEYS):
            page = padded([key for key in keys[start : start + PAGE_KEYS] if storable.is_key(key)])
            sql = f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE key IN ({', '.join('?' * len(page))})"  # noqa: S608
            rows = self._select(sql, page)
            documents |= {row[0]: document for row, document in self._documents(index, kind, rows)}
        return [documents.get(key) for key in keys]

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """Return documents in key order; see the port."""
        condition, values = conditions(where)
        rows = self._select(
            f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE {condition} ORDER BY key",  # noqa: S608
            values,
        )
        rows.reverse()
        # A row is freed as soon as it is a document, so that there is never all of both.
        for row, document in self._documents(index, kind, (rows.pop() for _ in range(len(rows)))):
            yield row[0], document

    def during(
        self,
        index: str,
        kind: type[D],
        moment: str,
        span: tuple[datetime, datetime],
        where: Mapping[str, Sequence[str]],
    ) -> Iterator[tuple[str, D]]:
        """Return documents of a period in the order of their times; see the port."""
        condition, values = conditions(where)
        rest = f"{quoted(moment)} < ? AND {IS_KEY} AND {condition} ORDER BY {quoted(moment)}, key LIMIT {PAGE_ROWS}"
        sql = (
            f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE ({quoted(moment)}, key) > (?, CAST(? AS "  # noqa: S608
            f"TEXT)) AND {rest}"
        )
        position = TABLES[index].places[moment], 0
        pages = self._pages(sql, (to_ms(span[0]), ""), [to_ms(span[1]), *values], position)
        for row, document in self._documents(index, kind, pages):
            yield row[0], document

    def stored(
        self, index: str, kind: type[D], after: str = "", skipped: Skipped | None = None
    ) -> Iterator[tuple[str, int, D]]:
        """Return documents with their versions; see the port."""
        rest = f"{IS_KEY} ORDER BY key LIMIT {PAGE_ROWS}"
        sql = f"SELECT {TABLES[index].selected} FROM {quoted(index)} WHERE key > CAST(? AS TEXT) AND {rest}"  # noqa: S608
        for row, document in self._documents(index, kind, self._pages(sql, (after,), [], (0,)), skipped):
            yield row[0], row[1], document

    def _pages(
        self, sql: str, behind: tuple[Any, ...], values: Sequence[Any], position: Sequence[int]
    ) -> Iterator[tuple[Any, ...]]:
        """Return rows page by page, each page after the last row before it, by the values at some places of it."""
        page: list[tuple[Any, ...]] | None = None
        while page is None or len(page) == PAGE_ROWS:
            page = self._select(sql, [*behind, *values])
            yield from page
            behind = tuple(page[-1][at] for at in position) if page else ()

    def _documents(
        self, index: str, kind: type[D], rows: Iterable[tuple[Any, ...]], skipped: Skipped | None = None
    ) -> Iterator[tuple[tuple[Any, ...], D]]:
        """Return rows with their records; unreadable rows are noted and left out."""
        values = TABLES[index].values
        for row in rows:
            try:
                document = storable.read_row(row[0], values(row), kind)
            except storable.NotStorable as error:
                self._notes.skip(index, str(row[0]), str(error), skipped)
            else:
                yield row, document

    def count(self, index: str) -> int:
        """Count an index; see the port."""
        return int(self._select(f"SELECT COUNT(*) FROM {quoted(index)}", [])[0][0])  # noqa: S608

    def forget(self, index: str, moment: str, before: datetime, is_over: Callable[[], bool] = lambda: False) -> int:
        """Remove older documents, a page in each transaction so that writers get their turn; see the port."""
        page = f"SELECT rowid FROM {quoted(index)} WHERE {quoted(moment)} < ? LIMIT {PAGE_ROWS}"  # noqa: S608
        sql = f"DELETE FROM {quoted(index)} WHERE rowid IN ({page})"  # noqa: S608
        removed = 0
        with _answering():
            while not is_over():
                with _transaction(self._reader()):
                    removed_now = self._reader().execute(sql, [to_ms(before)]).rowcount
                removed += removed_now
                if removed_now < PAGE_ROWS:
                    break
        return removed

    def install(self, now: datetime) -> Installed:  # noqa: ARG002
        """Return nothing new: the file is set up as it is opened."""
        return Installed([])

    def table(self, query: Query) -> list[Row]:
        """Sum a window; see the port."""
        query = storable.within_reach(query)
        with _answering():
            reader = self._reader()
            if query.moment is not None:
                return points.table(reader, query)
            self._keep(partial(days.missing, reader, query), days.keep)
            with _snapshot(reader):
                return days.table(reader, query)

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Sum each step of a window; see the port."""
        query = storable.within_reach(query)
        with _answering():
            reader = self._reader()
            if query.moment is not None:
                return points.series(reader, query, step)
            self._keep(partial(hours.missing, reader, query, step), hours.keep)
            with _snapshot(reader):
                return hours.series(reader, query, step)

    def _keep(self, missing: Callable[[], list[S]], keep: Callable[[sqlite3.Connection, S], None]) -> None:
        """Sum what has changed since the last sums, a part in each transaction so that writers get their turn."""
        for part in missing():
            with _transaction(self._reader()):
                # Another reader may have done it while this one waited.
                if part in missing():
                    keep(self._reader(), part)

    def rooms(self) -> list[DiskUsage]:
        """Return the file's disk; see the port."""
        try:
            disk = shutil.disk_usage(self._path.parent)
        except OSError:
            raise Unavailable("the document store's disk cannot be looked at: check SKYTALLY_DOCUMENTS") from None
        return [DiskUsage.of_disk("the disk of the documents", disk.free, disk.total)]

    def refresh(self) -> None:
        """Do nothing: SQLite shows every commit at once."""

    def _select(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with _answering():
            return exact.fetched(self._reader(), sql, values)[1]

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            exact.prepare(connection)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise Unavailable("the document store cannot be opened: check SKYTALLY_DOCUMENTS") from error
        return connection

    def _make_tables(self) -> None:
        connection = self._connect()
        try:
            with _transaction(connection):
                made = dict(connection.execute("SELECT name, sql FROM sqlite_master").fetchall())
                for table in TABLES.values():
                    existing = [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(table.name)})")]
                    for statement in table.schema(existing, made):
                        connection.execute(statement)
                for statement in (
                    *intervals.schema(),
                    *days.schema(),
                    *hours.schema(),
                    *strike_outs.schema(made),
                ):
                    connection.execute(statement)
        except sqlite3.Error as error:
            raise Unavailable("the document store cannot be set up: check SKYTALLY_DOCUMENTS") from error
        finally:
            connection.close()

    def _take_turn(self) -> None:
        """Begin the next commit's transaction."""
        with self._writer() as connection:
            _begin_soon(connection)

    def _commit(self, writes: list[PreparedWrite]) -> list[Outcome]:
        """Write all documents in the transaction that has begun."""
        with self._writer() as connection:
            outcomes = commits.apply(connection, writes)
            connection.execute("COMMIT")
        return outcomes

    @contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        """Yield the writer's connection; after an error roll back, and raise Unavailable for SQLite's errors."""
        try:
            self._writing = self._writing or self._connect()
            yield self._writing
        except sqlite3.Error as error:
            self._end_writing()
            raise Unavailable("the document store did not keep this: ask again") from error
        except BaseException:
            self._end_writing()
            raise

    def _end_writing(self) -> None:
        """Close the writer's connection in whatever state, which rolls back; the next commit opens another."""
        if self._writing is not None:
            self._writing.close()
            self._writing = None


def _begin_soon(connection: sqlite3.Connection) -> None:
    """Begin a transaction that writes, soon after the one that another process or thread has begun is over.

    SQLite itself waits for longer and longer, so while others commit one after the other a writer would starve.
    """
    until = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _has_begun(connection, until):
            time.sleep(TURN_SECONDS)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1_000:.0f}")


def _has_begun(connection: sqlite3.Connection, until: float) -> bool:
    """Try to begin a transaction that writes; return False if another one is under way, or raise that after a time."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > until:
            raise
        return False
    return True


def _prepare(write: Write, values: tuple[Any, ...]) -> PreparedWrite:
    table = TABLES[write.index]
    return PreparedWrite(table, table.row(write, values), write.create)


@contextmanager
def _answering() -> Iterator[None]:
    """Raise Unavailable for SQLite's errors in the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise Unavailable("the document store does not answer: ask again") from error


@contextmanager
def _snapshot(reader: sqlite3.Connection) -> Iterator[None]:
    """Read everything in the block from one snapshot."""
    reader.execute("BEGIN")
    try:
        yield
    finally:
        reader.execute("COMMIT")


class _transaction:  # noqa: N801
    """A transaction: commit at the end of the block, or roll back after an error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        _begin_soon(self._connection)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
