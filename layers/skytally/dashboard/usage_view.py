"""Views: what the dashboard shows of a window, as numbers.

Sums are the ones that a statement has for the same time. Coverage also counts silences (see `window_boots`).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from skytally.accounting.hs23 import UNSCORED, Score
from skytally.accounting.measures import CORE_HOURS, CPU_HOURS, EFFICIENCY, WALL_HOURS
from skytally.accounting.statement_rows import hs23, ratio, up_ms
from skytally.core.documents import Usage
from skytally.core.errors import Malformed
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.core.rounding import DECIMALS
from skytally.dashboard import alarm_view
from skytally.dashboard.caveats import BootKey, usage_doubts
from skytally.dashboard.interval_view import interval_rows
from skytally.dashboard.paging import LazyRows
from skytally.dashboard.time_range import Window
from skytally.dashboard.window_boots import Boots, Where, WindowBoot

DIMENSIONS = {
    "cloud": ("cloud",),
    "site": ("cloud", "site"),
    "group": ("cloud", "group"),
    "flavor": ("cloud", "flavor"),
    "vm": ("cloud", "vm"),
    "interval": ("cloud", "vm", "label"),
}
# What the plot tells apart; of single vms it is their clouds.
PLOTTED_BY = {by: names if by not in {"vm", "interval"} else ("cloud",) for by, names in DIMENSIONS.items()}
FILTERS = ("cloud", "site", "group", "flavor", "vm")
CHOICES = ("cloud", "site", "group", "flavor")
USAGE_SUMS = ("wall_ms", "suspended_ms", "core_ms", "user_ms", "nice_ms", "system_ms")
# What arrived of a boot: its key, its sums, and what a core hour of it is worth.
Received = tuple[BootKey, Row, Score]
OF_VM = ("flavor", "cores", "cpu_model", "agent_version")


def interval_sums(shown: Window, where: Where, by: str, documents: Documents) -> list[Row]:
    """Return what arrived of each boot in a window, by a display's dimensions.

    Raises Malformed where intervals are asked for of no vm.
    """
    if by == "interval" and "vm" not in where:
        raise Malformed("intervals are shown of one vm: name it", field="vm")
    names = tuple(dict.fromkeys(("cloud", "vm", "label", *DIMENSIONS[by])))
    return documents.table(
        Query(index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, by=names, sums=USAGE_SUMS)
    )


def usage_view(
    shown: Window, where: Where, by: str, boots: Boots, rows: list[Row], documents: Documents, now: datetime
) -> dict[str, Any]:
    """Return a row per combination of a display's dimensions, or per interval of one vm,
    their totals, how much of them was heard, and what they do not know.

    `rows` are the window's `interval_sums`.
    """
    received = [_received(row, boots) for row in rows]
    totals = _measures(received, boots.values())
    heard = [boot.usage for boot in boots.values() if boot.is_heard]
    silent = [boot.usage for boot in boots.values() if boot.is_silent]
    return frame("usage", shown, now) | {
        "table": list(interval_rows((boot.usage for boot in boots.values()), shown, documents))
        if by == "interval"
        else _table(received, by, boots, _open_alarms(where, documents) if by == "vm" else {}),
        "coverage": totals["coverage"],
        "last_sampled_at": totals["last_sampled_at"],
        "totals": totals,
        "doubts": usage_doubts(heard, silent, {key: boot.credit for key, boot in boots.items()}),
        "choices": {name: sorted({getattr(boot.usage, name) for boot in boots.values()} - {None}) for name in CHOICES},
    }


def frame(name: str, shown: Window, now: datetime) -> dict[str, Any]:
    """Say which view of which window this is, as of when."""
    return {
        "view": name,
        "from": iso(shown.from_at),
        "until": iso(shown.until_at),
        "step_seconds": shown.step.total_seconds(),
        "generated_at": iso(now),
    }


def _received(row: Row, boots: Boots) -> Received:
    key = row["cloud"], row["label"]
    boot = boots.get(key)
    return key, row, UNSCORED if boot is None else boot.credit


def _table(
    received: Iterable[Received],
    by: str,
    boots: Boots,
    open_alarms: Mapping[tuple[Any, ...], int],
) -> LazyRows:
    """Bring together what was received and what was up (boots), by the dimensions of the table."""
    names = DIMENSIONS[by]
    heard: dict[tuple[Any, ...], list[Received]] = defaultdict(list)
    for one in received:
        row = one[1]
        heard[tuple([row[name] for name in names])].append(one)
    up: dict[tuple[Any, ...], list[WindowBoot]] = defaultdict(list)
    for boot in boots.values():
        usage = boot.usage
        up[tuple([getattr(usage, name) for name in names])].append(boot)
    keys = sorted(heard.keys() | up.keys(), key=lambda key: [(name is not None, name or "") for name in key])

    def measures(at: int) -> dict[str, Any]:
        key = keys[at]
        more = _of_vm(up[key], open_alarms.get(key, 0)) if by == "vm" else {}
        return _measures(heard[key], up[key]) | more

    return LazyRows([dict(zip(names, key, strict=True)) for key in keys], measures)


def _open_alarms(where: Where, documents: Documents) -> Counter[tuple[Any, ...]]:
    """Count the open alarms of each vm, by its cloud and name."""
    alarms = alarm_view.open_alarms(where.get("cloud", ()), documents)
    return Counter((alarm.cloud, alarm.vm) for alarm in alarms if alarm.vm is not None)


def _of_vm(boots: Sequence[WindowBoot], open_alarms: int) -> dict[str, Any]:
    """Return what is known of a vm by the newest of its boots in the window."""
    newest = max(boots, key=lambda boot: boot.usage.boot_at, default=None)
    return {name: getattr(newest.usage, name) if newest else None for name in OF_VM} | {
        "benchmark_score": newest.benchmark_score if newest else None,
        "boot_count": len(boots),
        "open_alarms": open_alarms,
    }


def _coverage(received: Iterable[Received], boots: Iterable[WindowBoot]) -> float | None:
    """Return the share of the time up of which intervals arrived, by the statement's rule for clocks that differ."""
    received_ms: dict[BootKey, float] = defaultdict(float)
    for key, row, _ in received:
        received_ms[key] += row["wall_ms"] + row["suspended_ms"]
    calendar_ms = {boot.key: boot.calendar_ms for boot in boots}
    up = sum(up_ms(ms, received_ms.get(key, 0.0)) for key, ms in calendar_ms.items())
    up += sum(up_ms(0.0, ms) for key, ms in received_ms.items() if key not in calendar_ms)
    return ratio(sum(received_ms.values()), up)


def _measures(received: Sequence[Received], own: Collection[WindowBoot]) -> dict[str, Any]:
    """Return the numbers of what was received, and of the boots that it is about."""
    rows = [row for _, row, _ in received]
    total = {name: sum(map(itemgetter(name), rows)) for name in USAGE_SUMS}
    heard = [boot for boot in own if boot.is_heard]
    offsets = [abs(boot.usage.clock_offset_seconds) for boot in heard if boot.usage.clock_offset_seconds is not None]
    return {
        "vm_count": len({(row["cloud"], row["vm"]) for row in rows}),
        **{measure.name: measure.value(total) for measure in (WALL_HOURS, CORE_HOURS, CPU_HOURS, EFFICIENCY)},
        **hs23((row["core_ms"], credit) for _, row, credit in received),
        "coverage": _coverage(received, own),
        "silent_vms": len({_vm(boot.usage) for boot in own if boot.is_silent}),
        "largest_clock_offset_seconds": round(max(offsets), DECIMALS) if offsets else None,
        "estimated_edges": sum(boot.usage.estimated for boot in heard),
        "quarantined_benchmarks": sum(boot.credit.quarantined for boot in heard),
        "last_sampled_at": iso(max(boot.usage.last_sampled_at for boot in own)) if own else None,
    }


def _vm(usage: Usage) -> tuple[str, str]:
    return usage.cloud, usage.vm
