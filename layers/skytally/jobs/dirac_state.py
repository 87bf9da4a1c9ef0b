"""The state of a DIRAC job that ran on our vms, from their heartbeats and DIRAC's answers.

::

    new, queried once --> running --no heartbeat for an hour, or an hour of heartbeats--> queried
    queried --Done, Failed, Killed--> final --a day later--> settled
      |--rescheduled to another site--> elsewhere, until it is final
      |--unknown to DIRAC for a day--> unknown_to_dirac
    final --rescheduled after all--> queried again
    final or elsewhere --its old vm still names it--> zombie payload

DIRAC is queried once while a job is new, to learn its site: a later move shows only against that site.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import structs

from skytally.core.documents import Heartbeat, Job
from skytally.core.ports import JobState
from skytally.jobs.dirac_runs import ALWAYS, FOREVER, SILENT_AFTER, Period, Run, Sightings, sightings_of, split_at
from skytally.jobs.dirac_wall_time import FinishedRun, closed, corrected, ended_before, finished_run, runs_of, summed
from skytally.jobs.heartbeats import AFTER_END, OPEN, OVER, ROUND, RUNNING, SETTLED, STATUS_RUNNING
from skytally.jobs.panda_errors import cleaned, normalised

UNKNOWN_AFTER = timedelta(days=1)
# DIRAC may still reschedule an ended job, and turn Completed into Done.
WATCHED_FOR = timedelta(days=1)
FINAL, FINAL_AFTER_A_DAY, WELL = {"Done", "Failed", "Killed"}, {"Completed"}, {"Done", "Completed"}
RESCHEDULED, DELETED, NO_SITE = "Job Rescheduled", "Deleted", (None, "ANY")
ELSEWHERE, UNKNOWN_STATUS, ZOMBIE = "elsewhere", "unknown_to_dirac", "zombie payload"
MAX_HISTORY, MAX_WORDS = 2_000, 255


def after(job: Job, state: JobState | None, sightings: Sightings, now: datetime) -> Job:
    """Return a job after a query of DIRAC; the same object where nothing has changed."""
    if state is None or state.status == DELETED:
        return _with_zombie(_unknown_to_dirac(job, sightings, now), sightings, now)
    if job.final_at is not None and not _was_rescheduled(job, state):
        runs, current = _runs(job, state, sightings, now, job.final_at)
        return _with_zombie(_corrected(job, runs, current.sightings.beats if current else ()), sightings, now)
    updated = _reported(job, state, sightings, now)
    runs, current = _runs(job, state, sightings, now, updated.final_at)
    updated = _with_place(updated, job, state, current)
    if current is not None and updated.final_at is not None:
        runs, current = (*runs, finished_run(current, state)), None
    updated = summed(updated, runs, None if current is None else current.so_far(state))
    return _with_zombie(_with_error(_with_waste(updated)), sightings, now)


def named(job: Job, sightings: Sightings) -> Job:
    """Return a job that a vm names now, without a query of DIRAC."""
    on = structs.replace(
        job,
        status=STATUS_RUNNING,
        cloud=sightings.last.cloud,
        vm=sightings.last.vm,
        seen_at=sightings.last.last_seen_at,
    )
    return summed(on, runs_of(job), Period(sightings.first_at, sightings.last.last_seen_at))


def closed_beat(beat: Heartbeat, job: Job, state: JobState | None, now: datetime) -> Heartbeat:
    """Return a heartbeat after its job's update: noted as running since the last reschedule, as over or as settled."""
    _, current = split_at(beat, _moved_at(state, now))
    if is_settled(job, now):
        return structs.replace(beat, noted=SETTLED)
    if beat.noted not in OPEN or current is None or job.final_at is not None or job.cloud == ELSEWHERE:
        return structs.replace(beat, noted=OVER)
    return structs.replace(
        current, noted=RUNNING, site=beat.site if state is None or state.site in NO_SITE else state.site
    )


def is_settled(job: Job, now: datetime) -> bool:
    """Return whether DIRAC needs no more queries about a job."""
    return job.final_at is not None and (job.status == UNKNOWN_STATUS or now - job.final_at > WATCHED_FOR)


def with_cores(job: Job, vm_cores: int, sightings: Sightings) -> Job:
    """Return a job with its share of the vm's cores: the vm named this many jobs together."""
    cores = max(1, vm_cores // max(1, sightings.last.named_together))
    return _with_waste(structs.replace(job, cores=cores, multicore=cores > 1))


def _was_rescheduled(job: Job, state: JobState) -> bool:
    return (state.reschedule_count or 0) > (job.attempt or 0)


def _moved_at(state: JobState | None, now: datetime) -> datetime:
    """Return when DIRAC last rescheduled the job."""
    return state.rescheduled_at or now if state is not None and state.reschedule_count else ALWAYS


def _runs(
    job: Job, state: JobState, sightings: Sightings, now: datetime, final_at: datetime | None
) -> tuple[tuple[FinishedRun, ...], Run | None]:
    """Return the runs that ended before the last reschedule, and the run since then if a vm of ours names it."""
    moved_at = _moved_at(state, now)
    halves = [split_at(beat, moved_at) for beat in sightings.beats if beat.noted in OPEN]
    finished = _finished_runs(job, state, [before for before, _ in halves if before is not None], moved_at)
    current = sightings_of(after for _, after in halves if after is not None and not _is_orphan(after, state))
    if current is None:
        return finished, None
    # DIRAC may date a job's end before a vm first named the job. Then DIRAC's end cannot bound this run.
    until = final_at if final_at is not None and final_at > current.first_at else FOREVER
    return finished, Run(current, not state.reschedule_count, moved_at, until)


def _finished_runs(
    job: Job, state: JobState, beats: Iterable[Heartbeat], moved_at: datetime
) -> tuple[FinishedRun, ...]:
    """Return the runs that ended before the last reschedule, in the order in which they began.

    These are the runs that the job's document holds, and at most one that only heartbeats show.
    """
    stored = closed(runs_of(job), moved_at) if _was_rescheduled(job, state) else runs_of(job)
    runs, unmatched = corrected(stored, beats)
    reschedules = state.reschedule_count or 0
    new_reschedules = reschedules - (job.attempt or 0)
    # The document of a final job already holds the run that the first of the new reschedules follows.
    is_run_missing = new_reschedules > (1 if job.final_at is not None else 0)
    vms = {(run.vm, run.cloud) for run in runs}
    missing = sightings_of(beat for beat in unmatched if is_run_missing or (beat.vm, beat.cloud) not in vms)
    if missing is not None:
        run = Run(missing, reschedules == 1, ended_before(runs, moved_at), moved_at)
        runs = (*runs, finished_run(run, state))
    return tuple(sorted(runs, key=lambda run: run.began_at))


def _corrected(job: Job, runs: tuple[FinishedRun, ...], beats: Iterable[Heartbeat]) -> Job:
    """Return a final job with its runs corrected by late heartbeats."""
    runs, _ = corrected(runs, beats)
    return job if runs == runs_of(job) else _with_waste(summed(job, runs, None))


def _is_orphan(beat: Heartbeat, state: JobState) -> bool:
    """Return whether a vm names only the remains of a job that DIRAC has moved to another site."""
    return (
        bool(state.reschedule_count) and beat.site is not None and state.site not in NO_SITE and state.site != beat.site
    )


def _reported(job: Job, state: JobState, sightings: Sightings, now: datetime) -> Job:
    """Return a job with the status that DIRAC reports, and its history where it was rescheduled."""
    return structs.replace(
        job,
        status=state.status,
        substatus=_words(state.minor_status),
        application_status=_words(state.application_status),
        site=job.site if state.site in NO_SITE else state.site,
        attempt=max(state.reschedule_count or 0, job.attempt or 0),
        history=_history(job, sightings, _moved_at(state, now)) if _was_rescheduled(job, state) else job.history,
        changed_at=max(job.changed_at, state.last_update_at or job.changed_at),
        final_at=_final_at(job, state, sightings, now),
        ended_at=None,
        seen_at=now,
    )


def _with_place(updated: Job, job: Job, state: JobState, current: Run | None) -> Job:
    """Return a job with its place: the vm that names it, or elsewhere once DIRAC has moved it to another site."""
    if current is not None:
        return structs.replace(updated, cloud=current.sightings.last.cloud, vm=current.sightings.last.vm)
    if state.reschedule_count and state.site not in NO_SITE and state.site != job.site:
        return structs.replace(updated, cloud=ELSEWHERE, vm=None)
    return updated


def _final_at(job: Job, state: JobState, sightings: Sightings, now: datetime) -> datetime | None:
    """Return when a job became final, or None: a rescheduled job still shows Failed and its old end."""
    if state.status == "Failed" and state.minor_status == RESCHEDULED:
        return None
    if state.status in FINAL_AFTER_A_DAY and now - (state.last_update_at or job.changed_at) <= WATCHED_FOR:
        return None
    if state.status not in FINAL | FINAL_AFTER_A_DAY:
        return None
    if state.ended_at is not None and state.ended_at > _moved_at(state, now):
        return state.ended_at
    return state.last_update_at or sightings.last.last_seen_at


def _unknown_to_dirac(job: Job, sightings: Sightings, now: datetime) -> Job:
    """Return a job that DIRAC does not know: as it was, and final after a day."""
    last_known_at = max(job.seen_at, sightings.last.last_seen_at)
    still = [beat for beat in sightings.beats if beat.noted in OPEN]
    if job.final_at is not None:
        return _corrected(job, runs_of(job), still)
    if now - last_known_at < UNKNOWN_AFTER:
        return job
    runs, others = corrected(runs_of(job), still)
    current = None if job.cloud == ELSEWHERE else sightings_of(others)
    if current is not None:
        runs = (*runs, finished_run(Run(current, True, ALWAYS, FOREVER), None))
    final = structs.replace(job, status=UNKNOWN_STATUS, final_at=last_known_at)
    return _with_error(_with_waste(summed(final, runs, None)))


def _history(job: Job, sightings: Sightings, moved_at: datetime) -> str | None:
    """Return the history with the run that a reschedule ended, if a vm or DIRAC ever reported that run."""
    if job.attempt is None and sightings.first_at > moved_at:
        return None
    run = f"{job.attempt or 0}: {job.status} at {job.site or job.cloud}"
    return f"{job.history}; {run}"[:MAX_HISTORY] if job.history else run


def _with_waste(job: Job) -> Job:
    """Return a job with its core time, all of it wasted where the job did not end well."""
    core_ms = job.wall_ms * job.cores
    return structs.replace(
        job, core_ms=core_ms, wasted_core_ms=core_ms if job.final_at is not None and job.status not in WELL else 0
    )


def _with_zombie(job: Job, sightings: Sightings, now: datetime) -> Job:
    """Return a job marked as a zombie where its payload outlives it; late reports of its run do not count."""
    is_elsewhere = job.cloud == ELSEWHERE
    if job.doubt == ZOMBIE or (job.final_at is None and not is_elsewhere):
        return job
    over_at = job.final_at
    if is_elsewhere or over_at is None:
        over_at = max((run.until for run in runs_of(job)), default=ALWAYS)
    elif job.status == UNKNOWN_STATUS:
        over_at = max(over_at, now - SILENT_AFTER)
    is_named = any(beat.noted == AFTER_END and beat.last_seen_at - ROUND > over_at for beat in sightings.beats)
    is_late = not is_elsewhere and sightings.last.last_seen_at - SILENT_AFTER > over_at
    return structs.replace(job, doubt=ZOMBIE) if is_named or is_late else job


def _with_error(job: Job) -> Job:
    """Return a job with its error: grouped by DIRAC's minor status, described by the application's status."""
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
