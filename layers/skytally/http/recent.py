"""Recent values: what a disk or a store holds, read beside the loop at most once a second.

A thread for every request would cost more than the request's own check.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Generic, TypeVar

from skytally.core.clock import Countdown

T = TypeVar("T")
RECENT_SECONDS = 1.0
# Reads keys and site data: nothing that a caller can make slow runs here.
_READERS = ThreadPoolExecutor(2, "recent")


class Recent(Generic[T]):
    """A value of a disk or a store.

    Invariant: whoever gets the value gets it as it was at most `RECENT_SECONDS` ago. A failed read is not remembered,
    and no older value stands in for it.
    """

    def __init__(self, read: Callable[[], T]) -> None:
        self._read = read
        self._latest: tuple[T, Countdown] | None = None

    async def value(self) -> T:
        """Return the value; raise what reading it raises."""
        if self._latest is not None:
            value, fresh = self._latest
            if fresh.left_seconds():
                return value
        fresh = Countdown(RECENT_SECONDS)  # From before the read, which may take long.
        value = await asyncio.get_running_loop().run_in_executor(_READERS, copy_context().run, self._read)
        self._latest = value, fresh
        return value
