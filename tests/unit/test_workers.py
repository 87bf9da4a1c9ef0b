"""Workers: one caller's requests never hold all threads, wait in order, and are refused before they are too many."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytally.core import logs
from skytally.core.errors import Unavailable
from skytally.http import workers
from skytally.http.http_error import HttpError
from skytally.http.workers import LoopThreads, Party, Share, Workers

ONE, TWO = Share(running=1, waiting=2), Share(running=2, waiting=8)


class Calls:
    """Calls that run until they are let go, and who runs now."""

    def __init__(self):
        self._changed = threading.Condition()
        self.running, self.begun, self._free = [], [], set()

    def __call__(self, name, number=0):
        def call():
            with self._changed:
                self.running.append((name, number))
                self.begun.append((name, number))
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: (name, number) in self._free, 20)
                self.running.remove((name, number))
                self._changed.notify_all()
            return number

        return call

    def let_go(self, *which):
        with self._changed:
            self._free.update(which)
            self._changed.notify_all()

    def wait_for(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, 20), self.running


@pytest.fixture
def calls():
    return Calls()


def test_one_caller_holds_its_share_and_another_is_served_at_once(calls):
    threads = Workers(4)
    a, b = Party("a", TWO), Party("b", TWO)
    futures = [threads.submit(a, calls("a", n)) for n in range(6)]
    calls.wait_for(lambda: len(calls.running) == 2)
    assert threads.submit(b, lambda: "b").result(20) == "b"
    assert calls.running == [("a", 0), ("a", 1)]
    calls.let_go(*(("a", n) for n in range(6)))
    assert [future.result(20) for future in futures] == list(range(6))
    assert calls.begun == [("a", n) for n in range(6)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
def test_whatever_comes_and_goes_each_caller_runs_its_share_and_no_more(steps):
    calls, threads, parties = Calls(), Workers(6), {name: Party(name, TWO) for name in "abc"}
    open_numbers, futures = {name: [] for name in "abc"}, []
    for number, (name, comes) in enumerate(steps):
        if comes:
            futures.append(threads.submit(parties[name], calls(name, number)))
            open_numbers[name].append(number)
        elif open_numbers[name]:
            calls.let_go((name, open_numbers[name].pop(0)))
        wanted = {(name, number) for name, numbers in open_numbers.items() for number in numbers[:2]}
        calls.wait_for(lambda wanted=wanted: set(calls.running) == wanted)
    calls.let_go(*((name, number) for name, numbers in open_numbers.items() for number in numbers))
    assert [future.result(20) for future in futures] == [number for number, (_, comes) in enumerate(steps) if comes]
    threads._threads.shutdown()
    assert not threads._running
    assert not threads._waiting


def test_beyond_what_may_wait_a_caller_is_refused_and_others_are_not(calls):
    threads, a = Workers(4), Party("a", ONE)

    async def run():
        loop = asyncio.get_running_loop()
        under_way = [loop.create_task(threads.run(a, calls("a", n))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(HttpError) as refused:
            await threads.run(a, calls("a", 3))
        assert (refused.value.status, refused.value.code) == (429, "too_many_requests")
        assert int(refused.value.headers["Retry-After"]) > 0
        assert await threads.run(Party("b", ONE), lambda: "b") == "b"
        calls.let_go(*(("a", n) for n in range(3)))
        assert await asyncio.gather(*under_way) == [0, 1, 2]

    asyncio.run(run())


def test_whoever_waits_too_long_is_told_to_come_again_and_nothing_of_it_is_done_or_kept(calls):
    threads, a = Workers(2, wait_seconds=0.05), Party("a", ONE)

    class Body:
        pass

    async def run():
        first = asyncio.create_task(threads.run(a, calls("a")))
        await asyncio.to_thread(calls.wait_for, lambda: calls.running)
        body = Body()
        kept = weakref.ref(body)
        with contextlib.suppress(Unavailable):
            raise AssertionError(await threads.run(a, lambda body=body: calls("never")(body)))
        del body
        await asyncio.sleep(0.01)
        assert kept() is None
        calls.let_go(("a", 0))
        return await first

    assert asyncio.run(run()) == 0
    threads._threads.shutdown()
    assert calls.begun == [("a", 0)]


def test_a_request_that_is_given_up_keeps_its_turn_until_its_thread_is_done(calls):
    """What nobody waits for any more still runs: the next of the same caller must not run beside it."""
    threads, a = Workers(2), Party("a", ONE)

    async def run():
        first = asyncio.create_task(threads.run(a, calls("a", 1)))
        await asyncio.to_thread(calls.wait_for, lambda: calls.running)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(threads.run(a, calls("a", 2)))
        await asyncio.sleep(0.05)
        assert calls.running == [("a", 1)]
        calls.let_go(("a", 1), ("a", 2))
        return await second

    assert asyncio.run(run()) == 2


def test_an_error_lets_go_of_what_its_call_held():
    """A refused body is gone with its refusal, not with the next collection of garbage."""
    threads = Workers(2)

    class Body:
        pass

    def refuse(body):
        raise KeyError(type(body))

    async def run():
        body = Body()
        kept = weakref.ref(body)
        with contextlib.suppress(KeyError):
            raise AssertionError(await threads.run(Party("a", ONE), lambda body=body: refuse(body)))
        del body
        return kept

    gc.collect()
    gc.disable()
    try:
        kept = asyncio.run(run())
        threads._threads.shutdown()
        assert kept() is None
    finally:
        gc.enable()


def test_what_a_coroutine_hands_to_threads_counts_as_its_callers():
    threads, most, lock, now = Workers(8), Counter(), threading.Lock(), Counter()

    def call(name):
        with lock:
            now[name] += 1
            most[name] = max(most[name], now[name])
        time.sleep(0.02)
        with lock:
            now[name] -= 1

    async def act(name):
        workers.act_for(threads, Party(name, ONE))
        await asyncio.gather(*(asyncio.to_thread(call, name) for _ in range(4)))

    async def run():
        asyncio.get_running_loop().set_default_executor(LoopThreads())
        await asyncio.gather(act("a"), act("b"), asyncio.to_thread(call, "nobody's"))

    asyncio.run(run())
    assert most == {"a": 1, "b": 1, "nobody's": 1}


def test_a_coroutine_alone_does_everything_in_its_one_thread_for_the_same_request():
    async def work():
        later = asyncio.get_running_loop().create_future()
        threading.Timer(0.01, later.get_loop().call_soon_threadsafe, (later.set_result, 7)).start()
        return await asyncio.to_thread(threading.get_ident), await later, logs.request_id.get()

    async def run():
        logs.request_id.set("r-1")
        workers.act_for(threads, Party("a", ONE))
        return await threads.run(Party("a", ONE), lambda: (threading.get_ident(), workers.alone(work())))

    threads = Workers(1)
    ident, done = asyncio.run(run())
    assert done == (ident, 7, "r-1")
    with pytest.raises(KeyError):
        workers.alone(failing())


async def failing():
    await asyncio.to_thread({}.__getitem__, "x")
