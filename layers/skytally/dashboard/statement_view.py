"""The statement view: a month as the statement has it, beside the month before and what the scheduler saw.

Rows are the statement's own; nothing is added up anew that is frozen.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from skytally.accounting import closing, reconciliation
from skytally.accounting.definitions import TOTALS
from skytally.accounting.frozen import Frozen
from skytally.accounting.measures import CORE_HOURS
from skytally.accounting.statement_rows import ratio
from skytally.core.months import month_end_at, month_of, month_start_at
from skytally.core.ports import Documents, Query
from skytally.core.records import EARLIEST_MOMENT, iso
from skytally.core.rounding import rounded
from skytally.core.site_data import Site
from skytally.dashboard.time_range import Window, step_end

DAY = timedelta(days=1)
PRICE = (
    "the cost of the core hours that have an HS23 score, divided by hs23_hours; null where the cost or the score is "
    "not known"
)
UNITS = {
    **{name: "hours" for name in TOTALS if name.endswith("_hours")},
    **dict.fromkeys(("efficiency", "coverage"), "share"),
    "energy_kwh": "kWh",
    "co2_kg": "kg",
    "cost": "currency",
    "price_per_hs23_hour": "currency per HS23 hour",
    **dict.fromkeys(("cloud", "currency"), "text"),
    "hs23_complete": "yes or no",
}
SUMS = ("vm_count", "boot_count", "wall_hours", "core_hours", "cpu_hours", "scored_core_hours", "silent_vms")
# Sums that are known where they are known of every cloud.
WHOLE_SUMS = ("energy_kwh", "co2_kg", "cost")


def month_window(month: str) -> Window:
    """Return a month as a window of days."""
    return Window(month_start_at(month), month_end_at(month), DAY)


def neighbours(month: str, now: datetime) -> dict[str, str | None]:
    """Name the months before and after; None for one that has not begun, and for those before 2000."""
    after = month_end_at(month)
    return {
        "previous_month": month_of(month_start_at(month) - DAY) if month_start_at(month) > EARLIEST_MOMENT else None,
        "next_month": month_of(after) if after <= now else None,
    }


def statement_table(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime
) -> dict[str, Any]:
    """Return the statement's rows with what a cloud's owner asks of them, their totals, and the comparison."""
    whole = closing.statement_totals(month, clouds, documents, site, now)
    newest = {frozen.cloud: frozen for frozen in closing.all_revisions(month, clouds, documents)}
    rows = [_row(row, newest.get(row["cloud"]), site) for row in whole["clouds"]]
    return {
        "state": whole["state"],
        "revision": whole["revision"],
        "table": rows,
        "totals": _totals(rows),
        "comparison": _comparison(rows, reconciliation.scheduled_core_hours(month, documents), clouds),
        "definitions": [
            {"name": name, "text": text, "unit": UNITS.get(name, "count")}
            for name, text in {**TOTALS, "price_per_hs23_hour": PRICE}.items()
        ],
        "choices": {"cloud": [row["cloud"] for row in rows]},
    }


def statement_series(month: str, clouds: Sequence[str], documents: Documents) -> dict[str, Any]:
    """Return the core hours of each day and cloud, of a month and of the month before."""
    documents.refresh()
    before = month_of(month_start_at(month) - DAY)
    return {"series": _days(month, clouds, documents), "previous_series": _days(before, clouds, documents)}


def _row(row: Mapping[str, Any], frozen: Frozen | None, site: Site) -> dict[str, Any]:
    """Return a row with who owns the cloud, whom to ask, and what the newest revision changed."""
    owner, contact = (
        (frozen.owner, frozen.contact) if frozen else (site.cloud(row["cloud"]).owner, site.operator.contact)
    )
    return {
        **row,
        "closed_at": frozen.closed_at if frozen else None,
        "owner": owner,
        "contact": contact,
        **rounded({"price_per_hs23_hour": _price_per_hs23_hour(row)}),
        "changes": frozen.changes if frozen else None,
    }


def _price_per_hs23_hour(row: Mapping[str, Any]) -> float | None:
    cost, scored = row["cost"], row["scored_core_hours"]
    if cost is None or not scored or not row["hs23_hours"] or not row["core_hours"]:
        return None
    price: float = float(cost) * scored / row["core_hours"] / row["hs23_hours"]
    return price


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the rows; amounts of money only where all are of one currency."""
    sums = {name: sum(row[name] or 0 for row in rows) for name in SUMS}
    known = {name: [row[name] for row in rows] for name in (*WHOLE_SUMS, "hs23_hours")}
    whole: dict[str, Any] = {
        name: sum(known[name]) if rows and None not in known[name] else None for name in WHOLE_SUMS
    }
    hs23_hours = [value for value in known["hs23_hours"] if value is not None]
    currencies = {row["currency"] for row in rows}
    currency = currencies.pop() if len(currencies) == 1 else None
    whole["cost"] = None if currency is None else whole["cost"]
    return rounded(
        sums
        | whole
        | {
            "efficiency": ratio(sums["cpu_hours"], sums["core_hours"]),
            "hs23_hours": sum(hs23_hours) if hs23_hours else None,
            "currency": currency,
        }
    )


def _comparison(
    rows: Sequence[Mapping[str, Any]], scheduled: Mapping[str, float | None], clouds: Sequence[str]
) -> list[dict[str, Any]]:
    """Set the core hours of each cloud beside those of its vms' lives as the scheduler reported them."""
    ours = {row["cloud"]: row["core_hours"] for row in rows}
    named = ours.keys() | {cloud for cloud in scheduled if not clouds or cloud in clouds}
    return [rounded(_difference(cloud, ours.get(cloud), scheduled.get(cloud))) for cloud in sorted(named)]


def _difference(cloud: str, ours: float | None, scheduler: float | None) -> dict[str, Any]:
    difference = None if scheduler is None else (ours or 0.0) - scheduler
    return {
        "cloud": cloud,
        "our_core_hours": ours,
        "scheduler_core_hours": scheduler,
        "difference_core_hours": difference,
        "difference_share": ratio(difference, scheduler) if scheduler and difference is not None else None,
    }


def _days(month: str, clouds: Sequence[str], documents: Documents) -> list[dict[str, Any]]:
    shown = month_window(month)
    query = Query(
        index="interval",
        from_at=shown.from_at,
        until_at=shown.until_at,
        where={"cloud": clouds} if clouds else {},
        by=("cloud",),
        sums=CORE_HOURS.sums,
    )
    return [
        {
            "at": iso(row["at"]),
            "until": iso(step_end(row["at"], shown)),
            "cloud": row["cloud"],
            "core_hours": CORE_HOURS.value(row),
        }
        for row in documents.series(query, DAY)
    ]
