"""Fleets of several sizes on both stores: how fast, how long, how much memory, storage and CPU time.

`python -m tests.bench.bench_scale --vms 1000 10000 100000 --stores sqlite elasticsearch`. Every vm reports the same few
hours: a share of the last hours comes in reports of their own, all before in reports of a thousand samples. Sizes take
turns, each time on a fresh server and store. At the end the sizing model is held against every point.
"""

import argparse
import contextlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict

from localstack.server_process import Missing
from tests.bench import figures, fleet_stores, output, sizing
from tests.bench.figures import number
from tests.bench.fleet_points import BATCH_CONNECTIONS, HOURS, SINGLE_CONNECTIONS, Point, measure
from tests.bench.fleet_stores import OpenFresh

STORES = ("sqlite", "elasticsearch")
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


def say_fitted(points: list[Point]) -> None:
    """Print the costs that these points would give the model, a line a store."""
    for store in sorted({point.store for point in points}):
        by_size = sorted((point for point in points if point.store == store), key=lambda point: point.boots)
        small, large = ((point.boots, point.costs) for point in (by_size[0], by_size[-1]))
        costs = sizing.fitted(small, large)
        output.say(f"by these points, {store}: {costs}", figures.markdown((), [sizing.cost_row(store, costs)]))


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
