"""Fleets of several sizes on both stores: how fast, how long, how much memory, storage and CPU time.

`python -m tests.bench.bench_scale --vms 1000 10000 100000 --stores sqlite elasticsearch`. Every vm reports the same few
hours: a share of the last hours comes in reports of their own, all before in reports of a thousand samples. Sizes take
turns, each time on a fresh server and store. At the end the sizing model is held against every point.
"""

import argparse
import contextlib
import json
import random
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from localstack import fleet
from localstack.server_process import Missing
from tests.bench import fleet_stores, output, sizing
from tests.bench.figures import number
from tests.bench.fleet_stores import FreshStore, OpenFresh
from tests.bench.load import Load, batches, drive, post_json
from tests.bench.report_contenders import REPORT, nothing_rejected
from tests.bench.serving import charged, peak_memory_mib

HOURS = 3
BATCH, BATCH_CONNECTIONS, SINGLE_CONNECTIONS = 1_000, 4, 16
FEWEST_SINGLES, MOST_SINGLES, SINGLES_SHARE = 500, 5_000, 0.1
# Requests are made between the timed parts; this many bytes of them are held at a time.
HELD_BYTES = 40_000_000
STORES = ("sqlite", "elasticsearch")


@dataclass(frozen=True)
class Point:
    """One fleet on one store: what it sent, how fast that was taken, and what it cost in all."""

    store: str
    vms: int
    boots: int
    singles: int
    batched: int
    singles_per_second: float
    batched_per_second: float
    single_ms: tuple[float, float]
    thousand_ms: tuple[float, float]
    server_mib: float
    single_cpu_seconds: float
    batched_cpu_seconds: float
    interval_bytes: int
    other_bytes: int

    @property
    def intervals(self) -> int:
        """Return how many hours were reported."""
        return self.singles + self.batched

    @property
    def costs(self) -> sizing.Costs:
        """Return the costs by this point alone, which takes all memory for a base."""
        return sizing.Costs(
            interval_bytes=self.interval_bytes / self.intervals,
            boot_bytes=self.other_bytes / self.boots,
            single_cpu_seconds=self.single_cpu_seconds / self.singles,
            batched_cpu_seconds=self.batched_cpu_seconds / self.batched,
            base_mib=self.server_mib,
            boot_kib=0,
        )


def measure(store: str, vms: int, fresh: FreshStore) -> Point:
    """Send a fleet's hours to a server on an empty store."""
    until = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    boots = [vm for vm in fleet.make(vms, HOURS / 24, until, seed=vms) if any(vm.samples(until))]
    tokens = fleet.reporter_tokens(fresh.server.home, {vm.cloud for vm in boots})
    count = min(max(int(vms * SINGLES_SHARE), FEWEST_SINGLES), MOST_SINGLES, len(boots))
    apart = {vm.boot_id for vm in random.Random(vms).sample(boots, count)}
    thousands = send(fresh, in_thousands(boots, apart, until), tokens, BATCH_CONNECTIONS)
    lasts = ((vm.cloud, list(vm.samples(until))[-1:]) for vm in boots if vm.boot_id in apart)
    single = send(fresh, lasts, tokens, SINGLE_CONNECTIONS)
    batched, server_mib = sum(1 for vm in boots for _ in vm.samples(until)) - count, peak_memory_mib(fresh.server.pid)
    sizes = fresh.stored_bytes()
    interval_bytes = sum(size for kind, size in sizes.items() if kind.startswith("interval"))
    return Point(
        store=store,
        vms=vms,
        boots=len(boots),
        singles=count,
        batched=batched,
        singles_per_second=single.per_second,
        batched_per_second=batched / thousands.seconds,
        single_ms=(single.quantile_ms(0.5), single.quantile_ms(0.99)),
        thousand_ms=(thousands.quantile_ms(0.5), thousands.quantile_ms(0.99)),
        server_mib=server_mib,
        single_cpu_seconds=single.server_cpu_seconds,
        batched_cpu_seconds=thousands.server_cpu_seconds,
        interval_bytes=interval_bytes,
        other_bytes=sum(sizes.values()) - interval_bytes,
    )


def in_thousands(boots: list[fleet.Vm], apart: set[str], until: datetime) -> Iterator[tuple[str, list[Any]]]:
    """Yield each cloud's samples in thousands, but for the last of those boots that report it apart."""
    for cloud in sorted({vm.cloud for vm in boots}):
        there = (vm for vm in boots if vm.cloud == cloud)
        samples = (sample for vm in there for sample in list(vm.samples(until))[: -1 if vm.boot_id in apart else None])
        yield from ((cloud, batch) for batch in batches(samples, BATCH))


def send(fresh: FreshStore, reports: Iterable[tuple[str, list[Any]]], tokens: dict[str, str], connections: int) -> Load:
    """Send reports, made a part at a time; the time of making them does not count."""
    posts = (post_json(REPORT, json.dumps({"samples": part}).encode(), tokens[cloud]) for cloud, part in reports)

    def parts() -> Load:
        whole = Load()
        for part in held(posts):
            whole.add(drive(fresh.server.port, part, connections, nothing_rejected))
        return whole

    return charged(parts, *fresh.pids)


def held(posts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield requests in lists of some bytes."""
    part: list[bytes] = []
    size = 0
    for post in posts:
        part.append(post)
        size += len(post)
        if size >= HELD_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def measured_rows(points: list[Point], core_hour_price: float) -> Iterator[tuple[str, ...]]:
    """Yield a row of the points' table for each."""
    for point in points:
        costs = point.costs
        month = sizing.needs(1, 1, costs)
        yield (
            point.store,
            f"{point.vms:,}",
            f"{point.intervals:,}",
            number(point.singles_per_second),
            " / ".join(map(number, point.single_ms)),
            number(point.batched_per_second),
            " / ".join(map(number, point.thousand_ms)),
            number(point.server_mib),
            f"{costs.single_cpu_seconds * 1e6:,.0f}",
            f"{costs.batched_cpu_seconds * 1e6:,.0f}",
            number(costs.interval_bytes),
            number(costs.boot_bytes),
            number(month.bytes_a_month / 1e3),
            number(costs.single_cpu_seconds * 1e6 / 3_600 * core_hour_price),
        )


HEADERS = (
    "store",
    "vms",
    "samples",
    "singles/s",
    "p50 / p99 ms",
    "in thousands/s",
    "p50 / p99 ms",
    "server MiB",
    "CPU µs, single",
    "CPU µs, batched",
    "bytes an interval",
    "bytes a boot",
    "kB a vm-month",
    "€ a million reports",
)
MODEL_HEADERS = (
    "store",
    "vms",
    *(f"{what}{part}" for what in ("MB", "CPU s", "MiB") for part in ("", ", model", ", off")),
)


def model_rows(points: list[Point]) -> Iterator[tuple[str, ...]]:
    """Yield for each point what the sizing model expects beside what was measured."""
    for point in points:
        costs = sizing.COSTS[point.store]
        pairs = (
            (costs.stored_bytes(point.boots, point.intervals) / 1e6, (point.interval_bytes + point.other_bytes) / 1e6),
            (
                costs.cpu_seconds(point.singles, point.batched),
                point.single_cpu_seconds + point.batched_cpu_seconds,
            ),
            (costs.memory_mib(point.boots), point.server_mib),
        )
        cells = (
            (number(measured), number(expected), f"{sizing.error_percent(expected, measured):+.0f} %")
            for expected, measured in pairs
        )
        yield (point.store, f"{point.vms:,}", *(cell for group in cells for cell in group))


def opened(store: str, stack: contextlib.ExitStack) -> OpenFresh:
    """Return what opens a server on an empty store of a kind."""
    return fleet_stores.sqlite if store == "sqlite" else stack.enter_context(fleet_stores.elasticsearch())


def main() -> int:
    """Measure every size on every store, in turns; return 1 where a point failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--stores", nargs="*", choices=STORES, default=STORES)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--core-hour-price", type=float, default=0.04, help="what an hour of a core costs, in €")
    output.add_options(parser)
    options = parser.parse_args()
    machine, points, failed = output.machine(), [], 0
    output.say(machine)
    for store in options.stores:
        with contextlib.ExitStack() as stack:
            try:
                fresh_store = opened(store, stack)
            except Missing as missing:
                output.say(str(missing))
                continue
            for vms in options.vms * options.rounds:
                try:
                    with fresh_store() as fresh:
                        points.append(measure(store, vms, fresh))
                    output.say(str(points[-1]))
                except Exception:  # noqa: BLE001  # One point that fails costs none of the others.
                    traceback.print_exc()
                    failed += 1
    title = f"fleets of {HOURS} hours, {SINGLE_CONNECTIONS} connections for singles, {BATCH_CONNECTIONS} for thousands"
    rows = measured_rows(points, options.core_hour_price)
    output.show(f"{title}; {machine}", HEADERS, rows, as_markdown=options.markdown)
    output.show("the sizing model beside it", MODEL_HEADERS, model_rows(points), as_markdown=options.markdown)
    kept = {
        "machine": machine,
        "failed": failed,
        "points": [asdict(point) | {"costs": asdict(point.costs)} for point in points],
    }
    output.say(str(output.keep("scale", kept)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
