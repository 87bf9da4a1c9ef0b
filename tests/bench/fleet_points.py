"""One fleet on one store, whole: what it sends, how fast that is taken, and what it costs."""

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from localstack import fleet
from tests.bench import sizing
from tests.bench.fleet_stores import FreshStore
from tests.bench.load import Load, batches, drive, post_json
from tests.bench.report_contenders import REPORT, nothing_rejected
from tests.bench.serving import charged, peak_memory_mib

HOURS = 3
BATCH, BATCH_CONNECTIONS, SINGLE_CONNECTIONS = 1_000, 4, 16
FEWEST_SINGLES, MOST_SINGLES, SINGLES_SHARE = 500, 5_000, 0.1
# Requests are made between the timed parts; this many bytes of them are held at a time.
HELD_BYTES = 40_000_000


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
