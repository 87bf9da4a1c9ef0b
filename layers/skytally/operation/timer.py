"""Timers: functions that anybody may call; a thousand calls do no more than one.

Invariants:

* Of all calls after a round, in any number of processes, exactly one runs the next round: its lease is one document
  that is created once (`take_turn`).
* A round begins nothing new after `WORKS_SECONDS` and is over after `ENDS_SECONDS`, whatever it is doing.
* A failed round is recorded at once, and the next is due as usual. A round of a killed process blocks the next for
  `LEASE`.
* A round that is over writes nothing: its stores refuse (`Deadline.guard`). A write that was sent before has the
  version of its round, so the next round's wins. `http_client.REQUEST_SECONDS` bounds a request, so the last one ends
  within the lease.
"""

import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from copy import copy
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, TypeVar, cast

from msgspec import Struct, structs

from skytally.core import logs
from skytally.core.clock import Countdown
from skytally.core.documents import Round, TimerSlot
from skytally.core.errors import SkytallyError, Unavailable
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.timestamps import to_ms

S = TypeVar("S")
T = TypeVar("T")
WORKS_SECONDS, ENDS_SECONDS = 10.0, 20.0
LEASE = timedelta(seconds=30)
# How long rounds may take to stop when their process ends, and then to be recorded.
STOPS_SECONDS, RECORDED_SECONDS = 3.0, 2.0
# Long-lived threads, since a store's connection may belong to its thread. A hanging round keeps its thread.
THREADS = ThreadPoolExecutor(8, "round")
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class TimeIsUp(Unavailable):
    """The deadline of a round has passed: the next round continues."""

    def __init__(self) -> None:
        super().__init__("the time of this round was up: the next one goes on")


class Deadline:
    """The deadline of a round: when it must begin nothing new, and when it must be over."""

    def __init__(self, now: Callable[[], datetime], stops_at: datetime, ends_at: datetime | None = None) -> None:
        self.now = now
        self._stops_at, self._ends_at = stops_at, ends_at or stops_at + timedelta(seconds=ENDS_SECONDS - WORKS_SECONDS)
        self._is_stopped, self._is_ended = threading.Event(), threading.Event()

    def is_over(self) -> bool:
        """Return whether nothing new may begin."""
        return self._is_stopped.is_set() or self.now() >= self._stops_at

    def sooner(self, seconds: float) -> "Deadline":
        """Return the deadline of a part of the round, which must begin nothing new these seconds earlier."""
        other = copy(self)
        other._stops_at -= timedelta(seconds=seconds)  # noqa: SLF001
        return other

    def check(self) -> None:
        """Raise TimeIsUp if nothing new may begin."""
        if self.is_over():
            raise TimeIsUp

    def stop(self) -> None:
        """Stop the round: it begins nothing new from now on."""
        self._is_stopped.set()

    def end(self) -> None:
        """End the round now."""
        self._is_stopped.set()
        self._is_ended.set()

    def guard(self, store: S) -> S:
        """Return a store whose calls raise TimeIsUp once the round is over."""
        return cast("S", _Guarded(store, self.check_end))

    def guard_reading(self, store: S) -> S:
        """Return a store whose calls raise TimeIsUp once nothing new may begin."""
        return cast("S", _Guarded(store, self.check))

    def check_end(self) -> None:
        """Raise TimeIsUp if the round is over."""
        if self._is_ended.is_set() or self.now() >= self._ends_at:
            raise TimeIsUp


class _Guarded:
    """A store that checks the deadline before each call."""

    def __init__(self, store: Any, check: Callable[[], None]) -> None:
        self._store, self._check = store, check

    def __getattr__(self, name: str) -> Any:
        self._check()
        return getattr(self._store, name)


# The state in a timer's answer; a timer is off if no setting names its source.
State = Literal["done", "not_due", "busy", "off"]
Work = Callable[[Deadline], Mapping[str, Any]]


class _UnderWay(Struct, eq=False):
    """A round of this process: its result, and whether that is recorded."""

    deadline: Deadline
    counts: "Future[Mapping[str, Any]]"
    is_recorded: threading.Event


_under_way: set[_UnderWay] = set()


def run(name: str, work: Work, documents: Documents, min_seconds: int, clock: Callable[[], datetime]) -> dict[str, Any]:
    """Run a round if it is due and nobody else runs it; return `{"state": "done"|"not_due"|"busy", …counts}`.

    Raise Unavailable if a source or store is away, if the round took too long, or with an incident id if it crashed.
    The failure is recorded, and the next round tries again.
    """
    countdown, started_at = Countdown(ENDS_SECONDS), clock()
    last = documents.get("round", name, Round)
    last_at = last.started_at if last else None
    if last is not None and (state := _waiting(last, started_at, min_seconds)):
        return {"state": state}
    this = Round(
        name=name, started_at=started_at, finished_at=None, succeeded_at=last.succeeded_at if last else None, error=None
    )
    # If a later round than `last` began meanwhile, the turn may be free while the record is not.
    if not take_turn(name, last_at, documents, started_at) or not _keep(this, documents):
        return {"state": "busy"}
    stops_at, ends_at = (started_at + timedelta(seconds=seconds) for seconds in (WORKS_SECONDS, ENDS_SECONDS))
    round_ = _UnderWay(Deadline(clock, stops_at, ends_at), Future(), threading.Event())
    _under_way.add(round_)
    try:
        failure = _failure(name, round_, work, countdown.left_seconds())
        well_at = this.succeeded_at if failure else clock()
        ended = structs.replace(this, finished_at=clock(), succeeded_at=well_at, error=failure and failure.message)
        is_latest = _keep(ended, documents)
    finally:
        round_.is_recorded.set()
        _under_way.discard(round_)
    if failure is not None:
        try:
            raise failure
        finally:
            del failure, round_  # The error references this frame, which must not reference the error: see `_freed`.
    if not is_latest:
        raise Unavailable(f"this round of {name} outlived its lease, and another has begun")
    return {"state": "done", **round_.counts.result()}


def _failure(name: str, round_: _UnderWay, work: Work, seconds: float) -> Unavailable | None:
    """Run a round's work in a thread; return why it failed, also where it did not end in time, or None."""
    THREADS.submit(copy_context().run, _work, name, round_, work)
    try:
        failure = round_.counts.exception(seconds)
    except TimeoutError:
        return Unavailable(f"this round took longer than {ENDS_SECONDS:.0f} s, and what it was waiting for is away")
    finally:
        round_.deadline.end()
    assert failure is None or isinstance(failure, Unavailable)  # noqa: S101
    return failure


def _work(name: str, round_: _UnderWay, work: Work) -> None:
    """Run the work unless the round is over already; a result after the round's end is dropped."""
    with suppress(InvalidStateError):
        try:
            round_.deadline.check()
            round_.counts.set_result(work(round_.deadline))
        except BaseException as error:  # noqa: BLE001  a round that crashes must not look as if it were still going on
            round_.counts.set_exception(_freed(_unavailable(name, error)))


def _unavailable(name: str, error: BaseException) -> Unavailable:
    """Return the error of a failed round; for a crash only the id of its log line."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, SkytallyError):
        return Unavailable(error.message)
    return Unavailable(
        f"this round of {name} crashed, which is a bug: tell the operator the incident {logs.incident(error)}"
    )


def _freed(error: Unavailable) -> Unavailable:
    """Return an error without the frames that it and its causes passed.

    They hold all that the round has read, and reference the error: a cycle, and a server collects garbage rarely.
    """
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def shuffled(items: Iterable[T], name: Callable[[T], str], now: datetime) -> list[T]:
    """Return items in an order that depends on the time, so that none is always last when a round runs out of time."""
    return sorted(items, key=lambda item: sha256(f"{now.timestamp()} {name(item)}".encode()).digest())


def stop_rounds() -> None:
    """Stop the rounds of this process: they begin nothing new."""
    for round_ in list(_under_way):
        round_.deadline.stop()


def end_rounds() -> None:
    """Stop the rounds of this process, and record those that do not end by themselves as failed."""
    stop_rounds()
    rounds = list(_under_way)
    wait([round_.counts for round_ in rounds], STOPS_SECONDS)
    for round_ in rounds:
        with suppress(InvalidStateError):
            round_.counts.set_exception(Unavailable("the process was told to end, and this round with it"))
    countdown = Countdown(RECORDED_SECONDS)
    for round_ in rounds:
        round_.is_recorded.wait(countdown.left_seconds())


def _waiting(last: Round, now: datetime, min_seconds: int) -> State | None:
    """Return why the next round must wait (one runs, or none is due), or None; a round past its lease was killed."""
    if last.finished_at is None:
        return "busy" if now - last.started_at < LEASE else None
    return "not_due" if now - last.started_at < timedelta(seconds=min_seconds) else None


def take_turn(name: str, after: datetime | None, documents: Documents, now: datetime) -> bool:
    """Take the turn after the one of a time (None: the first) for `LEASE`; return False if somebody else holds it.

    A turn whose lease ran out without a result is followed by the next turn.
    """
    while True:
        key = f"{name}-{to_ms(after or BEGINNING)}"
        if documents.write([Write("turn", key, 0, TimerSlot(taken_at=now), create=True)]).result() == [Outcome.STORED]:
            return True
        turn = documents.get("turn", key, TimerSlot)
        if turn is not None and now - turn.taken_at < LEASE:
            return False
        # An unreadable turn is followed by the next one too.
        next_at = (after or BEGINNING) + timedelta(milliseconds=1)
        after = next_at if turn is None else max(turn.taken_at, next_at)


def _keep(this: Round, documents: Documents) -> bool:
    """Write a round's record; return False if a later one is stored."""
    return documents.write([Write("round", this.name, to_ms(this.started_at), this)]).result() != [Outcome.STALE]
