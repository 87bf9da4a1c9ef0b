"""The jobs view: what became of payloads, by cloud and whatever else tells faulty clouds from faulty work.

A job belongs to the window in which it became final. What is not final yet is shown as it is now, where the window
reaches until now.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from skytally.accounting.measures import FAILED_SHARE, JOB_SUMS, JOBS, JOBS_PLOTTED
from skytally.accounting.statement_rows import ratio
from skytally.core.job_outcomes import OTHER, STATUSES, outcome_of
from skytally.core.ports import Documents, Query, Row
from skytally.core.records import iso
from skytally.dashboard.job_details import detailed
from skytally.dashboard.paging import LazyRows
from skytally.dashboard.time_range import Window, step_end
from skytally.dashboard.usage_view import frame
from skytally.dashboard.window_boots import Where

DISPLAYS = {
    "cloud": ("cloud",),
    "vm": ("cloud", "vm"),
    "queue": ("queue",),
    "site": ("cloud", "site"),
    "task": ("task_id", "transformation"),
    "release": ("release",),
    "kind": ("processing_type", "transformation", "input_type", "output_type"),
    "cores": ("multicore",),
    "error": ("cloud", "error_category", "error", "error_message"),
    "status": ("cloud", "status"),
    "job": ("system", "job_id"),
}
FILTERS = ("cloud", "site", "vm", "system", "queue", "error", "release", "status", "task")
SPENT = ("count", "wall_ms", "core_ms", "cpu_ms", "core_ms_with_cpu", "wasted_core_ms")
MEANS = ("max_pss_bytes", "work_folder_bytes", "input_bytes", "output_bytes")
# What no source has named for so long is not known to run any more.
SEEN_WITHIN = timedelta(hours=6)
STILL_NOW = timedelta(minutes=5)


def jobs_view(
    shown: Window, where: Where, by: str, documents: Documents, panda_url: str, now: datetime
) -> dict[str, Any]:
    """Return a row for each combination of a display's dimensions, or for each job, the worst first;
    their totals, and what they do not know.
    """
    documents.refresh()
    dimensions, ended = DISPLAYS[by], ended_jobs(shown, where)
    sums = (*SPENT, *MEANS, *(f"count:{name}" for name in MEANS))
    rows = by_outcome(documents.table(structs.replace(ended, by=_with_status(dimensions), sums=sums)), is_final=True)
    if shown.until_at >= now - STILL_NOW:
        rows += _open(ended, where, dimensions, documents, now)
    groups = list(_merged(dimensions, rows))
    places = documents.table(structs.replace(ended, by=("cloud", "site", "queue", "doubt"), sums=("count",)))
    return frame("jobs", shown, now) | {
        "table": detailed([_measures(key, group) for key, group in groups], documents, panda_url)
        if by == "job"
        else _worst_first(groups),
        "coverage": _placed_share(places),
        "totals": _measures({}, rows),
        "doubts": _doubts(places),
        "choices": {name: sorted({row[name] for row in places} - {None}) for name in ("cloud", "site", "queue")},
    }


def jobs_series(shown: Window, where: Where, documents: Documents) -> list[dict[str, Any]]:
    """Return a point per step and cloud, of jobs that ended."""
    documents.refresh()
    steps = documents.series(structs.replace(ended_jobs(shown, where), by=("cloud", "status")), shown.step)
    return [_point(key, rows, shown) for key, rows in _merged(("at", "cloud"), by_outcome(steps, is_final=True))]


def ended_jobs(shown: Window, where: Where) -> Query:
    """Return the query for the jobs that ended in a window."""
    status = _status(where)
    return Query(
        index="job",
        moment="final_at",
        from_at=shown.from_at,
        until_at=shown.until_at,
        where=_fields(where) | ({"status": STATUSES.get(status, (status,))} if status else {}),
        sums=SPENT,
    )


def _open(ended: Query, where: Where, dimensions: Sequence[str], documents: Documents, now: datetime) -> list[Row]:
    """Return the jobs that are not final: an error that they may already have does not count yet."""
    status = _status(where)
    if "error" in dimensions:
        return []
    query = structs.replace(
        ended,
        by=_with_status(dimensions),
        moment="seen_at",
        missing="final_at",
        from_at=now - SEEN_WITHIN,
        until_at=now + timedelta(days=1),
        where=_fields(where) | ({"status": (status,)} if status and status != OTHER else {}),
    )
    return by_outcome(documents.table(query), is_final=False)


def _fields(where: Where) -> dict[str, Sequence[str]]:
    """Return what filters other than the status hold fields to."""
    return {"task_id" if name == "task" else name: values for name, values in where.items() if name != "status"}


def _status(where: Where) -> str | None:
    """Return the outcome, or the source's own status, that jobs are held to."""
    return next(iter(where.get("status", ())), None)


def _with_status(dimensions: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*dimensions, "status")))


def by_outcome(rows: list[Row], *, is_final: bool) -> list[Row]:
    """Count the jobs of each row under their outcome too."""
    return [row | {f"{outcome_of(row['status'], is_final=is_final)}_count": row["count"]} for row in rows]


def _merged(by: Sequence[str], rows: list[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Bring rows of the same dimensions together, in order."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in by)].append(row)
    for key in sorted(groups, key=lambda key: tuple((part is not None, str(part)) for part in key)):
        yield dict(zip(by, key, strict=True)), groups[key]


def _worst_first(groups: Sequence[tuple[dict[str, Any], list[Row]]]) -> LazyRows:
    """Order rows by the share that failed, what has none last, then by their jobs;
    errors by their jobs alone, and what has no error last.
    """

    def order(group: tuple[dict[str, Any], list[Row]]) -> tuple[bool, float, int]:
        key, rows = group
        counts = {name: sum(row.get(name) or 0 for row in rows) for name in FAILED_SHARE.terms}
        job_count = sum(row["count"] for row in rows)
        if "error" in key:
            return key["error"] is None, 0, -job_count
        share = FAILED_SHARE.value(counts)
        return share is None, -(share or 0), -job_count

    ordered = sorted(groups, key=order)
    return LazyRows([key for key, _ in ordered], lambda at: _measures(*ordered[at]))


def _total(rows: list[Row]) -> dict[str, Any]:
    return {name: sum(row.get(name) or 0 for row in rows) for name in JOB_SUMS}


def _measures(key: dict[str, Any], rows: list[Row]) -> dict[str, Any]:
    total = _total(rows)
    named = {**key, "multicore": bool(key["multicore"])} if "multicore" in key else key
    return named | {measure.name: measure.value(total) for measure in JOBS}


def _point(key: dict[str, Any], rows: list[Row], shown: Window) -> dict[str, Any]:
    total = _total(rows)
    moments = {"at": iso(key["at"]), "until": iso(step_end(key["at"], shown))}
    return moments | {"cloud": key["cloud"]} | {measure.name: measure.value(total) for measure in JOBS_PLOTTED}


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
