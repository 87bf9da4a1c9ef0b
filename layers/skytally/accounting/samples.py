"""Samples: the checks that refuse impossible ones, and the time of samples with a wrong clock.

Invariants: a refused sample costs only itself. An accepted sample has no more time than its boot's age and cores allow,
in all, in its month and since the previous sample. It lies neither in the future nor in a month that does not fit its
time.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import attrgetter

import msgspec

from skytally.core import batch, records
from skytally.core.documents import Boot
from skytally.core.errors import Malformed, NotYours, SkytallyError
from skytally.core.months import month_end_at, month_start_at
from skytally.core.records import Benchmark, Caller, Counters, GoodSamples, Rejection, Sample, Samples

AHEAD_ALLOWED = timedelta(minutes=5)
# Samples more than a day ahead are refused. Boot times, uptimes and baselines have the same tolerance.
CLOCK_TOLERANCE = timedelta(days=1)
CLOSING_ALLOWED = timedelta(seconds=60)
TOLERANCE_SECONDS = 60.0
TOLERANCE_FACTOR = 1.02
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
NEVER_BACKWARDS = ("wall_seconds", "core_seconds", "user_seconds", "system_seconds", "idle_seconds")

_growing = attrgetter(*NEVER_BACKWARDS)

_sample_decoder, _report_decoder = msgspec.json.Decoder(Sample), msgspec.json.Decoder(GoodSamples)


def parse(body: bytes) -> list[Sample | Rejection]:
    """Return a report's samples; an item that is no sample becomes a rejection and leaves its neighbours alone.

    Only a report with such an item is read item by item.
    """
    with suppress(Exception):
        return list(_report_decoder.decode(body).samples)
    return [_parse_one(index, raw) for index, raw in enumerate(records.parse_report(body, Samples).samples)]


def _parse_one(index: int, raw: msgspec.Raw) -> Sample | Rejection:
    try:
        return _sample_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return batch.rejection(index, records.malformed(error))
    except Exception as error:  # noqa: BLE001
        return batch.rejection(index, error)


def check(sample: Sample, caller: Caller, now: datetime) -> None:
    """Raise SkytallyError for a sample of another vm, with an impossible time or with impossible counters."""
    _check_owner(sample, caller)
    _check_times(sample, now)
    _check_month(sample, now)
    _check_counters(sample)


def _check_owner(sample: Sample, caller: Caller) -> None:
    if caller.vm is not None and sample.vm != caller.vm:
        raise NotYours("the token is another vm's: report about the vm that the token names")
    if sample.cloud is not None and sample.cloud not in caller.clouds:
        raise NotYours("the token is another cloud's: leave cloud out, or name the token's")
    if sample.site or sample.group or sample.flavor:
        for name in ("site", "group", "flavor"):
            if getattr(sample, name) not in (None, getattr(caller, name)):
                raise NotYours(f"{name} comes from the token: leave it out of the sample")


def _check_times(sample: Sample, now: datetime) -> None:
    if sample.sampled_at < EARLIEST:
        raise Malformed(
            "sampled_at is before 2020: set the vm's clock by this answer's server_time", code="malformed_time"
        )
    if sample.boot_at > sample.sampled_at:
        raise Malformed("boot_at is after sampled_at", code="malformed_time")
    _check_not_ahead("sampled_at", sample.sampled_at, now)
    if sample.previous is not None:
        _check_not_ahead("previous.sampled_at", sample.previous.sampled_at, now)
        if sample.previous.uptime_seconds > sample.uptime_seconds:
            raise Malformed("previous has a larger uptime_seconds than the sample itself", code="malformed_previous")
    if month_start_at(sample.month) > now + AHEAD_ALLOWED:
        raise Malformed("month has not begun: set the vm's clock by this answer's server_time", code="future_month")


def _check_not_ahead(name: str, moment: datetime, now: datetime) -> None:
    if moment > now + CLOCK_TOLERANCE:
        raise Malformed(
            f"{name} is over a day ahead: set the vm's clock by this answer's server_time", code="malformed_time"
        )


def _check_month(sample: Sample, now: datetime) -> None:
    """Raise Malformed unless the month is that of sampled_at, or ended just then, and has had this much wall time."""
    at, begin = sample.sampled_at, month_start_at(sample.month)
    if not begin <= at <= month_end_at(sample.month) + CLOSING_ALLOWED:
        raise Malformed("month is neither that of sampled_at nor the one that ended at it", code="wrong_month")
    # Without a baseline the boot began in this month. Then its wall time is its uptime, which needs no correct clock.
    allowed = CLOCK_TOLERANCE if sample.month_start.wall_seconds else timedelta(0)
    elapsed_seconds = (min(at, now + AHEAD_ALLOWED) - begin + allowed).total_seconds()
    if sample.counters.wall_seconds - sample.month_start.wall_seconds > bound(elapsed_seconds):
        raise Malformed(
            "more wall time since month_start than the month has had: month_start is not this month's",
            code="wrong_baseline",
        )


def _check_counters(sample: Sample) -> None:
    now, start = sample.counters, sample.month_start
    for name, at_start, at_sample in zip(NEVER_BACKWARDS, _growing(start), _growing(now), strict=True):
        if at_start > at_sample:
            raise Malformed(f"month_start.{name} is above counters.{name}", code="baseline_above_counters")
    if now.wall_seconds + now.suspended_seconds > bound(sample.uptime_seconds):
        raise Malformed("wall_seconds and suspended_seconds together exceed uptime_seconds", code="wall_above_uptime")
    if not now.core_seconds and now.wall_seconds > TOLERANCE_SECONDS:
        raise Malformed("core_seconds is 0, and a vm that runs has a core", code="no_core_time")
    cpu_seconds, core_seconds = now.cpu_seconds, now.core_seconds
    for since, before in _baselines(sample):
        if cpu_seconds - before.cpu_seconds > bound(core_seconds - before.core_seconds):
            raise Malformed(
                f"user, nice and system seconds together exceed core_seconds {since}", code="cpu_above_cores"
            )


def check_cores(sample: Sample, most_cores: int) -> None:
    """Raise Malformed for more core time than the boot's cores have had since boot, in the month or since `previous`.

    `most_cores` is the highest number of cores that the boot was ever seen with.
    """
    wall_seconds, core_seconds = sample.counters.wall_seconds, sample.counters.core_seconds
    for since, before in _baselines(sample):
        if core_seconds - before.core_seconds > bound(wall_seconds - before.wall_seconds) * most_cores:
            raise Malformed(
                f"core_seconds exceed wall_seconds times {most_cores} cores {since}", code="core_above_wall"
            )


def exceeds(sample: Sample, most_cores: int) -> bool:
    """Return whether `check_cores` would refuse a sample."""
    try:
        check_cores(sample, most_cores)
    except Malformed:
        return True
    return False


def _baselines(sample: Sample) -> Sequence[tuple[str, Counters]]:
    """Return the baselines that a sample is checked against: since when, in words, and the counters then."""
    baselines = [("since the boot", NOTHING)]
    if sample.month_start != NOTHING:
        baselines.append(("since month_start", sample.month_start))
    if sample.previous is not None:
        baselines.append(("since previous", sample.previous.counters))
    return baselines


NOTHING = Counters(wall_seconds=0.0, core_seconds=0.0, user_seconds=0.0, system_seconds=0.0, idle_seconds=0.0)


def check_age(sample: Sample, boot: Boot, now: datetime) -> None:
    """Raise Malformed for an uptime above the boot's age: no sample may count time that has not passed yet.

    The boot's time and the sample's own may each be late by the clock tolerance.
    """
    age = now + 2 * CLOCK_TOLERANCE - boot.boot_at
    if sample.uptime_seconds > age.total_seconds():
        raise Malformed("uptime_seconds is more than the time since this boot began", code="uptime_above_age")


def benchmark_of(sample: Sample, now: datetime) -> Benchmark | None:
    """Return a sample's benchmark, or None without one.

    Raise Malformed with the code `malformed_benchmark`; the sample itself counts all the same.
    """
    try:
        benchmark = records.benchmark_of(sample)
        if benchmark is not None and benchmark.measured_at is not None:
            _check_not_ahead("measured_at", benchmark.measured_at, now)
    except SkytallyError as error:
        raise Malformed(
            f"the sample counts without its benchmark: {error.message}", code="malformed_benchmark"
        ) from None
    return benchmark


def bound(seconds: float) -> float:
    """Return the most seconds that another clock or counter may show for this time."""
    return seconds * TOLERANCE_FACTOR + TOLERANCE_SECONDS


def sampled_at(sample: Sample, now: datetime) -> datetime:
    """Return a sample's time: its own, or the server's if its clock is too far ahead."""
    return now if sample.sampled_at > now + AHEAD_ALLOWED else sample.sampled_at


def booted_at(sample: Sample, now: datetime) -> datetime:
    """Return the boot time that a sample states, or the one that its uptime gives if its clock was wrong.

    A stated boot time is wrong in the future, before 2020, or more than a day from the one that the uptime gives.
    """
    by_uptime = sampled_at(sample, now) - timedelta(seconds=sample.uptime_seconds)
    is_sane = EARLIEST <= sample.boot_at <= now + AHEAD_ALLOWED and abs(sample.boot_at - by_uptime) <= CLOCK_TOLERANCE
    return sample.boot_at if is_sane else by_uptime
