"""Jobs in numbers: what the collector asks of PanDA, and how fast a day of jobs is collected and joined, on SQLite."""

import argparse
import contextlib
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from starlette.testclient import TestClient

from localstack.bigpanda import bigpanda
from localstack.serve import AllFunctions, first_start
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.app import wiring
from skytally.core.config import Config
from skytally.core.documents import Cursor, Job
from skytally.core.ports import Write
from skytally.core.records import Caller
from skytally.jobs import placements
from skytally.jobs.panda_collector import Collection
from skytally.operation.timer import Deadline
from tests.support import simulated_day

SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)
REPORT_JOBS = 5_000
QUEUES = ("QUEUE_0", "QUEUE_1", "QUEUE_2")
ROUND, ROUNDS_HOURS = timedelta(minutes=20), 3
console = Console()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument(
        "--lived", action="store_true", help="also live through the day hour by hour, against failures: minutes"
    )
    told = parser.parse_args()
    day = simulated_day.Day(jobs=told.jobs, clouds=15)
    with watched(day) as monitor, tempfile.TemporaryDirectory() as folder:
        documents = SqliteDocuments(Path(folder) / "documents.sqlite")
        console.print(f"placements: {len(day.reports) / report(day, documents):,.0f}/s")
        first_look(day, monitor, documents)
        console.print(
            f"the same placements again, with their jobs there: {len(day.reports) / report(day, documents):,.0f}/s"
        )
        documents.close()
        documents = SqliteDocuments(Path(folder) / "rounds.sqlite")
        rounds(day, monitor, documents)
        documents.close()
        if told.lived:
            live(day, monitor, Path(folder) / "home")


def live(day, monitor, home):
    """Let the day pass as in the tests: a monitor that fails,
    rounds that overlap, placements before, after and never.
    """
    began = time.perf_counter()
    with pytest.MonkeyPatch.context() as settings:
        for name, value in {"HOME": str(home), "TIMER_MIN_SECONDS": "0"}.items():
            settings.setenv(f"SKYTALLY_{name}", value)
        wiring.close()
        first_start(Config.from_env())
        scheduler = {"Authorization": f"Bearer {(home / 'tokens' / 'scheduler').read_text()}"}
        with TestClient(
            AllFunctions(), base_url="http://skytally.test/function/", raise_server_exceptions=False
        ) as client:
            day.live_through(monitor, client, scheduler, settings)
        tell_right("lived through", day, wiring.documents())
        wiring.close()
    console.print(f"asked in {time.perf_counter() - began:.0f} s of failures: {asked(monitor, len(day.truth))}")


def tell_right(how, day, documents):
    """Compare what is stored with the truth."""
    found = {job.job_id: (job.status, job.cloud) for _, job in documents.find("job", Job, {"system": ["panda"]})}
    right = sum(found.get(number) == truth for number, truth in day.truth.items())
    console.print(f"{how}: {right:,} of {len(day.truth):,} once and on their cloud, and {len(found) - right:,} others")


def collected_per_cpu_second(jobs):
    """Collect a day of so many jobs, whose placements are there; return rows a second of our CPU time."""
    day = simulated_day.Day(jobs=jobs, clouds=15)
    with (
        watched(day) as monitor,
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(SqliteDocuments(Path(folder) / "documents.sqlite")) as documents,
    ):
        report(day, documents)
        rows, _, cpu_seconds = collect_whole(day, monitor, documents)
    return rows / cpu_seconds


@contextlib.contextmanager
def watched(day):
    """Serve a day as BigPanDA does, with the settings that lead there."""
    with bigpanda() as (monitor, base):
        os.environ |= {"SKYTALLY_PANDA_URL": base}
        wiring.close()
        monitor.rows, monitor.now = day.rows, lambda: day.end.replace(tzinfo=None)
        yield monitor
    wiring.close()


def collect_whole(day, monitor, documents):
    """Collect the whole day at once; return the rows, the seconds, and our CPU seconds without the monitor's."""
    stand_at(simulated_day.BEGIN, documents)
    monitor.cpu_seconds = 0.0
    began, cpu_began = time.perf_counter(), time.process_time()
    collected = collect(day.end, documents)
    cpu_seconds = time.process_time() - cpu_began - monitor.cpu_seconds
    return collected["jobs"], time.perf_counter() - began, cpu_seconds


def first_look(day, monitor, documents):
    """Collect the whole day at once, and say how it went."""
    rows, took, cpu_seconds = collect_whole(day, monitor, documents)
    console.print(
        f"jobs: {rows:,} rows (the day, and once more what changed late) in {took:.1f} s; {cpu_seconds:.1f} s of our "
        f"CPU time, {rows / cpu_seconds:,.0f} rows a second of it, and {monitor.cpu_seconds:.1f} s of the monitor's"
    )
    tell_right("collected at once", day, documents)
    console.print(f"asked for the day at once: {asked(monitor, len(day.truth))}")


def rounds(day, monitor, documents):
    """Collect some hours in the rhythm of the timer: each round reads the hour before it again."""
    at = first = simulated_day.BEGIN + timedelta(hours=12)
    stand_at(at, documents)
    collect(at, documents)
    while at < first + timedelta(hours=ROUNDS_HOURS):
        at += ROUND
        collect(at, documents)
    ended = sum(simulated_day.naive(first) <= row["modificationtime"] < simulated_day.naive(at) for row in day.rows)
    console.print(f"asked in rounds of {ROUND.seconds // 60} min: {asked(monitor, ended)}")


def stand_at(moment, documents):
    """Let all cursors stand somewhere."""
    cursor = Cursor(stands_at=moment, asked_at=moment, error=None)
    documents.write([Write("cursor", f"panda/{queue}", 0, cursor) for queue in QUEUES]).result()


def collect(at, documents):
    """Do a round at a moment; return its counts."""
    return Collection(wiring.panda(), QUEUES, documents, Deadline(lambda: at, at + timedelta(days=1))).run()


def asked(monitor, jobs):
    """Say what the monitor was asked for since the last time, for so many jobs."""
    requests, sent, monitor.requests, monitor.bytes_sent = monitor.requests, monitor.bytes_sent, 0, 0
    return f"{requests} requests, {requests / jobs * 1e3:.2f} requests and {sent / jobs:,.0f} kB per 1 000 jobs"


def report(day, documents):
    """Send all placements; return how long it took."""
    runs = [run for _, run in day.reports]
    began = time.perf_counter()
    for start in range(0, len(runs), REPORT_JOBS):
        placements.record(
            msgspec.json.encode({"jobs": runs[start : start + REPORT_JOBS]}), SCHEDULER, documents, day.end
        )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
