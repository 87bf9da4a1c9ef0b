"""One commit for all that wait: what one caller sends costs nobody else."""

import asyncio
import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from skytally.accounting.boots import done
from skytally.core.commit_queue import CommitQueue
from skytally.core.documents import Label
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write

STORED, REJECTED, STALE = Outcome.STORED, Outcome.REJECTED, Outcome.STALE
AWAY = Unavailable("this index is closed")


def label(key):
    return Write("label", key, 0, Label(boot_id="x"))


class Store:
    """Keeps keys as they say, once somebody has let it begin: all that was put before shares one commit."""

    def __init__(self):
        self.commits, self.began, self.may_go_on = [], threading.Event(), threading.Event()

    def commit(self, keys):
        self.began.set()
        assert self.may_go_on.wait(10)
        self.commits.append(keys)
        if "crash" in keys:
            raise ZeroDivisionError
        if "all away" in keys:
            raise Unavailable("the store is away")
        return [{"closed": AWAY, "old": STALE}.get(key, STORED) for key in keys]


def prepare(write, _values):
    return write.key if write.key != "bug" else 1 / 0


@pytest.fixture
def commit_store():
    return Store()


@pytest.fixture
def queue(commit_store):
    with contextlib.closing(CommitQueue(prepare, commit_store.commit, writers=1, most_writes=100)) as queue:
        yield queue
        commit_store.may_go_on.set()


def shared(store, queue, *batches):
    """Let several callers' batches share one commit; return what each is answered."""
    first = queue.put([label("first")])
    assert store.began.wait(10)
    futures = [queue.put([label(key) for key in keys]) for keys in batches]
    store.may_go_on.set()
    assert first.result(10) == [STORED]
    for future in futures:
        with contextlib.suppress(Unavailable):
            future.result(10)
    assert len(store.commits) <= 2
    return [future.exception(10) or future.result(10) for future in futures]


def test_what_a_store_cannot_keep_of_one_caller_is_that_callers_alone(commit_store, queue):
    answers = shared(commit_store, queue, ["a", "b"], ["c", "closed", "d"], ["e", "old"])
    assert answers == [[STORED, STORED], AWAY, [STORED, STALE]]


def test_a_write_that_no_store_takes_is_rejected_and_never_reaches_one(commit_store, queue):
    answers = shared(commit_store, queue, ["a", "", "b"], ["\ud800"], ["c"])
    assert answers == [[STORED, REJECTED, STORED], [REJECTED], [STORED]]
    assert commit_store.commits[1] == ["a", "b", "c"]


def test_a_crash_while_one_write_is_prepared_is_that_writes_rejection(commit_store, queue):
    assert shared(commit_store, queue, ["a", "bug", "b"], ["c"]) == [[STORED, REJECTED, STORED], [STORED]]


def test_a_batch_of_nothing_but_rejections_asks_the_store_nothing(commit_store, queue):
    assert shared(commit_store, queue, ["", ""]) == [[REJECTED, REJECTED]]
    assert len(commit_store.commits) == 1


def test_a_store_that_is_away_is_away_for_all_and_the_next_commit_goes_on(commit_store, queue):
    answers = shared(commit_store, queue, ["a"], ["all away"])
    assert [str(answer) for answer in answers] == ["the store is away"] * 2
    assert queue.put([label("b")]).result(10) == [STORED]


class Turn:
    """A turn that a thread waits for until somebody lets it come; it may fail once."""

    def __init__(self, *failures):
        self.waits, self.may_come, self._failures = threading.Event(), threading.Event(), list(failures)

    def take(self):
        self.waits.set()
        assert self.may_come.wait(10)
        if self._failures:
            raise self._failures.pop()


def in_turns(commit_store, turn, writers=1):
    """Return a queue whose threads wait for a turn, over a store that does not keep them waiting."""
    commit_store.may_go_on.set()
    return CommitQueue(prepare, commit_store.commit, writers=writers, most_writes=100, take_turn=turn.take)


def test_what_arrives_while_a_thread_waits_for_its_turn_shares_the_commit(commit_store):
    turn = Turn()
    with contextlib.closing(in_turns(commit_store, turn)) as queue:
        futures = [queue.put([label("a")])]
        assert turn.waits.wait(10)
        futures += [queue.put([label(key)]) for key in "bc"]
        turn.may_come.set()
        assert [future.result(10) for future in futures] == [[STORED]] * 3
    assert commit_store.commits == [["a", "b", "c"]]


@pytest.mark.parametrize(("failure", "said"), [(AWAY, "this index is closed"), (KeyError("x"), "incident")])
def test_a_turn_that_cannot_be_taken_is_an_outage_for_all_that_wait_and_the_next_commit_goes_on(
    commit_store, failure, said
):
    turn = Turn(failure)
    with contextlib.closing(in_turns(commit_store, turn)) as queue:
        futures = [queue.put([label("a")])]
        assert turn.waits.wait(10)
        futures.append(queue.put([label("b")]))
        turn.may_come.set()
        assert all(said in future.exception(10).message for future in futures)
        assert queue.put([label("c")]).result(10) == [STORED]
    assert commit_store.commits == [["c"]]


def test_what_waits_for_a_turn_at_the_end_is_committed(commit_store):
    turn = Turn()
    queue = in_turns(commit_store, turn, writers=2)
    future = queue.put([label("a")])
    assert turn.waits.wait(10)
    closing = threading.Thread(target=queue.close)
    closing.start()
    turn.may_come.set()
    closing.join(10)
    assert not closing.is_alive()
    assert future.result(0) == [STORED]


def test_a_callers_batches_stay_in_order_where_more_wait_than_a_commit_takes(commit_store):
    with contextlib.closing(CommitQueue(prepare, commit_store.commit, writers=1, most_writes=3)) as queue:
        keys = [f"{n:02}" for n in range(20)]
        futures = [queue.put([label(key)]) for key in keys]
        assert futures[7].cancel()
        commit_store.may_go_on.set()
        assert [future.result(10) for future in futures if not future.cancelled()] == [[STORED]] * 19
    assert [key for commit in commit_store.commits for key in commit] == keys
    assert max(len(commit) for commit in commit_store.commits) == 3


def test_each_write_that_meets_the_end_is_answered(commit_store):
    commit_store.may_go_on.set()
    for _ in range(20):
        queue, futures = CommitQueue(prepare, commit_store.commit, writers=2, most_writes=3), []
        with ThreadPoolExecutor(4) as callers:
            put = [callers.submit(queue.put, [label("a")]) for _ in range(200)]
            queue.close()
            futures = [one.result() for one in put]
        for future in futures:
            assert (future.exception(10) or future.result(10)) == [STORED] or "shutting down" in str(future.exception())


def test_an_outage_lets_go_of_the_requests_that_it_meets():
    """They are gone with their answers, not with the next collection of garbage."""

    class Body:
        pass

    def commit(_):
        try:
            return [prepare(label("bug"), ())]
        except ZeroDivisionError as error:
            raise Unavailable("the store is away") from error

    def in_a_thread(queue):
        body = Body()
        with contextlib.suppress(Unavailable):
            done(queue.put([label("a")]))
        return weakref.ref(body)

    async def on_a_loop(queue):
        body = Body()
        with contextlib.suppress(Unavailable):
            await asyncio.wrap_future(queue.put([label("a")]))
        return weakref.ref(body)

    gc.collect()
    gc.disable()
    try:
        with contextlib.closing(CommitQueue(prepare, commit, writers=1, most_writes=100)) as queue:
            bodies = in_a_thread(queue), asyncio.run(on_a_loop(queue))
        assert [body() for body in bodies] == [None, None]
    finally:
        gc.enable()


def test_a_crash_of_the_store_is_an_outage_and_the_next_commit_goes_on(commit_store, queue):
    answers = shared(commit_store, queue, ["a"], ["crash"])
    assert all(isinstance(answer, Unavailable) and "incident" in answer.message for answer in answers)
    assert queue.put([label("b")]).result(10) == [STORED]
