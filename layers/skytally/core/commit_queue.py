"""Commits: documents that arrive together are kept together,
so that a store's slowest step is shared by all who wait for it.

A caller waits for the commit that holds its documents, never for a timer. What one caller sends stays together and in
order.

Invariant: in a shared commit each write costs itself alone. One that cannot be stored is REJECTED before the store sees
it; one of which the store does not say that it is kept makes its own caller's batch Unavailable, and no other's.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from skytally.core import logs, storable
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write

P = TypeVar("P")
Batch = tuple[Sequence[Write], Future[list[Outcome]]]
Fate = Outcome | Unavailable


class CommitQueue(Generic[P]):
    """Threads that `prepare` each waiting write and hand all of them to `commit`, which returns their fates in order.

    Where `commit` raises, nothing of it is known to be kept.
    """

    def __init__(
        self,
        prepare: Callable[[Write], P],
        commit: Callable[[list[P]], Sequence[Fate]],
        *,
        writers: int,
        most_writes: int,
    ) -> None:
        self._prepare, self._commit, self._most_writes = prepare, commit, most_writes
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._closed = False
        self._writers = [
            threading.Thread(target=self._write_forever, name="documents-writer", daemon=True) for _ in range(writers)
        ]
        for writer in self._writers:
            writer.start()

    def put(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Take documents for the next commit; the future answers an outcome each."""
        future: Future[list[Outcome]] = Future()
        if self._closed:
            future.set_exception(Unavailable("the document store is shutting down: ask again"))
        elif writes:
            self._waiting.put((writes, future))
        else:
            future.set_result([])
        return future

    def close(self) -> None:
        """Finish what was taken, and take nothing more."""
        self._closed = True
        self._waiting.put(None)
        for writer in self._writers:
            writer.join()

    def _write_forever(self) -> None:
        while batches := self._next_batches():
            fates = iter(self._fates([write for writes, _ in batches for write in writes]))
            for writes, future in batches:
                _answer(future, [next(fates) for _ in writes])

    def _next_batches(self) -> list[Batch]:
        """Wait for a batch and take along all that arrived meanwhile;
        none at the end, which the next writer must see too.
        """
        batch = self._waiting.get()
        batches: list[Batch] = []
        size = 0
        while batch is not None:
            batches.append(batch)
            size += len(batch[0])
            if size >= self._most_writes or self._waiting.empty():
                return batches
            batch = self._waiting.get()
        self._waiting.put(None)
        return batches

    def _fates(self, writes: Sequence[Write]) -> Sequence[Fate]:
        prepared = [self._prepared(write) for write in writes]
        good = [one for one in prepared if one is not None]
        kept = iter(self._committed(good) if good else ())
        return [Outcome.REJECTED if one is None else next(kept) for one in prepared]

    def _prepared(self, write: Write) -> P | None:
        """Return what the store takes of a write, or None where it can take nothing."""
        try:
            storable.check(write)
            return self._prepare(write)
        except storable.NotStorable:
            return None
        except Exception as crash:  # noqa: BLE001  one write of a batch
            logs.incident(crash)
            return None

    def _committed(self, prepared: list[P]) -> Sequence[Fate]:
        try:
            return self._commit(prepared)
        except Unavailable as error:
            return [error] * len(prepared)
        except Exception as crash:  # noqa: BLE001  a thread that ends would leave every later caller waiting for ever
            outage = Unavailable(f"the document store did not keep this (incident {logs.incident(crash)}): ask again")
            return [outage] * len(prepared)


def _answer(future: Future[list[Outcome]], fates: Sequence[Fate]) -> None:
    """Complete the future of a caller that still waits: one whose request was given up has cancelled it."""
    if not future.set_running_or_notify_cancel():
        return
    for fate in fates:
        if isinstance(fate, Unavailable):
            future.set_exception(fate)
            return
    future.set_result([fate for fate in fates if isinstance(fate, Outcome)])
