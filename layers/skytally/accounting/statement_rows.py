"""Statement rows: each cloud's live month, from the month documents of all boots; accounting/closing.py freezes it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from msgspec import Struct, structs

from skytally.accounting.boots import within
from skytally.accounting.hs23 import UNSCORED, Score, calibration_used, scores
from skytally.core.documents import Anomaly, BootBenchmark, Usage
from skytally.core.months import month_end_at, month_of, month_start_at
from skytally.core.ports import Documents, Query
from skytally.core.records import iso
from skytally.core.rounding import DECIMALS, rounded
from skytally.core.site_data import Calibration, Cloud, Rates, Site
from skytally.core.storable import EARLIEST, LATEST

SILENT_AFTER = timedelta(hours=2)
# Two clocks may differ by a minute, plus what NTP corrects of a clock's rate, before time counts as missing.
CLOCKS_APART_MS, CLOCK_RATE = 60_000, 0.000_5
# Boots of several clouds in memory; a boot takes a kilobyte. A cloud with more is read whole.
BOOTS_AT_ONCE = 20_000
MS_PER_HOUR = 3_600_000
FINAL = "final"


class BootMonth(Struct, frozen=True, gc=False):
    """One boot in one month: its usage, benchmark, score and coverage."""

    key: str
    usage: Usage
    benchmark: BootBenchmark | None
    credit: Score
    covered_ms: float
    up_ms: float
    anomalies: int


class LiveCloud(Struct, frozen=True, dict=True):
    """A cloud's live month: its row and its boots, and the site that gives its rates."""

    name: str
    totals: dict[str, Any]
    boot_months: Sequence[BootMonth]
    site: Site

    @property
    def rates(self) -> Rates:
        """The rates of its cloud."""
        return self.site.cloud(self.name).rates

    @property
    def calibration(self) -> Calibration:
        """The calibration that translates its benchmarks."""
        return calibration_used((boot.benchmark for boot in self.boot_months), self.site)

    @cached_property
    def boots(self) -> list[dict[str, Any]]:
        """The rows of its boots: much more work than its own row, and not always needed."""
        return [boot_row(boot) for boot in self.boot_months]


def live_clouds(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime
) -> Iterator[LiveCloud]:
    """Return the live month of some clouds or of all, in the order of their names.

    Boots are read of as many clouds at once as have `BOOTS_AT_ONCE`, so memory does not grow with the number of clouds.
    """
    for some in _batches(month, clouds, documents):
        yield from _live_clouds(month, some, documents, site, now)


def _live_clouds(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime
) -> Iterator[LiveCloud]:
    groups = _by_cloud(boot_months(month, clouds, documents, site))
    for name in sorted(groups):
        boots = groups.pop(name)
        yield LiveCloud(name, cloud_row(name, boots, site, now), boots, site)


def _batches(month: str, clouds: Sequence[str], documents: Documents) -> Iterator[list[str]]:
    """Return the names of a month's clouds in order, of so many at once that their boots are few."""
    boots = Query(
        index="usage",
        from_at=EARLIEST,
        until_at=LATEST,
        by=("cloud",),
        sums=("count",),
        where={"month": [month], **_where(clouds)},
        moment="boot_at",
    )
    batch: list[str] = []
    boot_count = 0
    for row in documents.table(boots):
        if batch and boot_count + row["count"] > BOOTS_AT_ONCE:
            yield batch
            batch, boot_count = [], 0
        batch.append(row["cloud"])
        boot_count += row["count"]
    if batch:
        yield batch


def _where(clouds: Sequence[str]) -> dict[str, Sequence[str]]:
    return {"cloud": clouds} if clouds else {}


def boot_months(month: str, clouds: Sequence[str], documents: Documents, site: Site) -> list[BootMonth]:
    """Return the boots of a month with their scores and coverage, in key order."""
    where = _where(clouds)
    usages = list(month_documents([month], where, documents))
    benchmarks = documents.get_many("benchmark", [usage.boot_id for _, usage, _ in usages], BootBenchmark)
    window = Query(
        index="interval",
        from_at=month_start_at(month),
        until_at=month_end_at(month),
        by=("cloud", "label"),
        sums=("wall_ms", "suspended_ms"),
        where=where,
    )
    received = {(row["cloud"], row["label"]): row["wall_ms"] + row["suspended_ms"] for row in documents.table(window)}
    continued = {
        usage.boot_id
        for _, usage in documents.find("usage", Usage, {"month": [month_of(month_end_at(month))], **where})
    }
    credit = scores(benchmarks, site)
    return [
        BootMonth(
            key,
            usage,
            benchmark,
            credit.get(usage.boot_id, UNSCORED),
            min(received.get((usage.cloud, usage.label), 0), usage.wall_ms + usage.suspended_ms),
            _up_ms(usage, goes_on=usage.boot_id in continued),
            int(went_back),
        )
        for (key, usage, went_back), benchmark in zip(usages, benchmarks, strict=True)
    ]


def month_documents(
    months: Sequence[str], where: Mapping[str, Sequence[str]], documents: Documents
) -> Iterator[tuple[str, Usage, bool]]:
    """Return the month documents of boots in key order, each with whether the boot's uptime went back.

    If it went back, the last sample is the newest in time, although it added nothing to the document.
    """
    filters = {name: where[name] for name in ("cloud", "vm") if name in where}
    anomalies = dict(documents.find("anomaly", Anomaly, {"month": months, **filters}))
    for key, usage in documents.find("usage", Usage, {"month": months, **where}):
        anomaly = anomalies.get(key)
        if anomaly is not None and anomaly.at > usage.last_sampled_at:
            usage = structs.replace(usage, last_sampled_at=anomaly.at)  # noqa: PLW2901
        yield key, usage, anomaly is not None


def _up_ms(usage: Usage, *, goes_on: bool) -> float:
    """Return how long a boot was up in its month by the calendar: until its last sample, or to the end if it goes on.

    A vm's own clocks stop while its host pauses it and go back with a memory snapshot, so they cannot show missing
    time.
    """
    end = month_end_at(usage.month)
    calendar_ms = elapsed_ms(usage.boot_at, end if goes_on else usage.last_sampled_at, month_start_at(usage.month), end)
    return up_ms(calendar_ms, usage.wall_ms + usage.suspended_ms)


def up_ms(calendar_ms: float, counted_ms: float) -> float:
    """Return the time up by the calendar, or by the vm's clocks where the two differ by no more than clocks do."""
    return calendar_ms if calendar_ms > counted_ms * (1 + CLOCK_RATE) + CLOCKS_APART_MS else counted_ms


def elapsed_ms(began: datetime, ended: datetime, from_at: datetime, until_at: datetime) -> float:
    """Return how many milliseconds of a period lie in a window."""
    return max(0.0, (min(ended, until_at) - max(began, from_at)).total_seconds() * 1_000)


def _by_cloud(boots: Iterable[BootMonth]) -> dict[str, list[BootMonth]]:
    groups: dict[str, list[BootMonth]] = defaultdict(list)
    for boot in boots:
        groups[boot.usage.cloud].append(boot)
    return groups


def cloud_row(name: str, boots: Sequence[BootMonth], site: Site, now: datetime) -> dict[str, Any]:
    """Return the sums of a cloud's boots, rounded; what is not known is None."""
    usages = [boot.usage for boot in boots]
    wall_ms, core_ms, cpu = (
        sum(values) for values in zip(*((u.wall_ms, u.core_ms, cpu_ms(u)) for u in usages), strict=True)
    )
    row = {
        "cloud": name,
        "vm_count": len({usage.vm for usage in usages}),
        "boot_count": len({usage.boot_id for usage in usages}),
        "wall_hours": hours(wall_ms),
        "core_hours": hours(core_ms),
        "cpu_hours": hours(cpu),
        "efficiency": ratio(cpu, core_ms),
        **hs23((boot.usage.core_ms, boot.credit) for boot in boots),
        **worth(core_ms, site.cloud(name)),
        "coverage": ratio(sum(boot.covered_ms for boot in boots), sum(boot.up_ms for boot in boots)),
        "silent_vms": len({usage.vm for usage in usages if is_silent(usage, now)}),
        "estimated_edges": sum(usage.estimated for usage in usages),
        "anomalies": sum(boot.anomalies for boot in boots),
        "quarantined_benchmarks": sum(boot.credit.quarantined for boot in boots),
    }
    return rounded(row)


def document_of(boot: BootMonth) -> str:
    """Return the name of a boot's month document, which is its key without the cloud."""
    return within(boot.usage.cloud, boot.key)


def boot_row(boot: BootMonth) -> dict[str, Any]:
    """Return one boot's month as a row, rounded."""
    usage = boot.usage
    row = {
        "document": document_of(boot),
        "vm": usage.vm,
        "boot_id": usage.boot_id,
        "boot_at": iso(usage.boot_at),
        "cloud": usage.cloud,
        "site": usage.site,
        "group": usage.group,
        "flavor": usage.flavor,
        "cores": usage.cores,
        "wall_seconds": usage.wall_ms / 1_000,
        "core_seconds": usage.core_ms / 1_000,
        "user_seconds": usage.user_ms / 1_000,
        "nice_seconds": usage.nice_ms / 1_000,
        "system_seconds": usage.system_ms / 1_000,
        "cpu_seconds": cpu_ms(usage) / 1_000,
        "idle_seconds": usage.idle_ms / 1_000,
        "iowait_seconds": usage.iowait_ms / 1_000,
        "steal_seconds": usage.steal_ms / 1_000,
        "suspended_seconds": usage.suspended_ms / 1_000,
        "network_received_bytes": usage.network_received_bytes,
        "network_sent_bytes": usage.network_sent_bytes,
        "memory_bytes": usage.memory_bytes,
        "disk_bytes": usage.disk_bytes,
        "benchmark_score": score(boot.benchmark),
        "benchmark_kernel": boot.benchmark.kernel if boot.benchmark else None,
        "benchmark_quarantined": boot.credit.quarantined,
        "hs23_per_core": boot.credit.hs23,
        "hs23_rule": boot.credit.rule,
        "coverage": ratio(boot.covered_ms, boot.up_ms),
        "last_sampled_at": iso(usage.last_sampled_at),
        "final": usage.final,
        "estimated": usage.estimated,
        "anomalies": boot.anomalies,
        "clock_ahead": usage.clock_ahead,
        "clock_offset_seconds": usage.clock_offset_seconds,
    }
    return rounded(row)


def cpu_ms(usage: Usage) -> int:
    """Return user, nice and system time; user includes guest time."""
    return usage.user_ms + usage.nice_ms + usage.system_ms


def score(benchmark: BootBenchmark | None) -> float | None:
    """Return a boot's score per core: in HS23 if the benchmark has it, else in points of its kernel."""
    if benchmark is None:
        return None
    return benchmark.score_hs23 or benchmark.score_wall or benchmark.score_cpu


def hs23(boots: Iterable[tuple[float, Score]]) -> dict[str, float | bool | None]:
    """Return HS23 hours, the core hours that have a score, and whether all have one.

    If no core time has a score, HS23 hours and completeness are None.
    """
    core_times = list(boots)
    scored = [(core_ms, credit.hs23) for core_ms, credit in core_times if credit.hs23 is not None]
    return {
        "hs23_hours": hours(sum(core_ms * score for core_ms, score in scored)) if scored else None,
        "scored_core_hours": hours(sum(core_ms for core_ms, _ in scored)),
        "hs23_complete": not any(core_ms for core_ms, credit in core_times if credit.hs23 is None) if scored else None,
    }


def worth(core_ms: int, cloud: Cloud) -> dict[str, float | Decimal | str | None]:
    """Return energy (W per core × PUE), CO2 and cost of core time, not rounded; None where not known."""
    core_hours, price = core_ms / MS_PER_HOUR, cloud.price_per_core_hour
    energy_kwh = None if cloud.watts_per_core is None else core_hours * cloud.watts_per_core * cloud.pue / 1_000
    co2_known = energy_kwh is not None and cloud.co2_grams_per_kwh is not None
    return {
        "energy_kwh": energy_kwh,
        "co2_kg": energy_kwh * cloud.co2_grams_per_kwh / 1_000 if co2_known else None,  # type: ignore[operator]
        "cost": None if price is None else core_ms * Decimal(str(price)) / MS_PER_HOUR,
        "currency": cloud.currency,
    }


def is_silent(usage: Usage, now: datetime) -> bool:
    """Return whether a boot stopped reporting within its month without a final sample."""
    return not usage.final and usage.last_sampled_at < min(now, month_end_at(usage.month)) - SILENT_AFTER


def hours(ms: float) -> float:
    """Return milliseconds as hours, rounded."""
    return round(ms / MS_PER_HOUR, DECIMALS)


def ratio(part: float, whole: float) -> float | None:
    """Return a quotient, rounded, or None for a division by 0."""
    return round(part / whole, DECIMALS) if whole else None
