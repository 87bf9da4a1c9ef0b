"""The plot of the usage view: what ran in each step of a window, and how many vms reported or were silent."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from skytally.accounting.measures import CORE_HOURS, CPU_HOURS, EFFICIENCY
from skytally.accounting.statement_rows import SILENT_AFTER, hs23
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.dashboard.time_range import Window, step_end
from skytally.dashboard.window_boots import Boots, Where, credit_of

PLOTTED = (CORE_HOURS, CPU_HOURS, EFFICIENCY)
PLOTTED_SUMS = tuple(dict.fromkeys(term for measure in PLOTTED for term in (*measure.sums, *measure.over)))
# HS23 hours need a sum for each boot and step; they are left out where there are more.
MOST_SUMS = 20_000
Place = tuple[Any, ...]
# The steps that each vm was up in at each place: the first, and the one after the last.
Ranges = dict[tuple[tuple[str, str], Place], list[tuple[int, int]]]


def step_sums(shown: Window, where: Where, by: tuple[str, ...], documents: Documents) -> list[Row]:
    """Return what arrived in each step of a window, by some dimensions."""
    return documents.series(_span(shown, where, by, PLOTTED_SUMS), shown.step)


def usage_series(
    shown: Window, where: Where, by: tuple[str, ...], boots: Boots, rows: list[Row], documents: Documents
) -> list[dict[str, Any]]:
    """Return a point per step and combination of the dimensions; `rows` are the window's `step_sums`.

    A vm is counted as reporting in the steps from its boot to its last report, and as silent in those of its silence.
    """
    sums = {(row["at"], *(row[name] for name in by)): row for row in rows}
    steps = list(_steps(shown))
    is_quick = len(boots) * len(steps) <= MOST_SUMS
    hs23_hours = _hs23_hours(shown, where, by, boots, documents) if is_quick else {}
    reporting, silent = _vms(steps, by, boots)
    nothing = dict.fromkeys(PLOTTED_SUMS, 0)
    places = sums.keys() | reporting.keys() | silent.keys()
    return [
        {
            "at": iso(place[0]),
            "until": iso(step_end(place[0], shown)),
            **dict(zip(by, place[1:], strict=True)),
            **{measure.name: measure.value(sums.get(place, nothing)) for measure in PLOTTED},
            "hs23_hours": hs23_hours.get(place),
            "vm_count": reporting.get(place, 0),
            "silent_vms": silent.get(place, 0),
        }
        for place in sorted(
            places, key=lambda place: (place[0], [(name is not None, name or "") for name in place[1:]])
        )
    ]


def _steps(shown: Window) -> Iterator[tuple[datetime, datetime]]:
    at = shown.from_at
    while at < shown.until_at:
        until = step_end(at, shown)
        yield at, until
        at = until


def _vms(
    steps: Sequence[tuple[datetime, datetime]], by: tuple[str, ...], boots: Boots
) -> tuple[dict[Place, int], dict[Place, int]]:
    """Return how many vms reported in each step, and how many were silent."""
    starts, ends = [at for at, _ in steps], [until for _, until in steps]
    reporting: Ranges = defaultdict(list)
    silent: Ranges = defaultdict(list)
    for boot in boots.values():
        usage = boot.usage
        vm = (usage.cloud, usage.vm), tuple(getattr(usage, name) for name in by)
        reporting[vm].append((bisect_right(ends, usage.boot_at), bisect_left(starts, usage.last_sampled_at)))
        if boot.is_silent:
            silent_from = usage.last_sampled_at + SILENT_AFTER
            silent[vm].append((bisect_right(ends, silent_from), bisect_left(starts, boot.expected_until)))
    return _counts(reporting, starts), _counts(silent, starts)


def _counts(ranges: Ranges, starts: Sequence[datetime]) -> dict[Place, int]:
    """Return how many vms are in each step: a vm with several boots in one step is one."""
    changes: dict[Place, list[int]] = defaultdict(lambda: [0] * (len(starts) + 1))
    for (_, place), of_vm in ranges.items():
        counted = 0
        for first, stop in sorted(of_vm):
            begin = max(first, counted)
            if begin < stop:
                changes[place][begin] += 1
                changes[place][stop] -= 1
                counted = stop
    return {
        (at, *place): count
        for place, change in changes.items()
        for at, count in zip(starts, accumulate(change), strict=False)
        if count
    }


def _hs23_hours(
    shown: Window, where: Where, by: tuple[str, ...], boots: Boots, documents: Documents
) -> dict[Place, float | None]:
    """Return the HS23 hours of each point; none where no boot has a score."""
    if not any(boot.credit.hs23 for boot in boots.values()):
        return {}
    each = _span(shown, where, tuple(dict.fromkeys((*by, "cloud", "vm", "label"))), ("core_ms",))
    rows: dict[Place, list[Row]] = defaultdict(list)
    for row in documents.series(each, shown.step):
        rows[row["at"], *(row[name] for name in by)].append(row)
    return {
        place: hs23((row["core_ms"], credit_of(row, boots)) for row in some)["hs23_hours"]
        for place, some in rows.items()
    }


def _span(shown: Window, where: Where, by: tuple[str, ...], sums: tuple[str, ...]) -> Query:
    return Query(index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, by=by, sums=sums)
