"""Unreadable things: what lies in a store or comes from a source and cannot be read.

It is skipped, and kept here so that people see it.

Invariant: nothing unreadable stops what stands beside it. Whoever meets it notes it and goes on; noting waits for no
store and never fails.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, TypeVar

from skytally.core import clock, storable
from skytally.core.documents import Document, Unreadable
from skytally.core.plain_text import printable
from skytally.core.ports import Documents, Skipped, Write
from skytally.core.timestamps import to_ms

D = TypeVar("D", bound=Document)
Kind = Literal["document", "object", "row"]
# The same thing is written down again so often, for as long as it is met.
NOTED_EVERY = timedelta(minutes=10)
# What was met within this is shown and alarmed: a collector that fails now and then asks again in between.
MET_WITHIN = timedelta(hours=3)
# What is beyond that many waits until the first of them may be written down again: junk without end costs a bounded
# number of writes.
MOST_REMEMBERED = 10_000
MAX_LENGTH = 512


class Notes:
    """What one process has met and could not read; safe from any thread."""

    def __init__(self, write: Callable[[Sequence[Write]], object], now: Callable[[], datetime] = clock.now) -> None:
        self._write, self._now = write, now
        self._lock = threading.Lock()
        self._noted_at: dict[str, datetime] = {}

    def add(self, kind: Kind, source: str, key: str, reason: str) -> None:
        """Note a document of an index, an object of a folder,
        or a row of a source, by its key and why it cannot be read.
        """
        now, name = self._now(), f"{kind}/{source}/{sha256(key.encode(errors='backslashreplace')).hexdigest()[:32]}"
        with self._lock:
            is_full = len(self._noted_at) >= MOST_REMEMBERED
            # The oldest stands first, and gives its place to another once it may be noted again itself.
            former = name if name in self._noted_at or not is_full else next(iter(self._noted_at))
            if now - self._noted_at.get(former, now - NOTED_EVERY) < NOTED_EVERY:
                return
            self._noted_at.pop(former, None)
            self._noted_at[name] = now
        document = Unreadable(kind=kind, source=source, key_text=plain(key), reason=plain(reason), seen_at=now)
        self._write([Write("unreadable", name, to_ms(now), document)])

    def document(
        self,
        index: str,
        key: Any,
        fields: Mapping[str, Any],
        kind: type[D],
        skipped: Skipped | None = None,
        *,
        stored_as: str = "",
    ) -> D | None:
        """Return a document as its record; None where that cannot be: then it is noted, and `skipped` is called.

        Its key may be what cannot be read: `stored_as` is how the store names it else.
        """
        try:
            return storable.read(key, fields, kind)
        except storable.NotStorable as error:
            name, reason = stored_as or str(key), str(error)
            self.add("document", index, name, reason)
            if skipped is not None:
                skipped(name, reason)
            return None


def plain(text: str) -> str:
    """Return a text that every store takes and every terminal shows."""
    return printable(text.encode(errors="backslashreplace").decode(), MAX_LENGTH)


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
