"""Preflight: does this object store keep the one promise that secrets rest on? Some say yes in sequence and let several win under a race.

A store is SAFE only if, tried on the store itself, of any creates of one name exactly one succeeds: one after another, overlapping, and
in a burst from two connection pools; if it reads what it wrote and no longer reads what it deleted; if it keeps no versions; and if its
clock is within `CLOCK_ALLOWED` of ours. Everything else is REFUSE, with the reasons.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Objects, ProbedObjects

SAFE, REFUSE = "SAFE", "REFUSE"
CLOCK_ALLOWED = timedelta(seconds=5)
BURST_CLIENTS, BURST_NAMES = 24, 12
VERDICT_KEPT = timedelta(days=7)
REFUSAL_KEPT = timedelta(minutes=1)
VERDICT_KEY = "preflight/{day}-{verdict}"
PROBE_BYTES = 64 * 1_024


class Check(Struct, frozen=True):
    """One thing that was tried; `ok` is None where this store offers no way to try it."""

    name: str
    ok: bool | None
    finding: str


class Verdict(Struct, frozen=True):
    """What was found, and when."""

    at: datetime
    checks: tuple[Check, ...]

    @property
    def word(self) -> str:
        """Answer SAFE where nothing failed, else REFUSE."""
        return REFUSE if any(check.ok is False for check in self.checks) else SAFE

    @property
    def reasons(self) -> list[str]:
        """Say why a store is refused."""
        return [f"{check.name}: {check.finding}" for check in self.checks if check.ok is False]


def examine(pools: Sequence[ProbedObjects], clock: Callable[[], datetime]) -> Verdict:
    """Try the store through two connection pools, leaving nothing behind; raises Unavailable when it is away, which is no verdict."""
    folder = f"preflight/probe-{secrets.token_hex(8)}"
    checks = (
        _versions(pools[0]),
        _sequence(pools[0], f"{folder}/sequence"),
        _overlap(pools, f"{folder}/overlap"),
        _burst(pools, f"{folder}/burst"),
        _reads(pools, f"{folder}/reads"),
        _clock(pools[0], f"{folder}/clock", clock),
    )
    for key in list(pools[0].list(f"{folder}/")):
        pools[0].delete(key)
    return Verdict(clock(), checks)


def _versions(store: ProbedObjects) -> Check:
    versioned = store.versioned()
    return Check("versions", not versioned, "kept: switch versioning and soft delete off for this bucket" if versioned else "not kept")


def _sequence(store: Objects, key: str) -> Check:
    made = [isinstance(store.create(key, word), Created) for word in (b"first", b"second")]
    good = made == [True, False] and store.get(key) == b"first"
    return Check("one after another", good, "the second create loses" if good else "the second create was not refused")


def _overlap(pools: Sequence[ProbedObjects], key: str) -> Check:
    """Let a create that began first, but whose body comes later, meet one that is done before it."""
    done: list[bool] = []

    def meanwhile() -> None:
        done.append(isinstance(pools[1].create(key, b"quick"), Created))

    slow = pools[0].create_slowly(key, secrets.token_bytes(PROBE_BYTES), meanwhile)
    if slow is None:
        return Check("overlapping", None, "this store offers no way to try it")
    winners = done.count(True) + isinstance(slow, Created)
    return Check("overlapping", winners == 1, f"{winners} of 2 creates won")


def _burst(pools: Sequence[Objects], folder: str) -> Check:
    def create(n: int) -> str | None:
        key = f"{folder}/{n // BURST_CLIENTS}"
        return key if isinstance(pools[n % len(pools)].create(key, b"%d" % n), Created) else None

    with ThreadPoolExecutor(BURST_CLIENTS) as clients:
        won = Counter(filter(None, clients.map(create, range(BURST_CLIENTS * BURST_NAMES))))
    wrong = sum(won[f"{folder}/{name}"] != 1 for name in range(BURST_NAMES))
    return Check("in a burst", not wrong, f"{wrong} of {BURST_NAMES} names had not exactly one winner among {BURST_CLIENTS}")


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
    """Leave the verdict in the store itself, so that no process of this deployment needs to ask again for a while."""
    key = VERDICT_KEY.format(day=f"{verdict.at:%Y%m%d%H%M%S}", verdict=verdict.word.lower())
    objects.create(key, msgspec.json.encode(verdict))


def kept(objects: Objects, now: datetime) -> Verdict | None:
    """Answer the newest verdict that still holds."""
    keys = [key for key in objects.list("preflight/") if not key.startswith("preflight/probe-")]
    verdicts = (msgspec.json.decode(objects.get(key), type=Verdict) for key in reversed(keys))
    return next((verdict for verdict in verdicts if now - verdict.at < VERDICT_KEPT), None)


class Gate:
    """Lets secrets be issued only on a store that is known to be SAFE; asks the store once a process, and examines it when nobody has."""

    def __init__(self, open_pools: Callable[[], Sequence[ProbedObjects]], clock: Callable[[], datetime]) -> None:
        self._open_pools, self._clock = open_pools, clock
        self._verdict: Verdict | None = None

    def check(self, objects: Objects) -> None:
        """Pass, or raise Unavailable with the reasons: a deposit on such a store could be handed out twice."""
        now = self._clock()
        if self._verdict is None or now > self._verdict.at + (VERDICT_KEPT if self._verdict.word == SAFE else REFUSAL_KEPT):
            self._verdict = self._fresh(objects, now)
        if self._verdict.word == REFUSE:
            reasons = "; ".join(self._verdict.reasons)
            raise Unavailable(f"the object store cannot hold secrets ({reasons}): see `skytally doctor`")

    def _fresh(self, objects: Objects, now: datetime) -> Verdict:
        verdict = kept(objects, now)
        if verdict is None or verdict.word == REFUSE:
            verdict = examine(self._open_pools(), self._clock)
            keep(verdict, objects)
        return verdict


def rows(verdict: Verdict) -> Iterator[tuple[str, str, str]]:
    """List what was tried, for people."""
    words = {True: "ok", False: "FAILED", None: "not tried"}
    return ((check.name, words[check.ok], check.finding) for check in verdict.checks)
