"""Two reads at once: a store adds up while something else is read, so that together they take about as long as the longer one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

# Threads that live on, since a store's connection may belong to its thread. What runs in one must not wait for another.
READERS = ThreadPoolExecutor(8, "reader")


def at_once(here: Callable[[], A], beside: Callable[[], B]) -> tuple[A, B]:
    """Answer what both calls do, the first of them in the caller's thread, both for the same request.

    Raises what either raises, and never before both are over.
    """
    other = READERS.submit(copy_context().run, beside)
    try:
        return here(), other.result()
    finally:
        wait([other])
