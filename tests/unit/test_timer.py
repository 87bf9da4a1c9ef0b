"""Timers: one round a turn, whoever calls and how often;
a round that fails in whatever way is on record, and none outlives its lease.
"""

import contextlib
import gc
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from skytally.adapters.http_client import REQUEST_SECONDS
from skytally.core.documents import Cursor, Round, TimerSlot
from skytally.core.errors import Malformed, Unavailable
from skytally.core.ports import Outcome, Write
from skytally.operation import timer
from skytally.operation.timer import Deadline, TimeIsUp, take_turn

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def run(documents, at=NOW, work=lambda _: {"count": 1}, min_seconds=60):
    return timer.run("sweep", work, documents, min_seconds, lambda: at)


def last(documents):
    return documents.get("round", "sweep", Round)


def cursor(at, error=None):
    return Write("cursor", "source", round(at.timestamp()), Cursor(stands_at=at, asked_at=at, error=error))


def killed(documents, at=NOW):
    """Leave what a process leaves that was killed in a round."""
    assert take_turn("sweep", None, documents, at)
    this = Round(name="sweep", started_at=at, finished_at=None, succeeded_at=None, error=None)
    documents.write([Write("round", "sweep", round(at.timestamp() * 1_000), this)]).result()


def test_a_round_and_the_next(documents):
    assert run(documents) == {"state": "done", "count": 1}
    assert run(documents, NOW + 59 * SECOND) == {"state": "not_due"}
    assert run(documents, NOW + 60 * SECOND) == {"state": "done", "count": 1}


def race(documents, at, min_seconds=60):
    """Let many call at the same time; return what they were told."""
    done = []

    def work(_):
        done.append(1)
        return {}

    with ThreadPoolExecutor(16) as callers:
        states = list(callers.map(lambda _: run(documents, at, work, min_seconds)["state"], range(64)))
    assert set(states) <= {"done", "busy", "not_due"}
    assert len(done) == states.count("done") == 1


def test_of_many_callers_one_works_also_where_there_was_a_round_before(documents):
    race(documents, NOW)
    race(documents, NOW + 60 * SECOND)


class Evidence:
    """What a round has read."""


class Outage(Unavailable):
    """An outage that can be watched."""


@contextlib.contextmanager
def without_garbage_collection():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def failing(kept, wake=None):
    """Return the work of a round that reads, fails, and notes its failure as rounds of several checks do."""

    def check(outages):
        evidence = Evidence()
        kept.append(weakref.ref(evidence))
        try:
            [].pop()
        except IndexError:
            error = Outage("the store is away")
            kept.append(weakref.ref(error))
            outages.append(error)
            raise error from None

    def work(_):
        outages = []
        with contextlib.suppress(Outage):
            check(outages)
        if wake is not None:
            wake.wait(20)
        raise outages[0]

    return work


def test_a_failed_round_leaves_nothing_to_garbage_collection(documents):
    kept = []
    with without_garbage_collection():
        with contextlib.suppress(Unavailable):
            run(documents, work=failing(kept))
        assert [seen() for seen in kept] == [None, None]


def test_a_round_that_fails_after_its_end_leaves_nothing_to_garbage_collection(documents, hasty, monkeypatch):
    pool = ThreadPoolExecutor(1)
    monkeypatch.setattr(timer, "THREADS", pool)
    kept, wake = [], threading.Event()
    with without_garbage_collection():
        with contextlib.suppress(Unavailable):
            run(documents, work=failing(kept, wake))
        assert [seen() is None for seen in kept] == [False, False]
        wake.set()
        pool.shutdown()
        assert [seen() for seen in kept] == [None, None]


def test_a_failure_is_on_record_and_the_last_success_too(documents):
    def fail(_):
        raise Unavailable("the source is away")

    run(documents)
    with pytest.raises(Unavailable):
        run(documents, NOW + timedelta(minutes=2), fail)
    assert (last(documents).error, last(documents).succeeded_at) == ("the source is away", NOW)
    assert run(documents, NOW + timedelta(minutes=4))["state"] == "done"


class Strange(BaseException):
    """What no library should raise."""


@pytest.mark.parametrize(
    "crash", [RuntimeError, RecursionError, MemoryError, SystemExit, KeyboardInterrupt, TimeoutError, Strange]
)
def test_a_crash_of_any_kind_is_a_failed_round_with_an_incident_and_the_next_is_due_as_usual(documents, caplog, crash):
    def work(_):
        raise crash("the password is hunter2")

    with pytest.raises(Unavailable) as failure:
        run(documents, NOW, work)
    assert (last(documents).finished_at, last(documents).succeeded_at, last(documents).error) == (
        NOW,
        None,
        failure.value.message,
    )
    incident = re.search(r"incident ([0-9a-f]{16})$", last(documents).error)[1]
    assert [record.msg["kind"] for record in caplog.records if record.msg.get("incident") == incident] == [
        crash.__name__
    ]
    assert "hunter2" not in last(documents).error + caplog.text
    assert run(documents, NOW + 59 * SECOND)["state"] == "not_due"
    assert run(documents, NOW + 60 * SECOND)["state"] == "done"
    assert last(documents).error is None


def test_a_setting_that_is_wrong_is_named_and_is_the_server_s_own_fault(documents):
    def refuse(_):
        raise Malformed("setting X: names no queue")

    with pytest.raises(Unavailable, match="setting X: names no queue"):
        run(documents, NOW, refuse)
    assert last(documents).error == "setting X: names no queue"


@pytest.mark.parametrize("min_seconds", [0, 60, 3_600])
def test_a_round_that_was_killed_blocks_the_next_for_its_lease_and_no_longer(documents, min_seconds):
    killed(documents)
    assert run(documents, NOW + 29 * SECOND, min_seconds=min_seconds)["state"] == "busy"
    assert run(documents, NOW + 30 * SECOND, min_seconds=min_seconds)["state"] == "done"


def test_after_a_round_that_was_killed_one_works(documents):
    killed(documents)
    race(documents, NOW + 30 * SECOND, min_seconds=3_600)


def test_a_turn_of_which_nothing_came_blocks_for_its_lease_and_no_longer(documents):
    assert take_turn("sweep", None, documents, NOW)
    assert run(documents, NOW + 29 * SECOND)["state"] == "busy"
    race(documents, NOW + 30 * SECOND)


def test_a_turn_is_held_by_one_for_a_lease_each(documents):
    holders = [at for at in range(0, 200, 5) if take_turn("x", NOW, documents, NOW + at * SECOND)]
    assert holders == [0, 30, 60, 90, 120, 150, 180]


def test_a_turn_that_cannot_be_read_or_that_lies_before_the_one_it_follows_blocks_nobody(documents, tmp_path):
    documents.write(
        [
            Write(
                "turn",
                f"x-{round(NOW.timestamp() * 1_000)}",
                0,
                TimerSlot(taken_at=NOW - timedelta(days=1)),
                create=True,
            )
        ]
    ).result()
    assert take_turn("x", NOW, documents, NOW + SECOND)
    assert not take_turn("x", NOW, documents, NOW + 2 * SECOND)
    assert take_turn("y", NOW, documents, NOW)
    with contextlib.closing(sqlite3.connect(tmp_path / "documents.sqlite")) as file:
        file.execute("UPDATE turn SET taken_at = 'noon' WHERE key LIKE 'y-%'")
        file.commit()
    assert take_turn("y", NOW, documents, NOW + SECOND)
    assert not take_turn("y", NOW, documents, NOW + 2 * SECOND)


def test_a_round_that_outlived_its_lease_loses_to_the_one_that_followed(documents):
    def work(_):
        assert run(documents, NOW + 31 * SECOND, lambda _: {"second": True}) == {"state": "done", "second": True}
        return {}

    with pytest.raises(Unavailable, match="outlived its lease"):
        run(documents, NOW, work)
    assert (last(documents).started_at, last(documents).error) == (NOW + 31 * SECOND, None)


def test_whoever_slept_before_its_round_began_finds_the_later_one_on_record(documents):
    """A process that was frozen between reading what the last round was and taking its turn."""

    class Sleepy:
        def get(self, index, key, kind):
            found = documents.get(index, key, kind)
            if index == "round":
                for at in (1, 61):
                    assert run(documents, NOW + at * SECOND)["state"] == "done"
            return found

        def write(self, writes):
            return documents.write(writes)

    assert timer.run("sweep", lambda _: pytest.fail("two rounds"), Sleepy(), 60, lambda: NOW) == {"state": "busy"}
    assert last(documents).started_at == NOW + 61 * SECOND
    assert run(documents, NOW + 121 * SECOND)["state"] == "done"


@pytest.fixture
def hasty(monkeypatch):
    """Let rounds be over after a third of a second."""
    monkeypatch.setattr(timer, "ENDS_SECONDS", 0.3)


def test_a_round_that_hangs_is_a_failed_round_in_time_and_what_it_still_does_is_not_stored(documents, hasty):
    wake, outcome = threading.Event(), []

    def hang(deadline):
        wake.wait(20)
        assert deadline.is_over()
        try:
            outcome.append(deadline.guard(documents).write([cursor(NOW)]))
        except TimeIsUp as error:
            outcome.append(error)
        return {}

    begin = time.monotonic()
    with pytest.raises(Unavailable, match="took longer"):
        run(documents, NOW, hang)
    assert time.monotonic() - begin < 2
    assert "took longer" in last(documents).error
    assert run(documents, NOW + 60 * SECOND)["state"] == "done"
    wake.set()
    while not outcome:
        time.sleep(0.01)
    assert isinstance(outcome[0], TimeIsUp)
    assert documents.get("cursor", "source", Cursor) is None
    assert last(documents).error is None


def test_a_round_for_which_no_thread_is_free_is_a_failed_round_and_never_begins(documents, hasty, monkeypatch):
    pool = ThreadPoolExecutor(1)
    monkeypatch.setattr(timer, "THREADS", pool)
    wake, begun = threading.Event(), []
    with pytest.raises(Unavailable):
        run(documents, NOW, lambda _: wake.wait(20) and {})
    with pytest.raises(Unavailable):
        run(documents, NOW + 60 * SECOND, lambda _: begun.append(1) or {})
    wake.set()
    pool.shutdown()
    assert begun == []


def test_the_deadline_stops_what_is_new_first_and_all_the_rest_later(documents):
    moment = [NOW]
    deadline = Deadline(lambda: moment[0], NOW + 10 * SECOND, NOW + 20 * SECOND)
    reading, writing = deadline.guard_reading(documents), deadline.guard(documents)
    assert (deadline.is_over(), reading.count("cursor"), writing.count("cursor")) == (False, 0, 0)
    moment[0] += 10 * SECOND
    assert (deadline.is_over(), writing.write([cursor(NOW)]).result()) == (True, [Outcome.STORED])
    with pytest.raises(TimeIsUp):
        reading.count("cursor")
    moment[0] += 10 * SECOND
    with pytest.raises(TimeIsUp):
        writing.write([cursor(NOW)])


def test_requests_fit_into_rounds_and_rounds_into_their_lease():
    assert timer.WORKS_SECONDS + REQUEST_SECONDS < timer.ENDS_SECONDS <= 20
    assert timer.ENDS_SECONDS + REQUEST_SECONDS < timer.LEASE.total_seconds() == 30
    assert REQUEST_SECONDS <= 8


def test_a_round_that_goes_on_when_its_process_ends_is_cut_to_an_end(documents):
    begun = threading.Event()

    def work(deadline):
        begun.set()
        while not deadline.is_over():
            time.sleep(0.01)
        return {"cut": True}

    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(run, documents, NOW, work)
        begun.wait(5)
        timer.end_rounds()
        assert last(documents).finished_at == NOW
        assert called.result() == {"state": "done", "cut": True}


def test_a_round_that_cannot_be_cut_is_on_record_as_failed_before_its_process_ends(documents, monkeypatch):
    monkeypatch.setattr(timer, "STOPS_SECONDS", 0.2)
    begun, wake = threading.Event(), threading.Event()

    def hang(_):
        begun.set()
        return wake.wait(20) and {}

    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(run, documents, NOW, hang)
        begun.wait(5)
        timer.end_rounds()
        assert last(documents).error == "the process was told to end, and this round with it"
        with pytest.raises(Unavailable, match="told to end"):
            called.result()
        wake.set()
    assert run(documents, NOW + 60 * SECOND)["state"] == "done"


SCRIPT = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from skytally.operation import timer
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import Cursor
from skytally.core.ports import Write

timer.LEASE, timer.WORKS_SECONDS, timer.ENDS_SECONDS = timedelta(seconds=3), 1.0, 2.0
documents = SqliteDocuments(Path(sys.argv[1]))

def work(deadline):
    stored = deadline.guard(documents) if sys.argv[2] == "guarded" else documents
    print("begun", flush=True)
    sys.stdin.readline()
    at = datetime(2026, 11, 25, 11, tzinfo=UTC)
    late = Cursor(stands_at=at, asked_at=at, error="late")
    stored.write([Write("cursor", "source", round(at.timestamp()), late)]).result()
    return {}

try:
    print(timer.run("sweep", work, documents, 60, lambda: datetime.now(UTC)), flush=True)
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


@contextlib.contextmanager
def process(tmp_path, kind):
    """Run a round in a process of its own, until it has begun."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "documents.sqlite"), kind]
    environment = {**os.environ, "PYTHONPATH": str(Path(timer.__file__).parents[2])}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "begun\n"
            yield other
        finally:
            other.kill()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["guarded", "bare"])
def test_a_process_that_was_frozen_past_its_lease_writes_nothing_that_counts(documents, tmp_path, monkeypatch, kind):
    """The guard keeps it from writing; where it writes all the same, the store does not take it."""
    monkeypatch.setattr(timer, "LEASE", timedelta(seconds=3))
    with process(tmp_path, kind) as other:
        other.send_signal(signal.SIGSTOP)
        assert run(documents, datetime.now(UTC))["state"] == "busy"
        time.sleep(3.1)
        mine = datetime.now(UTC)
        assert run(documents, mine, lambda _: documents.write([cursor(NOW)]).result() and {"mine": True})["mine"]
        other.send_signal(signal.SIGCONT)
        told, _ = other.communicate("\n", timeout=30)
    assert told.startswith(("Unavailable", "TimeIsUp"))
    assert (last(documents).error, last(documents).started_at) == (
        None,
        mine.replace(microsecond=mine.microsecond // 1_000 * 1_000),
    )
    assert documents.get("cursor", "source", Cursor).error is None


def test_a_process_that_is_killed_blocks_the_next_round_for_its_lease_and_no_longer(documents, tmp_path):
    with process(tmp_path, "guarded") as other:
        other.kill()
        other.wait()
    begun_at = last(documents).started_at
    assert run(documents, begun_at + 29 * SECOND)["state"] == "busy"
    assert run(documents, begun_at + 30 * SECOND)["state"] == "done"
