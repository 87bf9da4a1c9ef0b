"""DIRAC's rounds: what vms named, asked about where it fell silent, kept.

Invariants: after a heartbeat made it, only a round changes a job, and its version is the moment just before DIRAC was asked: whatever ends
late, in whatever order, nothing older overwrites. A heartbeat is put aside only once its job's state is kept, and only as it was read. A
DIRAC that does not answer changes no state.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from skytally import dirac
from skytally.dirac_run import SILENT_AFTER, Seen
from skytally.documents import Heartbeat, Job, Usage
from skytally.heartbeat import AFTER_END, NEW, OPEN, OVER, RUNNING, beat_write, job_key, job_write, new_job, whole_ms
from skytally.ports import Documents, JobState, JobStates, Outcome, Write
from skytally.samples import month_of

ASKED_AT_ONCE = 10_000
VMS_AT_ONCE = 500


def settle(door: JobStates, documents: Documents, clock: Callable[[], datetime]) -> dict[str, int]:
    """Ask DIRAC about every job that is new, fell silent, came back or may still change, and once an hour about what runs.

    Raises Unavailable where DIRAC or the store does not answer, and the next round does it.
    """
    documents.refresh()
    seen = _seen(beat for _, beat in documents.find("heartbeat", Heartbeat, {"noted": [NEW, RUNNING, AFTER_END, OVER]}))
    now = clock()
    asked = {job_id: one for job_id, one in seen.items() if one.is_to_be_asked(now)}
    running = {job_id: one for job_id, one in seen.items() if job_id not in asked}
    asked |= _show(running, documents, now)
    final = sum(_settle(part, door, documents, clock) for part in _parts(asked))
    return {"running": len(running), "asked": len(asked), "final": final}


def _seen(beats: Iterable[Heartbeat]) -> dict[str, Seen]:
    found: dict[str, list[Heartbeat]] = defaultdict(list)
    for beat in beats:
        found[beat.job_id].append(beat)
    return {job_id: Seen(tuple(one)) for job_id, one in found.items()}


def _parts(seen: dict[str, Seen]) -> Iterable[dict[str, Seen]]:
    job_ids = list(seen)
    for start in range(0, len(job_ids), ASKED_AT_ONCE):
        yield {job_id: seen[job_id] for job_id in job_ids[start : start + ASKED_AT_ONCE]}


def _show(running: dict[str, Seen], documents: Documents, now: datetime) -> dict[str, Seen]:
    """Keep once an hour how far the jobs are that vms name, so that they do not look forgotten, even while DIRAC is away.

    Answers these, as many as one call asks about, the longest unseen first: a payload may not know that DIRAC has ended or moved its job.
    """
    jobs = _known(running, documents)
    late = [job for job in jobs if running[job.job_id].last.last_seen_at - job.seen_at >= SILENT_AFTER]
    late = sorted(late, key=lambda job: job.seen_at)[:ASKED_AT_ONCE]
    documents.write([job_write(dirac.named(job, running[job.job_id]), whole_ms(now)) for job in late]).result()
    return {job.job_id: running[job.job_id] for job in late}


def _settle(seen: dict[str, Seen], door: JobStates, documents: Documents, clock: Callable[[], datetime]) -> int:
    """Ask about some jobs, keep what is new, and put aside what vms said of runs that are over; answers how many became final."""
    now = clock()
    states = door.states([int(job_id) for job_id in seen])
    before = _known(seen, documents)
    found = [dirac.after(job, states.get(int(job.job_id)), seen[job.job_id], now) for job in before]
    new = {job.job_id: job for job, old in zip(found, before, strict=True) if job is not old}
    # What is told late of a run was named beside other jobs than the run itself.
    new |= _with_cores([new[old.job_id] for old in before if old.job_id in new and _is_going_on(old, new[old.job_id])], seen, documents)
    outcomes = documents.write([job_write(job, whole_ms(now)) for job in new.values()]).result()
    stale = {job_id for job_id, outcome in zip(new, outcomes, strict=True) if outcome is not Outcome.STORED}
    kept = [new.get(job.job_id, job) for job in found if job.job_id not in stale]
    documents.write([write for job in kept for write in _put_aside(job, states.get(int(job.job_id)), seen[job.job_id], now)]).result()
    was_final = {job.job_id for job in before if job.final_at is not None}
    return sum(job.final_at is not None and job.job_id not in was_final for job in kept)


def _known(seen: dict[str, Seen], documents: Documents) -> list[Job]:
    """Read jobs; one that was forgotten, or never came to be written, is made of what vms said."""
    jobs = documents.get_many("job", [job_key(job_id) for job_id in seen], Job)
    return [job or new_job(one.last, one.first_at) for job, one in zip(jobs, seen.values(), strict=True)]


def _is_going_on(old: Job, new: Job) -> bool:
    return old.final_at is None or new.attempt != old.attempt


def _put_aside(job: Job, state: JobState | None, seen: Seen, now: datetime) -> Iterable[Write]:
    for beat in seen.beats:
        known = dirac.put_aside(beat, job, state, now)
        if known != beat:
            yield beat_write(known)


def _with_cores(jobs: Sequence[Job], seen: dict[str, Seen], documents: Documents) -> dict[str, Job]:
    """Count the cores of the vms that named jobs until now, as far as these vms have reported."""
    ran = [seen[job.job_id].last for job in jobs if any(beat.noted in OPEN for beat in seen[job.job_id].beats)]
    cores = _cores({beat.vm for beat in ran}, {month_of(beat.last_seen_at) for beat in ran}, documents)
    counted = {}
    for job in jobs:
        last = seen[job.job_id].last
        vm_cores = cores.get((last.vm, last.cloud))
        counted[job.job_id] = job if vm_cores is None else dirac.with_cores(job, vm_cores, seen[job.job_id])
    return counted


def _cores(vms: set[str], months: set[str], documents: Documents) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], Usage] = {}
    names = sorted(vms)
    for start in range(0, len(names), VMS_AT_ONCE):
        where = {"vm": names[start : start + VMS_AT_ONCE], "month": sorted(months)}
        for _, usage in documents.find("usage", Usage, where):
            known = newest.setdefault((usage.vm, usage.cloud), usage)
            if usage.last_sampled_at > known.last_sampled_at:
                newest[usage.vm, usage.cloud] = usage
    return {vm: usage.cores for vm, usage in newest.items()}
