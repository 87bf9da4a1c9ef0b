"""The plot of the usage view: what ran in each step of a window, and how many vms reported or were silent."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from msgspec import structs

from skytally.accounting.measures import CORE_HOURS, CPU_HOURS, EFFICIENCY
from skytally.accounting.statement_rows import SILENT_AFTER, hs23
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.core.site_data import Site
from skytally.dashboard.time_range import Window, step_end
from skytally.dashboard.window_boots import Boots, Credit, Credits, Where, credits_of

PLOTTED = (CORE_HOURS, CPU_HOURS, EFFICIENCY)
PLOTTED_SUMS = tuple(dict.fromkeys(term for measure in PLOTTED for term in (*measure.sums, *measure.over)))
# HS23 hours need a sum for each boot and step; they are left out where there are more.
MOST_SUMS = 20_000
Place = tuple[Any, ...]


def usage_series(
    shown: Window, where: Where, by: tuple[str, ...], boots: Boots, documents: Documents, site: Site
) -> list[dict[str, Any]]:
    """Return a point per step and combination of the dimensions.

    A vm is counted as reporting in the steps from its boot to its last report, and as silent in those of its silence.
    """
    span = Query(
        index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, by=by, sums=PLOTTED_SUMS
    )
    sums = {(row["at"], *(row[name] for name in by)): row for row in documents.series(span, shown.step)}
    steps = list(_steps(shown))
    is_quick = len(boots) * len(steps) <= MOST_SUMS
    hs23_hours = _hs23_hours(span, shown, credits_of(boots, documents, site), documents) if is_quick else {}
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
            "vm_count": len(reporting.get(place, ())),
            "silent_vms": len(silent.get(place, ())),
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
    steps: list[tuple[datetime, datetime]], by: tuple[str, ...], boots: Boots
) -> tuple[dict[Place, set[str]], dict[Place, set[str]]]:
    """Return the vms that reported in each step, and those that were silent."""
    reporting: dict[Place, set[str]] = defaultdict(set)
    silent: dict[Place, set[str]] = defaultdict(set)
    for boot in boots.values():
        usage = boot.usage
        place, vm = [getattr(usage, name) for name in by], f"{usage.cloud}/{usage.vm}"
        for at, until in steps:
            if usage.boot_at < until and usage.last_sampled_at > at:
                reporting[at, *place].add(vm)
            if boot.is_silent and usage.last_sampled_at + SILENT_AFTER < until and boot.expected_until > at:
                silent[at, *place].add(vm)
    return reporting, silent


def _hs23_hours(span: Query, shown: Window, credits_: Credits, documents: Documents) -> dict[Place, float | None]:
    """Return the HS23 hours of each point; none where no boot has a score."""
    if not any(credit.hs23.hs23 for credit in credits_.values()):
        return {}
    each = structs.replace(span, by=tuple(dict.fromkeys((*span.by, "cloud", "vm", "label"))), sums=("core_ms",))
    rows: dict[Place, list[Row]] = defaultdict(list)
    for row in documents.series(each, shown.step):
        rows[row["at"], *(row[name] for name in span.by)].append(row)
    return {
        place: hs23((row["core_ms"], credits_.get((row["cloud"], row["label"]), Credit()).hs23) for row in some)[
            "hs23_hours"
        ]
        for place, some in rows.items()
    }
