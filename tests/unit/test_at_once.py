"""Two reads at once."""

import threading

import pytest

from skytally import logs
from skytally.at_once import at_once


def test_both_run_at_the_same_time_and_each_answer_keeps_its_place():
    met = threading.Barrier(2, timeout=10)

    def read(name):
        met.wait()
        return name

    assert at_once(lambda: read("here"), lambda: read("beside")) == ("here", "beside")


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
        at_once(*((fail, read) if failing == "here" else (read, fail)))
    assert over == [True]


def test_what_either_logs_belongs_to_the_same_request():
    logs.request_id.set("r-1")
    assert at_once(logs.request_id.get, logs.request_id.get) == ("r-1", "r-1")
