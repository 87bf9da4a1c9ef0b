"""Intervals of single boots, as a view's window cuts them."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

from skytally.accounting.statement_rows import hours, ratio
from skytally.core.documents import Interval, Usage
from skytally.core.ports import Documents
from skytally.core.records import iso
from skytally.dashboard.time_range import Window


def interval_rows(boots: Iterable[Usage], shown: Window, documents: Documents) -> Iterator[dict[str, Any]]:
    """Return a row for each interval of some boots, newest first;
    one that the window cuts counts by its part inside, as in every sum.
    """
    found = ((usage, interval) for usage in boots for interval in _of(usage, documents))
    inside = [(u, i) for u, i in found if i.from_at < shown.until_at and i.until_at > shown.from_at]
    for usage, interval in sorted(inside, key=lambda pair: pair[1].from_at, reverse=True):
        yield _row(usage, interval, shown)


def _of(usage: Usage, documents: Documents) -> Iterator[Interval]:
    """List a boot's intervals: their keys begin with its label,
    as those of a vm with a name of the same beginning may.
    """
    begin = f"{usage.label}-"
    for _, _, interval in takewhile(
        lambda found: found[0].startswith(begin), documents.stored("interval", Interval, begin)
    ):
        if (interval.cloud, interval.label) == (usage.cloud, usage.label):
            yield interval


def _row(usage: Usage, interval: Interval, shown: Window) -> dict[str, Any]:
    from_at, until_at = max(interval.from_at, shown.from_at), min(interval.until_at, shown.until_at)
    lasted = interval.until_at - interval.from_at
    share = (until_at - from_at) / lasted if lasted else 1.0
    cpu_ms = interval.user_ms + interval.nice_ms + interval.system_ms
    return {
        "cloud": interval.cloud,
        "vm": interval.vm,
        "boot_at": iso(usage.boot_at),
        "from": iso(from_at),
        "until": iso(until_at),
        "cores": interval.cores,
        "wall_hours": hours(interval.wall_ms * share),
        "core_hours": hours(interval.core_ms * share),
        "cpu_hours": hours(cpu_ms * share),
        "efficiency": ratio(cpu_ms, interval.core_ms),
        "iowait_core_hours": hours(interval.iowait_ms * share),
        "steal_core_hours": hours(interval.steal_ms * share),
        "suspended_hours": hours(interval.suspended_ms * share),
        "network_received_bytes": round(interval.network_received_bytes * share),
        "network_sent_bytes": round(interval.network_sent_bytes * share),
    }
