"""Preflight: whether this object store creates atomically, as secrets need it.

Some stores do so in sequence and let several creates win in a race. A store is SAFE only if all of this holds on the
store itself:

* Of any creates of one name exactly one succeeds: in sequence, overlapping, and in a burst from two connection pools.
* It reads what it wrote, and no longer reads what it deleted.
* It keeps no versions.
* Its clock is within `CLOCK_ALLOWED` of ours.

Otherwise the verdict is REFUSE, with the reasons.
"""

import contextlib
import io
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from skytally.core.errors import NotFound, Unavailable
from skytally.core.ports import Created, Exists, Objects, ProbedObjects

SAFE, REFUSE = "SAFE", "REFUSE"
CLOCK_ALLOWED = timedelta(seconds=5)
BURST_CLIENTS, BURST_NAMES = 24, 12
VERDICT_KEPT = timedelta(days=7)
REFUSAL_KEPT = timedelta(minutes=1)
VERDICT_KEY = "preflight/{at:%Y%m%d%H%M%S%f}-{word}"
# A store may block the second of two creates of one name until the first ends, so the first waits no longer than this.
OVERLAP_SECONDS = 2
PROBE_BYTES = 512 * 1_024


class Check(Struct, frozen=True):
    """One check of a store."""

    name: str
    ok: bool
    finding: str


class Verdict(Struct, frozen=True):
    """The checks of an examination, and its time."""

    at: Annotated[datetime, Meta(tz=True)]
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Return SAFE where nothing failed, else REFUSE."""
        return SAFE if all(check.ok for check in self.checks) else REFUSE

    @property
    def reasons(self) -> list[str]:
        """Return why a store is refused."""
        return [f"{check.name}: {check.finding}" for check in self.checks if not check.ok]


def examine(pools: Sequence[ProbedObjects], clock: Callable[[], datetime]) -> Verdict:
    """Return the verdict on a store, examined through two connection pools; leave nothing behind.

    Raise Unavailable while the store is away: that is no verdict.
    """
    folder = f"preflight/probe-{secrets.token_hex(8)}"
    try:
        checks = (
            _versions(pools[0]),
            _sequence(pools[0], f"{folder}/sequence"),
            _overlap(pools, f"{folder}/overlap"),
            _burst(pools, f"{folder}/burst"),
            _reads(pools, f"{folder}/reads"),
            _clock(pools[0], f"{folder}/clock", clock),
        )
    finally:
        for key in list(pools[0].list(f"{folder}/")):
            pools[0].delete(key)
    return Verdict(clock(), checks)


def _versions(store: ProbedObjects) -> Check:
    versioned = store.versioned()
    return Check(
        "versions",
        not versioned,
        "kept: switch versioning and soft delete off for this bucket" if versioned else "not kept",
    )


def _sequence(store: Objects, key: str) -> Check:
    results = [isinstance(store.create(key, word), Created) for word in (b"first", b"second")]
    good = results == [True, False] and store.get(key) == b"first"
    return Check("one after another", good, "the second create loses" if good else "the second create was not refused")


def _overlap(pools: Sequence[ProbedObjects], key: str) -> Check:
    """Check that of a slow create and a quick one that overlap exactly one wins; the store may block the quick one."""
    slow, quick_creates = secrets.token_bytes(PROBE_BYTES), list[Future[Created | Exists]]()
    with ThreadPoolExecutor(1) as other:

        def midway() -> None:
            quick_creates.append(other.submit(pools[1].create, key, b"quick"))
            wait(quick_creates, OVERLAP_SECONDS)

        results = [pools[0].create_streamed(key, HalfwayBody(slow, midway))]
        results += [future.result() for future in quick_creates]
    won = [word for result, word in zip(results, (slow, b"quick"), strict=False) if isinstance(result, Created)]
    good = len(results) == 2 and [pools[1].get(key)] == won
    return Check(
        "overlapping",
        good,
        "one of two creates at the same time wins" if good else "a create that ended later was not refused",
    )


class HalfwayBody(io.BytesIO):
    """A request body that calls a function once, between its first and its second half."""

    def __init__(self, data: bytes, midway: Callable[[], object]) -> None:
        super().__init__(data)
        self._half, self._midway, self._is_called = len(data) // 2, midway, False

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, none of the second half before the function was called."""
        left = self._half - self.tell()
        if left > 0:
            return super().read(left if size is None or size < 0 else min(size, left))
        if not self._is_called:
            self._is_called = True
            self._midway()
        return super().read(size)


def _burst(pools: Sequence[Objects], folder: str) -> Check:
    def create(n: int) -> str | None:
        key = f"{folder}/{n // BURST_CLIENTS}"
        return key if isinstance(pools[n % len(pools)].create(key, b"%d" % n), Created) else None

    with ThreadPoolExecutor(BURST_CLIENTS) as clients:
        won = Counter(filter(None, clients.map(create, range(BURST_CLIENTS * BURST_NAMES))))
    wrong = sum(won[f"{folder}/{name}"] != 1 for name in range(BURST_NAMES))
    whole = f"each of {BURST_NAMES} names had one winner among {BURST_CLIENTS}"
    return Check(
        "in a burst", not wrong, f"{wrong} of {BURST_NAMES} names had no winner or several" if wrong else whole
    )


def _reads(pools: Sequence[Objects], key: str) -> Check:
    pools[0].create(key, b"here")
    written = pools[1].get(key) == b"here"
    pools[0].delete(key)
    deleted = not _is_there(pools[1], key)
    finding = "sees what was written and deleted" if written and deleted else "answers with what is no longer so"
    return Check("reading", written and deleted, finding)


def _is_there(store: Objects, key: str) -> bool:
    try:
        store.get(key)
    except NotFound:
        return False
    return True


def _clock(store: Objects, key: str, clock: Callable[[], datetime]) -> Check:
    before = clock()
    results = store.create(key, b"")
    if not isinstance(results, Created):
        return Check("clock", False, "a fresh name was taken")
    off = max(before - results.at, results.at - clock(), timedelta())
    return Check("clock", off <= CLOCK_ALLOWED, f"{off.total_seconds():.0f} s off")


def keep(verdict: Verdict, objects: Objects) -> None:
    """Write the verdict into the store in place of older ones, for all processes of this deployment."""
    new = VERDICT_KEY.format(at=verdict.at, word=verdict.word.lower())
    objects.create(new, msgspec.json.encode(verdict))
    for old in _verdict_keys(objects):
        if old < new:
            objects.delete(old)


def kept(objects: Objects, now: datetime) -> Verdict | None:
    """Return the newest valid verdict, or None; an unreadable verdict or one from another time is not valid."""
    for key in reversed(_verdict_keys(objects)):
        with contextlib.suppress(NotFound, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            verdict = msgspec.json.decode(objects.get(key), type=Verdict)
            if abs(now - verdict.at) < VERDICT_KEPT:
                return verdict
    return None


def _verdict_keys(objects: Objects) -> list[str]:
    return [key for key in objects.list("preflight/") if not key.startswith("preflight/probe-")]


class Gate:
    """The gate that lets secrets be issued only on a SAFE store.

    A process reads the stored verdict once, and examines the store where there is none.
    """

    def __init__(self, open_pools: Callable[[], Sequence[ProbedObjects]], clock: Callable[[], datetime]) -> None:
        self._open_pools, self._clock = open_pools, clock
        self._lock, self._asker = threading.Lock(), ThreadPoolExecutor(1, "preflight")
        self._asked: Future[Verdict] | None = None

    def check(self, objects: Objects) -> None:
        """Raise Unavailable with the reasons on an unsafe store: it could hand out a deposit twice."""
        verdict = self._verdict(objects)
        if verdict.word == REFUSE:
            reasons = "; ".join(verdict.reasons)
            raise Unavailable(f"the object store cannot hold secrets ({reasons}): see `skytally doctor`")

    def _verdict(self, objects: Objects) -> Verdict:
        """Return the verdict; concurrent callers wait for the same examination."""
        now = self._clock()
        with self._lock:
            if self._asked is None or _is_over(self._asked, now):
                self._asked = self._asker.submit(self._fresh, objects, now)
            examination = self._asked
        return examination.result()

    def _fresh(self, objects: Objects, now: datetime) -> Verdict:
        verdict = kept(objects, now)
        if verdict is None or verdict.word == REFUSE:
            verdict = examine(self._open_pools(), self._clock)
            keep(verdict, objects)
        return verdict


def _is_over(examination: "Future[Verdict]", now: datetime) -> bool:
    """Return whether to examine again: the last examination has ended, and failed or is out of date."""
    if not examination.done():
        return False
    if examination.exception() is not None:
        return True
    verdict = examination.result()
    return now > verdict.at + (VERDICT_KEPT if verdict.word == SAFE else REFUSAL_KEPT)


def rows(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """Return the checks as rows of text."""
    return ((check.name, "ok" if check.ok else "FAILED", check.finding) for check in verdict.checks)
