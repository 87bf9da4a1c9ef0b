"""Two reads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from skytally.core import logs
from skytally.core.concurrently import READERS, concurrently


def test_both_run_at_the_same_time_and_each_answer_keeps_its_place():
    met = threading.Barrier(2, timeout=10)

    def read(name):
        met.wait()
        return name

    assert concurrently(lambda: read("here"), lambda: read("beside")) == ("here", "beside")


@pytest.mark.parametrize("failing", ["here", "beside"])
def test_what_one_raises_is_raised_and_not_before_the_other_is_over(failing):
    begun, over = threading.Event(), []

    def fail():
        assert begun.wait(10)
        raise KeyError(failing)

    def read():
        begun.set()
        over.append(not threading.Event().wait(0.2))

    with pytest.raises(KeyError, match=failing):
        concurrently(*((fail, read) if failing == "here" else (read, fail)))
    assert over == [True]


def test_what_either_logs_belongs_to_the_same_request():
    logs.request_id.set("r-1")
    assert concurrently(logs.request_id.get, logs.request_id.get) == ("r-1", "r-1")


@pytest.fixture
def busy():
    """Keep every reader busy until the test is over."""
    over = threading.Event()
    waiting = [READERS.submit(over.wait, 20) for _ in range(40)]
    yield
    over.set()
    wait(waiting)


def test_where_all_readers_are_busy_the_caller_does_both(busy):
    assert concurrently(lambda: 1, threading.get_ident) == (1, threading.get_ident())
    with pytest.raises(KeyError, match="beside"):
        concurrently(lambda: 1, lambda: {}["beside"])
    with pytest.raises(KeyError, match="here"):
        concurrently(lambda: {}["here"], lambda: pytest.fail("it was done for nobody"))


def test_reads_within_reads_hold_one_another_up_in_no_number():
    def read(depth):
        return 1 if depth == 0 else sum(concurrently(lambda: read(depth - 1), lambda: read(depth - 1)))

    with ThreadPoolExecutor(16) as callers:
        assert list(callers.map(lambda _: read(5), range(32), timeout=60)) == [32] * 32
