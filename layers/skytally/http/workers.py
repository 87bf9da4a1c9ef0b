"""Workers: the threads of a function, and how many of them one caller may use.

Invariant: a caller uses at most its share of a function's threads, so there are always threads for others. Requests
beyond the share wait without a thread, in order. A request behind too many others, or waiting too long, is refused.
"""

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from functools import cache, partial
from typing import Any, TypeVar

from msgspec import Struct

from skytally.core.errors import Unavailable
from skytally.http.http_error import too_many

R = TypeVar("R")
THREADS = 16
WAIT_SECONDS = 10.0
RETRY_AFTER_SECONDS = 5


class Share(Struct, frozen=True):
    """How many requests of one caller may run, and how many more may wait."""

    running: int
    waiting: int


# An address may be that of many vms, or of a proxy.
TOKEN, ADDRESS = Share(running=THREADS // 4, waiting=32), Share(running=THREADS // 2, waiting=256)


class Party(Struct, frozen=True):
    """The holder of one share: a token's holder, or else all callers of one address."""

    name: str
    share: Share


class Work(Struct, eq=False):
    """A call that waits for a thread, or has one."""

    party: Party
    call: Callable[[], Any]
    future: "Future[Any]"

    def take(self) -> "tuple[Future[Any], Callable[[], Any]]":
        """Return the future and the call, and drop both."""
        taken = self.future, self.call
        self.future, self.call = Future(), _nothing
        return taken


def _nothing() -> None:
    """Do nothing."""


def _settle(future: "Future[Any]", call: Callable[[], Any]) -> None:
    """Complete a future with what the call returns or raises, as executors do.

    An error references the frames that it passed and their callers. No such frame may reference the error's future: the
    cycle would keep the request and its body in memory until a rare garbage collection.
    """
    try:
        if future.set_running_or_notify_cancel():
            future.set_result(call())
    except BaseException as error:  # noqa: BLE001
        future.set_exception(error)
    finally:
        del future


class Workers:
    """The threads of one function."""

    def __init__(self, threads: int = THREADS, wait_seconds: float = WAIT_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(threads, "worker")
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[Work]] = {}

    async def run(self, party: Party, call: Callable[[], R]) -> R:
        """Run a blocking call in one of a caller's threads and return its result.

        Raise HttpError if too many calls of the caller wait, Unavailable if this one has waited too long.
        """
        if len(self._waiting.get(party.name, ())) >= party.share.waiting:
            raise too_many(RETRY_AFTER_SECONDS, "this caller has too many requests under way")
        future: Future[R] = Future()
        work = Work(party, partial(copy_context().run, call), future)
        self._begin(work)
        too_late = asyncio.get_running_loop().call_later(self._wait_seconds, future.cancel)
        task = asyncio.current_task()
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._forget(work)
            if task is not None and task.cancelling():
                raise
            raise Unavailable("too many requests are under way: send this again") from None
        finally:
            too_late.cancel()
            del future  # As in `_settle`.

    def submit(self, party: Party, call: Callable[[], R]) -> "Future[R]":
        """Run a call once a thread of the caller's share is free; until then its future can be cancelled."""
        future: Future[R] = Future()
        self._begin(Work(party, call, future))
        return future

    def _begin(self, work: Work) -> None:
        name = work.party.name
        with self._lock:
            if self._running[name] < work.party.share.running:
                self._running[name] += 1
                self._threads.submit(self._do, work)
            else:
                self._waiting.setdefault(name, deque()).append(work)

    def _do(self, work: Work) -> None:
        """Run one call, then give the thread to the same caller's next call if one waits."""
        _settle(*work.take())
        name = work.party.name
        with self._lock:
            if name in self._waiting:
                self._threads.submit(self._do, self._waiting[name].popleft())
                self._drop_empty(name)
            else:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

    def _forget(self, work: Work) -> None:
        """Drop a call that was cancelled while it waited, with its body."""
        name = work.party.name
        with self._lock:
            if work in self._waiting.get(name, ()):
                self._waiting[name].remove(work)
                self._drop_empty(name)

    def _drop_empty(self, name: str) -> None:
        if not self._waiting[name]:
            del self._waiting[name]


@cache
def of(_function: str) -> Workers:
    """Return a function's threads; in a process of several functions each has its own."""
    return Workers()


# A large body takes several times its size when parsed: two at once, of two callers.
LARGE, ONE_LARGE = Workers(2), Share(running=1, waiting=8)
_turn: ContextVar[tuple[Workers, Party] | None] = ContextVar("turn", default=None)


def act_for(workers: Workers, party: Party) -> None:
    """Count this task's later work in threads as a caller's."""
    _turn.set((workers, party))


class LoopThreads(ThreadPoolExecutor):
    """A loop's default executor: a request's work runs within its caller's share, other work in own threads."""

    def __init__(self) -> None:
        super().__init__(THREADS, "loop")

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> "Future[Any]":
        """Run a call in a thread."""
        turn = _turn.get()
        if turn is None:
            return super().submit(call, *args, **named)
        workers, party = turn
        return workers.submit(party, partial(call, *args, **named))


class _Inline(ThreadPoolExecutor):
    """An executor that runs each call where it is submitted."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> "Future[Any]":
        """Run a call and return its completed future."""
        future: Future[Any] = Future()
        _settle(future, partial(call, *args, **named))
        return future


def alone(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine in this thread on a loop of its own, with its work for threads, and return its result."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Inline(1))
        return runner.run(coroutine)
