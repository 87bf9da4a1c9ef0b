"""The jobs view: what became of payloads, by cloud and status and whatever else tells faulty clouds from faulty work.

A job belongs to the window in which it became final. What is not final yet is shown as it is now, where the window
reaches until now.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from skytally.accounting.measures import JOB_SUMS, JOBS
from skytally.accounting.statement_rows import hours, ratio
from skytally.core.documents import Job
from skytally.core.errors import Malformed
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.dashboard.time_range import Window, step_end
from skytally.dashboard.usage_view import frame
from skytally.dashboard.window_boots import Where

DISPLAYS = {
    "cloud": ("cloud", "status"),
    "vm": ("cloud", "vm", "status"),
    "error": ("cloud", "error_category", "error", "error_message"),
    "kind": ("processing_type", "transformation", "input_type", "output_type", "status"),
    "release": ("release", "status"),
    "cores": ("multicore", "status"),
    "queue": ("queue", "status"),
    "task": ("task_id", "transformation", "status"),
    "job": ("system", "job_id"),
}
FILTERS = ("cloud", "site", "vm", "system", "queue", "error", "release")
# What is told of a single job, beside its sums.
TOLD = ("cloud", "vm", "queue", "status", "error", "error_message", "task_id", "doubt")
MOST_JOBS = 10_000
SPENT = ("count", "wall_ms", "core_ms", "cpu_ms", "core_ms_with_cpu", "wasted_core_ms")
MEANS = ("max_pss_bytes", "work_folder_bytes", "input_bytes", "output_bytes")
# What no source has named for so long is not known to run any more.
SEEN_WITHIN = timedelta(hours=6)
STILL_NOW = timedelta(minutes=5)


def jobs_view(shown: Window, where: Where, by: str, documents: Documents, now: datetime) -> dict[str, Any]:
    """Return a row for each combination of a display's dimensions,
    or for each job; their totals, and what they do not know.
    """
    documents.refresh()
    ended = _ended(shown, where)
    rows = documents.table(
        structs.replace(ended, by=DISPLAYS[by], sums=(*SPENT, *MEANS, *(f"count:{name}" for name in MEANS)))
    )
    rows += _open(ended, DISPLAYS[by], documents, now) if shown.until_at >= now - STILL_NOW else []
    table = [_measures(key, group) for key, group in _merged(DISPLAYS[by], rows)]
    places = documents.table(structs.replace(ended, by=("cloud", "site", "queue", "doubt"), sums=("count",)))
    return frame("jobs", shown, now) | {
        "table": _single(table, documents) if by == "job" else table,
        "coverage": _placed_share(places),
        "totals": _measures({}, rows),
        "doubts": _doubts(places),
        "choices": {name: sorted({row[name] for row in places} - {None}) for name in ("cloud", "site", "queue")},
    }


def jobs_series(shown: Window, where: Where, documents: Documents) -> list[dict[str, Any]]:
    """Return a point per step and cloud, of jobs that ended."""
    documents.refresh()
    return [
        _point(row, shown) for row in documents.series(structs.replace(_ended(shown, where), by=("cloud",)), shown.step)
    ]


def _ended(shown: Window, where: Where) -> Query:
    return Query(
        index="job", moment="final_at", from_at=shown.from_at, until_at=shown.until_at, where=where, sums=SPENT
    )


def _single(table: list[dict[str, Any]], documents: Documents) -> list[dict[str, Any]]:
    """Tell of each job what is known of it; raises Malformed where they are more than anybody reads."""
    if len(table) > MOST_JOBS:
        raise Malformed(f"these are more than {MOST_JOBS} jobs: name a vm, an error or a shorter window", field="by")
    found = documents.get_many("job", [f"{row['system']}/{row['job_id']}" for row in table], Job)
    return [_told(row, job) for row, job in zip(table, found, strict=True)]


def _told(row: dict[str, Any], job: Job | None) -> dict[str, Any]:
    times = {
        name: iso(getattr(job, name)) if job and getattr(job, name) else None
        for name in ("started_at", "ended_at", "final_at")
    }
    key = {"system": row["system"], "job_id": row["job_id"]}
    return (
        key | {name: getattr(job, name, None) for name in TOLD} | times | {n: v for n, v in row.items() if n not in key}
    )


def _open(ended: Query, by: Sequence[str], documents: Documents, now: datetime) -> list[Row]:
    """Return the jobs that are not final: an error that they may already have does not count yet."""
    if "error" in by:
        return []
    query = structs.replace(
        ended, moment="seen_at", missing="final_at", from_at=now - SEEN_WITHIN, until_at=now + timedelta(days=1)
    )
    return documents.table(structs.replace(query, by=tuple(by)))


def _merged(by: Sequence[str], rows: list[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Bring ended and open jobs of the same dimensions together, in order."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    for key in sorted(groups, key=lambda key: tuple((part is not None, str(part)) for part in key)):
        yield dict(zip(by, key, strict=True)), groups[key]


def _measures(key: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    total = {name: sum(row.get(name) or 0 for row in rows) for name in JOB_SUMS}
    named = {**key, "multicore": bool(key["multicore"])} if "multicore" in key else key
    return named | {measure.name: measure.value(total) for measure in JOBS}


def _point(row: Row, shown: Window) -> dict[str, Any]:
    return {
        "at": iso(row["at"]),
        "until": iso(step_end(row["at"], shown)),
        "cloud": row["cloud"],
        "job_count": row["count"],
        "core_hours": hours(row["core_ms"]),
        "wasted_core_hours": hours(row["wasted_core_ms"]),
    }


def _placed_share(places: list[Row]) -> float | None:
    """Return the share of the ended jobs whose cloud is known."""
    placed = sum(row["count"] for row in places if row["cloud"] != "unknown")
    return ratio(placed, sum(row["count"] for row in places))


def _doubts(places: list[Row]) -> list[dict[str, Any]]:
    """Count the ended jobs whose cloud nobody knows, and those whose times cannot be."""
    counts = {
        "unknown_cloud": sum(row["count"] for row in places if row["cloud"] == "unknown"),
        "impossible_times": sum(row["count"] for row in places if row["doubt"] is not None),
    }
    return [{"kind": kind, "job_count": count} for kind, count in counts.items() if count]
