"""Usage: what the samples of a boot say of a month, and of the time between two of them.

Everything is cumulative since boot, so of a month only the last sample counts, whatever arrived before it, twice or never.
The version of a document is the uptime, which grows strictly within a boot and knows no clock.
"""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate

import msgspec

from skytally import records
from skytally.boot import Candidate, Register, check_owner
from skytally.documents import Anomaly, Boot, BootBenchmark, Interval, Usage
from skytally.errors import Malformed, NotYours, SkytallyError
from skytally.ports import Documents, Outcome, Write
from skytally.records import Benchmark, Caller, Counters, Labels, Previous, Receipt, Rejection, Sample, Samples

AHEAD_ALLOWED = timedelta(minutes=5)
CLOSING_ALLOWED = timedelta(seconds=60)
TOLERANCE_SECONDS = 60.0
TOLERANCE_FACTOR = 1.02
BASELINE_TOLERANCE = timedelta(days=1)
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
COUNTED = (
    "wall_ms",
    "core_ms",
    "user_ms",
    "nice_ms",
    "system_ms",
    "idle_ms",
    "iowait_ms",
    "steal_ms",
    "suspended_ms",
    "network_received_bytes",
    "network_sent_bytes",
)
NEVER_BACKWARDS = ("wall_seconds", "core_seconds", "user_seconds", "system_seconds", "idle_seconds")

_sample_decoder = msgspec.json.Decoder(Sample)


def parse(body: bytes) -> list[Sample | Rejection]:
    """Decode a report; a sample that is not one becomes a rejection and leaves its neighbours alone."""
    return [_parse_one(index, raw) for index, raw in enumerate(records.parse(body, Samples).samples)]


def _parse_one(index: int, raw: msgspec.Raw) -> Sample | Rejection:
    try:
        return _sample_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refusal = records.malformed(error)
        return Rejection(index, refusal.code, refusal.message)


def month_of(moment: datetime) -> str:
    """Name the calendar month in UTC."""
    utc = moment.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"


@cache
def month_start_at(month: str) -> datetime:
    """Answer the moment when a month begins."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


@cache
def month_end_at(month: str) -> datetime:
    """Answer the moment when a month ends, which is when the next begins."""
    return (month_start_at(month) + timedelta(days=32)).replace(day=1)


def check(sample: Sample, caller: Caller, now: datetime) -> None:
    """Refuse a sample about somebody else, at an impossible time, or with counters that cannot be; raises SkytallyError."""
    _check_owner(sample, caller)
    _check_times(sample, now)
    _check_month(sample, now)
    _check_counters(sample)


def _check_owner(sample: Sample, caller: Caller) -> None:
    if caller.vm is not None and sample.vm != caller.vm:
        raise NotYours("the token is another vm's: report about the vm that the token names")
    if sample.cloud is not None and sample.cloud not in caller.clouds:
        raise NotYours("the token is another cloud's: leave cloud out, or name the token's")
    for name in ("site", "group", "flavor"):
        if getattr(sample, name) not in (None, getattr(caller, name)):
            raise NotYours(f"{name} comes from the token: leave it out of the sample")


def _check_times(sample: Sample, now: datetime) -> None:
    if sample.sampled_at < EARLIEST:
        raise Malformed("sampled_at is before 2020: set the vm's clock by this answer's server_time", code="malformed_time")
    if sample.boot_at > sample.sampled_at:
        raise Malformed("boot_at is after sampled_at", code="malformed_time")
    if sample.previous is not None and sample.previous.uptime_seconds > sample.uptime_seconds:
        raise Malformed("previous has a larger uptime_seconds than the sample itself", code="malformed_previous")
    if sample.month > month_of(now + AHEAD_ALLOWED):
        raise Malformed("month has not begun: set the vm's clock by this answer's server_time", code="future_month")


def _check_month(sample: Sample, now: datetime) -> None:
    """Allow the month of sampled_at, and the one that ended just then; and no more wall time than the month has had."""
    month, at = sample.month, sample.sampled_at
    edge = month_end_at(month)
    if month != month_of(at) and not edge <= at <= edge + CLOSING_ALLOWED:
        raise Malformed("month is neither that of sampled_at nor the one that ended at it", code="wrong_month")
    elapsed_seconds = (min(at, now + AHEAD_ALLOWED) - month_start_at(month) + BASELINE_TOLERANCE).total_seconds()
    if sample.counters.wall_seconds - sample.month_start.wall_seconds > elapsed_seconds * TOLERANCE_FACTOR:
        raise Malformed(
            "more wall time since month_start than the month has had: month_start is not this month's",
            code="wrong_baseline",
        )


def _check_counters(sample: Sample) -> None:
    now, start = sample.counters, sample.month_start
    for name in NEVER_BACKWARDS:
        if getattr(start, name) > getattr(now, name):
            raise Malformed(f"month_start.{name} is above counters.{name}", code="baseline_above_counters")
    if now.wall_seconds + now.suspended_seconds > _bound(sample.uptime_seconds):
        raise Malformed("wall_seconds and suspended_seconds together exceed uptime_seconds", code="wall_above_uptime")
    if now.cpu_seconds > _bound(now.core_seconds):
        raise Malformed("user, nice and system seconds together exceed core_seconds", code="cpu_above_cores")


def _bound(seconds: float) -> float:
    return seconds * TOLERANCE_FACTOR + TOLERANCE_SECONDS


def candidate(sample: Sample, caller: Caller) -> Candidate:
    """Describe the sample's boot with the labels that the token gives."""
    labels = Labels(cloud=caller.clouds[0], site=caller.site, group=caller.group, flavor=caller.flavor)
    return Candidate(str(sample.boot_id), sample.vm, sample.boot_at, labels)


def writes(sample: Sample, boot: Boot, now: datetime) -> list[Write]:
    """Answer the documents that a checked sample makes: usage first, then the interval and the benchmark where there are any."""
    version = ms(sample.uptime_seconds)
    kept = [Write("usage", f"{boot.label}-{sample.month}", version, usage_document(sample, boot, now))]
    if sample.previous is not None and ms(sample.previous.uptime_seconds) < version:
        key = f"{boot.label}-{ms(sample.previous.uptime_seconds)}"
        kept.append(Write("interval", key, version, interval_document(sample, sample.previous, boot, now)))
    if sample.benchmark is not None:
        kept.append(Write("benchmark", boot.boot_id, version, benchmark_document(sample.benchmark, boot)))
    return kept


def usage_document(sample: Sample, boot: Boot, now: datetime) -> Usage:
    """Total the month so far: counters less what they were when the month began."""
    return Usage(
        month=sample.month,
        boot_id=boot.boot_id,
        label=boot.label,
        vm=boot.vm,
        cloud=boot.cloud,
        site=boot.site,
        group=boot.group,
        flavor=boot.flavor,
        boot_at=boot.boot_at,
        last_sampled_at=placed_at(sample, now),
        final=sample.final,
        estimated=sample.estimated,
        clock_ahead=sample.sampled_at > now + AHEAD_ALLOWED,
        clock_offset_seconds=sample.clock_offset_seconds,
        cores=sample.cores,
        memory_bytes=sample.memory_bytes,
        disk_bytes=sample.disk_bytes,
        cpu_model=sample.cpu_model,
        agent_version=sample.agent_version,
        uptime_ms=ms(sample.uptime_seconds),
        **difference(sample.counters, sample.month_start),
    )


def interval_document(sample: Sample, previous: Previous, boot: Boot, now: datetime) -> Interval:
    """Take the difference to the sample before, in the time that it really lasted."""
    until_at = placed_at(sample, now)
    return Interval(
        label=boot.label,
        vm=boot.vm,
        cloud=boot.cloud,
        site=boot.site,
        group=boot.group,
        flavor=boot.flavor,
        from_at=interval_start(sample, previous, until_at),
        until_at=until_at,
        cores=sample.cores,
        **difference(sample.counters, previous.counters),
    )


def benchmark_document(benchmark: Benchmark, boot: Boot) -> BootBenchmark:
    """Keep a boot's scores with all that they depend on."""
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


def placed_at(sample: Sample, now: datetime) -> datetime:
    """Answer when the sample counts: its own time, or the server's when its clock is too far ahead."""
    return now if sample.sampled_at > now + AHEAD_ALLOWED else sample.sampled_at


def interval_start(sample: Sample, previous: Previous, until_at: datetime) -> datetime:
    """Answer the previous sample's time, unless the clock was stepped in between: then the uptimes say how long it was.

    No interval is shorter than the millisecond in which stores count: its parts are shares of its length.
    """
    lasted_seconds = sample.uptime_seconds - previous.uptime_seconds
    apart_seconds = (until_at - previous.sampled_at).total_seconds()
    if apart_seconds >= 0.001 and abs(apart_seconds - lasted_seconds) <= _bound(lasted_seconds) - lasted_seconds:
        return previous.sampled_at
    return until_at - timedelta(milliseconds=max(1, ms(lasted_seconds)))


def difference(now: Counters, before: Counters) -> dict[str, int]:
    """Subtract in whole milliseconds and bytes, so that differences of a chain of samples add up to the last digit.

    Some kernels let counters such as iowait run backwards: that counts as nothing, never as less than nothing.
    """
    return {name: n - b if n > b else 0 for name, n, b in zip(COUNTED, _whole(now), _whole(before), strict=True)}


def _whole(counters: Counters) -> tuple[int, ...]:
    """Put counters into the order of COUNTED, in milliseconds and bytes."""
    return (
        round(counters.wall_seconds * 1_000),
        round(counters.core_seconds * 1_000),
        round(counters.user_seconds * 1_000),
        round(counters.nice_seconds * 1_000),
        round(counters.system_seconds * 1_000),
        round(counters.idle_seconds * 1_000),
        round(counters.iowait_seconds * 1_000),
        round(counters.steal_seconds * 1_000),
        round(counters.suspended_seconds * 1_000),
        counters.network_received_bytes,
        counters.network_sent_bytes,
    )


def ms(seconds: float) -> int:
    """Round to whole milliseconds."""
    return round(seconds * 1_000)


async def record(items: Sequence[Sample | Rejection], caller: Caller, register: Register, documents: Documents, now: datetime) -> Receipt:
    """Keep every good sample of a report, durably, before answering; raises Unavailable and then the whole report may be sent again."""
    rejected = [item for item in items if isinstance(item, Rejection)]
    good: list[tuple[int, Sample]] = []
    for index, item in enumerate(items):
        if isinstance(item, Sample):
            refusal = _refusal(index, item, caller, now)
            rejected.append(refusal) if refusal else good.append((index, item))
    boots = await _boots([sample for _, sample in good], caller, register)
    kept: list[tuple[int, list[Write]]] = []
    for index, sample in good:
        boot = boots[str(sample.boot_id)]
        try:
            check_owner(boot, candidate(sample, caller))
        except NotYours as error:
            rejected.append(Rejection(index, error.code, error.message))
        else:
            kept.append((index, writes(sample, boot, now)))
    outcomes = await asyncio.wrap_future(documents.write([write for _, group in kept for write in group]))
    await _note_anomalies(kept, outcomes, documents)
    return _receipt(kept, outcomes, rejected, now)


def _refusal(index: int, sample: Sample, caller: Caller, now: datetime) -> Rejection | None:
    try:
        check(sample, caller, now)
    except SkytallyError as error:
        return Rejection(index, error.code, error.message)
    return None


async def _boots(samples: Iterable[Sample], caller: Caller, register: Register) -> dict[str, Boot]:
    known: dict[str, Boot] = {}
    unknown: dict[str, Candidate] = {}
    for sample in samples:
        boot_id = str(sample.boot_id)
        boot = register.known(boot_id)
        if boot is not None:
            known[boot_id] = boot
        elif boot_id not in unknown:
            unknown[boot_id] = candidate(sample, caller)
    return known | await asyncio.to_thread(register.enrol, list(unknown.values())) if unknown else known


async def _note_anomalies(kept: list[tuple[int, list[Write]]], outcomes: list[Outcome], documents: Documents) -> None:
    """Write down the boots whose samples are stale by their uptime and yet later in time than what is known."""
    places = accumulate((len(group) for _, group in kept), initial=0)
    stale = [group[0] for (_, group), place in zip(kept, places, strict=False) if outcomes[place] is Outcome.STALE]
    if stale:
        known = await asyncio.to_thread(documents.get_many, "usage", [write.key for write in stale], Usage)
        noted = [anomaly(write, usage) for write, usage in zip(stale, known, strict=True) if usage is not None and _went_back(write, usage)]
        await asyncio.wrap_future(documents.write(noted))


def _went_back(write: Write, known: Usage) -> bool:
    late, sample = timedelta(seconds=TOLERANCE_SECONDS), write.document
    return isinstance(sample, Usage) and sample.last_sampled_at > known.last_sampled_at + late and sample.uptime_ms < known.uptime_ms


def anomaly(write: Write, known: Usage) -> Write:
    """Describe a boot whose uptime went back."""
    sample = write.document
    assert isinstance(sample, Usage)  # noqa: S101
    found = Anomaly(
        label=known.label,
        vm=known.vm,
        cloud=known.cloud,
        month=known.month,
        at=sample.last_sampled_at,
        uptime_ms=sample.uptime_ms,
        known_uptime_ms=known.uptime_ms,
    )
    return Write("anomaly", write.key, round(sample.last_sampled_at.timestamp() * 1_000), found)


def _receipt(kept: list[tuple[int, list[Write]]], outcomes: list[Outcome], rejected: list[Rejection], now: datetime) -> Receipt:
    accepted = stale = place = 0
    for index, group in kept:
        mine = outcomes[place : place + len(group)]
        place += len(group)
        if Outcome.REJECTED in mine:
            rejected.append(Rejection(index, "rejected", "the document store refuses this sample for good"))
        elif mine[0] is Outcome.STALE:
            stale += 1
        else:
            accepted += 1
    return Receipt(accepted=accepted, stale=stale, rejected=sorted(rejected, key=lambda r: r.index), server_time=now)
