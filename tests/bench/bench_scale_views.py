"""Views and statements of large fleets: a month of documents written through the port, then read as a reader does.

    python -m tests.bench.bench_scale_views --vms 10000 100000 --stores sqlite elasticsearch

A fleet has one usage document a vm, a benchmark for every second one, and an interval each six hours of the last day
(`--intervals` of them). Each read runs in a process of its own, whose peak memory is shown beside its time.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from skytally.accounting import closing
from skytally.app.wiring import open_documents
from skytally.core.config import Config
from skytally.core.documents import BootBenchmark, Interval, Usage
from skytally.core.months import month_end_at, month_start_at
from skytally.core.ports import Write
from skytally.core.site_data import Site
from skytally.dashboard import query

MONTH = "2026-10"
UNTIL = month_end_at(MONTH)
CLOUDS = 15
INTERVAL = timedelta(hours=6)
BATCH, BATCHES_AT_ONCE = 2_000, 4
REPEATS = 3
console = Console()


def boots(vms):
    """Return name, cloud, label and boot time of each vm: all booted in the month, some minutes apart."""
    for n in range(vms):
        boot_at = month_start_at(MONTH) + timedelta(hours=12, seconds=n % 3_600)
        vm, cloud = f"vm-{n:06}", f"cloud-{n % CLOUDS:02}"
        yield n, vm, cloud, f"{vm}-{boot_at:%Y%m%dT%H%M%SZ}@{cloud}", boot_at


def usage(n, vm, cloud, label, boot_at):
    """Return a boot's month."""
    last_at = UNTIL - timedelta(seconds=n % 3_600)
    wall_ms = round((last_at - boot_at).total_seconds() * 1_000)
    blank = dict.fromkeys(Usage.__struct_fields__) | dict.fromkeys(("final", "estimated", "clock_ahead"), False)
    named = {"month": MONTH, "boot_id": f"boot-{label}", "label": label, "vm": vm, "cloud": cloud, "flavor": "m8"}
    counters = dict.fromkeys((name for name in blank if name.endswith(("_ms", "_bytes"))), 0)
    counters |= {"wall_ms": wall_ms, "uptime_ms": wall_ms, "core_ms": 8 * wall_ms, "user_ms": 6 * wall_ms + 13 * n}
    times = {"boot_at": boot_at, "last_sampled_at": last_at, "cores": 8, "cpu_model": "pretended", "agent_version": "1"}
    return Write("usage", f"{label}-{MONTH}", wall_ms, Usage(**blank | counters | named | times))


def benchmark(n, cloud, label):
    """Return a boot's benchmark."""
    blank = dict.fromkeys(BootBenchmark.__struct_fields__)
    score = 15 + n % 7 / 10
    named = {"boot_id": f"boot-{label}", "cloud": cloud, "flavor": "m8", "kernel": "HEPscore23", "copies": 8}
    return Write(
        "benchmark",
        f"boot-{label}",
        1,
        BootBenchmark(**blank | named | {"score_hs23": score, "cpu_model": "pretended"}),
    )


def intervals(n, vm, cloud, label, boot_at, count):
    """Return a boot's last intervals."""
    blank = dict.fromkeys(Interval.__struct_fields__, 0)
    named = {"label": label, "vm": vm, "cloud": cloud, "site": None, "group": None, "flavor": "m8", "cores": 8}
    length_ms = round(INTERVAL.total_seconds() * 1_000)
    busy = {"wall_ms": length_ms, "core_ms": 8 * length_ms, "user_ms": 6 * length_ms + n, "idle_ms": length_ms}
    for at in range(count):
        until_at = UNTIL - at * INTERVAL - timedelta(seconds=n % 3_600)
        from_at = until_at - INTERVAL
        uptime_ms = round((from_at - boot_at).total_seconds() * 1_000)
        document = Interval(**blank | named | busy | {"from_at": from_at, "until_at": until_at})
        yield Write("interval", f"{label}-{uptime_ms}", uptime_ms + length_ms, document)


def writes(vms, interval_count):
    for n, vm, cloud, label, boot_at in boots(vms):
        yield usage(n, vm, cloud, label, boot_at)
        if n % 2:
            yield benchmark(n, cloud, label)
        yield from intervals(n, vm, cloud, label, boot_at, interval_count)


def fill(documents, vms, interval_count):
    """Write a fleet; return the number of documents and the seconds that it took."""
    began, count, under_way, batch = time.perf_counter(), 0, [], []
    for write in writes(vms, interval_count):
        batch.append(write)
        if len(batch) == BATCH:
            under_way.append(documents.write(batch))
            count, batch = count + len(batch), []
            if len(under_way) == BATCHES_AT_ONCE:
                under_way.pop(0).result()
    for future in (*under_way, documents.write(batch)):
        future.result()
    documents.refresh()
    return count + len(batch), time.perf_counter() - began


def view(documents, **named):
    """Return a view as the page reads it."""
    asked = query.Asked(
        query={"view": "usage", "part": "table", "until": UNTIL.isoformat()} | named,
        clouds=(),
        visible=(),
        documents=documents,
        objects=None,
        notes=None,
        site=Site(),
        site_fault=None,
        panda_url="",
        off=(),
        now=UNTIL,
    )
    answer = query.data(asked)
    return answer["row_count"], len(msgspec.json.encode(answer))


def statement(documents, detail):
    """Read a month's statement as the function sends it; return its rows and bytes."""
    if not detail:
        totals = closing.statement_totals(MONTH, (), documents, Site(), UNTIL)
        return len(totals["clouds"]), len(msgspec.json.encode(totals))
    _, boots = closing.statement_parts(MONTH, (), documents, Site(), UNTIL)
    count = size = 0
    for row in boots:
        count, size = count + 1, size + len(msgspec.json.encode(row))
    return count, size


READS = {
    "a day by cloud": lambda documents: view(documents, window="day", by="cloud"),
    "a day by vm, first page": lambda documents: view(documents, window="day", by="vm", limit="100"),
    "a month by cloud": lambda documents: view(documents, window="month", by="cloud"),
    "a month by vm, first page": lambda documents: view(documents, window="month", by="vm", limit="100"),
    "statement by cloud": lambda documents: statement(documents, detail=False),
    "statement with its boots": lambda documents: statement(documents, detail=True),
}


def read(url, name, sender):
    """Read once to warm up, then measure; send the median and largest time, the CPU time and the peak memory."""
    os.environ["SKYTALLY_DOCUMENTS"] = url
    with contextlib.closing(open_documents(Config.from_env())) as documents:
        documents.count("usage")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times, cpu = [], time.process_time()
        for _ in range(REPEATS):
            began = time.perf_counter()
            rows, size = READS[name](documents)
            times.append(time.perf_counter() - began)
        cpu = (time.process_time() - cpu) / REPEATS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send(
        {
            "first_seconds": times[0],
            "seconds": statistics.median(times),
            "cpu_seconds": cpu,
            "rows": rows,
            "answer_bytes": size,
            "memory_mib": peak / 1_024,
            "grown_mib": (peak - before) / 1_024,
        }
    )


def measured(url, names=tuple(READS)):
    """Measure each read in a process of its own."""
    spawn, results = multiprocessing.get_context("spawn"), {}
    for name in names:
        receiver, sender = spawn.Pipe(duplex=False)
        process = spawn.Process(target=read, args=(url, name, sender))
        process.start()
        sender.close()
        results[name] = receiver.recv()
        process.join()
    return results


@contextlib.contextmanager
def store(name):
    """Yield the URL of an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        if name == "sqlite":
            yield f"sqlite:///{folder}/documents.sqlite"
            return
        from localstack.search_server import unsecured

        with unsecured(name)(Path(folder)) as server:
            yield server.url


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--intervals", type=int, default=4)
    parser.add_argument("--stores", nargs="*", default=["sqlite", "elasticsearch"])
    parser.add_argument("--reads", nargs="*", choices=READS, default=list(READS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    figures = []
    for name in args.stores:
        table = Table(title=f"reads on {name}, load {os.getloadavg()[0]:.1f}")
        for column in (
            "vms",
            "read",
            "seconds",
            "first",
            "CPU s of ours",
            "rows",
            "answer kB",
            "peak MiB",
            "grown MiB",
        ):
            table.add_column(column, justify="right")
        for vms in args.vms:
            with store(name) as url:
                os.environ["SKYTALLY_DOCUMENTS"] = url
                with contextlib.closing(open_documents(Config.from_env())) as documents:
                    documents.install(datetime.now(UTC))
                    count, took = fill(documents, vms, args.intervals)
                print(f"{name}: {vms:,} vms, {count:,} documents in {took:.0f} s", flush=True)
                for read_name, row in measured(url, args.reads).items():
                    figures.append({"store": name, "vms": vms, "read": read_name} | row)
                    print(figures[-1], flush=True)
                    table.add_row(
                        f"{vms:,}",
                        read_name,
                        *(f"{row[key]:.2f}" for key in ("seconds", "first_seconds", "cpu_seconds")),
                        f"{row['rows']:,}",
                        f"{row['answer_bytes'] / 1_000:,.0f}",
                        *(f"{row[key]:,.0f}" for key in ("memory_mib", "grown_mib")),
                    )
        console.print(table)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
