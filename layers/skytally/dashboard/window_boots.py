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
from skytally.core.ports import Documents
from skytally.core.site_data import Site
from skytally.dashboard.caveats import BootKey, boot_key
from skytally.dashboard.fleet import EXPECTED_FOR
from skytally.dashboard.time_range import Window

Where = Mapping[str, Sequence[str]]


class WindowBoot(Struct, frozen=True):
    """A boot with until when it is expected to be up."""

    usage: Usage
    expected_until: datetime

    @property
    def is_silent(self) -> bool:
        """Whether it fell silent and was expected to go on."""
        return self.expected_until - self.usage.last_sampled_at > SILENT_AFTER

    @property
    def up_until(self) -> datetime:
        """The end of its time up, with its silence."""
        return self.expected_until if self.is_silent else self.usage.last_sampled_at


class Credit(Struct, frozen=True):
    """What a core hour of a boot is worth, and what its benchmark said."""

    hs23: Score = UNSCORED
    benchmark_score: float | None = None


Boots = dict[BootKey, WindowBoot]
Credits = dict[BootKey, Credit]


def window_boots(shown: Window, where: Where, documents: Documents, now: datetime) -> Boots:
    """Return the boots that were up in a window or should have been, as all that was accepted before says."""
    documents.refresh()
    newest = _newest_months(shown, where, documents, now)
    boots_of_vm = defaultdict(list)
    for usage in newest.values():
        boots_of_vm[usage.cloud, usage.vm].append(usage.boot_at)
    until_at = min(now, shown.until_at)
    boots = {
        key: WindowBoot(usage, _expected_until(usage, boots_of_vm[usage.cloud, usage.vm], until_at))
        for key, usage in newest.items()
    }
    return {key: boot for key, boot in boots.items() if calendar_ms(boot, shown) > 0}


def credits_of(boots: Boots, documents: Documents, site: Site) -> Credits:
    """Return what a core hour of each boot is worth."""
    ids = [boot.usage.boot_id for boot in boots.values()]
    benchmarks = documents.get_many("benchmark", ids, BootBenchmark)
    counted = scores(benchmarks, site)
    return {
        key: Credit(counted.get(boot_id, UNSCORED), score(benchmark))
        for key, boot_id, benchmark in zip(boots, ids, benchmarks, strict=True)
    }


def _expected_until(usage: Usage, boots_at: Iterable[datetime], until_at: datetime) -> datetime:
    """Return until when a boot is expected to be up, at most until some moment."""
    if usage.final:
        return usage.last_sampled_at
    later = (at for at in boots_at if at > usage.boot_at)
    return min(usage.last_sampled_at + EXPECTED_FOR, until_at, *later)


def _newest_months(shown: Window, where: Where, documents: Documents, now: datetime) -> dict[BootKey, Usage]:
    """Return the newest month document of each boot that is not later than the window."""
    newest: dict[BootKey, Usage] = {}
    for _, usage, _ in month_documents(_months(shown, now), where, documents):
        before = newest.get(boot_key(usage))
        if usage.boot_at < shown.until_at and (before is None or usage.uptime_ms >= before.uptime_ms):
            newest[boot_key(usage)] = usage
    return newest


def _months(shown: Window, now: datetime) -> list[str]:
    """Name the months of which a boot of the window can have documents: none of a month that has not begun."""
    until_at = min(shown.until_at, now + AHEAD_ALLOWED)
    months = [month_of(shown.from_at - EXPECTED_FOR)]
    while month_end_at(months[-1]) < until_at:
        months.append(month_of(month_end_at(months[-1])))
    return months


def calendar_ms(boot: WindowBoot, shown: Window) -> float:
    """Return how much of the window a boot was up, or should have been."""
    return elapsed_ms(boot.usage.boot_at, boot.up_until, shown.from_at, shown.until_at)


def is_heard(boot: WindowBoot, shown: Window) -> bool:
    """Say whether a boot was heard of in the window, and was not silent in all of it."""
    return boot.usage.last_sampled_at > shown.from_at
