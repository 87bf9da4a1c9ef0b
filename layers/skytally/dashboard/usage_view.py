"""Views: what the dashboard shows of a window, as numbers; the same ones that a statement has for the same time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from skytally.accounting.hs23 import UNSCORED, Score, scores
from skytally.accounting.measures import CORE_HOURS, CPU_HOURS, EFFICIENCY, WALL_HOURS
from skytally.accounting.samples import AHEAD_ALLOWED
from skytally.accounting.statement_rows import SILENT_AFTER, elapsed_ms, hs23, month_documents, ratio, up_ms
from skytally.core.concurrently import concurrently
from skytally.core.documents import BootBenchmark, Usage
from skytally.core.errors import Malformed
from skytally.core.months import month_end_at, month_of
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.core.rounding import DECIMALS
from skytally.core.site_data import Site
from skytally.dashboard.caveats import BootKey, boot_key, usage_doubts
from skytally.dashboard.interval_view import interval_rows
from skytally.dashboard.paging import LazyRows
from skytally.dashboard.time_range import Window, step_end

DIMENSIONS = {"cloud": ("cloud",), "vm": ("cloud", "vm"), "interval": ("cloud", "vm", "label")}
FILTERS = ("cloud", "site", "group", "vm")
PLOTTED = (CORE_HOURS, CPU_HOURS)
PLOTTED_SUMS = tuple(dict.fromkeys(term for one in PLOTTED for term in one.sums))
USAGE_SUMS = ("wall_ms", "suspended_ms", "core_ms", "user_ms", "nice_ms", "system_ms")

Where = Mapping[str, Sequence[str]]


def usage_view(shown: Window, where: Where, by: str, documents: Documents, site: Site, now: datetime) -> dict[str, Any]:
    """Return a row per cloud, per vm, or per interval of one vm,
    their totals, how much of them was heard, and what they do not know.

    Raises Malformed where intervals are asked for of no vm.
    """
    if by == "interval" and "vm" not in where:
        raise Malformed("intervals are shown of one vm: name it", field="vm")
    documents.refresh()
    sums = structs.replace(_span(shown, where), by=("cloud", "vm", "label"))
    (boots, worth), rows = concurrently(
        lambda: _boots(shown, where, documents, site, now), lambda: documents.table(sums)
    )
    totals = _measures(rows, list(boots.values()), worth, shown, now)
    intervals = by == "interval"
    table = (
        list(interval_rows(boots.values(), shown, documents))
        if intervals
        else _table(rows, boots, worth, DIMENSIONS[by], shown, now)
    )
    return frame("usage", shown, now) | {
        "table": table,
        "coverage": totals["coverage"],
        "last_sampled_at": totals["last_sampled_at"],
        "totals": totals,
        "doubts": usage_doubts(boots.values(), worth, lambda usage: _silent(usage, shown, now)),
        "choices": {
            name: sorted({getattr(usage, name) for usage in boots.values()} - {None})
            for name in ("cloud", "site", "group")
        },
    }


def usage_series(shown: Window, where: Where, documents: Documents) -> list[dict[str, Any]]:
    """Return a point per step and cloud."""
    documents.refresh()
    query = structs.replace(_span(shown, where), by=("cloud",), sums=PLOTTED_SUMS)
    return [_point(row, shown) for row in documents.series(query, shown.step)]


def _span(shown: Window, where: Where) -> Query:
    return Query(index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, sums=USAGE_SUMS)


def frame(name: str, shown: Window, now: datetime) -> dict[str, Any]:
    """Say which view of which window this is, as of when."""
    return {
        "view": name,
        "from": iso(shown.from_at),
        "until": iso(shown.until_at),
        "step_seconds": shown.step.total_seconds(),
        "generated_at": iso(now),
    }


def _table(
    rows: list[Row],
    boots: dict[BootKey, Usage],
    worth: dict[BootKey, Score],
    by: tuple[str, ...],
    shown: Window,
    now: datetime,
) -> LazyRows:
    """Bring together what was heard of (rows) and what was up (boots), by the dimensions of the table."""
    heard: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        heard[tuple(row[name] for name in by)].append(row)
    up: dict[tuple[str, ...], list[Usage]] = defaultdict(list)
    for usage in boots.values():
        up[tuple(getattr(usage, name) for name in by)].append(usage)
    keys = sorted(heard.keys() | up.keys())
    return LazyRows(
        [dict(zip(by, key, strict=True)) for key in keys],
        lambda at: _measures(heard[keys[at]], up[keys[at]], worth, shown, now),
    )


def _boots(
    shown: Window, where: Where, documents: Documents, site: Site, now: datetime
) -> tuple[dict[BootKey, Usage], dict[BootKey, Score]]:
    """Return the boots that were up in the window, and what a core hour of each is worth."""
    boots = _newest_usages(shown, where, documents, now)
    credit = scores(documents.get_many("benchmark", [usage.boot_id for usage in boots.values()], BootBenchmark), site)
    return boots, {key: credit.get(usage.boot_id, UNSCORED) for key, usage in boots.items()}


def _newest_usages(shown: Window, where: Where, documents: Documents, now: datetime) -> dict[BootKey, Usage]:
    """Return, for each boot that was up in the window, its newest month document that is not later than the window."""
    newest: dict[BootKey, Usage] = {}
    for _, usage, _ in month_documents(_months(shown, now), where, documents):
        known = newest.get(boot_key(usage))
        if _calendar_ms(usage, shown) > 0 and (known is None or usage.uptime_ms >= known.uptime_ms):
            newest[boot_key(usage)] = usage
    return newest


def _months(shown: Window, now: datetime) -> list[str]:
    """Name the months of a window of which there can be reports: none of a month that has not begun."""
    until_at = min(shown.until_at, now + AHEAD_ALLOWED)
    months = [month_of(shown.from_at)]
    while month_end_at(months[-1]) < until_at:
        months.append(month_of(month_end_at(months[-1])))
    return months


def _calendar_ms(usage: Usage, shown: Window) -> float:
    """Count the time in the window during which the boot is known to have existed."""
    return elapsed_ms(usage.boot_at, usage.last_sampled_at, shown.from_at, shown.until_at)


def _coverage(rows: Iterable[Row], boots: Iterable[Usage], shown: Window) -> float | None:
    """Return the share of the time up of which intervals arrived, by the statement's rule for clocks that differ."""
    received: dict[BootKey, float] = defaultdict(float)
    for row in rows:
        received[row["cloud"], row["label"]] += row["wall_ms"] + row["suspended_ms"]
    calendar = {boot_key(usage): _calendar_ms(usage, shown) for usage in boots}
    up = sum(up_ms(calendar.get(key, 0.0), received.get(key, 0.0)) for key in calendar.keys() | received.keys())
    return ratio(sum(received.values()), up)


def _measures(
    rows: list[Row], boots: list[Usage], worth: dict[BootKey, Score], shown: Window, now: datetime
) -> dict[str, Any]:
    total = {name: sum(row[name] for row in rows) for name in USAGE_SUMS}
    offsets = [abs(usage.clock_offset_seconds) for usage in boots if usage.clock_offset_seconds is not None]
    return {
        "vm_count": len({(row["cloud"], row["vm"]) for row in rows}),
        **{one.name: one.value(total) for one in (WALL_HOURS, CORE_HOURS, CPU_HOURS, EFFICIENCY)},
        **hs23((row["core_ms"], worth.get((row["cloud"], row["label"]), UNSCORED)) for row in rows),
        "coverage": _coverage(rows, boots, shown),
        "silent_vms": len({(usage.cloud, usage.vm) for usage in boots if _silent(usage, shown, now)}),
        "largest_clock_offset_seconds": round(max(offsets), DECIMALS) if offsets else None,
        "estimated_edges": sum(usage.estimated for usage in boots),
        "quarantined_benchmarks": sum(worth[boot_key(usage)].quarantined for usage in boots),
        "last_sampled_at": iso(max(usage.last_sampled_at for usage in boots)) if boots else None,
    }


def _silent(usage: Usage, shown: Window, now: datetime) -> bool:
    return not usage.final and usage.last_sampled_at < min(now, shown.until_at) - SILENT_AFTER


def _point(row: Row, shown: Window) -> dict[str, Any]:
    return {
        "at": iso(row["at"]),
        "until": iso(step_end(row["at"], shown)),
        "cloud": row["cloud"],
        **{one.name: one.value(row) for one in PLOTTED},
    }
