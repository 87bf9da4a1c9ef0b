"""Unreadable things: what lies in a store or comes from a source and cannot be read. It is skipped, and kept here so that people see it.

Invariant: nothing unreadable stops what stands beside it. Whoever meets it notes it and goes on; noting waits for no store and never fails.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Literal

from skytally import clock
from skytally.documents import Unreadable
from skytally.ports import Documents, Write

Kind = Literal["document", "object", "row"]
# The same thing is written down again so often, for as long as it is met.
NOTED_EVERY = timedelta(minutes=10)
# What was met within this is shown and alarmed: a collector that fails now and then asks again in between.
MET_WITHIN = timedelta(hours=3)
MOST_REMEMBERED = 10_000
MAX_LENGTH = 512


class Notes:
    """What one process has met and could not read; safe from any thread."""

    def __init__(self, write: Callable[[Sequence[Write]], object], now: Callable[[], datetime] = clock.now) -> None:
        self._write, self._now = write, now
        self._lock = threading.Lock()
        self._noted_at: dict[tuple[str, str, str], datetime] = {}

    def add(self, kind: Kind, source: str, key: str, reason: str) -> None:
        """Note a document of an index, an object of a folder, or a row of a source, by its key and why it cannot be read."""
        now, name = self._now(), (kind, source, key)
        with self._lock:
            if now - self._noted_at.get(name, now - NOTED_EVERY) < NOTED_EVERY:
                return
            if len(self._noted_at) >= MOST_REMEMBERED:
                self._noted_at.clear()
            self._noted_at[name] = now
        self._write([_write(kind, source, key, reason, now)])


def _write(kind: Kind, source: str, key: str, reason: str, now: datetime) -> Write:
    document = Unreadable(kind=kind, source=source, key_text=_plain(key), reason=_plain(reason), seen_at=now)
    digest = sha256(key.encode(errors="backslashreplace")).hexdigest()[:32]
    return Write("unreadable", f"{kind}/{source}/{digest}", int(now.timestamp() * 1_000), document)


def _plain(text: str) -> str:
    """Return a text that every store takes and every terminal shows."""
    return "".join(c if c.isprintable() else "?" for c in text.encode(errors="backslashreplace").decode()[:MAX_LENGTH])


def met(documents: Documents, now: datetime) -> Iterator[Unreadable]:
    """List what any process has met of late and could not read, the newest last."""
    span = (now - MET_WITHIN, now + timedelta(days=1))
    return (one for _, one in documents.during("unreadable", Unreadable, "seen_at", span, {}))


def met_by_source(documents: Documents, now: datetime) -> list[tuple[int, Unreadable]]:
    """Return of each kind and source how many things could not be read of late, and the newest of them."""
    found: dict[tuple[str, str], tuple[int, Unreadable]] = {}
    for one in met(documents, now):
        count, _ = found.get((one.kind, one.source), (0, one))
        found[one.kind, one.source] = (count + 1, one)
    return [found[key] for key in sorted(found)]
