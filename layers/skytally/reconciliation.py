"""Three views of a month side by side: what the vms said, what the scheduler saw of their lives, and what the provider bills."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from skytally.documents import PlacedVm
from skytally.errors import Malformed
from skytally.ports import Documents
from skytally.samples import month_end_at, month_start_at

BILL_COLUMNS = ("cloud", "core_hours")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


def reconciliation(rows: Sequence[Mapping[str, Any]], month: str, documents: Documents, bill: Mapping[str, float]) -> list[dict[str, Any]]:
    """Put beside each cloud's row of the statement what others say, and by how much the vms said more; what is not known is None."""
    seen = scheduled_core_hours(month, documents)
    reported = {row["cloud"]: row["core_hours"] for row in rows}
    return [
        {
            "cloud": cloud,
            "core_hours": reported.get(cloud),
            "scheduler_core_hours": seen.get(cloud),
            "beyond_scheduler": _residual(reported.get(cloud), seen.get(cloud)),
            "billed_core_hours": bill.get(cloud),
            "beyond_bill": _residual(reported.get(cloud), bill.get(cloud)),
        }
        for cloud in sorted(reported.keys() | seen.keys() | bill.keys())
    ]


def _residual(reported: float | None, other: float | None) -> float | None:
    """Answer the share by which the vms reported more; what was never reported is a share of -1."""
    return (reported or 0.0) / other - 1 if other else None


def scheduled_core_hours(month: str, documents: Documents) -> dict[str, float | None]:
    """Answer each cloud's vms' lives as the scheduler reported them, times cores, within a month; None where it knows no cores.

    A life without an end lasts until it was last reported.
    """
    documents.refresh()
    start, end = month_start_at(month), month_end_at(month)
    totals: dict[str, float | None] = defaultdict(float)
    for _, vm in documents.during("placed_vm", PlacedVm, "started_at", (EARLIEST, end), {}):
        seconds = (min(vm.ended_at or vm.reported_at, end) - max(vm.started_at, start)).total_seconds()
        if seconds > 0:
            known = totals[vm.cloud]
            totals[vm.cloud] = None if known is None or vm.cores is None else known + seconds * vm.cores / 3_600
    return dict(totals)


def read_bill(lines: Sequence[str]) -> dict[str, float]:
    """Read a provider's bill: CSV with the columns cloud and core_hours, any number of lines a cloud; raises Malformed with the line."""
    reader = csv.DictReader(lines)
    if not set(BILL_COLUMNS) <= set(reader.fieldnames or ()):
        raise Malformed(f"the bill's first line names its columns, {' and '.join(BILL_COLUMNS)} among them")
    totals: dict[str, float] = defaultdict(float)
    for row in reader:
        try:
            hours = float(row["core_hours"])
        except (TypeError, ValueError):
            hours = -1.0
        if not 0 <= hours < 1e12:
            raise Malformed(f"line {reader.line_num} of the bill: core_hours is no number of hours")
        totals[row["cloud"]] += hours
    return dict(totals)
