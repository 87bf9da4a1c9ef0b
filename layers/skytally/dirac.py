"""DIRAC: what became of jobs that ran on our vms, as DIRAC says once a vm names them no more.

::

    running --an hour unnamed--> asked --Done, Killed; Failed for a day--> settled
                                   |--rescheduled, runs at another site--> elsewhere, asked until it is final
                                   |--DIRAC does not know it for a day--> unknown_to_dirac
    settled --a vm names it again--> asked: runs again where it was rescheduled, else its payload is a zombie

Invariants: only a round changes a job, under the timer's lease, and its version is the time of the round, so nothing older ever
overwrites. What DIRAC calls final stays, unless it was rescheduled since. A DIRAC that does not answer changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, structs

from skytally.documents import Heartbeat, Job
from skytally.heartbeat import AFTER_FINAL, RUNNING, SETTLED, key_of
from skytally.job_error import cleaned, normalised
from skytally.ports import Documents, JobState, JobStates, Write

SILENT_AFTER = timedelta(hours=1)
UNKNOWN_AFTER = timedelta(days=1)
# DIRAC may still reschedule what failed, and count as done what completed.
WATCHED_FOR = timedelta(days=1)
FINAL, FINAL_AFTER_A_DAY = {"Done", "Failed", "Killed"}, {"Completed"}
MAY_CHANGE = {"Failed"}
RESCHEDULED = "Job Rescheduled"
ELSEWHERE, UNKNOWN_STATUS = "elsewhere", "unknown_to_dirac"
ASKED_AT_ONCE = 10_000


class Seen(Struct, frozen=True):
    """What vms said of one job: when and where it was named, by whom last, and whether that was after its end."""

    beats: tuple[Heartbeat, ...]

    @property
    def last(self) -> Heartbeat:
        """Answer the newest heartbeat: of two vms that name a job, it is on the one that named it last."""
        return max(self.beats, key=lambda beat: beat.last_seen_at)

    @property
    def first_at(self) -> datetime:
        """Answer when the job was first named."""
        return min(beat.first_seen_at for beat in self.beats)

    @property
    def is_after_final(self) -> bool:
        """Say whether a vm named it after its end was known."""
        return any(beat.noted == AFTER_FINAL for beat in self.beats)


def settle(door: JobStates, documents: Documents, now: datetime) -> dict[str, int]:
    """Ask DIRAC about every job that went silent or came back, and keep what it says; raises Unavailable with nothing changed but time."""
    documents.refresh()
    seen = _seen(beat for _, beat in documents.find("heartbeat", Heartbeat, {"noted": [RUNNING, AFTER_FINAL]}))
    asked = [job_id for job_id, one in seen.items() if one.is_after_final or now - one.last.last_seen_at >= SILENT_AFTER]
    settled = 0
    for start in range(0, len(asked), ASKED_AT_ONCE):
        settled += _settle_some(asked[start : start + ASKED_AT_ONCE], seen, door, documents, now)
    return {"running": len(seen) - len(asked), "asked": len(asked), "settled": settled}


def _seen(beats: Iterable[Heartbeat]) -> dict[str, Seen]:
    found: dict[str, list[Heartbeat]] = defaultdict(list)
    for beat in beats:
        found[beat.job_id].append(beat)
    return {job_id: Seen(tuple(one)) for job_id, one in found.items()}


def _settle_some(asked: Sequence[str], seen: dict[str, Seen], door: JobStates, documents: Documents, now: datetime) -> int:
    states = door.states([int(job_id) for job_id in asked])
    known = documents.get_many("job", [f"dirac/{job_id}" for job_id in asked], Job)
    jobs = [after(job, states.get(int(job.job_id)), seen[job.job_id], now) for job in known if job is not None]
    documents.write([Write("job", f"dirac/{job.job_id}", round(now.timestamp() * 1_000), job) for job in jobs]).result()
    over = [job for job in jobs if is_settled(job, now)]
    documents.write([write for job in over for write in _settled(seen[job.job_id])]).result()
    return len(over)


def _settled(seen: Seen) -> list[Write]:
    """Ask about this job no more, unless a vm has named it again meanwhile."""
    return [
        Write(
            "heartbeat",
            key_of(beat.job_id, beat.vm, beat.cloud),
            round(beat.last_seen_at.timestamp() * 1_000),
            structs.replace(beat, noted=SETTLED),
        )
        for beat in seen.beats
    ]


def is_settled(job: Job, now: datetime) -> bool:
    """Say whether nothing that DIRAC may still do is worth asking for."""
    return job.final_at is not None and (job.status not in MAY_CHANGE or now - job.final_at > WATCHED_FOR)


def after(job: Job, state: JobState | None, seen: Seen, now: datetime) -> Job:
    """Answer what is known of a job once DIRAC was asked about it."""
    if state is None or state.status == "Deleted":
        return _not_known(job, seen, now)
    count = state.reschedule_count or 0
    was_rescheduled = count > (job.attempt or 0)
    if job.final_at is not None and not was_rescheduled and not _is_final(state, job, now):
        return job
    moved = _is_elsewhere(job, state, seen)
    told = structs.replace(
        job,
        status=state.status,
        substatus=_words(state.minor_status),
        application_status=_words(state.application_status),
        attempt=max(count, job.attempt or 0),
        site=job.site if state.site in (None, "ANY") else state.site,
        cloud=ELSEWHERE if moved else seen.last.cloud,
        vm=None if moved else seen.last.vm,
        history=_history(job, state, count) if was_rescheduled else job.history,
        changed_at=max(job.changed_at, state.last_update_at or job.changed_at),
        final_at=(state.ended_at or state.last_update_at or seen.last.last_seen_at) if _is_final(state, job, now) else None,
        seen_at=now,
        doubt="zombie payload" if seen.is_after_final and job.final_at is not None and not was_rescheduled else job.doubt,
    )
    return _with_error(_with_effort(told, state, seen))


def _not_known(job: Job, seen: Seen, now: datetime) -> Job:
    """Keep what was known; after a day nobody will tell any more."""
    if job.final_at is not None or now - seen.last.last_seen_at < UNKNOWN_AFTER:
        return structs.replace(job, seen_at=now)
    lost = structs.replace(job, status=UNKNOWN_STATUS, final_at=seen.last.last_seen_at, seen_at=now)
    return _with_effort(lost, None, seen)


def _is_final(state: JobState, job: Job, now: datetime) -> bool:
    """Say whether DIRAC's word is its last: what failed and is rescheduled still says Failed, with its old end."""
    if state.minor_status == RESCHEDULED:
        return False
    if state.status in FINAL_AFTER_A_DAY:
        return now - (state.last_update_at or job.changed_at) > WATCHED_FOR
    return state.status in FINAL


def _is_elsewhere(job: Job, state: JobState, seen: Seen) -> bool:
    """Say whether a rescheduled job goes on where no vm of ours names it; one that does since we last asked has it back."""
    if job.cloud == ELSEWHERE:
        return seen.last.last_seen_at <= job.seen_at
    if not state.reschedule_count or state.site in (None, "ANY") or seen.is_after_final:
        return False
    if job.site is not None and state.site != job.site:
        return True
    return state.started_at is not None and state.started_at > seen.last.last_seen_at


def _history(job: Job, state: JobState, count: int) -> str:
    """Write down where the job was before it was rescheduled, run by run."""
    step = f"{job.attempt or 0}: {job.status} at {job.site or job.cloud}; {count}: {state.status} at {state.site or 'ANY'}"
    return step if job.history is None else f"{job.history}; {count}: {state.status} at {state.site or 'ANY'}"[:2_000]


def _with_effort(job: Job, state: JobState | None, seen: Seen) -> Job:
    """Add up how long the job ran on our vms: as DIRAC says where it ran once and here, else as long as each vm named it."""
    here = [(beat.first_seen_at, beat.last_seen_at) for beat in seen.beats]
    started_at, ended_at = seen.first_at, seen.last.last_seen_at
    if state is not None and not job.attempt and job.cloud != ELSEWHERE:
        if state.started_at is not None:
            started_at = min(started_at, state.started_at)
        if job.final_at is not None and state.ended_at is not None and state.ended_at >= started_at:
            ended_at = state.ended_at
        here = [(started_at, ended_at)]
    wall_ms = round(sum((end - begin).total_seconds() for begin, end in here) * 1_000)
    is_wasted = job.final_at is not None and job.status not in {"Done", "Completed"} and job.cloud != ELSEWHERE
    spent = {"wall_ms": wall_ms, "core_ms": wall_ms * job.cores, "wasted_core_ms": wall_ms * job.cores if is_wasted else 0}
    return structs.replace(job, started_at=started_at, ended_at=ended_at if job.final_at is not None else None, **spent)


def _with_error(job: Job) -> Job:
    """Group what did not end well by DIRAC's minor status, and tell it by what the application said."""
    if job.final_at is None or job.status in {"Done", "Completed"}:
        return structs.replace(job, error=None, error_component=None, error_category=None, error_message=None)
    words = job.application_status or job.substatus or "no reason given"
    return structs.replace(
        job,
        error=job.substatus or job.status,
        error_component="dirac",
        error_category=job.status,
        error_message=normalised(words),
        error_raw=words,
    )


def _words(text: str | None) -> str | None:
    return None if text is None else cleaned(text)[:255] or None
