"""Preflight: does this object store keep the one promise that secrets
rest on? Some say yes in sequence and let several win under a race.

A store is SAFE only if, tried on the store itself, of any creates of one name exactly one succeeds: one after another,
overlapping, and in a burst from two connection pools; if it reads what it wrote and no longer reads what it deleted; if
it keeps no versions; and if its clock is within `CLOCK_ALLOWED` of ours. Everything else is REFUSE, with the reasons.
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
# Stores that let the second of two creates of one name wait would wait for ever if the first waited for it.
OVERLAP_SECONDS = 2
PROBE_BYTES = 512 * 1_024


class Check(Struct, frozen=True):
    """One thing that was tried."""

    name: str
    ok: bool
    finding: str


class Verdict(Struct, frozen=True):
    """What was found, and when."""

    at: Annotated[datetime, Meta(tz=True)]
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Return SAFE where nothing failed, else REFUSE."""
        return SAFE if all(check.ok for check in self.checks) else REFUSE

    @property
    def reasons(self) -> list[str]:
        """Say why a store is refused."""
        return [f"{check.name}: {check.finding}" for check in self.checks if not check.ok]


def examine(pools: Sequence[ProbedObjects], clock: Callable[[], datetime]) -> Verdict:
    """Try the store through two connection pools, leaving nothing behind;
    raises Unavailable when it is away, which is no verdict.
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
    made = [isinstance(store.create(key, word), Created) for word in (b"first", b"second")]
    good = made == [True, False] and store.get(key) == b"first"
    return Check("one after another", good, "the second create loses" if good else "the second create was not refused")


def _overlap(pools: Sequence[ProbedObjects], key: str) -> Check:
    """Let a create that began first, but whose body comes later, meet a quick one;
    a store may let that one wait, but one alone may win.
    """
    told, quick = secrets.token_bytes(PROBE_BYTES), list[Future[Created | Exists]]()
    with ThreadPoolExecutor(1) as other:

        def midway() -> None:
            quick.append(other.submit(pools[1].create, key, b"quick"))
            wait(quick, OVERLAP_SECONDS)

        made = [pools[0].create_streamed(key, HalfwayBody(told, midway))]
        made += [future.result() for future in quick]
    won = [word for one, word in zip(made, (told, b"quick"), strict=False) if isinstance(one, Created)]
    good = len(made) == 2 and [pools[1].get(key)] == won
    return Check(
        "overlapping",
        good,
        "one of two creates at the same time wins" if good else "a create that ended later was not refused",
    )


class HalfwayBody(io.BytesIO):
    """A body whose second half waits for something else to be done."""

    def __init__(self, data: bytes, midway: Callable[[], object]) -> None:
        super().__init__(data)
        self._half, self._midway = len(data) // 2, [midway]

    def read(self, size: int | None = -1, /) -> bytes:
        """Give the first half at once, and the second after the other thing is done."""
        left = self._half - self.tell()
        if left > 0:
            return super().read(left if size is None or size < 0 else min(size, left))
        while self._midway:
            self._midway.pop()()
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
    made = store.create(key, b"")
    if not isinstance(made, Created):
        return Check("clock", False, "a fresh name was taken")
    off = max(before - made.at, made.at - clock(), timedelta())
    return Check("clock", off <= CLOCK_ALLOWED, f"{off.total_seconds():.0f} s off")


def keep(verdict: Verdict, objects: Objects) -> None:
    """Leave the verdict in the store itself, in place of older ones,
    so that no process of this deployment asks again for a while.
    """
    new = VERDICT_KEY.format(at=verdict.at, word=verdict.word.lower())
    objects.create(new, msgspec.json.encode(verdict))
    for old in _verdict_keys(objects):
        if old < new:
            objects.delete(old)


def kept(objects: Objects, now: datetime) -> Verdict | None:
    """Return the newest verdict that still holds; what cannot be read, or comes from another time, is none."""
    for key in reversed(_verdict_keys(objects)):
        with contextlib.suppress(NotFound, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            verdict = msgspec.json.decode(objects.get(key), type=Verdict)
            if abs(now - verdict.at) < VERDICT_KEPT:
                return verdict
    return None


def _verdict_keys(objects: Objects) -> list[str]:
    return [key for key in objects.list("preflight/") if not key.startswith("preflight/probe-")]


class Gate:
    """Lets secrets be issued only on a store that is known to be SAFE;
    asks the store once a process, and examines it when nobody has.
    """

    def __init__(self, open_pools: Callable[[], Sequence[ProbedObjects]], clock: Callable[[], datetime]) -> None:
        self._open_pools, self._clock = open_pools, clock
        self._lock, self._asker = threading.Lock(), ThreadPoolExecutor(1, "preflight")
        self._asked: Future[Verdict] | None = None

    def check(self, objects: Objects) -> None:
        """Pass, or raise Unavailable with the reasons: a deposit on such a store could be handed out twice."""
        verdict = self._verdict(objects)
        if verdict.word == REFUSE:
            reasons = "; ".join(verdict.reasons)
            raise Unavailable(f"the object store cannot hold secrets ({reasons}): see `skytally doctor`")

    def _verdict(self, objects: Objects) -> Verdict:
        """Return what is known; where nothing is, all that ask meanwhile wait for one examination."""
        now = self._clock()
        with self._lock:
            if self._asked is None or _is_over(self._asked, now):
                self._asked = self._asker.submit(self._fresh, objects, now)
            asked = self._asked
        return asked.result()

    def _fresh(self, objects: Objects, now: datetime) -> Verdict:
        verdict = kept(objects, now)
        if verdict is None or verdict.word == REFUSE:
            verdict = examine(self._open_pools(), self._clock)
            keep(verdict, objects)
        return verdict


def _is_over(asked: "Future[Verdict]", now: datetime) -> bool:
    """Say whether to ask anew: nobody is asking, and what was found failed or holds no longer."""
    if not asked.done():
        return False
    if asked.exception() is not None:
        return True
    verdict = asked.result()
    return now > verdict.at + (VERDICT_KEPT if verdict.word == SAFE else REFUSAL_KEPT)


def rows(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """List what was tried, for people."""
    return ((check.name, "ok" if check.ok else "FAILED", check.finding) for check in verdict.checks)
