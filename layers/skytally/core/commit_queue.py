"""Commits: writes that arrive together share one commit, so they share the store's slowest step.

A caller waits for the commit of its own documents, never for a timer. One caller's writes stay together and in order.

Invariant: in a shared commit a bad write costs only its caller. A write that cannot be stored is REJECTED before the
store sees it. A write whose result is unknown makes its own caller's batch Unavailable, and no other's.
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
WriteResult = Outcome | Unavailable


class CommitQueue(Generic[P]):
    """Threads that `prepare` waiting writes and hand them to `commit`, which returns their results in order.

    If `commit` raises, the result of all its writes is unknown.
    """

    def __init__(
        self,
        prepare: Callable[[Write], P],
        commit: Callable[[list[P]], Sequence[WriteResult]],
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
        """Queue documents for the next commit; the future returns their outcomes."""
        future: Future[list[Outcome]] = Future()
        if self._closed:
            future.set_exception(Unavailable("the document store is shutting down: ask again"))
        elif writes:
            self._waiting.put((writes, future))
        else:
            future.set_result([])
        return future

    def close(self) -> None:
        """Finish the queued writes and accept no more."""
        self._closed = True
        self._waiting.put(None)
        for writer in self._writers:
            writer.join()

    def _write_forever(self) -> None:
        while batches := self._next_batches():
            results = iter(self._results([write for writes, _ in batches for write in writes]))
            for writes, future in batches:
                _answer(future, [next(results) for _ in writes])

    def _next_batches(self) -> list[Batch]:
        """Return the next batch and all that arrived meanwhile; return none after `close`, for each writer in turn."""
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

    def _results(self, writes: Sequence[Write]) -> Sequence[WriteResult]:
        prepared = [self._prepared(write) for write in writes]
        storable_writes = [candidate for candidate in prepared if candidate is not None]
        results = iter(self._committed(storable_writes) if storable_writes else ())
        return [Outcome.REJECTED if candidate is None else next(results) for candidate in prepared]

    def _prepared(self, write: Write) -> P | None:
        """Return a prepared write, or None for one that cannot be stored."""
        try:
            storable.check(write)
            return self._prepare(write)
        except storable.NotStorable:
            return None
        except Exception as crash:  # noqa: BLE001  one write of a batch
            logs.incident(crash)
            return None

    def _committed(self, prepared: list[P]) -> Sequence[WriteResult]:
        try:
            return self._commit(prepared)
        except Unavailable as error:
            # Its traceback and cause reference frames that reference the results: this cycle would keep the requests
            # of all callers, who add their frames, in memory until a rare garbage collection.
            error.__cause__ = error.__context__ = None
            return [error.with_traceback(None)] * len(prepared)
        except Exception as crash:  # noqa: BLE001  a thread that ends would leave every later caller waiting for ever
            outage = Unavailable(f"the document store did not keep this (incident {logs.incident(crash)}): ask again")
            return [outage] * len(prepared)


def _answer(future: Future[list[Outcome]], results: Sequence[WriteResult]) -> None:
    """Complete a caller's future, unless the caller has cancelled it."""
    if not future.set_running_or_notify_cancel():
        return
    for result in results:
        if isinstance(result, Unavailable):
            future.set_exception(result)
            return
    future.set_result([result for result in results if isinstance(result, Outcome)])
