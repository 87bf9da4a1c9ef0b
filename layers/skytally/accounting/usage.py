"""Usage: the totals of a boot's month, and the interval between two samples.

All counters are cumulative since boot, so only the last sample of a month counts, whether earlier ones arrived once,
twice or never. A document's version is the uptime: it grows strictly within a boot and needs no clock.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from operator import attrgetter, sub

from msgspec import Struct

from skytally.accounting import samples
from skytally.accounting.boots import Candidate, Register, check_owner, cores_write
from skytally.core import batch
from skytally.core.documents import Anomaly, Boot, BootBenchmark, Interval, Usage
from skytally.core.errors import SkytallyError
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import NULL, Benchmark, Caller, Counters, Labels, Previous, Receipt, Rejection, Sample
from skytally.core.timestamps import each_in_ms, ms_of_seconds, to_ms

# A vm's agent samples at each end of a month. After a longer interval it had lost its state: a gap in the coverage.
LONGEST_INTERVAL_MS = 62 * 86_400_000
# In the order of the last fields of Usage and Interval, which are built by position: it takes half the time.
_seconds_counted = attrgetter(
    "wall_seconds",
    "core_seconds",
    "user_seconds",
    "nice_seconds",
    "system_seconds",
    "idle_seconds",
    "iowait_seconds",
    "steal_seconds",
    "suspended_seconds",
)


def candidate(sample: Sample, caller: Caller, now: datetime) -> Candidate:
    """Return the candidate boot of a sample, with the token's labels."""
    labels = Labels(cloud=caller.clouds[0], site=caller.site, group=caller.group, flavor=caller.flavor)
    return Candidate(
        str(sample.boot_id), sample.vm, samples.booted_at(sample, now), labels, _cores(sample), caller.vm is not None
    )


def _cores(sample: Sample) -> int:
    return max(sample.cores, sample.most_cores or 0)


def usage_document(sample: Sample, counted: Sequence[int], boot: Boot, now: datetime) -> Usage:
    """Return the month's totals so far: what the sample `counted` minus its values at the month's start."""
    return Usage(
        sample.month,
        boot.boot_id,
        boot.label,
        boot.vm,
        boot.cloud,
        boot.site,
        boot.group,
        boot.flavor,
        boot.boot_at,
        samples.sampled_at(sample, now),
        sample.final,
        sample.estimated,
        sample.sampled_at > now + samples.AHEAD_ALLOWED,
        sample.clock_offset_seconds,
        sample.cores,
        sample.memory_bytes,
        sample.disk_bytes,
        sample.cpu_model,
        sample.agent_version,
        ms_of_seconds(sample.uptime_seconds),
        *(counted if sample.month_start == samples.NOTHING else difference(counted, whole(sample.month_start))),
    )


def interval_document(
    sample: Sample, counted: Sequence[int], previous: Previous, boot: Boot, now: datetime
) -> Interval:
    """Return the interval since the previous sample, with the time that it lasted."""
    until_at = samples.sampled_at(sample, now)
    return Interval(
        boot.label,
        boot.vm,
        boot.cloud,
        boot.site,
        boot.group,
        boot.flavor,
        interval_start(sample, previous, until_at),
        until_at,
        sample.cores,
        *difference(counted, whole(previous.counters)),
    )


def benchmark_document(benchmark: Benchmark, boot: Boot) -> BootBenchmark:
    """Return a boot's scores with everything that they depend on."""
    version = benchmark.kernel_version
    return BootBenchmark(
        boot_id=boot.boot_id,
        cloud=boot.cloud,
        flavor=boot.flavor,
        kernel=benchmark.kernel,
        kernel_version=None if version is None else str(version),
        score_wall=benchmark.score_wall,
        score_cpu=benchmark.score_cpu,
        score_hs23=benchmark.score_hs23,
        copies=benchmark.copies,
        steal_fraction=benchmark.steal_fraction,
        duration_seconds=benchmark.duration_seconds,
        interpreter=benchmark.interpreter,
        cpu_model=benchmark.cpu_model,
        measured_at=benchmark.measured_at,
    )


def interval_start(sample: Sample, previous: Previous, until_at: datetime) -> datetime:
    """Return the previous sample's time; if the clock was stepped in between, count back by the uptimes instead.

    An interval is at least one millisecond long, because its parts are shares of its length.
    """
    lasted_seconds = sample.uptime_seconds - previous.uptime_seconds
    apart_seconds = (until_at - previous.sampled_at).total_seconds()
    if apart_seconds >= 0.001 and abs(apart_seconds - lasted_seconds) <= samples.bound(lasted_seconds) - lasted_seconds:
        return previous.sampled_at
    return until_at - timedelta(milliseconds=max(1, ms_of_seconds(lasted_seconds)))


def difference(now: Sequence[int], before: Sequence[int]) -> list[int]:
    """Return the difference in whole milliseconds and bytes: differences of a chain of samples add up exactly.

    Some kernels let counters such as iowait run backwards. Such a difference counts as 0.
    """
    differences = list(map(sub, now, before))
    return differences if min(differences) >= 0 else [max(0, counted) for counted in differences]


def whole(counters: Counters) -> list[int]:
    """Return counters in whole milliseconds and bytes."""
    return [
        *each_in_ms(_seconds_counted(counters)),
        counters.network_received_bytes,
        counters.network_sent_bytes,
    ]


class Item(Struct, gc=False):
    """One sample of a report with its boot, its writes, and the rejections of the sample or its benchmark."""

    index: int
    sample: Sample
    boot: Boot
    writes: list[Write] = []
    refused: list[Rejection] = []

    def judge(self, caller: Caller, register: Register, most_cores: int | None, now: datetime) -> None:
        """Make the sample's writes: usage first, then the interval and the benchmark if it has them.

        A benchmark that the register has, or has a later one of, is not written. A bad one is rejected alone. Raise
        SkytallyError for an impossible sample. Without `most_cores` the sample needs no more cores than its boot is
        known to have.
        """
        sample, boot, version = self.sample, self.boot, ms_of_seconds(self.sample.uptime_seconds)
        check_owner(boot, sample.vm, caller.clouds[0])
        samples.check_age(sample, boot, now)
        if most_cores is not None:
            samples.check_cores(sample, most_cores)
        counted, previous = whole(sample.counters), sample.previous
        usage = usage_document(sample, counted, boot, now)
        self.writes = [Write("usage", f"{boot.label}-{sample.month}", version, usage)]
        if previous is not None:
            previous_ms = ms_of_seconds(previous.uptime_seconds)
            if 0 < version - previous_ms <= LONGEST_INTERVAL_MS:
                interval = interval_document(sample, counted, previous, boot, now)
                self.writes.append(Write("interval", f"{boot.label}-{previous_ms}", version, interval))
        if sample.benchmark == NULL or register.has_benchmark(boot.boot_id, bytes(sample.benchmark), version):
            return
        try:
            benchmark = samples.benchmark_of(sample, now)
            if benchmark is not None and register.takes_benchmark(boot.boot_id, version):
                self.writes.append(Write("benchmark", boot.boot_id, version, benchmark_document(benchmark, boot)))
        except Exception as error:  # noqa: BLE001
            self.refused.append(batch.rejection(self.index, error))

    def settle(self, outcomes: Sequence[Outcome]) -> Outcome:
        """Return the sample's outcome from the outcomes of its writes."""
        if Outcome.REJECTED not in outcomes:
            return outcomes[0]
        rejected = {w.index for w, outcome in zip(self.writes, outcomes, strict=True) if outcome is Outcome.REJECTED}
        if rejected - {"benchmark"}:
            self.refused = [Rejection(self.index, "rejected", "the document store refuses this sample for good")]
            return Outcome.REJECTED
        self.refused.append(
            Rejection(self.index, "malformed_benchmark", "the document store refuses this benchmark for good")
        )
        return outcomes[0]


async def record(
    parsed: Sequence[Sample | Rejection], caller: Caller, register: Register, documents: Documents, now: datetime
) -> Receipt:
    """Store every good sample of a report durably before answering.

    Invariant: a bad sample never stops its neighbours. Raise Unavailable: then the whole report may be sent again.
    """
    rejected = [item for item in parsed if isinstance(item, Rejection)]
    items = await _items(parsed, caller, register, now, rejected)
    most_cores = await _most_cores(items, register)
    judged: list[Item] = []
    for item in items:
        with batch.judging(item.index, rejected):
            item.judge(caller, register, most_cores.get(item.boot.boot_id), now)
            judged.append(item)
    more_cores = register.more_cores((item.boot, _cores(item.sample)) for item in judged)
    writes = [write for item in judged for write in item.writes]
    stored_outcomes = await asyncio.wrap_future(documents.write([*writes, *map(cores_write, more_cores)]))
    register.remember_cores(more_cores)
    counts: Counter[Outcome] = Counter()
    stale: list[Write] = []
    at = 0
    for item in judged:
        outcomes = stored_outcomes[at : at + len(item.writes)]
        at += len(item.writes)
        outcome = item.settle(outcomes)
        if item.writes[-1].index == "benchmark" and outcomes[-1] is Outcome.STORED:
            register.remember_benchmark(item.boot.boot_id, bytes(item.sample.benchmark), item.writes[-1].version)
        counts[outcome] += 1
        stale += item.writes[:1] if outcome is Outcome.STALE else []
    await _note_anomalies(stale, documents)
    rejected += [refusal for item in judged for refusal in item.refused]
    rejected.sort(key=lambda rejection: rejection.index)
    return Receipt(accepted=counts[Outcome.STORED], stale=counts[Outcome.STALE], rejected=rejected, server_time=now)


async def _items(
    parsed: Sequence[Sample | Rejection],
    caller: Caller,
    register: Register,
    now: datetime,
    rejected: list[Rejection],
) -> list[Item]:
    """Return the samples that pass their own checks, each with its boot; add the others to `rejected`."""
    checked: list[tuple[int, Sample, str]] = []
    for index, sample in enumerate(parsed):
        if isinstance(sample, Sample):
            with batch.judging(index, rejected):
                samples.check(sample, caller, now)
                checked.append((index, sample, str(sample.boot_id)))
    boots = await _boots(((boot_id, sample) for _, sample, boot_id in checked), caller, register, now)
    items: list[Item] = []
    for index, sample, boot_id in checked:
        boot = boots[boot_id]
        if isinstance(boot, Boot):
            items.append(Item(index, sample, boot))
        else:
            rejected.append(batch.rejection(index, boot))
    return items


async def _boots(
    checked: Iterable[tuple[str, Sample]], caller: Caller, register: Register, now: datetime
) -> dict[str, Boot | SkytallyError]:
    """Return each sample's boot by its boot_id, or the error for which it has none."""
    cached: dict[str, Boot | SkytallyError] = {}
    uncached: dict[str, Candidate] = {}
    for boot_id, sample in checked:
        boot = register.cached(boot_id)
        if boot is not None:
            cached[boot_id] = boot
        elif boot_id not in uncached:
            uncached[boot_id] = candidate(sample, caller, now)
    return cached | await asyncio.to_thread(register.enrol, list(uncached.values()), now) if uncached else cached


async def _most_cores(items: Sequence[Item], register: Register) -> dict[str, int]:
    """Return the highest number of cores of each boot with a sample that seems to need more; query the store for them.

    The other boots' samples pass with the cores that this process has cached.
    """
    most_cores: dict[str, int] = {}
    for item in items:
        seen = most_cores.get(item.boot.boot_id) or register.most_cores(item.boot)
        most_cores[item.boot.boot_id] = max(seen, _cores(item.sample))
    exceeding = {item.boot.boot_id for item in items if samples.exceeds(item.sample, most_cores[item.boot.boot_id])}
    stored = await asyncio.to_thread(register.read_cores, list(exceeding)) if exceeding else {}
    return {boot_id: max(most_cores[boot_id], stored.get(boot_id, 0)) for boot_id in exceeding}


async def _note_anomalies(stale: Sequence[Write], documents: Documents) -> None:
    """Write an anomaly for each boot whose sample is stale by its uptime and yet later in time than the stored one."""
    if stale:
        stored = await asyncio.to_thread(documents.get_many, "usage", [write.key for write in stale], Usage)
        anomalies = [
            anomaly(write, usage)
            for write, usage in zip(stale, stored, strict=True)
            if usage is not None and _went_back(write, usage)
        ]
        await asyncio.wrap_future(documents.write(anomalies))


def _went_back(write: Write, stored: Usage) -> bool:
    tolerance, sample = timedelta(seconds=samples.TOLERANCE_SECONDS), write.document
    return (
        isinstance(sample, Usage)
        and sample.last_sampled_at > stored.last_sampled_at + tolerance
        and sample.uptime_ms < stored.uptime_ms
    )


def anomaly(write: Write, stored: Usage) -> Write:
    """Return the write of the anomaly of a boot whose uptime went back."""
    sample = write.document
    assert isinstance(sample, Usage)  # noqa: S101
    document = Anomaly(
        label=stored.label,
        vm=stored.vm,
        cloud=stored.cloud,
        month=stored.month,
        at=sample.last_sampled_at,
        uptime_ms=sample.uptime_ms,
        known_uptime_ms=stored.uptime_ms,
    )
    return Write("anomaly", write.key, to_ms(sample.last_sampled_at), document)
