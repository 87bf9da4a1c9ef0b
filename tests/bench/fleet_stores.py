"""The stores of fleets: a server on a fresh one, and what its documents take in it."""

import contextlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from skytally.adapters.documents_search import SearchDocuments, connect
from tests.bench import bench_search
from tests.bench.serving import serving
from tests.support import builders
from tests.support.local_server import Server


@dataclass(frozen=True)
class FreshStore:
    """A server on an empty store, the processes that do the work, and what returns the bytes by kind of document."""

    server: Server
    pids: tuple[int, ...]
    stored_bytes: Callable[[], dict[str, int]]


OpenFresh = Callable[[], AbstractContextManager[FreshStore]]


@contextlib.contextmanager
def sqlite() -> Iterator[FreshStore]:
    """Run a server on a file of its own."""
    with serving() as server:
        yield FreshStore(server, (server.pid,), lambda: _sqlite_bytes(server))


def _sqlite_bytes(server: Server) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(server.home / "documents.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        tables = dict(database.execute("SELECT name, tbl_name FROM sqlite_schema"))
        sizes: dict[str, int] = {}
        for name, size in database.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            table = tables.get(name, name)
            sizes[table] = sizes.get(table, 0) + size
        return sizes


@contextlib.contextmanager
def elasticsearch() -> Iterator[OpenFresh]:
    """Run one node; what it yields opens a server on indices of its own there."""
    numbers = itertools.count()

    @contextlib.contextmanager
    def fresh() -> Iterator[FreshStore]:
        prefix = f"scale{next(numbers)}"
        client = connect([node.url], "", "")
        with contextlib.closing(SearchDocuments(client, prefix)) as documents:
            documents.install(datetime.now(UTC))
            settings = {"SKYTALLY_DOCUMENTS": node.url, "SKYTALLY_DOCUMENTS_PREFIX": prefix}
            with serving(**settings) as server:
                yield FreshStore(server, (server.pid, node.process.pid), lambda: _search_bytes(documents, prefix))
            builders.remove(documents.client, prefix)

    with bench_search.serving("elasticsearch") as node:
        yield fresh


def _search_bytes(documents: SearchDocuments, prefix: str) -> dict[str, int]:
    how = {"max_num_segments": 1, "wait_for_completion": False}
    task = documents.client.perform("POST", f"/{prefix}-*/_forcemerge", how)["task"]
    while not documents.client.perform("GET", f"/_tasks/{task}")["completed"]:
        time.sleep(0.5)
    documents.refresh()
    stats = documents.client.perform("GET", f"/{prefix}-*/_stats/store")["indices"]
    sizes: dict[str, int] = {}
    for name, row in stats.items():
        kind = name.removeprefix(f"{prefix}-").partition("-")[0]
        sizes[kind] = sizes.get(kind, 0) + row["primaries"]["store"]["size_in_bytes"]
    return sizes
