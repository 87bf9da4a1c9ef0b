"""Rounds that overlap, heartbeats that come late, a DIRAC that answers slowly:
nothing final is ever overwritten by something older.
"""

import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.core.errors import Unavailable
from skytally.core.ports import JobState
from skytally.jobs import dirac_collector, heartbeats
from tests.support import builders, dirac_lab
from tests.support.dirac_lab import AT, CALLER, HOUR, OTHER, OURS, job

FINAL = {"Done", "Failed", "Killed"}
PATIENCE = settings(suppress_health_check=[HealthCheck.too_slow])

# What may happen next. `go` lets a round that has begun come past so many calls of the store or of DIRAC.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("beat"), st.sampled_from(["vm-1", "vm-2"]), st.integers(0, 40)),
        st.tuples(st.just("late"), st.sampled_from(["vm-1", "vm-2"]), st.integers(6, 400)),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 70, 200])),
        st.tuples(
            st.just("dirac"),
            st.sampled_from(["run", "end", "fail", "reschedule", "away", "back"]),
            st.sampled_from([OURS, OTHER]),
        ),
        st.tuples(st.just("start"), st.integers(0, 4)),
        st.tuples(st.just("go"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("go"), st.integers(0, 2), st.integers(1, 4)),
    ),
    min_size=4,
    max_size=24,
)


class Story:
    """One job through any steps, with the truth beside it."""

    def __init__(self, documents):
        self.documents, self.now, self.is_away = documents, AT, False
        self.truth = JobState(
            job_id=1, status="Running", site=OURS, started_at=AT, last_update_at=AT, reschedule_count=0
        )
        self.rounds = []
        for index, moment in (("heartbeat", "last_seen_at"), ("job", "changed_at")):
            documents.forget(index, moment, AT + 10_000 * HOUR)
        self.beat("vm-1", 0)
        self.wait(70)

    def play(self, steps):
        for kind, *told in steps:
            getattr(self, kind)(*told)
            self.now += timedelta(seconds=1)

    def beat(self, vm, late_minutes):
        """Take a report that was kept late: its time is when it came in."""
        came_at = max(AT, self.now - timedelta(minutes=late_minutes))
        heartbeats.record(builders.heartbeat("1", vm=vm), CALLER, self.documents, came_at)

    def late(self, vm, late_minutes):
        """Take a report that the vm kept and dates itself."""
        report = builders.heartbeat("1", vm=vm, seen_at=max(AT, self.now - timedelta(minutes=late_minutes)))
        heartbeats.record(report, CALLER, self.documents, self.now)

    def wait(self, minutes):
        self.now += timedelta(minutes=minutes)

    def dirac(self, what, site):
        """Let DIRAC go on as it may; its times stay as the real server's do."""
        status, count = self.truth.status, self.truth.reschedule_count
        if what in {"away", "back"}:
            self.is_away = what == "away"
        elif what == "reschedule" and status != "Waiting":
            self.tell(status="Waiting", site="ANY", rescheduled_at=self.now, reschedule_count=count + 1)
        elif what == "run" and status == "Waiting":
            self.tell(status="Running", site=site)
        elif what in {"end", "fail"} and status == "Running":
            self.tell(status="Done" if what == "end" else "Failed", ended_at=self.truth.ended_at or self.now)

    def tell(self, **change):
        self.truth = structs.replace(self.truth, last_update_at=self.now, **change)

    def start(self, calls):
        self.rounds.append(Round(self))
        self.go(-1, calls)

    def go(self, which, calls):
        for _ in range(calls if self.rounds else 0):
            one = self.rounds[which % len(self.rounds)]
            if one.go():
                self.rounds.remove(one)
                one.end()
                break


class Round:
    """A round in a thread of its own, which stops at every call that it makes;
    one thread runs at a time, so every story is repeatable.
    """

    def __init__(self, story):
        self.story, self.error, self.is_over = story, None, False
        self.turn, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def go(self):
        """Let it come as far as its next call; return whether it has ended."""
        self.turn.release()
        self.stopped.acquire()
        return self.is_over

    def end(self):
        self.thread.join()
        if self.error is not None:
            raise self.error

    def run(self):
        self.turn.acquire()
        try:
            dirac_collector.settle(self, self, dirac_lab.unhurried(lambda: self.story.now))
        except Unavailable:
            pass
        except Exception as error:  # noqa: BLE001
            self.error = error
        finally:
            self.is_over = True
            self.stopped.release()

    def stop(self):
        self.stopped.release()
        self.turn.acquire()

    def refresh(self):
        self.story.documents.refresh()
        self.stop()

    jobs_at_once = 100

    def states(self, job_ids):
        if self.story.is_away:
            raise Unavailable("away")
        answer = {1: self.story.truth} if 1 in job_ids else {}
        self.stop()
        return answer

    def find(self, *asked):
        return self.story.documents.find(*asked)

    def get_many(self, *asked):
        return self.story.documents.get_many(*asked)

    def write(self, writes):
        """Keep, after a stop, and see that nothing final was lost."""
        if not writes:
            return self.story.documents.write(writes)
        self.stop()
        before = job(self.story.documents)
        told = self.story.documents.write(writes)
        told.result()
        after = job(self.story.documents)
        if before.final_at is not None and after != before:
            is_same_end = (after.status, after.final_at) == (before.status, before.final_at)
            assert is_same_end or after.attempt > before.attempt, (before, after)
        return told


def check(documents, steps):
    story = Story(documents)
    try:
        story.play(steps)
    finally:
        while story.rounds:
            story.go(0, 1)
    story.is_away = False
    for _ in range(3):
        story.wait(61)
        dirac_collector.settle(quick(story), documents, dirac_lab.unhurried(lambda: story.now))
    known, truth = job(documents), story.truth
    assert (known.status, known.attempt) == (truth.status, truth.reschedule_count), known
    assert (known.final_at is not None) == (truth.status in FINAL), known
    assert 0 <= known.wall_ms <= (story.now - AT).total_seconds() * 1_000 + 2 * 900_000


def quick(story):
    """Return a DIRAC that answers at once."""

    class Quick:
        jobs_at_once = 100

        def states(self, job_ids):
            return dict.fromkeys(job_ids, story.truth)

    return Quick()


# One round begins, waits, and asks after another that began later; what it was told is kept before what the other was
# told earlier.
OVERTAKEN = [("start", 1), ("wait", 10), ("start", 3), ("dirac", "end", OURS), ("wait", 1), ("go", 0, 9), ("go", 0, 9)]
REOPENED = [
    ("dirac", "fail", OURS),
    ("start", 9),
    ("dirac", "reschedule", OURS),
    ("dirac", "run", OTHER),
    ("wait", 10),
    ("start", 9),
]


@pytest.mark.slow
@settings(PATIENCE, max_examples=200)
@example(OVERTAKEN)
@example(REOPENED)
@given(steps=STEPS)
def test_any_order_of_heartbeats_and_rounds_ends_as_dirac_says(module_documents, steps):
    check(module_documents, steps)


def let_the_last_win(monkeypatch):
    monkeypatch.setattr(dirac_collector, "to_ms", lambda _: 2**50)


def stamp_with_the_begin_of_the_round(monkeypatch):
    def settle(door, documents, deadline, real=dirac_collector.settle):
        begin = deadline.now()
        return real(door, documents, dirac_lab.unhurried(lambda: begin))

    monkeypatch.setattr(dirac_collector, "settle", settle)


@pytest.mark.parametrize("mutate", [let_the_last_win, stamp_with_the_begin_of_the_round])
def test_a_mutant_is_caught(module_documents, monkeypatch, mutate):
    check(module_documents, OVERTAKEN)
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(module_documents, OVERTAKEN)
