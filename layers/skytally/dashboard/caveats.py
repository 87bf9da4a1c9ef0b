"""Doubt: what the numbers of a view cannot know, and of which vms."""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from heapq import nsmallest
from typing import Any

from skytally.accounting.hs23 import UNSCORED, Score
from skytally.core.documents import Usage
from skytally.core.records import iso

# A report's way takes seconds; a clock that is this wrong is.
CLOCK_OFFSET = timedelta(seconds=30)
MOST_NAMED = 12
BootKey = tuple[str, str]


def boot_key(usage: Usage) -> BootKey:
    """Return what tells boots apart: a cloud gives names to its own alone."""
    return usage.cloud, usage.label


def usage_doubts(
    heard: Collection[Usage], silent: Iterable[Usage], worth: Mapping[BootKey, Score]
) -> list[dict[str, Any]]:
    """Name what is not known of the boots of a window:
    silent vms, and of those that were heard of wrong clocks, estimates, benchmarks that do not count.
    """
    kinds: dict[str, Callable[[Usage], Any]] = {
        "clock_offset": _clock_offset,
        "clock_ahead": lambda usage: usage.clock_ahead or None,
        "estimated_edge": lambda usage: usage.estimated or None,
        "quarantined_benchmark": lambda usage: worth[boot_key(usage)].quarantined or None,
        "no_hs23": lambda usage: True if worth.get(boot_key(usage), UNSCORED).hs23 is None else None,
    }
    silences = doubt("silent", ((usage, iso(usage.last_sampled_at)) for usage in silent))
    doubts = [silences, *(doubt(kind, ((usage, of(usage)) for usage in heard)) for kind, of in kinds.items())]
    return [row for row in doubts if row["vm_count"]]


def _clock_offset(usage: Usage) -> float | None:
    offset = usage.clock_offset_seconds
    return None if offset is None or abs(offset) < CLOCK_OFFSET.total_seconds() else offset


def doubt(kind: str, values: Iterable[tuple[Usage, Any]]) -> dict[str, Any]:
    """Count the vms with a value that is not None, and name the first of them, in order, with it."""
    vms: dict[tuple[str, str], Any] = {}
    for usage, value in values:
        if value is not None:
            vms.setdefault((usage.cloud, usage.vm), value)
    named = [{"cloud": key[0], "vm": key[1], "value": vms[key]} for key in nsmallest(MOST_NAMED, vms)]
    return {"kind": kind, "vm_count": len(vms), "vms": named}
