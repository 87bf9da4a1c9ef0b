"""What takes an hour of a vm and keeps it durably: ours, the AUDITOR server, and PostgreSQL without a server before it.

Each is a context that yields `measure(connections, per_request, requests)`; the load that it returns counts requests.
"""

import contextlib
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg

from localstack import fleet
from localstack.replicas import free_port
from localstack.server_process import Missing, running
from tests.bench.load import Load, batches, drive, post_json, timed
from tests.bench.postgres import Cluster
from tests.bench.serving import charged, serving

Measure = Callable[[int, int, int], Load]

VMS, HOURS = 500, 99
REPORT = "/function/usage-report"
# A table for what AUDITOR keeps of a record, as we understand it: what is looked for in columns, the rest as JSON.
TABLE = """
CREATE TABLE record (
    id bigint GENERATED ALWAYS AS IDENTITY,
    record_id text NOT NULL UNIQUE,
    start_time timestamptz NOT NULL,
    stop_time timestamptz,
    meta jsonb,
    components jsonb,
    runtime bigint,
    updated_at timestamptz NOT NULL
)
"""
COLUMNS = "record_id, start_time, stop_time, meta, components, runtime, updated_at"
INSERT = f"INSERT INTO record ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s)"
TYPES = ("text", "timestamptz", "timestamptz", "jsonb", "jsonb", "bigint", "timestamptz")
UNNEST = f"INSERT INTO record ({COLUMNS}) SELECT * FROM unnest({', '.join(f'%s::{name}[]' for name in TYPES)})"


def hours(count: int) -> Iterator[tuple[fleet.Vm, datetime]]:
    """Yield so many hours of vms that nobody has reported yet: the vm, and when the hour began."""
    until = datetime.now(UTC).replace(microsecond=0)
    for _ in range(0, count, VMS * HOURS):
        boot_at = until - timedelta(hours=HOURS + 1)
        vms = [fleet.Vm(f"vm-{n}", "uvic", 8, 80, boot_at, 15.0 if n % 2 else None) for n in range(VMS)]
        for n in range(min(count, VMS * HOURS)):
            yield vms[n % VMS], boot_at + timedelta(hours=n // VMS)
        count -= VMS * HOURS


def samples(count: int) -> Iterator[dict[str, Any]]:
    """Yield so many hours as vm.py reports them."""
    for vm, begin in hours(count):
        end = begin + timedelta(hours=1)
        yield vm.sample(end, begin, f"{end:%Y-%m}")


def records(count: int) -> Iterator[dict[str, Any]]:
    """Yield so many hours as an AUDITOR collector sends them: what ran, how much of it, how good, where."""
    for vm, begin in hours(count):
        end = begin + timedelta(hours=1)
        score = [{"name": "HEPscore23", "value": vm.hs23}] if vm.hs23 else []
        amounts = {"UserCPU": vm.busy_percent * 288, "SystemCPU": 576, "Memory": 16_000}
        components = [{"name": "Cores", "amount": vm.cores, "scores": score}]
        components += [{"name": name, "amount": amount, "scores": []} for name, amount in amounts.items()]
        yield {
            "record_id": f"{vm.name}-{uuid.uuid4()}",
            "meta": {"site_id": [vm.cloud], "vm": [vm.name], "boot": [vm.boot_id], "user": ["atlas"]},
            "components": components,
            "start_time": begin.isoformat(),
            "stop_time": end.isoformat(),
        }


@contextlib.contextmanager
def ours(**store: str) -> Iterator[Measure]:
    """Run the local server; a report that rejects a sample is a fault.

    A boot's first sample stores four documents more, and is one in 720 of a month's: the first ones are not measured.
    """
    with serving(**store) as server:
        token = fleet.reporter_tokens(server.home, ["uvic"])["uvic"]

        def measure(connections: int, per_request: int, requests: int) -> Load:
            made = samples(VMS + requests * per_request)
            parts = [list(islice(made, VMS)), *batches(made, per_request)]
            enrolling, *posts = [post_json(REPORT, json.dumps({"samples": part}).encode(), token) for part in parts]
            drive(server.port, [enrolling], 1, nothing_rejected)
            return charged(lambda: drive(server.port, posts, connections, nothing_rejected), server.pid)

        measure(1, 1, 50)
        yield measure


@contextlib.contextmanager
def auditor(cluster: Cluster) -> Iterator[Measure]:
    """Run the AUDITOR server that the environment names, as it comes: no TLS, no roles, its own log level.

    `AUDITOR_BINARY` is the program, `AUDITOR_MIGRATIONS` the folder of its SQL files. Raise Missing without them.
    """
    binary, migrations = (os.environ.get(name) for name in ("AUDITOR_BINARY", "AUDITOR_MIGRATIONS"))
    if not binary or not migrations:
        raise Missing("without AUDITOR_BINARY and AUDITOR_MIGRATIONS: nothing is measured beside the AUDITOR server")
    cluster.make("auditor", *(path.read_text() for path in sorted(Path(migrations).glob("*.sql"))))
    port = free_port()
    database = {"host": "127.0.0.1", "port": cluster.port, "username": "postgres", "password": "", "require_ssl": False}
    settings = {
        "application": {"addr": ["127.0.0.1"], "port": port},
        "database": database | {"database_name": "auditor"},
        "metrics": {"database": {"frequency": 3_600, "metrics": []}},
    }
    with tempfile.TemporaryDirectory(prefix="skytally-bench-auditor-") as name:
        folder = Path(name)
        (folder / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML.
        command = [binary, folder / "settings.yaml"]
        url = f"http://127.0.0.1:{port}/health_check"
        with running(command, {}, url, folder / "log", cwd=folder) as server:

            def measure(connections: int, per_request: int, requests: int) -> Load:
                made = batches(records(requests * per_request), per_request)
                posts = [
                    post_json("/record", json.dumps(part[0]).encode())
                    if per_request == 1
                    else post_json("/records", json.dumps(part).encode())
                    for part in made
                ]
                return charged(lambda: drive(port, posts, connections, anything), server.process.pid, cluster.pid)

            measure(1, 1, 50)
            yield measure


@contextlib.contextmanager
def postgres(cluster: Cluster) -> Iterator[Measure]:
    """Insert the same records by psycopg alone: one row, or many by unnest, in each transaction.

    Nobody parses, checks or authorises anything here, and JSON is written before the time begins. The database shares
    the cores with a client in Python, as it does with the generator of the others.
    """
    cluster.make("raw", TABLE)

    def measure(connections: int, per_request: int, requests: int) -> Load:
        rows = [_row(record) for record in records(requests * per_request)]
        parts = (
            rows
            if per_request == 1
            else [tuple(map(list, zip(*part, strict=True))) for part in batches(rows, per_request)]
        )
        statement, waiting, load = INSERT if per_request == 1 else UNNEST, iter(parts), Load()

        async def insert() -> None:
            async with await psycopg.AsyncConnection.connect(cluster.dsn("raw"), autocommit=True) as connection:
                for part in waiting:
                    began = time.perf_counter()
                    await connection.execute(statement, part, prepare=True)
                    load.latencies_seconds.append(time.perf_counter() - began)

        return charged(lambda: timed(lambda: (insert() for _ in range(connections)), load), cluster.pid)

    yield measure


def nothing_rejected(receipt: bytes) -> bool:
    """Return whether a receipt accepts everything."""
    return b'"rejected":[]' in receipt


def anything(_: bytes) -> bool:
    """Accept any body of a 200."""
    return True


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    begin, end = (datetime.fromisoformat(record[name]) for name in ("start_time", "stop_time"))
    runtime = int((end - begin).total_seconds())
    meta, components = json.dumps(record["meta"]), json.dumps(record["components"])
    return record["record_id"], begin, end, meta, components, runtime, datetime.now(UTC)
