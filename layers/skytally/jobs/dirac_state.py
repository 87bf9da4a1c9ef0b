"""DIRAC: what is known of a job that ran on our vms, by what they named and by what DIRAC says of it.

::

    new, asked once --> running --an hour unnamed, or named for an hour--> asked
    asked --Done, Failed, Killed--> final --a day later--> settled
      |--rescheduled, at another site--> elsewhere, until it is final
      |--unknown to DIRAC for a day--> unknown_to_dirac
    final --rescheduled after all--> asked again · final, or elsewhere, and its old vm names it: a zombie payload

It is asked about once while it is new, because only who knew the site where it ran here can tell when it has moved to
another.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import structs

from skytally.core.documents import Heartbeat, Job
from skytally.core.ports import JobState
from skytally.jobs.dirac_runs import ALWAYS, FOREVER, SILENT_AFTER, Run, Seen, Span, parted, some
from skytally.jobs.dirac_wall_time import Counted, closed, corrected, counted, ended_before, runs_of, summed
from skytally.jobs.heartbeats import AFTER_END, OPEN, OVER, ROUND, RUNNING, SETTLED, STATUS_RUNNING
from skytally.jobs.panda_errors import cleaned, normalised

UNKNOWN_AFTER = timedelta(days=1)
# DIRAC may still reschedule what ended, and count as done what completed.
WATCHED_FOR = timedelta(days=1)
FINAL, FINAL_AFTER_A_DAY, WELL = {"Done", "Failed", "Killed"}, {"Completed"}, {"Done", "Completed"}
RESCHEDULED, DELETED, NOWHERE = "Job Rescheduled", "Deleted", (None, "ANY")
ELSEWHERE, UNKNOWN_STATUS, ZOMBIE = "elsewhere", "unknown_to_dirac", "zombie payload"
MAX_HISTORY, MAX_WORDS = 2_000, 255


def after(job: Job, state: JobState | None, seen: Seen, now: datetime) -> Job:
    """Return what is known of a job once DIRAC was asked about it; the very same where that is nothing new."""
    if state is None or state.status == DELETED:
        return _with_zombie(_not_known(job, seen, now), seen, now)
    if job.final_at is not None and not _was_rescheduled(job, state):
        runs, here = _runs(job, state, seen, now, job.final_at)
        return _with_zombie(_corrected(job, runs, here.seen.beats if here else ()), seen, now)
    told = _told(job, state, seen, now)
    runs, here = _runs(job, state, seen, now, told.final_at)
    told = _placed(told, job, state, here)
    if here is not None and told.final_at is not None:
        runs, here = (*runs, counted(here, state)), None
    told = summed(told, runs, None if here is None else here.so_far(state))
    return _with_zombie(_with_error(_with_waste(told)), seen, now)


def named(job: Job, seen: Seen) -> Job:
    """Return what is known of a job that a vm names now; DIRAC is not asked."""
    on = structs.replace(
        job, status=STATUS_RUNNING, cloud=seen.last.cloud, vm=seen.last.vm, seen_at=seen.last.last_seen_at
    )
    return summed(on, runs_of(job), Span(seen.first_at, seen.last.last_seen_at))


def put_aside(beat: Heartbeat, job: Job, state: JobState | None, now: datetime) -> Heartbeat:
    """Return what to keep of a heartbeat, now that its job's state is known:
    the run that goes on, or that it is over.
    """
    _, here = parted(beat, _moved_at(state, now))
    if is_settled(job, now):
        return structs.replace(beat, noted=SETTLED)
    if beat.noted not in OPEN or here is None or job.final_at is not None or job.cloud == ELSEWHERE:
        return structs.replace(beat, noted=OVER)
    return structs.replace(
        here, noted=RUNNING, site=beat.site if state is None or state.site in NOWHERE else state.site
    )


def is_settled(job: Job, now: datetime) -> bool:
    """Say whether nothing that DIRAC may still do is worth asking for."""
    return job.final_at is not None and (job.status == UNKNOWN_STATUS or now - job.final_at > WATCHED_FOR)


def with_cores(job: Job, vm_cores: int, seen: Seen) -> Job:
    """Count for a job the vm's cores, shared by all that the vm named with it."""
    cores = max(1, vm_cores // max(1, seen.last.named_together))
    return _with_waste(structs.replace(job, cores=cores, multicore=cores > 1))


def _was_rescheduled(job: Job, state: JobState) -> bool:
    return (state.reschedule_count or 0) > (job.attempt or 0)


def _moved_at(state: JobState | None, now: datetime) -> datetime:
    """Return when DIRAC last took the job from where it ran."""
    return state.rescheduled_at or now if state is not None and state.reschedule_count else ALWAYS


def _runs(
    job: Job, state: JobState, seen: Seen, now: datetime, final_at: datetime | None
) -> tuple[tuple[Counted, ...], Run | None]:
    """Part what vms named by the last reschedule:
    the runs that are over, and the one since, which may be none of ours.
    """
    moved_at, count = _moved_at(state, now), state.reschedule_count or 0
    parts = [parted(beat, moved_at) for beat in seen.beats if beat.noted in OPEN]
    known = closed(runs_of(job), moved_at) if _was_rescheduled(job, state) else runs_of(job)
    runs, others = corrected(known, [part for part, _ in parts if part is not None])
    is_one_unseen = count - (job.attempt or 0) > (job.final_at is not None)
    unseen = some(
        beat for beat in others if is_one_unseen or (beat.vm, beat.cloud) not in {(run.vm, run.cloud) for run in runs}
    )
    if unseen is not None:
        runs = (*runs, counted(Run(unseen, count == 1, ended_before(runs, moved_at), moved_at), state))
    here = some(part for _, part in parts if part is not None and not _is_orphan(part, state))
    ordered = tuple(sorted(runs, key=lambda run: run.began_at))
    if here is None:
        return ordered, None
    # What DIRAC calls over before a vm first named it did not run by DIRAC's clock: the vm's word is all there is.
    until = final_at if final_at is not None and final_at > here.first_at else FOREVER
    return ordered, Run(here, count == 0, moved_at, until)


def _corrected(job: Job, runs: tuple[Counted, ...], beats: Iterable[Heartbeat]) -> Job:
    """Correct what was counted of a final job by what vms tell late."""
    runs, _ = corrected(runs, beats)
    return job if runs == runs_of(job) else _with_waste(summed(job, runs, None))


def _is_orphan(beat: Heartbeat, state: JobState) -> bool:
    """Say whether a vm only names what is left of a job that DIRAC has taken to another site."""
    return (
        bool(state.reschedule_count) and beat.site is not None and state.site not in NOWHERE and state.site != beat.site
    )


def _told(job: Job, state: JobState, seen: Seen, now: datetime) -> Job:
    """Take over what DIRAC says of a job, and the chain of runs where it was rescheduled."""
    return structs.replace(
        job,
        status=state.status,
        substatus=_words(state.minor_status),
        application_status=_words(state.application_status),
        site=job.site if state.site in NOWHERE else state.site,
        attempt=max(state.reschedule_count or 0, job.attempt or 0),
        history=_history(job, seen, _moved_at(state, now)) if _was_rescheduled(job, state) else job.history,
        changed_at=max(job.changed_at, state.last_update_at or job.changed_at),
        final_at=_final_at(job, state, seen, now),
        ended_at=None,
        seen_at=now,
    )


def _placed(told: Job, job: Job, state: JobState, here: Run | None) -> Job:
    """Say where a job is: on the vm that names it; else, once rescheduled, wherever DIRAC took it."""
    if here is not None:
        return structs.replace(told, cloud=here.seen.last.cloud, vm=here.seen.last.vm)
    if state.reschedule_count and state.site not in NOWHERE and state.site != job.site:
        return structs.replace(told, cloud=ELSEWHERE, vm=None)
    return told


def _final_at(job: Job, state: JobState, seen: Seen, now: datetime) -> datetime | None:
    """Return when DIRAC spoke its last word, or None:
    what failed and is rescheduled still says Failed, with its old end.
    """
    if state.status == "Failed" and state.minor_status == RESCHEDULED:
        return None
    if state.status in FINAL_AFTER_A_DAY and now - (state.last_update_at or job.changed_at) <= WATCHED_FOR:
        return None
    if state.status not in FINAL | FINAL_AFTER_A_DAY:
        return None
    if state.ended_at is not None and state.ended_at > _moved_at(state, now):
        return state.ended_at
    return state.last_update_at or seen.last.last_seen_at


def _not_known(job: Job, seen: Seen, now: datetime) -> Job:
    """Keep what was known; after a day nobody will tell any more."""
    known_at = max(job.seen_at, seen.last.last_seen_at)
    still = [beat for beat in seen.beats if beat.noted in OPEN]
    if job.final_at is not None:
        return _corrected(job, runs_of(job), still)
    if now - known_at < UNKNOWN_AFTER:
        return job
    runs, others = corrected(runs_of(job), still)
    here = None if job.cloud == ELSEWHERE else some(others)
    if here is not None:
        runs = (*runs, counted(Run(here, True, ALWAYS, FOREVER), None))
    return _with_error(_with_waste(summed(structs.replace(job, status=UNKNOWN_STATUS, final_at=known_at), runs, None)))


def _history(job: Job, seen: Seen, moved_at: datetime) -> str | None:
    """Write down the run that a reschedule ended, behind those before it;
    none that no vm of ours and no DIRAC told us of.
    """
    if job.attempt is None and seen.first_at > moved_at:
        return None
    run = f"{job.attempt or 0}: {job.status} at {job.site or job.cloud}"
    return f"{job.history}; {run}"[:MAX_HISTORY] if job.history else run


def _with_waste(job: Job) -> Job:
    """Count as wasted what a job that did not end well took of our vms."""
    core_ms = job.wall_ms * job.cores
    return structs.replace(
        job, core_ms=core_ms, wasted_core_ms=core_ms if job.final_at is not None and job.status not in WELL else 0
    )


def _with_zombie(job: Job, seen: Seen, now: datetime) -> Job:
    """Tell of a payload that outlives its job, or its run here; what is told late of its run is none."""
    is_elsewhere = job.cloud == ELSEWHERE
    if job.doubt == ZOMBIE or (job.final_at is None and not is_elsewhere):
        return job
    over_at = job.final_at
    if is_elsewhere or over_at is None:
        over_at = max((run.until for run in runs_of(job)), default=ALWAYS)
    elif job.status == UNKNOWN_STATUS:
        over_at = max(over_at, now - SILENT_AFTER)
    is_named = any(beat.noted == AFTER_END and beat.last_seen_at - ROUND > over_at for beat in seen.beats)
    is_late = not is_elsewhere and seen.last.last_seen_at - SILENT_AFTER > over_at
    return structs.replace(job, doubt=ZOMBIE) if is_named or is_late else job


def _with_error(job: Job) -> Job:
    """Group what did not end well by DIRAC's minor status, and tell it by what the application said."""
    if job.final_at is None or job.status in WELL:
        return structs.replace(
            job, error=None, error_component=None, error_category=None, error_message=None, error_raw=None
        )
    words = job.application_status or job.substatus or "no reason given"
    return structs.replace(
        job,
        error=job.substatus or job.status,
        error_component="dirac",
        error_category=job.status,
        error_message=normalised(words),
        error_raw="\n".join(text for text in (job.substatus, job.application_status) if text) or None,
    )


def _words(text: str | None) -> str | None:
    return None if text is None else cleaned(text)[:MAX_WORDS] or None
