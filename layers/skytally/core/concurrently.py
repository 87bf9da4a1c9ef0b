"""Two reads at once: together they take about as long as the longer one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

# Long-lived threads, since a store's connection may belong to its thread.
READERS = ThreadPoolExecutor(8, "reader")


def concurrently(here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Return the results of both calls; the first runs in the caller's thread, both for the same request.

    Raise what either raises, after both have ended. Invariant: nobody waits for a call that has not begun. If no reader
    has begun the second call when the first ends, it runs in the caller's thread too, so busy readers block nobody.
    """
    other = READERS.submit(copy_context().run, beside)
    try:
        first = here()
        return first, beside() if other.cancel() else other.result()
    finally:
        if not other.cancel():
            wait([other])
