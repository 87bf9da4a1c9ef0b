"""Boots of a window: those that were up in it, and those that should have been.

A boot that did not say that it ends is expected to go on for `EXPECTED_FOR` after its last report, unless its vm boots
again. It is silent where more than `SILENT_AFTER` of that went by without a report, counted until the window's end or
now. The time of a silence is time up of which nothing arrived: it lowers the coverage of a view, also where it began
within the window or before it. A statement counts a boot until its last report.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from skytally.accounting.hs23 import UNSCORED, Score, scores
from skytally.accounting.samples import AHEAD_ALLOWED
from skytally.accounting.statement_rows import SILENT_AFTER, elapsed_ms, month_documents, score
from skytally.core.documents import BootBenchmark, Usage
from skytally.core.months import month_end_at, month_of
from skytally.core.ports import Documents, Row
from skytally.core.site_data import Site
from skytally.dashboard.caveats import BootKey, boot_key
from skytally.dashboard.fleet import EXPECTED_FOR
from skytally.dashboard.time_range import Window

Where = Mapping[str, Sequence[str]]


class WindowBoot(Struct, frozen=True, kw_only=True, gc=False):
    """A boot of a window.

    `is_heard`: it was heard of in the window, and was not silent in all of it. `is_silent`: it fell silent and was
    expected to go on, until `expected_until`. `calendar_ms` is how much of the window it was up, or should have been.
    `credit` is what a core hour of it is worth, `benchmark_score` what its benchmark said.
    """

    key: BootKey
    usage: Usage
    expected_until: datetime
    is_heard: bool
    is_silent: bool
    calendar_ms: float
    credit: Score
    benchmark_score: float | None


Boots = dict[BootKey, WindowBoot]


def window_boots(shown: Window, where: Where, documents: Documents, site: Site, now: datetime) -> Boots:
    """Return the boots that were up in a window or should have been, as of the last refresh.

    A vm that boots again with another flavor, site or group ends its earlier boot's silence all the same.
    """
    of_vms = {name: where[name] for name in ("cloud", "vm") if name in where}
    newest = _newest_months(shown, of_vms, documents, now)
    boots_of_vm = defaultdict(list)
    for usage in newest.values():
        boots_of_vm[usage.cloud, usage.vm].append(usage.boot_at)
    until_at = min(now, shown.until_at)
    lives = (
        (key, usage, _expected_until(usage, boots_of_vm[usage.cloud, usage.vm], until_at))
        for key, usage in newest.items()
        if all(getattr(usage, name) in values for name, values in where.items())
    )
    up = [(*life, ms) for life in lives if (ms := _calendar_ms(*life[1:], shown)) > 0]
    benchmarks = documents.get_many("benchmark", [usage.boot_id for _, usage, *_ in up], BootBenchmark)
    credit = scores(benchmarks, site)
    return {
        key: WindowBoot(
            key=key,
            usage=usage,
            expected_until=expected_until,
            is_heard=usage.last_sampled_at > shown.from_at,
            is_silent=_is_silent(usage, expected_until),
            calendar_ms=calendar_ms,
            credit=credit.get(usage.boot_id, UNSCORED),
            benchmark_score=score(benchmark),
        )
        for (key, usage, expected_until, calendar_ms), benchmark in zip(up, benchmarks, strict=True)
    }


def _is_silent(usage: Usage, expected_until: datetime) -> bool:
    return expected_until - usage.last_sampled_at > SILENT_AFTER


def _calendar_ms(usage: Usage, expected_until: datetime, shown: Window) -> float:
    up_until = expected_until if _is_silent(usage, expected_until) else usage.last_sampled_at
    return elapsed_ms(usage.boot_at, up_until, shown.from_at, shown.until_at)


def credit_of(row: Row, boots: Boots) -> Score:
    """Return what a core hour of the boot of a row is worth."""
    boot = boots.get((row["cloud"], row["label"]))
    return UNSCORED if boot is None else boot.credit


def _expected_until(usage: Usage, boots_at: Iterable[datetime], until_at: datetime) -> datetime:
    """Return until when a boot is expected to be up, at most until some moment."""
    if usage.final:
        return usage.last_sampled_at
    later = [at for at in boots_at if at > usage.boot_at]
    return min(usage.last_sampled_at + EXPECTED_FOR, until_at, *later)


def _newest_months(shown: Window, where: Where, documents: Documents, now: datetime) -> dict[BootKey, Usage]:
    """Return the newest month document of each boot that is not later than the window."""
    newest: dict[BootKey, Usage] = {}
    for _, usage, _ in month_documents(_months(shown, now), where, documents):
        key = boot_key(usage)
        before = newest.get(key)
        if usage.boot_at < shown.until_at and (before is None or usage.uptime_ms >= before.uptime_ms):
            newest[key] = usage
    return newest


def _months(shown: Window, now: datetime) -> list[str]:
    """Name the months of which a boot of the window can have documents: none of a month that has not begun."""
    until_at = min(shown.until_at, now + AHEAD_ALLOWED)
    months = [month_of(shown.from_at - EXPECTED_FOR)]
    while month_end_at(months[-1]) < until_at:
        months.append(month_of(month_end_at(months[-1])))
    return months
