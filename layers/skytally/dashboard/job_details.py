"""Single jobs: what is known of each beside its sums, and where to read more of it."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from skytally.core.documents import Job
from skytally.core.errors import Malformed
from skytally.core.ports import Documents
from skytally.core.records import iso

MOST_JOBS = 10_000
KEY = ("system", "job_id")
# The columns of a single job, and the fields that they show.
FIELDS = {
    "cloud": "cloud",
    "vm": "vm",
    "queue": "queue",
    "status": "status",
    "error": "error",
    "error_message": "error_message",
    "error_raw": "error_raw",
    "task_id": "task_id",
    "batch_id": "batch_id",
    "cloud_known_by": "joined_by",
    "doubt": "doubt",
}
TIMES = ("started_at", "ended_at", "final_at")


def detailed(table: list[dict[str, Any]], documents: Documents, panda_url: str) -> list[dict[str, Any]]:
    """Return the rows of single jobs with what is known of each, those that ended last first.

    Raises Malformed where they are more than anybody reads.
    """
    if len(table) > MOST_JOBS:
        raise Malformed(f"these are more than {MOST_JOBS} jobs: name a vm, an error or a shorter window", field="by")
    jobs = documents.get_many("job", [f"{row['system']}/{row['job_id']}" for row in table], Job)
    rows = [_detailed(row, job, panda_url) for row, job in zip(table, jobs, strict=True)]
    return sorted(rows, key=lambda row: row["final_at"] or "", reverse=True)


def _detailed(row: dict[str, Any], job: Job | None, panda_url: str) -> dict[str, Any]:
    key = {name: row[name] for name in KEY}
    known = {column: getattr(job, field, None) for column, field in FIELDS.items()}
    times = {name: iso(getattr(job, name)) if job and getattr(job, name) else None for name in TIMES}
    measures = {name: value for name, value in row.items() if name not in key}
    return key | known | times | measures | {"links": list(_links(job, panda_url)) if job else []}


def _links(job: Job, panda_url: str) -> Iterator[dict[str, str]]:
    """Return the pages about a job: its monitor's, and its log."""
    if job.system == "panda" and panda_url and not urlsplit(panda_url).username:
        yield {"title": "BigPanDA", "url": f"{panda_url.rstrip('/')}/job/{job.job_id}/"}
    if job.log_url:
        yield {"title": "log", "url": job.log_url}
