"""Jobs in numbers: what the collector asks of PanDA, and how fast a day of jobs is collected and joined, on SQLite."""

import argparse
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import msgspec  # noqa: E402
import simulated_day  # noqa: E402
from rich.console import Console  # noqa: E402

from localstack.bigpanda import bigpanda  # noqa: E402
from skytally import placement, wiring  # noqa: E402
from skytally.adapters.documents_sqlite import SqliteDocuments  # noqa: E402
from skytally.documents import Cursor, Job  # noqa: E402
from skytally.panda_collection import Collection  # noqa: E402
from skytally.ports import Write  # noqa: E402
from skytally.records import Caller  # noqa: E402

SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)
REPORT_JOBS = 5_000
console = Console()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=50_000)
    told = parser.parse_args()
    day = simulated_day.Day(jobs=told.jobs, clouds=15)
    with bigpanda() as (monitor, base), tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SKYTALLY_PANDA_URL": base}
        documents = SqliteDocuments(Path(folder) / "documents.sqlite")
        monitor.rows, monitor.now = day.rows, lambda: day.end.replace(tzinfo=None)
        reported = report(day, documents)
        documents.write([Write("cursor", "panda", 0, Cursor(stands_at=simulated_day.BEGIN))]).result()
        queues = ("QUEUE_0", "QUEUE_1", "QUEUE_2")
        began = time.perf_counter()
        collected = Collection(wiring.panda(), queues, documents, lambda: day.end, day.end + timedelta(days=1)).run()
        took = time.perf_counter() - began
        found = {job.job_id: (job.status, job.cloud) for _, job in documents.find("job", Job, {"system": ["panda"]})}
        right = sum(found.get(number) == truth for number, truth in day.truth.items())
        console.print(f"placements: {len(day.reports) / reported:,.0f}/s")
        rate = f"{collected['jobs'] / took:,.0f}/s"
        console.print(f"jobs: {collected['jobs']:,} rows (the day, and once more what changed late) in {took:.1f} s, {rate}")
        console.print(f"right: {right:,} of {len(day.truth):,} once and on their cloud")
        console.print(
            f"asked: {monitor.requests} requests, {monitor.requests / told.jobs * 1e3:.2f} requests and "
            f"{monitor.bytes_sent / told.jobs:,.0f} kB per 1 000 jobs"
        )
        documents.close()


def report(day, documents):
    """Send all placements; answers how long it took."""
    runs = [run for _, run in day.reports]
    began = time.perf_counter()
    for start in range(0, len(runs), REPORT_JOBS):
        placement.record(msgspec.json.encode({"jobs": runs[start : start + REPORT_JOBS]}), SCHEDULER, documents, day.end)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
