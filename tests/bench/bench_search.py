"""Search engines in numbers:
what skytally keeps beside a raw `_bulk` of the same documents, a month's view, and how it grows.

Each engine is one node on the same two cores as everything else, so only ratios of one run mean anything.
`--parts grown --vms 1000 10000 50000 --hours 24` looks at growth alone, `--engines opensearch` at one engine.
"""

import argparse
import contextlib
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack.search_server import node
from skytally.adapters.documents_search import SearchDocuments, connect
from skytally.adapters.documents_search.lines import line
from skytally.core import storable
from skytally.core.documents import Interval, Usage
from skytally.core.months import month_end_at, month_of
from skytally.core.ports import Write
from skytally.core.site_data import Site
from skytally.dashboard.time_range import window
from skytally.dashboard.usage_view import interval_sums, usage_view
from skytally.dashboard.window_boots import window_boots
from tests.bench import bench_search_reports
from tests.bench.load import batches

BULK, ROUNDS = 2_000, 20
PARTS = ("raw", "reports", "grown")
ENGINES = ("elasticsearch", "opensearch")
console = Console()


def intervals(vms, hours, until):
    """Make the hours of a fleet, one vm after another, each sampled at a minute of its own."""
    blank = dict.fromkeys(Interval.__struct_fields__, 0)
    for n in range(vms):
        boot_at = until - timedelta(hours=hours, minutes=n % 60)
        name = f"vm-{n:05}"
        label = f"{name}-{boot_at:%Y%m%dT%H%M%SZ}"
        where = {"label": label, "vm": name, "cloud": f"cloud-{n % 15:02}", "site": None, "group": None, "flavor": "m8"}
        for hour in range(hours):
            begin = boot_at + timedelta(hours=hour)
            busy = {
                "cores": 8,
                "wall_ms": 3_600_000,
                "core_ms": 28_800_000,
                "user_ms": 20_000_000 + 13 * n + hour,
                "idle_ms": 8_000_000 - hour,
            }
            document = Interval(**blank | where | busy | {"from_at": begin, "until_at": begin + timedelta(hours=1)})
            yield Write("interval", f"{label}-{hour * 3_600_000}", (hour + 1) * 3_600_000, document)


def usages(vms, hours, until):
    """Make the months of the same boots, by which a view knows what was up."""
    blank = dict.fromkeys(Usage.__struct_fields__)
    blank |= {name: 3_600_000 * hours for name in blank if name.endswith("_ms")} | {
        name: 0 for name in blank if name.endswith("_bytes")
    }
    blank |= dict.fromkeys(("final", "estimated", "clock_ahead"), False)
    for one in intervals(vms, 1, until):
        boot_at = one.document.from_at - timedelta(hours=hours - 1)
        label = f"{one.document.vm}-{boot_at:%Y%m%dT%H%M%SZ}"
        named = {
            "month": month_of(one.document.from_at),
            "boot_id": f"boot-{label}",
            "label": label,
            "vm": one.document.vm,
            "cloud": one.document.cloud,
        }
        usage = Usage(**blank | named | {"boot_at": boot_at, "last_sampled_at": one.document.until_at, "cores": 8})
        yield Write("usage", f"{label}-{named['month']}", 1, usage)


def beside_raw(documents, until, bulks=ROUNDS):
    """Send the same documents in turn by us and by hand on each engine, each to fresh keys.

    They are 100 vms' hours until a moment. Return the documents a second by engine and way.
    """
    seconds = {(engine, way): 0.0 for engine in documents for way in ("skytally", "raw _bulk")}
    for n, batch in enumerate(batches(intervals(100, 2 * bulks * BULK // 100, until), BULK)):
        for engine, store in documents.items():
            way = "skytally" if n % 2 else "raw _bulk"
            body = b"".join(line(store._prefix, write, storable.check(write)) for write in batch)
            began = time.perf_counter()
            if n % 2:
                store.write(batch).result()
            else:
                store.client.perform("POST", "/_bulk", {"filter_path": "errors"}, body)
            seconds[engine, way] += time.perf_counter() - began
    return {key: bulks * BULK / took for key, took in seconds.items()}


def grown(documents, vms, hours, until):
    """Fill a fleet's hours and look at its views; answer a row."""
    began = time.perf_counter()
    futures = []
    for batch in batches(intervals(vms, hours, until), BULK):
        futures.append(documents.write(batch))
        if len(futures) > 3:
            futures.pop(0).result()
    for future in futures:
        future.result()
    rate = vms * hours / (time.perf_counter() - began)
    for batch in batches(usages(vms, hours, until), BULK):
        documents.write(batch).result()
    documents.refresh()
    kept = documents.client.perform("GET", f"/{documents._prefix}-interval-*/_stats/store")["_all"]["primaries"][
        "store"
    ]
    times = []
    for name in ("day", "week", "month"):
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            shown = window({"window": name, "until": until.isoformat()}, until)
            boots = window_boots(shown, {}, documents, Site(), until)
            usage_view(shown, {}, "cloud", boots, interval_sums(shown, {}, "cloud", documents), documents, until)
            taken.append(time.perf_counter() - began)
        times.append(f"{sorted(taken)[1] * 1e3:,.0f}")
    return [
        f"{vms:,}",
        f"{hours}",
        f"{vms * hours:,}",
        f"{rate:,.0f}",
        f"{kept['size_in_bytes'] / vms / hours:,.0f}",
        *times,
    ]


def bytes_a_document(documents, codec, until):
    client, index = documents.client, f"bytes-{codec.replace('_', '-')}"
    from skytally.adapters.documents_search.templates import mappings

    settings = {"codec": codec, "number_of_replicas": 0}
    client.perform("PUT", f"/{index}", body={"mappings": mappings("interval"), "settings": settings})
    for batch in batches(intervals(200, 240, until), BULK):
        lines = [line(documents._prefix, write, storable.check(write)).partition(b"\n")[2] for write in batch]
        client.perform("POST", f"/{index}/_bulk", body=b"".join(b'{"index":{}}\n' + line for line in lines))
    client.perform("POST", f"/{index}/_forcemerge", {"max_num_segments": 1})
    client.perform("POST", f"/{index}/_refresh")
    return client.perform("GET", f"/{index}/_stats/store")["_all"]["primaries"]["store"]["size_in_bytes"] / (200 * 240)


@contextlib.contextmanager
def store(server, prefix):
    documents = SearchDocuments(connect([server.url], "", ""), prefix)
    documents.install(datetime.now(UTC))
    yield documents
    documents.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--vms", type=int, nargs="*", default=[1_000], help="fleets whose month is filled and looked at"
    )
    parser.add_argument("--hours", type=int, default=720)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=ENGINES)
    args = parser.parse_args()
    until = month_end_at("2026-10")
    with contextlib.ExitStack() as stack:
        servers = {engine: stack.enter_context(serving(engine)) for engine in args.engines}
        if "raw" in args.parts:
            raw(servers, until)
        for engine, server in servers.items():
            if "reports" in args.parts:
                reports(engine, server)
            if "grown" in args.parts:
                growth(engine, server, args.vms, args.hours, until)


@contextlib.contextmanager
def serving(engine):
    with (
        tempfile.TemporaryDirectory() as folder,
        node(engine, Path(folder)) as one,
        one.serving(Path(folder) / "log") as server,
    ):
        yield server


def raw(servers, until):
    """Compare with what each server can do by itself."""
    with contextlib.ExitStack() as stack:
        stores = {engine: stack.enter_context(store(server, "raw")) for engine, server in servers.items()}
        rates = beside_raw(stores, until)
        table = Table(title="interval documents a second")
        for column in ("engine", "skytally", "raw _bulk", "ratio", "bytes a document", "by the default codec"):
            table.add_column(column, justify="right")
        for engine, documents in stores.items():
            ours, by_hand = rates[engine, "skytally"], rates[engine, "raw _bulk"]
            sizes = [f"{bytes_a_document(documents, codec, until):,.0f}" for codec in ("best_compression", "default")]
            table.add_row(engine, f"{ours:,.0f}", f"{by_hand:,.0f}", f"{ours / by_hand:.0%}", *sizes)
        console.print(table)


def growth(engine, server, sizes, hours, until):
    """Fill fleets of several sizes, one after another."""
    table = Table(title=f"a fleet's hours on {engine}")
    for column in ("vms", "hours", "intervals", "stored/s", "bytes each", "day view ms", "week ms", "month ms"):
        table.add_column(column, justify="right")
    for n, vms in enumerate(sizes):
        with store(server, f"grown{n}") as documents:
            row = grown(documents, vms, hours, until)
            print(*row, flush=True)
            table.add_row(*row)
            documents.client.perform("DELETE", "/" + ",".join(documents.client.perform("GET", f"/grown{n}-*")))
    console.print(table)


def install(server):
    """Prepare a server for the local server's documents."""
    with contextlib.closing(SearchDocuments(connect([server.url], "", ""), "skytally")) as documents:
        documents.install(datetime.now(UTC))


def reports(engine, server):
    """Measure usage_report through HTTP beside a raw bulk of the same documents."""
    rows = bench_search_reports.measured(server)
    console.print(bench_search_reports.table(f"usage_report on {engine}, durable before it is answered", rows))


if __name__ == "__main__":
    main()
