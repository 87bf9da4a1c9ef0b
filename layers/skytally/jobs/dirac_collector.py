"""DIRAC's rounds: query DIRAC for the jobs that vms named, and store what became of them.

Invariants:

* After its first heartbeat only a round changes a job. Its version is the time just before DIRAC was queried, so an
  older answer never overwrites a newer one.
* A heartbeat is closed only after its job's state is stored, and only as it was read.
* While DIRAC does not answer, no state changes.
* Each job is settled by itself. One that cannot be settled is noted as unreadable and unchanged until a later round.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import takewhile
from typing import TypedDict, TypeVar

from msgspec import Struct

from skytally.core import batch
from skytally.core.documents import Heartbeat, Job, Usage
from skytally.core.months import month_of
from skytally.core.ports import Documents, JobState, JobStates, Outcome, UnreadState, Write
from skytally.core.timestamps import to_ms
from skytally.core.unreadable import Kind, Notes
from skytally.jobs import dirac_rows, dirac_state
from skytally.jobs.dirac_runs import SILENT_AFTER, Sightings
from skytally.jobs.foreign_values import AHEAD
from skytally.jobs.heartbeats import (
    AFTER_END,
    NEW,
    OPEN,
    OVER,
    RUNNING,
    beat_write,
    is_job_id,
    job_key,
    job_write,
    new_job,
)
from skytally.operation.timer import Deadline, shuffled

T = TypeVar("T")
SOURCE = "dirac"
REFRESHED_PER_ROUND = 10_000
VMS_PER_QUERY = 500


class DiracCounts(TypedDict, total=False):
    """Counts of a round's jobs: named by vms, queried, become final, unreadable, left for the next round."""

    running: int
    asked: int
    final: int
    unreadable: int
    left: int


def settle(door: JobStates, documents: Documents, deadline: Deadline) -> DiracCounts:
    """Query DIRAC for every job that is new, silent, back or may still change, and hourly for every running job.

    Jobs left at the deadline are the next round's. Raise Unavailable where DIRAC or the store does not answer.
    """
    return Settlement(door, documents, deadline, Notes(documents.write, deadline.now)).run()


class Settlement(Struct):
    """One round: its source, its store, its deadline, and the notes of what it could not read."""

    door: JobStates
    documents: Documents
    deadline: Deadline
    notes: Notes
    unreadable: int = 0

    def run(self) -> DiracCounts:
        """Settle the jobs that are due, in another order each round so that none is always the last; return counts."""
        self.documents.refresh()
        sightings = self._sightings()
        now = self.deadline.now()
        due = {job_id: seen for job_id, seen in sightings.items() if seen.is_due(now)}
        running = {job_id: seen for job_id, seen in sightings.items() if job_id not in due}
        due |= self._refresh_running(running, now)
        # A round without due jobs queries DIRAC too: that renews the credentials.
        batches = list(_batches(due, self.door.jobs_at_once, now)) or [{}]
        done = [(len(jobs), self._settle(jobs)) for jobs in takewhile(lambda _: not self.deadline.is_over(), batches)]
        queried, final = sum(count for count, _ in done), sum(count for _, count in done)
        left: DiracCounts = {"left": len(due) - queried} if queried < len(due) else {}
        return {"running": len(running), "asked": queried, "final": final, "unreadable": self.unreadable, **left}

    def _sightings(self) -> dict[str, Sightings]:
        """Return the open heartbeats of each job; note those without a DIRAC job id."""
        beats: dict[str, list[Heartbeat]] = defaultdict(list)
        for key, beat in self.documents.find("heartbeat", Heartbeat, {"noted": [NEW, RUNNING, AFTER_END, OVER]}):
            if is_job_id(beat.job_id):
                beats[beat.job_id].append(beat)
            else:
                self._note("document", "heartbeat", key, "its job_id is no DIRAC job's")
        return {job_id: Sightings(tuple(of_job)) for job_id, of_job in beats.items()}

    def _refresh_running(self, running: dict[str, Sightings], now: datetime) -> dict[str, Sightings]:
        """Write once an hour how long running jobs have run, so that they stay current even while DIRAC is away.

        Return these jobs, the longest unseen first and a bounded number, for DIRAC to be queried: a payload may not
        notice that DIRAC has ended or moved its job.
        """
        jobs = self._stored(running, now)
        stale = [job for job in jobs.values() if running[job.job_id].last.last_seen_at - job.seen_at >= SILENT_AFTER]
        oldest = sorted(stale, key=lambda job: job.seen_at)[:REFRESHED_PER_ROUND]
        named = self._each({job.job_id: job for job in oldest}, lambda job: dirac_state.named(job, running[job.job_id]))
        self._write(named, now)
        return {job_id: running[job_id] for job_id in named}

    def _settle(self, sightings: dict[str, Sightings]) -> int:
        """Query DIRAC for these jobs, store what changed, close heartbeats; return how many jobs became final."""
        now = self.deadline.now()
        states = self._states(sightings, now)
        stored = {job_id: job for job_id, job in self._stored(sightings, now).items() if job_id in states}
        updated = self._each(stored, lambda job: dirac_state.after(job, states[job.job_id], sightings[job.job_id], now))
        changed = {job_id: job for job_id, job in updated.items() if job is not stored[job_id]}
        # A late heartbeat of a finished run counts other jobs beside it than its own heartbeats did.
        going_on = [job for job_id, job in changed.items() if _is_going_on(stored[job_id], job)]
        changed |= self._with_cores(going_on, sightings)
        not_written = self._write(changed, now)
        settled = {job_id: changed.get(job_id, job) for job_id, job in updated.items() if job_id not in not_written}
        closed = self._each(
            settled, lambda job: list(_closed_beats(job, states[job.job_id], sightings[job.job_id], now))
        )
        self.documents.write([write for writes in closed.values() for write in writes]).result()
        return sum(job.final_at is not None and stored[job_id].final_at is None for job_id, job in settled.items())

    def _states(self, sightings: dict[str, Sightings], now: datetime) -> dict[str, JobState | None]:
        """Return DIRAC's state of each job, or None where DIRAC has no such job; leave out and note unreadable ones."""
        states = dirac_rows.until(now + AHEAD, self.door.states([int(job_id) for job_id in sightings]))
        for unread in {state for state in states.values() if isinstance(state, UnreadState)}:
            self._note("row", SOURCE, unread.key, unread.reason)
        by_job_id = {job_id: states.get(int(job_id)) for job_id in sightings}
        return {job_id: state for job_id, state in by_job_id.items() if not isinstance(state, UnreadState)}

    def _stored(self, sightings: dict[str, Sightings], now: datetime) -> dict[str, Job]:
        """Return the stored jobs; where none is stored, or its times lie in the future, make one of its heartbeats."""
        documents = self.documents.get_many("job", [job_key(job_id) for job_id in sightings], Job)
        jobs: dict[str, Job] = {}
        for (job_id, seen), job in zip(sightings.items(), documents, strict=True):
            if job is not None and not _is_possible(job, now):
                self._note(
                    "document", "job", job_key(job_id), "its times lie in the future: it is made anew of what vms say"
                )
                job = None  # noqa: PLW2901
            jobs[job_id] = job or new_job(seen.last, seen.first_at)
        return jobs

    def _each(self, jobs: dict[str, Job], work: Callable[[Job], T]) -> dict[str, T]:
        """Return the result of work for each job; note and leave out a job for which it fails."""
        results: dict[str, T] = {}
        for job_id, job in jobs.items():
            try:
                results[job_id] = work(job)
            except Exception as error:  # noqa: BLE001  one job's fault is its own
                self._note("document", "job", job_key(job_id), batch.rejection(0, error).message)
        return results

    def _write(self, jobs: dict[str, Job], now: datetime) -> set[str]:
        """Write jobs; return the ids of those that a later round has overtaken or that the store refuses."""
        outcomes = dict(
            zip(
                jobs,
                self.documents.write([job_write(job, to_ms(now)) for job in jobs.values()]).result(),
                strict=True,
            )
        )
        for job_id in [job_id for job_id, outcome in outcomes.items() if outcome is Outcome.REJECTED]:
            self._note("document", "job", job_key(job_id), "the document store refuses this job for good")
        return {job_id for job_id, outcome in outcomes.items() if outcome is not Outcome.STORED}

    def _note(self, kind: Kind, source: str, key: str, reason: str) -> None:
        """Count what cannot be read, and note it."""
        self.unreadable += 1
        self.notes.add(kind, source, key, reason)

    def _with_cores(self, jobs: list[Job], sightings: dict[str, Sightings]) -> dict[str, Job]:
        """Return the jobs with their share of the cores of the vm that named them, where that vm has reported."""
        seen_jobs = [sightings[job.job_id] for job in jobs]
        beats = [seen.last for seen in seen_jobs if any(beat.noted in OPEN for beat in seen.beats)]
        # A vm that named a job before a month's edge may report for the first time after it.
        moments = {self.deadline.now(), *(beat.last_seen_at for beat in beats)}
        cores = _cores({beat.vm for beat in beats}, {month_of(moment) for moment in moments}, self.documents)
        with_cores = {}
        for job in jobs:
            seen = sightings[job.job_id]
            vm_cores = cores.get((seen.last.vm, seen.last.cloud))
            with_cores[job.job_id] = job if vm_cores is None else dirac_state.with_cores(job, vm_cores, seen)
        return with_cores


def _batches(due: dict[str, Sightings], batch_size: int, now: datetime) -> Iterator[dict[str, Sightings]]:
    """Return the jobs of each query, in an order that depends on the time."""
    job_ids = shuffled(due, str, now)
    for start in range(0, len(job_ids), batch_size):
        yield {job_id: due[job_id] for job_id in job_ids[start : start + batch_size]}


def _is_going_on(old: Job, new: Job) -> bool:
    return old.final_at is None or new.attempt != old.attempt


def _is_possible(job: Job, now: datetime) -> bool:
    """Return whether no time of a job lies in the future: otherwise DIRAC's answers would look old for ever."""
    return all(
        at is None or at <= now + AHEAD
        for at in (job.started_at, job.ended_at, job.changed_at, job.final_at, job.seen_at)
    )


def _closed_beats(job: Job, state: JobState | None, sightings: Sightings, now: datetime) -> Iterable[Write]:
    for beat in sightings.beats:
        closed = dirac_state.closed_beat(beat, job, state, now)
        if closed != beat:
            yield beat_write(closed)


def _cores(vms: set[str], months: set[str], documents: Documents) -> dict[tuple[str, str], int]:
    newest: dict[tuple[str, str], Usage] = {}
    names = sorted(vms)
    for start in range(0, len(names), VMS_PER_QUERY):
        where = {"vm": names[start : start + VMS_PER_QUERY], "month": sorted(months)}
        for _, usage in documents.find("usage", Usage, where):
            newest_so_far = newest.setdefault((usage.vm, usage.cloud), usage)
            if usage.last_sampled_at > newest_so_far.last_sampled_at:
                newest[usage.vm, usage.cloud] = usage
    return {vm: usage.cores for vm, usage in newest.items()}
