"""The overview: whether anything is broken, and where.

A row a cloud of the last hour, with what is open of it; the failed share of the last day by hour; open alarms; and what
of skytally itself fails or is late. Every number is a sum that the stores add up, so that it takes as long for ten
thousand vms as for ten.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, structs

from skytally.accounting.measures import CORE_HOURS, CPU_HOURS, EFFICIENCY
from skytally.accounting.statement_rows import SILENT_AFTER, ratio
from skytally.alarms.job_checks import FAILED, WELL
from skytally.core import unreadable
from skytally.core.concurrently import concurrently
from skytally.core.documents import Alarm
from skytally.core.errors import Unavailable
from skytally.core.ports import Documents, Objects, Query, Row
from skytally.core.records import iso
from skytally.core.unreadable import Notes
from skytally.dashboard import alarm_view, health_view
from skytally.dashboard.fleet import NOT_KNOWN, Fleet, fleets
from skytally.dashboard.time_range import Window, step_end
from skytally.secrets import audit

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOST_ALARMS, MOST_SECRETS = 100, 300
USAGE_SUMS = ("core_ms", "user_ms", "nice_ms", "system_ms")
HOURS = (CORE_HOURS, CPU_HOURS, EFFICIENCY)
Where = Mapping[str, Sequence[str]]


class Sources(Struct, frozen=True, kw_only=True):
    """What the overview reads; `off` names the timers that have nothing to do."""

    documents: Documents
    objects: Objects
    notes: Notes
    off: Collection[str]


class JobCounts(Struct):
    """Jobs that ended: how many, and what became of them."""

    job_count: int = 0
    finished_count: int = 0
    failed_count: int = 0

    def add(self, row: Row) -> None:
        """Count the jobs of a row by status."""
        self.job_count += row["count"]
        self.finished_count += row["count"] if row["status"] in WELL else 0
        self.failed_count += row["count"] if row["status"] in FAILED else 0

    @property
    def failed_share(self) -> float | None:
        """The share of failed jobs among those that finished or failed."""
        return ratio(self.failed_count, self.finished_count + self.failed_count)


class CloudHour(Struct):
    """What is known of a cloud's last hour."""

    usage: dict[str, float]
    jobs: JobCounts
    fleet: Fleet
    errors: list[Row]


def overview(shown: Window, clouds: Sequence[str], sources: Sources, now: datetime) -> dict[str, Any]:
    """Return the table of clouds, worst first, the open alarms, what is late, and totals.

    Worst is the cloud with the most open alarms, then with the highest failed share, then with most of its vms silent.
    """
    documents = sources.documents
    documents.refresh()
    hours, booting = concurrently(
        lambda: _hours(shown, clouds, documents), lambda: _booting(clouds, sources, shown.until_at)
    )
    alarms = alarm_view.open_alarms(clouds, documents)
    complete = _complete(hours, booting, alarms)
    if now - shown.until_at > SILENT_AFTER:
        # A month's document goes on with its boot: what vms were doing then is not kept.
        booting = None
        for hour in complete.values():
            hour.fleet = NOT_KNOWN
    timers, sources_ = health_view.timer_rows(sources.off, documents, now), health_view.source_rows(documents)
    counts = [count for count, _ in unreadable.met_by_source(documents, now)]
    return {
        "table": sorted((_row(cloud, hour, booting, alarms) for cloud, hour in complete.items()), key=_worst_first),
        "alarms": [alarm_view.open_alarm_row(alarm) for alarm in alarms[:MOST_ALARMS]],
        "late": health_view.late(timers, sources_, now),
        "totals": {
            "open_alarms": len(alarms),
            **health_view.totals_of(timers, sources_, counts),
            **_totals(complete.values()),
        },
        "coverage": None,
        "doubts": [],
        "choices": {"cloud": sorted(hours)},
    }


def overview_series(shown: Window, clouds: Sequence[str], documents: Documents) -> list[dict[str, Any]]:
    """Return a point per hour of the day before the window's end and cloud, of jobs that ended."""
    documents.refresh()
    day = structs.replace(shown, from_at=shown.until_at - DAY)
    counts: dict[tuple[datetime, str], JobCounts] = defaultdict(JobCounts)
    for row in documents.series(_ended(day, clouds), HOUR):
        counts[row["at"], row["cloud"]].add(row)
    return [
        {
            "at": iso(at),
            "until": iso(step_end(at, day)),
            "cloud": cloud,
            "finished_count": jobs.finished_count,
            "failed_count": jobs.failed_count,
            "failed_share": jobs.failed_share,
        }
        for (at, cloud), jobs in sorted(counts.items())
    ]


def _of(clouds: Sequence[str]) -> Where:
    return {"cloud": clouds} if clouds else {}


def _ended(shown: Window, clouds: Sequence[str]) -> Query:
    return Query(
        index="job",
        moment="final_at",
        from_at=shown.from_at,
        until_at=shown.until_at,
        where=_of(clouds),
        by=("cloud", "status"),
        sums=("count",),
    )


def _hours(shown: Window, clouds: Sequence[str], documents: Documents) -> dict[str, CloudHour]:
    """Add up the window by cloud."""
    where, ended = _of(clouds), _ended(shown, clouds)
    intervals = Query(
        index="interval", from_at=shown.from_at, until_at=shown.until_at, where=where, by=("cloud",), sums=USAGE_SUMS
    )
    errors = structs.replace(ended, where={**where, "status": FAILED}, by=("cloud", "error", "error_message"))
    (usage, fleet), (jobs, failed) = concurrently(
        lambda: (documents.table(intervals), fleets(shown.until_at, where, documents)),
        lambda: (documents.table(ended), documents.table(errors)),
    )
    hours: dict[str, CloudHour] = defaultdict(_nothing)
    for row in usage:
        hours[row["cloud"]].usage = row
    for row in jobs:
        hours[row["cloud"]].jobs.add(row)
    for row in failed:
        hours[row["cloud"]].errors += [row] if row["error"] is not None else []
    for cloud, vms in fleet.items():
        hours[cloud].fleet = vms
    return hours


def _nothing() -> CloudHour:
    return CloudHour(dict.fromkeys(USAGE_SUMS, 0), JobCounts(), Fleet(), [])


def _booting(clouds: Sequence[str], sources: Sources, now: datetime) -> Counter[str] | None:
    """Count the vms that boot, by cloud; None where that takes long, or where the object store is away."""
    try:
        booting = audit.booting(sources.objects, sources.documents, now, sources.notes, MOST_SECRETS)
    except Unavailable:
        return None
    return None if booting is None else Counter(cloud for cloud, _ in booting if not clouds or cloud in clouds)


def _complete(
    hours: Mapping[str, CloudHour], booting: Counter[str] | None, alarms: Sequence[Alarm]
) -> dict[str, CloudHour]:
    """Return every cloud of which anything is known now."""
    others = {*(booting or ()), *(alarm.cloud for alarm in alarms if alarm.cloud)}
    return {**hours, **{cloud: _nothing() for cloud in others - hours.keys()}}


def _row(cloud: str, hour: CloudHour, booting: Counter[str] | None, alarms: Sequence[Alarm]) -> dict[str, Any]:
    error = max(hour.errors, key=lambda row: row["count"], default=None)
    return {
        "cloud": cloud,
        "reporting_vms": hour.fleet.reporting,
        "silent_vms": hour.fleet.silent,
        "booting_vms": None if booting is None else booting[cloud],
        **{measure.name: measure.value(hour.usage) for measure in HOURS},
        "job_count": hour.jobs.job_count,
        "finished_count": hour.jobs.finished_count,
        "failed_count": hour.jobs.failed_count,
        "failed_share": hour.jobs.failed_share,
        "commonest_error": error and error["error"],
        "commonest_error_message": error and error["error_message"],
        "commonest_error_count": error and error["count"],
        "open_alarms": sum(alarm.cloud == cloud for alarm in alarms),
    }


def _worst_first(row: dict[str, Any]) -> tuple[float, float, float, str]:
    silent, reporting = row["silent_vms"] or 0, row["reporting_vms"] or 0
    silent_share = ratio(silent, silent + reporting) or 0.0
    return -row["open_alarms"], -(row["failed_share"] or 0.0), -silent_share, row["cloud"]


def _totals(hours: Iterable[CloudHour]) -> dict[str, Any]:
    known = list(hours)
    jobs = JobCounts(**{name: sum(getattr(hour.jobs, name) for hour in known) for name in JobCounts.__struct_fields__})
    return {
        "reporting_vms": _sum_of_known(hour.fleet.reporting for hour in known),
        "silent_vms": _sum_of_known(hour.fleet.silent for hour in known),
        "core_hours": CORE_HOURS.value({"core_ms": sum(hour.usage["core_ms"] for hour in known)}),
        "job_count": jobs.job_count,
        "failed_count": jobs.failed_count,
        "failed_share": jobs.failed_share,
    }


def _sum_of_known(counts: Iterable[int | None]) -> int | None:
    """Return a sum; None where a part of it is not known."""
    parts = list(counts)
    return None if None in parts else sum(part for part in parts if part is not None)
