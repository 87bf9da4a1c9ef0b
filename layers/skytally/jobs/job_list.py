"""The jobs of a month, one row each."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from skytally.core.documents import Job
from skytally.core.months import month_end_at, month_start_at
from skytally.core.ports import Documents
from skytally.core.records import iso

FIELDS = (
    *(
        "system",
        "job_id",
        "task_id",
        "parent_job_id",
        "attempt",
        "queue",
        "site",
        "status",
        "substatus",
        "application_status",
    ),
    *("cloud", "vm", "joined_by", "batch_id", "host", "created_at", "started_at", "ended_at", "final_at", "cores"),
    *(
        "wall_ms",
        "cpu_ms",
        "core_ms",
        "wasted_core_ms",
        "max_pss_bytes",
        "work_folder_bytes",
        "input_bytes",
        "output_bytes",
    ),
    *("transformation", "processing_type", "input_type", "output_type", "release"),
    *("error", "error_component", "error_category", "error_message", "doubt"),
)
COLUMNS = tuple(name.replace("_ms", "_seconds") for name in FIELDS)


def job_rows(month: str, clouds: Sequence[str], documents: Documents) -> Iterator[dict[str, Any]]:
    """Return the jobs that became final in a month, of some clouds or of all, in the order of their final times.

    Times are UTC, durations seconds. What is not known is None, including the CPU time of a job whose source has none.
    """
    documents.refresh()
    span = month_start_at(month), month_end_at(month)
    for _, job in documents.during("job", Job, "final_at", span, {"cloud": clouds} if clouds else {}):
        yield dict(zip(COLUMNS, (_value(job, name) for name in FIELDS), strict=True))


def _value(job: Job, name: str) -> Any:
    value = getattr(job, name)
    if name == "cpu_ms" and job.core_ms and not job.core_ms_with_cpu:
        return None
    if name.endswith("_ms"):
        return value / 1_000
    return iso(value) if isinstance(value, datetime) else value
