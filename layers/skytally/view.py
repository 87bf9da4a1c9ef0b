"""Views: what the dashboard shows of a window, as numbers; the same ones that a statement has for the same time."""

import calendar
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct, structs

from skytally.cloud import Site
from skytally.credit import Score, scores
from skytally.documents import BootBenchmark, Usage
from skytally.errors import Malformed
from skytally.ports import Documents, Query, Row
from skytally.records import iso
from skytally.statement import SILENT_AFTER, UNSCORED, hours, hs23_hours, ratio
from skytally.usage import month_end_at, month_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WINDOWS = {
    "hour": (timedelta(hours=1), timedelta(minutes=5)),
    "day": (timedelta(days=1), timedelta(hours=1)),
    "week": (timedelta(days=7), timedelta(hours=6)),
    "month": (None, timedelta(days=1)),
}
DIMENSIONS = {"cloud": ("cloud",), "vm": ("cloud", "vm")}
FILTERS = ("cloud", "site", "group", "vm")
USAGE_SUMS = ("wall_ms", "suspended_ms", "core_ms", "user_ms", "nice_ms", "system_ms")


Where = Mapping[str, Sequence[str]]


class Window(Struct, frozen=True):
    """A time span and the step that its plot is drawn in."""

    from_at: datetime
    until_at: datetime
    step: timedelta


def window(name: str, until: str | None, now: datetime) -> Window:
    """Make the window of a name that ends at a moment (now, where none is given); a month is a calendar month long."""
    if name not in WINDOWS:
        raise Malformed(f"window must be one of {', '.join(WINDOWS)}", field="window")
    until_at = now if until is None else _moment(until)
    span, step = WINDOWS[name]
    return Window(until_at - span if span else _month_before(until_at), until_at, step)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 2000 <= moment.year <= 9998:
        raise Malformed("until must be ISO 8601 with a zone, such as 2026-12-01T00:00:00Z", field="until")
    return moment.astimezone(UTC)


def _month_before(moment: datetime) -> datetime:
    year, month = (moment.year, moment.month - 1) if moment.month > 1 else (moment.year - 1, 12)
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def usage_view(shown: Window, where: Where, by: str, documents: Documents, site: Site, now: datetime) -> dict[str, Any]:
    """Answer a row per cloud or per vm, and a series per cloud of the same sums; coverage tells how much of them was heard."""
    documents.refresh()
    span = Query(index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, sums=USAGE_SUMS)
    rows = documents.table(structs.replace(span, by=("cloud", "vm", "label")))
    boots = _newest_usages(shown, where, documents)
    found = documents.get_many("benchmark", [usage.boot_id for usage in boots.values()], BootBenchmark)
    credit = scores(found, site)
    worth = {label: credit.get(usage.boot_id, UNSCORED) for label, usage in boots.items()}
    series = documents.series(structs.replace(span, by=("cloud",)), shown.step)
    return frame("usage", shown, now) | {
        "table": list(_table(rows, boots, worth, DIMENSIONS[by], shown, now)),
        "series": [_point(row, shown) for row in series],
        "coverage": _coverage(rows, boots.values(), shown),
        "last_sampled_at": max((iso(usage.last_sampled_at) for usage in boots.values()), default=None),
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


def _table(
    rows: list[Row], boots: dict[str, Usage], worth: dict[str, Score], by: tuple[str, ...], shown: Window, now: datetime
) -> Iterator[dict[str, Any]]:
    """Bring together what was heard of (rows) and what was up (boots), by the dimensions of the table."""
    heard: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        heard[tuple(row[name] for name in by)].append(row)
    up: dict[tuple[str, ...], list[Usage]] = defaultdict(list)
    for usage in boots.values():
        up[tuple(getattr(usage, name) for name in by)].append(usage)
    for key in sorted(heard.keys() | up.keys()):
        yield dict(zip(by, key, strict=True)) | _measures(heard[key], up[key], worth, shown, now)


def _newest_usages(shown: Window, where: Where, documents: Documents) -> dict[str, Usage]:
    """Answer, for each boot that was up in the window, its newest month document that is not later than the window."""
    newest: dict[str, Usage] = {}
    for _, usage in documents.find("usage", Usage, {"month": _months(shown), **where}):
        known = newest.get(usage.label)
        if _up_ms(usage, shown) > 0 and (known is None or usage.uptime_ms >= known.uptime_ms):
            newest[usage.label] = usage
    return newest


def _months(shown: Window) -> list[str]:
    months = [month_of(shown.from_at)]
    while month_end_at(months[-1]) < shown.until_at:
        months.append(month_of(month_end_at(months[-1])))
    return months


def _up_ms(usage: Usage, shown: Window) -> float:
    """Count the time in the window during which the boot is known to have existed."""
    up = min(usage.last_sampled_at, shown.until_at) - max(usage.boot_at, shown.from_at)
    return max(0.0, up.total_seconds() * 1_000)


def _coverage(rows: Iterable[Row], boots: Iterable[Usage], shown: Window) -> float | None:
    """Answer the share of the time up that was heard of; a boot's own clock, by which it was up, may run some seconds behind its uptime."""
    share = ratio(sum(map(_heard_ms, rows)), sum(_up_ms(usage, shown) for usage in boots))
    return None if share is None else min(share, 1.0)


def _heard_ms(row: Row) -> float:
    return float(row["wall_ms"] + row["suspended_ms"])


def _measures(rows: list[Row], boots: list[Usage], worth: dict[str, Score], shown: Window, now: datetime) -> dict[str, Any]:
    core_ms = sum(row["core_ms"] for row in rows)
    cpu_ms = sum(_cpu_ms(row) for row in rows)
    quiet_since = min(now, shown.until_at) - SILENT_AFTER
    offsets = [abs(usage.clock_offset_seconds) for usage in boots if usage.clock_offset_seconds is not None]
    return {
        "vm_count": len({(row["cloud"], row["vm"]) for row in rows}),
        "wall_hours": hours(sum(row["wall_ms"] for row in rows)),
        "core_hours": hours(core_ms),
        "cpu_hours": hours(cpu_ms),
        "efficiency": ratio(cpu_ms, core_ms),
        "hs23_hours": hs23_hours((row["core_ms"], worth.get(row["label"], UNSCORED)) for row in rows),
        "coverage": _coverage(rows, boots, shown),
        "silent_vms": len({(usage.cloud, usage.vm) for usage in boots if not usage.final and usage.last_sampled_at < quiet_since}),
        "largest_clock_offset_seconds": max(offsets, default=None),
        "estimated_edges": sum(usage.estimated for usage in boots),
        "quarantined_benchmarks": sum(worth[usage.label].quarantined for usage in boots),
    }


def _cpu_ms(row: Row) -> float:
    return float(row["user_ms"] + row["nice_ms"] + row["system_ms"])


def _point(row: Row, shown: Window) -> dict[str, Any]:
    until_at = min(step_end(row["at"], shown.step), shown.until_at)
    return {
        "at": iso(row["at"]),
        "until": iso(until_at),
        "cloud": row["cloud"],
        "core_hours": hours(row["core_ms"]),
        "cpu_hours": hours(_cpu_ms(row)),
    }


def step_end(at: datetime, step: timedelta) -> datetime:
    """Answer where a step ends: one of an hour or longer where UTC's next begins, another after its length."""
    if step < timedelta(hours=1):
        return at + step
    return at + step - (at - EPOCH) % step
