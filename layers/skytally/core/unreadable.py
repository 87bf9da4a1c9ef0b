"""Unreadable items of a store or a source: they are skipped, and noted for people to see.

Invariant: an unreadable item stops no other. Its reader notes it and goes on; a note never waits for a store and never
fails.
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
# An item that is read again is noted again after this time.
NOTED_EVERY = timedelta(minutes=10)
# Items noted within this time are shown and alarmed; a collector that fails sometimes reads them again meanwhile.
MET_WITHIN = timedelta(hours=3)
# Further items wait until the oldest may be noted again, so endless junk costs a bounded number of writes.
MOST_REMEMBERED = 10_000
MAX_LENGTH = 512


class Notes:
    """The notes of one process of what it could not read; safe for threads."""

    def __init__(self, write: Callable[[Sequence[Write]], object], now: Callable[[], datetime] = clock.now) -> None:
        self._write, self._now = write, now
        self._lock = threading.Lock()
        self._noted_at: dict[str, datetime] = {}

    def add(self, kind: Kind, source: str, key: str, reason: str) -> None:
        """Note an unreadable document of an index, object of a folder or row of a source, by key and reason."""
        now, name = self._now(), f"{kind}/{source}/{sha256(key.encode(errors='backslashreplace')).hexdigest()[:32]}"
        with self._lock:
            is_full = len(self._noted_at) >= MOST_REMEMBERED
            # The oldest is first. A new item replaces it once it could be noted again.
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
        """Return the record of a document; note an unreadable one, call `skipped` and return None.

        The key itself may be unreadable: `stored_as` is then the store's own name of the document.
        """
        try:
            return storable.read(key, fields, kind)
        except storable.NotStorable as error:
            self.skip(index, stored_as or str(key), str(error), skipped)
            return None

    def skip(self, index: str, name: str, reason: str, skipped: Skipped | None = None) -> None:
        """Note an unreadable document, and call `skipped`."""
        self.add("document", index, name, reason)
        if skipped is not None:
            skipped(name, reason)


def plain(text: str) -> str:
    """Return a text that every store accepts and every terminal shows."""
    return printable(text.encode(errors="backslashreplace").decode(), MAX_LENGTH)


def met(documents: Documents, now: datetime) -> Iterator[Unreadable]:
    """Return what any process noted as unreadable lately, the newest last."""
    period = (now - MET_WITHIN, now + timedelta(days=1))
    return (item for _, item in documents.during("unreadable", Unreadable, "seen_at", period, {}))


def met_by_source(documents: Documents, now: datetime) -> list[tuple[int, Unreadable]]:
    """Return for each kind and source how many items were unreadable lately, and the newest of them."""
    by_source: dict[tuple[str, str], tuple[int, Unreadable]] = {}
    for item in met(documents, now):
        count, _ = by_source.get((item.kind, item.source), (0, item))
        by_source[item.kind, item.source] = (count + 1, item)
    return [by_source[key] for key in sorted(by_source)]
