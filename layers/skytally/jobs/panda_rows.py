"""PanDA: BigPanDA's rows as job documents, and time slices that no limit cuts short.

Times are naive UTC and memory sizes kB; numbers may come as text. Only its status makes a job final: endtime is set
earlier, and archiving sets it even for a job that never started. A final job's modificationtime does not change, so it
is the time when the job became final. A late report of the batch system changes statechangetime, and with it the
document's version. An impossible value, such as a time in the future, counts as missing.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct, structs

from skytally.core.documents import Job
from skytally.core.errors import Malformed, Misconfigured, Unavailable
from skytally.core.timestamps import ms_between, ms_of_seconds
from skytally.jobs.batch_id import host_of, number_of
from skytally.jobs.foreign_values import AHEAD, identity, moment, number, whole_number, word
from skytally.jobs.panda_errors import COMPONENTS, error_of
from skytally.jobs.placement_join import UNKNOWN

WELL = ("finished", "subfinished")
FINAL = ("finished", "failed", "cancelled", "closed")
UNFINISHED = ("failed", "cancelled", "closed")
ACTIVE = ("running", "holding", "transferring", "merging", "starting")
FIELDS = (
    *(
        "pandaid",
        "jeditaskid",
        "parentid",
        "attemptnr",
        "computingsite",
        "jobstatus",
        "jobsubstatus",
        "batchid",
        "pilotid",
        "modificationhost",
        "wn",
    ),
    *(
        "creationtime",
        "starttime",
        "endtime",
        "modificationtime",
        "statechangetime",
        "durationsec",
        "corecount",
        "actualcorecount",
    ),
    *(
        "cpuconsumptiontime",
        "maxpss",
        "jobmetrics",
        "inputfilebytes",
        "outputfilebytes",
        "inputfiletype",
        "outputfiletype",
    ),
    *("transformation", "processingtype", "homepackage", "atlasrelease"),
    *(
        f"{column}{end}"
        for column in COMPONENTS.values()
        for end in ("code", "diag")
        if f"{column}{end}" != "transexitdiag"
    ),
)
LIMIT, RAISED_LIMIT = 5_000, 50_000
TIME_PARTS = 8
SECOND = timedelta(seconds=1)
# A larger number is nonsense, and sums of it would not be exact.
MAX_SECONDS, MAX_CORES, MAX_BYTES, MAX_ATTEMPT = 10**8, 10**4, 10**13, 10**6
MAX_URL = 500
# No user and no password, no blanks, no quotes.
_LOG_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~:/?#\[\]!$&()*+,;=%@-]*)?")
_WORK_FOLDER = re.compile(r"\bworkDirSize=(\d{1,13})\b", re.ASCII)


def queues_of(setting: str) -> tuple[str, ...]:
    """Return the queues' names, each once; raise Misconfigured without any."""
    queues = tuple(dict.fromkeys(queue.strip() for queue in setting.split(",") if queue.strip()))
    if not queues:
        raise Misconfigured.setting("SKYTALLY_PANDA_QUEUES", "names no queue")
    return queues


class Slice(Struct, frozen=True, kw_only=True):
    """One request: jobs of which a time lies between two seconds, both included."""

    queues: tuple[str, ...]
    statuses: tuple[str, ...]
    from_at: datetime
    until_at: datetime
    limit: int = LIMIT
    moment: str = "modificationtime"


class JobRows(Protocol):
    """A source of PanDA jobs as unchecked rows."""

    def rows(self, request: Slice) -> list[Any]:
        """Return a slice's rows; `limit` rows or more may have been cut short. Raise Unavailable without an answer."""


def whole(source: JobRows, request: Slice) -> Iterator[tuple[Slice, list[Any]]]:
    """Return all rows of a slice in as many parts as needed, earlier ones first; an answer at the limit never counts.

    Raise Unavailable if one second of one queue and status has more rows than any limit allows.
    """
    rows = source.rows(request)
    if len(rows) < request.limit:
        yield request, rows
        return
    for part in _parts(request, rows):
        yield from whole(source, part)


def _parts(request: Slice, rows: list[Any]) -> list[Slice]:
    """Return the parts of a slice: by time, unless most rows ignore the time; else by status, queue or higher limit."""
    outside = sum(not _inside(request, row) for row in rows)
    if request.until_at > request.from_at and (outside < len(rows) // 2 or len(request.statuses) == 1):
        return _parts_by_time(request)
    if len(request.statuses) > 1:
        return [structs.replace(request, statuses=(status,)) for status in request.statuses]
    if len(request.queues) > 1:
        return [structs.replace(request, queues=(queue,)) for queue in request.queues]
    if request.limit < RAISED_LIMIT:
        return [structs.replace(request, limit=RAISED_LIMIT)]
    raise Unavailable(
        f"PanDA has more than {RAISED_LIMIT} jobs in one second of {request.queues[0]}: they cannot be collected whole"
    )


def _parts_by_time(request: Slice) -> list[Slice]:
    """Return the parts of a slice by time; there are many, since a round may have time for few."""
    length = (request.until_at - request.from_at) // TIME_PARTS // SECOND * SECOND
    parts, begin = [], request.from_at
    while begin <= request.until_at:
        end = min(begin + length, request.until_at)
        parts.append(structs.replace(request, from_at=begin, until_at=end))
        begin = end + SECOND
    return parts


def across_archive(source: JobRows, request: Slice) -> list[Any]:
    """Return a slice's rows by one request, since not all of its parts would query the archive.

    Raise Unavailable if the answer may have been cut short.
    """
    rows = source.rows(request)
    if len(rows) < request.limit:
        return rows
    raise Unavailable(
        f"PanDA has more than {request.limit} jobs of {request.queues[0]} at its archive's edge: they cannot be "
        "collected whole"
    )


def _inside(request: Slice, row: Any) -> bool:
    at = moment(row.get(request.moment), request.until_at) if isinstance(row, Mapping) else None
    return at is not None and request.from_at <= at


def number_of_row(row: Any) -> int | None:
    """Return the number of a row's job, or None."""
    return identity(row.get("pandaid")) if isinstance(row, Mapping) else None


def queue_of_row(row: Any) -> str | None:
    """Return the queue that a row names, or None."""
    return word(row.get("computingsite")) if isinstance(row, Mapping) else None


def job(row: Any, seen_at: datetime) -> Job:
    """Return the job of a row; raise Malformed for one without a number or a time of change."""
    panda_id, latest = number_of_row(row), seen_at + AHEAD
    if panda_id is None:
        raise Malformed("pandaid is no whole number above zero")
    modified_at = moment(row.get("modificationtime"), latest)
    if modified_at is None:
        raise Malformed("modificationtime is no time until now")
    status = word(row.get("jobstatus")) or "unknown"
    is_final = status in FINAL or status in WELL
    started_at, ended_at = moment(row.get("starttime"), latest), moment(row.get("endtime"), latest)
    batch_id = word(row.get("batchid"))
    is_wasted = is_final and status not in WELL
    effort = _effort(row, started_at, ended_at, is_wasted=is_wasted)
    error = error_of(row) if is_wasted or status == "holding" else None
    return Job(
        system="panda",
        job_id=str(panda_id),
        task_id=_id(row.get("jeditaskid")),
        parent_job_id=_id(row.get("parentid")),
        attempt=_at_most(MAX_ATTEMPT, row.get("attemptnr")),
        queue=word(row.get("computingsite")),
        status=status,
        substatus=word(row.get("jobsubstatus")),
        cloud=UNKNOWN,
        batch_id=batch_id,
        batch_number=None if batch_id is None else number_of(batch_id),
        host=_host(row) if started_at else None,
        created_at=moment(row.get("creationtime"), latest),
        started_at=started_at,
        ended_at=ended_at if started_at else None,
        changed_at=max(modified_at, moment(row.get("statechangetime"), latest) or modified_at),
        final_at=modified_at if is_final else None,
        seen_at=seen_at,
        multicore=(whole_number(row.get("corecount")) or 1) > 1,
        max_pss_bytes=_kilobytes(row.get("maxpss")),
        work_folder_bytes=_work_folder(row.get("jobmetrics")),
        input_bytes=_at_most(MAX_BYTES, row.get("inputfilebytes")),
        output_bytes=_at_most(MAX_BYTES, row.get("outputfilebytes")),
        transformation=_last_part(row.get("transformation")),
        processing_type=word(row.get("processingtype")),
        input_type=word(row.get("inputfiletype")),
        output_type=word(row.get("outputfiletype")),
        release=word(row.get("homepackage")) or word(row.get("atlasrelease")),
        log_url=_log_url(row.get("pilotid")),
        cores=effort.cores,
        wall_ms=effort.wall_ms,
        cpu_ms=effort.cpu_ms,
        core_ms=effort.core_ms,
        core_ms_with_cpu=effort.core_ms_with_cpu,
        wasted_core_ms=effort.wasted_core_ms,
        doubt=effort.doubt,
        error=error.name if error else None,
        error_component=error.component if error else None,
        error_category=error.category if error else None,
        error_message=error.message if error else None,
        error_raw=error.raw if error else None,
    )


class Effort(Struct, frozen=True):
    """A job's resource use in whole milliseconds, and what is impossible about it."""

    cores: int
    wall_ms: int
    cpu_ms: int
    core_ms: int
    core_ms_with_cpu: int
    wasted_core_ms: int
    doubt: str | None


def _effort(
    row: Mapping[str, Any], started_at: datetime | None, ended_at: datetime | None, *, is_wasted: bool
) -> Effort:
    cores = min(max(1, whole_number(row.get("actualcorecount")) or whole_number(row.get("corecount")) or 1), MAX_CORES)
    if started_at is None:
        return Effort(cores, 0, 0, 0, 0, 0, None)
    wall_ms = ms_of_seconds(min(max(0.0, _wall_seconds(row, started_at, ended_at)), MAX_SECONDS))
    cpu_ms = ms_of_seconds(number(row.get("cpuconsumptiontime")) or 0.0)
    fault = _doubt(wall_ms, cpu_ms, cores, started_at, ended_at)
    core_ms = 0 if fault == "ends before it begins" else wall_ms * cores
    valid_cpu_ms = cpu_ms if cpu_ms > 0 and fault is None else 0
    return Effort(
        cores, wall_ms, valid_cpu_ms, core_ms, core_ms if valid_cpu_ms else 0, core_ms if is_wasted else 0, fault
    )


def _wall_seconds(row: Mapping[str, Any], started_at: datetime, ended_at: datetime | None) -> float:
    duration_seconds = number(row.get("durationsec"))
    if duration_seconds is not None:
        return duration_seconds
    return ms_between(started_at, ended_at) / 1_000 if ended_at else 0.0


def _doubt(wall_ms: int, cpu_ms: int, cores: int, started_at: datetime, ended_at: datetime | None) -> str | None:
    if ended_at is not None and ended_at < started_at:
        return "ends before it begins"
    if cpu_ms < 0:
        return "negative CPU time"
    if cpu_ms > 2 * wall_ms * cores:
        return "more CPU time than its cores have"
    return None


def _host(row: Mapping[str, Any]) -> str | None:
    for name in ("modificationhost", "wn"):
        host = word(row.get(name))
        if host and host != "Unknown":
            return host_of(host)
    return None


def _log_url(value: Any) -> str | None:
    """Return the address of the pilot's log, which is the first part of the pilot's id; None for what is none."""
    url = value.partition("|")[0] if isinstance(value, str) else ""
    return url if len(url) <= MAX_URL and _LOG_URL.fullmatch(url) else None


def _kilobytes(value: Any) -> int | None:
    kilobytes = _at_most(MAX_BYTES // 1_024, value)
    return kilobytes * 1_024 if kilobytes else None


def _at_most(maximum: int, value: Any) -> int | None:
    """Return a whole number from 0 to a maximum, or None."""
    count = whole_number(value)
    return count if count is not None and 0 <= count <= maximum else None


def _work_folder(value: Any) -> int | None:
    match = _WORK_FOLDER.search(value) if isinstance(value, str) else None
    return int(match[1]) if match else None


def _last_part(value: Any) -> str | None:
    path = word(value)
    return path.rstrip("/").rpartition("/")[2] or None if path else None


def _id(value: Any) -> str | None:
    identifier = whole_number(value)
    return str(identifier) if identifier else None
