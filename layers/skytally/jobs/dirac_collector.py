"""DIRAC's rounds: what vms named, asked about where it fell silent, kept.

Invariants: after a heartbeat made it, only a round changes a job, and its version is the moment just before DIRAC was
asked: whatever ends late, in whatever order, nothing older overwrites. A heartbeat is put aside only once its job's
state is kept, and only as it was read. A DIRAC that does not answer changes no state. Each job is settled by itself:
one that cannot be, because of what DIRAC says or of what is stored, is noted as unreadable and stays as it is, until a
later round.
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
from skytally.jobs.dirac_runs import SILENT_AFTER, Seen
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
SHOWN_AT_ONCE = 10_000
VMS_AT_ONCE = 500


class DiracCounts(TypedDict, total=False):
    """Jobs that vms name, that DIRAC was asked about, that became final,
    that cannot be read, and that had no time left.
    """

    running: int
    asked: int
    final: int
    unreadable: int
    left: int


def settle(door: JobStates, documents: Documents, deadline: Deadline) -> DiracCounts:
    """Ask DIRAC about every job that is new, fell silent,
    came back or may still change, and once an hour about what runs.

    What is left when time is up is the next round's. Raises Unavailable where DIRAC or the store does not answer.
    """
    return Settlement(door, documents, deadline, Notes(documents.write, deadline.now)).run()


class Settlement(Struct):
    """A round: whom it asks, where it keeps, when it must stop, and what it could not read."""

    door: JobStates
    documents: Documents
    deadline: Deadline
    notes: Notes
    unreadable: int = 0

    def run(self) -> DiracCounts:
        """Settle what is to be settled, in another order each round, so that none is always the last; return counts."""
        self.documents.refresh()
        seen = self._seen()
        now = self.deadline.now()
        asked = {job_id: one for job_id, one in seen.items() if one.is_to_be_asked(now)}
        running = {job_id: one for job_id, one in seen.items() if job_id not in asked}
        asked |= self._show(running, now)
        # A door is asked in any case: its credentials may need it.
        parts = list(_parts(asked, self.door.jobs_at_once, now)) or [{}]
        done = [(len(part), self._settle(part)) for part in takewhile(lambda _: not self.deadline.is_over(), parts)]
        told, final = sum(count for count, _ in done), sum(count for _, count in done)
        left: DiracCounts = {"left": len(asked) - told} if told < len(asked) else {}
        return {"running": len(running), "asked": told, "final": final, "unreadable": self.unreadable, **left}

    def _seen(self) -> dict[str, Seen]:
        found: dict[str, list[Heartbeat]] = defaultdict(list)
        for key, beat in self.documents.find("heartbeat", Heartbeat, {"noted": [NEW, RUNNING, AFTER_END, OVER]}):
            if is_job_id(beat.job_id):
                found[beat.job_id].append(beat)
            else:
                self._note("document", "heartbeat", key, "its job_id is no DIRAC job's")
        return {job_id: Seen(tuple(one)) for job_id, one in found.items()}

    def _show(self, running: dict[str, Seen], now: datetime) -> dict[str, Seen]:
        """Keep once an hour how far the jobs are that vms name,
        so that they do not look forgotten, even while DIRAC is away.

        Return these, a bounded number, the longest unseen first: a payload may not know that DIRAC has ended or moved
        its job.
        """
        jobs = self._known(running, now)
        late = [job for job in jobs.values() if running[job.job_id].last.last_seen_at - job.seen_at >= SILENT_AFTER]
        late = sorted(late, key=lambda job: job.seen_at)[:SHOWN_AT_ONCE]
        named = self._each({job.job_id: job for job in late}, lambda job: dirac_state.named(job, running[job.job_id]))
        self._keep(named, now)
        return {job_id: running[job_id] for job_id in named}

    def _settle(self, seen: dict[str, Seen]) -> int:
        """Ask about some jobs, keep what is new, and put aside what vms said of runs that are over;
        return how many became final.
        """
        now = self.deadline.now()
        states = self._states(seen, now)
        before = {
            job_id: job
            for job_id, job in self._known(seen, now).items()
            if not isinstance(states.get(job_id), UnreadState)
        }
        known = {job_id: state for job_id, state in states.items() if isinstance(state, JobState)}
        found = self._each(before, lambda job: dirac_state.after(job, known.get(job.job_id), seen[job.job_id], now))
        new = {job_id: job for job_id, job in found.items() if job is not before[job_id]}
        # What is told late of a run was named beside other jobs than the run itself.
        new |= self._with_cores([job for job_id, job in new.items() if _is_going_on(before[job_id], job)], seen)
        lost = self._keep(new, now)
        kept = {job_id: new.get(job_id, job) for job_id, job in found.items() if job_id not in lost}
        aside = self._each(kept, lambda job: list(_put_aside(job, known.get(job.job_id), seen[job.job_id], now)))
        self.documents.write([write for writes in aside.values() for write in writes]).result()
        return sum(job.final_at is not None and before[job_id].final_at is None for job_id, job in kept.items())

    def _states(self, seen: dict[str, Seen], now: datetime) -> dict[str, JobState | UnreadState]:
        """Ask DIRAC; what it says that cannot be read is noted."""
        states = dirac_rows.until(now + AHEAD, self.door.states([int(job_id) for job_id in seen]))
        for unread in {state for state in states.values() if isinstance(state, UnreadState)}:
            self._note("row", SOURCE, unread.key, unread.reason)
        return {str(job_id): state for job_id, state in states.items()}

    def _known(self, seen: dict[str, Seen], now: datetime) -> dict[str, Job]:
        """Read jobs; one that was forgotten, never came to be written,
        or lies in the future, is made of what vms said.
        """
        stored = zip(seen, self.documents.get_many("job", [job_key(job_id) for job_id in seen], Job), strict=True)
        known = {job_id: job for job_id, job in stored if job is not None}
        for job_id in [job_id for job_id, job in known.items() if not _is_possible(job, now)]:
            self._note(
                "document", "job", job_key(job_id), "its times lie in the future: it is made anew of what vms say"
            )
            del known[job_id]
        return {job_id: known.get(job_id) or new_job(one.last, one.first_at) for job_id, one in seen.items()}

    def _each(self, jobs: dict[str, Job], work: Callable[[Job], T]) -> dict[str, T]:
        """Do work for each job; one for which it fails is noted, and left as it is."""
        done: dict[str, T] = {}
        for job_id, job in jobs.items():
            try:
                done[job_id] = work(job)
            except Exception as error:  # noqa: BLE001  one job's fault is its own
                self._note("document", "job", job_key(job_id), batch.rejection(0, error).message)
        return done

    def _keep(self, jobs: dict[str, Job], now: datetime) -> set[str]:
        """Keep jobs; return those that were not, since a later round knew more, or since the store never takes them."""
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

    def _with_cores(self, jobs: list[Job], seen: dict[str, Seen]) -> dict[str, Job]:
        """Count the cores of the vms that named jobs until now, as far as these vms have reported."""
        ran = [seen[job.job_id].last for job in jobs if any(beat.noted in OPEN for beat in seen[job.job_id].beats)]
        cores = _cores({beat.vm for beat in ran}, {month_of(beat.last_seen_at) for beat in ran}, self.documents)
        counted = {}
        for job in jobs:
            last = seen[job.job_id].last
            vm_cores = cores.get((last.vm, last.cloud))
            counted[job.job_id] = job if vm_cores is None else dirac_state.with_cores(job, vm_cores, seen[job.job_id])
        return counted


def _parts(seen: dict[str, Seen], at_once: int, now: datetime) -> Iterator[dict[str, Seen]]:
    """Cut what is asked into what one call asks about,
    in an order that depends on the time; time is looked at between calls.
    """
    job_ids = shuffled(seen, str, now)
    for start in range(0, len(job_ids), at_once):
        yield {job_id: seen[job_id] for job_id in job_ids[start : start + at_once]}


def _is_going_on(old: Job, new: Job) -> bool:
    return old.final_at is None or new.attempt != old.attempt


def _is_possible(job: Job, now: datetime) -> bool:
    """Check that no time of a job lies in the future: DIRAC would never be believed about it again."""
    return all(
        at is None or at <= now + AHEAD
        for at in (job.started_at, job.ended_at, job.changed_at, job.final_at, job.seen_at)
    )


def _put_aside(job: Job, state: JobState | None, seen: Seen, now: datetime) -> Iterable[Write]:
    for beat in seen.beats:
        known = dirac_state.put_aside(beat, job, state, now)
        if known != beat:
            yield beat_write(known)


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
