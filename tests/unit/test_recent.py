"""Recent values: read beside the loop, at most once in a while, and never older than that."""

import asyncio
import threading
import time

import pytest

from skytally.core import logs
from skytally.core.errors import Unavailable
from skytally.http import recent
from skytally.http.recent import Recent


@pytest.fixture(autouse=True)
def kept_seconds(monkeypatch):
    monkeypatch.setattr(recent, "RECENT_SECONDS", 0.1)
    return 0.1


def values_of(recent_value, *pauses):
    """Ask for a value, and again after each pause."""

    async def run():
        values = [await recent_value.value()]
        for pause in pauses:
            await asyncio.sleep(pause)
            values.append(await recent_value.value())
        return values

    return asyncio.run(run())


def test_a_value_is_read_once_in_a_while():
    numbers = iter(range(9))
    assert values_of(Recent(lambda: next(numbers)), 0, 0, 0.11, 0, 0.11) == [0, 0, 0, 1, 1, 2]


def test_a_value_is_read_beside_the_loop_and_logs_for_its_request():
    def read():
        return threading.current_thread() is threading.main_thread(), logs.request_id.get()

    async def run():
        logs.request_id.set("r-1")
        return await Recent(read).value()

    assert asyncio.run(run()) == (False, "r-1")


def test_a_failed_read_fails_its_caller_and_is_tried_again_at_once():
    answers = iter([Unavailable("away"), "old", Unavailable("away"), "new"])

    def read():
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    value = Recent(read)
    with pytest.raises(Unavailable):
        values_of(value)
    assert values_of(value, 0) == ["old", "old"]
    time.sleep(0.11)
    with pytest.raises(Unavailable):
        values_of(value)
    assert values_of(value) == ["new"]


def test_a_value_is_as_old_as_the_beginning_of_its_read():
    numbers = iter(range(9))

    def read():
        number = next(numbers)
        time.sleep(0.11)
        return number

    assert values_of(Recent(read), 0) == [0, 1]
