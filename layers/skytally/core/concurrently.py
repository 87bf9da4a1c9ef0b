"""Two reads at once: a store adds up while something else is read,
so that together they take about as long as the longer one.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

# Threads that live on, since a store's connection may belong to its thread.
READERS = ThreadPoolExecutor(8, "reader")


def concurrently(here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Return what both calls do, the first of them in the caller's thread, both for the same request.

    Raises what either raises, and never before both are over. Invariant: nobody waits for a call that has not begun.
    What no reader has begun when the first call is over is done in the caller's thread, so busy readers cost time and
    never hold anybody up.
    """
    other = READERS.submit(copy_context().run, beside)
    try:
        first = here()
        return first, beside() if other.cancel() else other.result()
    finally:
        if not other.cancel():
            wait([other])
