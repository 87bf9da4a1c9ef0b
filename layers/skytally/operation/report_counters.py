"""Report counters: how many reports came and what became of them, counted by each process and stored as tallies.

A process counts in memory. At most every `KEPT_EVERY` it writes the counts of an hour into one document of its own,
which later counts of the hour replace, so nothing is counted twice. A killed process loses the counts since. No report
waits for its count, and none fails with it.
"""

import contextlib
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache

from skytally.core.documents import Tally
from skytally.core.errors import SkytallyError, Unavailable
from skytally.core.ports import Documents, Write
from skytally.core.records import Receipt

KEPT_EVERY = timedelta(seconds=10)
ANSWERED, REFUSED, UNAVAILABLE, CRASHED = "answered", "refused", "unavailable", "crashed"
REQUESTS, ITEMS = (ANSWERED, REFUSED, UNAVAILABLE, CRASHED), ("accepted", "stale", "rejected")


class Tallies:
    """The counts of one process; safe for threads."""

    def __init__(self, documents: Callable[[], Documents]) -> None:
        # Opened once: a count after the process's end must not open a store that nobody would close.
        self._documents = cache(documents)
        self._process = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, datetime], Counter[str]] = defaultdict(Counter)
        self._kept_at: dict[str, datetime] = {}

    @contextlib.contextmanager
    def report(self, function: str, now: datetime) -> Iterator[Callable[[Receipt], None]]:
        """Count one report by how the block ends, and its items if the block passes their receipt."""
        receipts: list[Receipt] = []
        outcome = CRASHED
        try:
            yield receipts.append
            outcome = ANSWERED
        except Unavailable:
            outcome = UNAVAILABLE
            raise
        except SkytallyError:
            outcome = REFUSED
            raise
        finally:
            self._add(function, outcome, receipts, now)

    @contextlib.contextmanager
    def refusals(self, function: str, now: datetime) -> Iterator[None]:
        """Count a report that the block refuses; one that it admits is counted by `report`."""
        try:
            yield
        except SkytallyError as error:
            self._add(function, UNAVAILABLE if isinstance(error, Unavailable) else REFUSED, [], now)
            raise

    def _add(self, function: str, outcome: str, receipts: list[Receipt], now: datetime) -> None:
        hour_at = now.replace(minute=0, second=0, microsecond=0)
        with self._lock:
            counts = self._counts[function, hour_at]
            counts[outcome] += 1
            for receipt in receipts:
                counts["accepted"] += receipt.accepted
                counts["stale"] += receipt.stale
                counts["rejected"] += len(receipt.rejected)
            if now - self._kept_at.get(function, hour_at - KEPT_EVERY) < KEPT_EVERY:
                return
            self._kept_at[function] = now
            writes = [self._write(function, at, now) for name, at in self._counts if name == function]
            with contextlib.suppress(Unavailable):
                self._documents().write(writes)
                for at in [at for name, at in self._counts if name == function and at < hour_at]:
                    del self._counts[function, at]

    def _write(self, function: str, hour_at: datetime, now: datetime) -> Write:
        counts = self._counts[function, hour_at]
        tally = Tally(
            function=function, hour_at=hour_at, counted_at=now, **{name: counts[name] for name in (*REQUESTS, *ITEMS)}
        )
        return Write(
            "tally", f"{function}-{self._process}-{hour_at:%Y%m%dT%H}", sum(counts[name] for name in REQUESTS), tally
        )
