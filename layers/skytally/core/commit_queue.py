"""Commits: writes that arrive together share one commit, so they share the store's slowest step.

A caller waits for the commit of its own documents, never for a timer. One caller's writes stay together and in order.

Invariant: in a shared commit a bad write costs only its caller. A write that cannot be stored is REJECTED before the
store sees it. A write whose result is unknown makes its own caller's batch Unavailable, and no other's.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import repeat
from typing import Any, Generic, TypeVar

from msgspec import Struct

from skytally.core import logs, storable
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write

P = TypeVar("P")
T = TypeVar("T")
WriteResult = Outcome | Unavailable


def _nothing() -> None:
    """Wait for nobody."""


class Batch(Struct, Generic[P], frozen=True):
    """One caller's prepared writes, None for each that cannot be stored, and the future that gets their outcomes."""

    prepared: list[P | None]
    future: Future[list[Outcome]]


class CommitQueue(Generic[P]):
    """Writes that their callers `prepare`, and threads that `commit` what waits and get the results in order.

    `prepare` gets a write and the values of its document's fields, in order. If `commit` raises, the result of all its
    writes is unknown. With something to commit a thread calls `take_turn`, which may wait for other processes, and only
    then takes all that waits. If `take_turn` raises, all that waits is answered so, and `commit` is not called.
    """

    def __init__(
        self,
        prepare: Callable[[Write, tuple[Any, ...]], P],
        commit: Callable[[list[P]], Sequence[WriteResult]],
        *,
        writers: int,
        most_writes: int,
        take_turn: Callable[[], None] = _nothing,
    ) -> None:
        self._prepare, self._commit, self._most_writes = prepare, commit, most_writes
        self._take_turn = take_turn
        self._waiting: queue.SimpleQueue[Batch[P] | None] = queue.SimpleQueue()
        # Nothing is queued behind the end, where nobody would answer it.
        self._closing = threading.Lock()
        self._closed = False
        self._writers = [
            threading.Thread(target=self._write_forever, name="documents-writer", daemon=True) for _ in range(writers)
        ]
        for writer in self._writers:
            writer.start()

    def put(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next commit; the future returns their outcomes."""
        future: Future[list[Outcome]] = Future()
        prepared = [self._prepared(write) for write in writes]
        if all(candidate is None for candidate in prepared):
            future.set_result([Outcome.REJECTED] * len(prepared))
            return future
        with self._closing:
            if self._closed:
                future.set_exception(Unavailable("the document store is shutting down: ask again"))
            else:
                self._waiting.put(Batch(prepared, future))
        return future

    def close(self) -> None:
        """Finish the queued writes and accept no more."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        for writer in self._writers:
            writer.join()

    def _write_forever(self) -> None:
        while (first := self._waiting.get()) is not None:
            turn = _attempted(self._take_turn)
            batches = self._batches(first)
            prepared = [candidate for batch in batches for candidate in batch.prepared if candidate is not None]
            committed = _attempted(partial(self._commit, prepared)) if turn is None else turn
            results = repeat(committed) if isinstance(committed, Unavailable) else iter(committed)
            for batch in batches:
                _answer(batch, results)
        self._waiting.put(None)  # Each writer ends by it.

    def _batches(self, first: Batch[P]) -> list[Batch[P]]:
        """Return a batch and those that wait behind it, up to the most writes of a commit."""
        batches, size = [first], len(first.prepared)
        while size < self._most_writes and not self._waiting.empty():
            batch = self._waiting.get()
            if batch is None:
                self._waiting.put(None)
                break
            batches.append(batch)
            size += len(batch.prepared)
        return batches

    def _prepared(self, write: Write) -> P | None:
        """Return a prepared write, or None for one that cannot be stored."""
        try:
            return self._prepare(write, storable.check(write))
        except storable.NotStorable:
            return None
        except Exception as crash:  # noqa: BLE001  one write of a batch
            logs.incident(crash)
            return None


def _attempted(call: Callable[[], T]) -> T | Unavailable:
    """Return what a call of the store returns, or why it failed."""
    try:
        return call()
    except Unavailable as error:
        # Its traceback and cause reference frames that reference the results: this cycle would keep the requests of all
        # callers, who add their frames, in memory until a rare garbage collection.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    except Exception as crash:  # noqa: BLE001  a thread that ends would leave every later caller waiting for ever
        return Unavailable(f"the document store did not keep this (incident {logs.incident(crash)}): ask again")


def _answer(batch: Batch[P], committed: Iterator[WriteResult]) -> None:
    """Complete a caller's future with the next results, unless the caller has cancelled it."""
    results = [Outcome.REJECTED if candidate is None else next(committed) for candidate in batch.prepared]
    if not batch.future.set_running_or_notify_cancel():
        return
    for result in results:
        if isinstance(result, Unavailable):
            batch.future.set_exception(result)
            return
    batch.future.set_result([result for result in results if isinstance(result, Outcome)])
