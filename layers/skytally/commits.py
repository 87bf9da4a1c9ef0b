"""Commits: documents that arrive together are kept together, so that a store's slowest step is shared by all who wait for it.

A caller waits for the commit that holds its documents, never for a timer. What one caller sends stays together and in order.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from skytally.errors import Unavailable
from skytally.ports import Outcome, Write

Batch = tuple[Sequence[Write], Future[list[Outcome]]]
Commit = Callable[[list[Sequence[Write]]], list[list[Outcome]]]


class CommitQueue:
    """Threads that hand what waits to `commit`, which keeps all of it or raises what each caller then gets."""

    def __init__(self, commit: Commit, *, writers: int, most_writes: int) -> None:
        self._commit, self._most_writes = commit, most_writes
        self._waiting: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._closed = False
        self._writers = [threading.Thread(target=self._write_forever, name="documents-writer", daemon=True) for _ in range(writers)]
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
            try:
                outcomes = self._commit([writes for writes, _ in batches])
            except Exception as error:  # noqa: BLE001  a thread that ends would leave every later caller waiting for ever
                _fail(batches, error)
            else:
                _answer(batches, outcomes)

    def _next_batches(self) -> list[Batch]:
        """Wait for a batch and take along all that arrived meanwhile; none at the end, which the next writer must see too."""
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


def _answer(batches: Sequence[Batch], outcomes: Sequence[list[Outcome]]) -> None:
    """Answer the callers that still wait: one whose request was given up has cancelled its future."""
    for (_, future), outcome in zip(batches, outcomes, strict=True):
        if future.set_running_or_notify_cancel():
            future.set_result(outcome)


def _fail(batches: Sequence[Batch], error: Exception) -> None:
    for _, future in batches:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
