"""DIRAC's answers, from DiracX or the classic command line: each job's row is read by itself.

A bad row costs only its own job. Invariant: a job counts as unknown to DIRAC only if every row of the answer names a
requested job.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from msgspec import structs

from skytally.core import batch
from skytally.core.errors import Malformed
from skytally.core.ports import JobState, UnreadState
from skytally.core.records import LATEST_MOMENT
from skytally.jobs.foreign_values import identity, moment, whole_number, word

# MySQL's word for a time that was never set.
NEVER = "0000-00-00"
MAX_RESCHEDULED = 10**6
# Times that count as missing where they are impossible.
TIMES = ("last_update_at", "heartbeat_at", "started_at", "ended_at")


def states(requested: Collection[int], rows: Iterable[Any]) -> dict[int, JobState | UnreadState]:
    """Return the states of requested jobs. A row has the fields of JobState, unchecked."""
    readable: dict[int, JobState] = {}
    unread: dict[int, UnreadState] = {}
    stray: UnreadState | None = None
    for position, row in enumerate(rows):
        job_id = identity(row.get("job_id")) if isinstance(row, Mapping) else None
        if job_id is None or job_id not in requested:
            stray = UnreadState(f"row {position}", "a row that names no job that was asked about")
            continue
        try:
            readable[job_id] = _state(job_id, row)
        except Exception as error:  # noqa: BLE001  one row's fault is its own
            unread[job_id] = UnreadState(str(job_id), batch.rejection(position, error).message)
    stray_states = {} if stray is None else dict.fromkeys(requested, stray)
    return stray_states | unread | readable


def until(latest: datetime, states: Mapping[int, JobState | UnreadState]) -> dict[int, JobState | UnreadState]:
    """Return states in which a time after the latest possible one counts as missing."""
    return {job_id: _until(latest, state) if isinstance(state, JobState) else state for job_id, state in states.items()}


def _until(latest: datetime, state: JobState) -> JobState | UnreadState:
    late = [name for name in TIMES if (at := getattr(state, name)) is not None and at > latest]
    if state.rescheduled_at is not None and state.rescheduled_at > latest:
        return UnreadState(str(state.job_id), "a job whose RescheduleTime lies in the future")
    return structs.replace(state, **dict.fromkeys(late)) if late else state


def _state(job_id: int, row: Mapping[str, Any]) -> JobState:
    status, count, moved_at = word(row.get("status")), row.get("reschedule_count"), row.get("rescheduled_at")
    if status is None:
        raise Malformed("a job without a status")
    times = {name: moment(row.get(name), LATEST_MOMENT) for name in TIMES}
    rescheduled_at = moment(moved_at, LATEST_MOMENT)
    reschedule_count = None if count is None else whole_number(count)
    # These decide to which run DIRAC's state belongs: a guess could end a run that goes on.
    if count is not None and (reschedule_count is None or not 0 <= reschedule_count <= MAX_RESCHEDULED):
        raise Malformed("a job whose RescheduleCounter is no count")
    if moved_at is not None and rescheduled_at is None and not str(moved_at).startswith(NEVER):
        raise Malformed("a job whose RescheduleTime is no time")
    return JobState(
        job_id=job_id,
        status=status,
        minor_status=word(row.get("minor_status")),
        application_status=word(row.get("application_status")),
        site=word(row.get("site")),
        rescheduled_at=rescheduled_at,
        reschedule_count=reschedule_count,
        **times,
    )
