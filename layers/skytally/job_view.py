"""The jobs view: what became of payloads, by cloud and status and whatever else tells faulty clouds from faulty work.

A job belongs to the window in which it became final. What is not final yet is shown as it is now, where the window reaches until now.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from skytally.measure import JOB_SUMS, JOBS
from skytally.ports import Documents, Query, Row
from skytally.records import iso
from skytally.statement import hours, ratio
from skytally.view import Where, Window, frame, step_end

DISPLAYS = {
    "cloud": ("cloud", "status"),
    "vm": ("cloud", "vm", "status"),
    "error": ("cloud", "error_category", "error", "error_message"),
    "kind": ("processing_type", "transformation", "input_type", "output_type", "status"),
    "release": ("release", "status"),
    "cores": ("multicore", "status"),
    "queue": ("queue", "status"),
}
FILTERS = ("cloud", "site", "vm", "system", "queue")
SPENT = ("count", "wall_ms", "core_ms", "cpu_ms", "core_ms_with_cpu", "wasted_core_ms")
MEANS = ("max_pss_bytes", "work_folder_bytes", "input_bytes", "output_bytes")
# What no source has named for so long is not known to run any more.
SEEN_WITHIN = timedelta(hours=6)
STILL_NOW = timedelta(minutes=5)


def jobs_view(shown: Window, where: Where, by: str, documents: Documents, now: datetime) -> dict[str, Any]:
    """Answer a row for each combination of a display's dimensions, and a series per cloud of jobs that ended."""
    documents.refresh()
    ended = Query(index="job", moment="final_at", from_at=shown.from_at, until_at=shown.until_at, where=where, sums=SPENT)
    rows = documents.table(structs.replace(ended, by=DISPLAYS[by], sums=(*SPENT, *MEANS, *(f"count:{name}" for name in MEANS))))
    open_rows = _open(ended, DISPLAYS[by], documents, now) if shown.until_at >= now - STILL_NOW else []
    series = documents.series(structs.replace(ended, by=("cloud",)), shown.step)
    return frame("jobs", shown, now) | {
        "table": [_measures(key, group) for key, group in _merged(DISPLAYS[by], rows + open_rows)],
        "series": [_point(row, shown) for row in series],
        "coverage": _placed_share(ended, documents),
    }


def _open(ended: Query, by: Sequence[str], documents: Documents, now: datetime) -> list[Row]:
    """Answer the jobs that are not final: an error that they may already have does not count yet."""
    if "error" in by:
        return []
    query = structs.replace(ended, moment="seen_at", missing="final_at", from_at=now - SEEN_WITHIN, until_at=now + timedelta(days=1))
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
        "until": iso(min(step_end(row["at"], shown.step), shown.until_at)),
        "cloud": row["cloud"],
        "job_count": row["count"],
        "core_hours": hours(row["core_ms"]),
        "wasted_core_hours": hours(row["wasted_core_ms"]),
    }


def _placed_share(ended: Query, documents: Documents) -> float | None:
    """Answer the share of the ended jobs whose cloud is known."""
    rows = documents.table(structs.replace(ended, by=("cloud",), sums=("count",)))
    placed = sum(row["count"] for row in rows if row["cloud"] != "unknown")
    return ratio(placed, sum(row["count"] for row in rows))
