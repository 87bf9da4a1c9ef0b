"""Reconciliation: a month as the vms reported it, as the scheduler saw it, and as the provider bills it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from skytally.accounting.bill import Billed
from skytally.core.documents import PlacedVm
from skytally.core.months import month_end_at, month_start_at
from skytally.core.ports import Documents
from skytally.core.rounding import rounded

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def reconciliation(
    rows: Sequence[Mapping[str, Any]], month: str, documents: Documents, bill: Mapping[str, Billed]
) -> list[dict[str, Any]]:
    """Return each cloud's reported, scheduled and billed core hours, and the shares by which the vms reported more.

    Numbers are rounded; what is not known is None. Costs are compared if the bill has them, in one currency only.
    """
    scheduled = scheduled_core_hours(month, documents)
    stated = {row["cloud"]: row for row in rows}
    has_costs = any(billed.cost is not None for billed in bill.values())
    return [
        rounded(
            _hours(cloud, stated.get(cloud, {}).get("core_hours"), scheduled.get(cloud), bill.get(cloud))
            | (_costs(stated.get(cloud, {}), bill.get(cloud)) if has_costs else {})
        )
        for cloud in sorted(stated.keys() | scheduled.keys() | bill.keys())
    ]


def _hours(cloud: str, reported: float | None, scheduled: float | None, billed: Billed | None) -> dict[str, Any]:
    billed_hours = None if billed is None else billed.core_hours
    return {
        "cloud": cloud,
        "core_hours": reported,
        "scheduler_core_hours": scheduled,
        "beyond_scheduler": _residual(reported, scheduled),
        "billed_core_hours": billed_hours,
        "beyond_bill": _residual(reported, billed_hours),
    }


def _costs(row: Mapping[str, Any], billed: Billed | None) -> dict[str, Any]:
    cost, currency = row.get("cost"), row.get("currency")
    comparable = billed is not None and cost is not None and billed.currency == currency
    return {
        "cost": cost,
        "currency": currency,
        "billed_cost": billed and billed.cost,
        "billed_currency": billed and billed.currency,
        "cost_beyond_bill": _residual(cost, billed.cost) if billed and comparable else None,
    }


def _residual(reported: float | None, other: float | None) -> float | None:
    """Return the share by which the vms reported more: -1 if nothing was reported, None beside 0 or a credit."""
    return (reported or 0.0) / other - 1 if other and other > 0 else None


def scheduled_core_hours(month: str, documents: Documents) -> dict[str, float | None]:
    """Return the core hours within a month of each cloud's vms as the scheduler reported them; None without cores.

    A vm without an end lasts until it was last reported.
    """
    documents.refresh()
    start, end = month_start_at(month), month_end_at(month)
    totals: dict[str, float | None] = defaultdict(float)
    for _, vm in documents.during("placed_vm", PlacedVm, "started_at", (EARLIEST, end), {}):
        seconds = (min(vm.ended_at or vm.reported_at, end) - max(vm.started_at, start)).total_seconds()
        if seconds > 0:
            total = totals[vm.cloud]
            totals[vm.cloud] = None if total is None or vm.cores is None else total + seconds * vm.cores / 3_600
    return dict(totals)
