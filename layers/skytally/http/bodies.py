"""Bodies: read under their cap, inflated under the same, and held in a bounded memory.

Invariant: all bodies that are read or worked on in this process together hold at most `TOTAL_BYTES`, one caller's at
most half of that, beside `FREE_BYTES` for each request, which small reports and claims get by with. A request takes its
room once, for all that it may come to, so none waits while it holds what another waits for.
"""

import asyncio
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from msgspec import Struct
from starlette.requests import Request as StarletteRequest

from skytally.core.errors import Malformed, Unavailable
from skytally.http.http_error import too_large

MIB = 1_024 * 1_024
TOTAL_BYTES, SHARE_BYTES = 32 * MIB, 16 * MIB
FREE_BYTES = 16 * 1_024
# Inflated in a tenth of a millisecond: more is done in a thread.
INFLATED_AT_ONCE_BYTES = 64 * 1_024
WAIT_SECONDS = 10.0


class Waiter(Struct, eq=False):
    """A request that waits for room."""

    party: str
    size: int
    granted: "Future[None]"


class Memory:
    """The room for bodies: first come, first served, but nobody waits for what another has beyond its share."""

    def __init__(
        self, total_bytes: int = TOTAL_BYTES, share_bytes: int = SHARE_BYTES, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._total_bytes, self._share_bytes, self._wait_seconds = total_bytes, share_bytes, wait_seconds
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._waiters: list[Waiter] = []

    @contextmanager
    def room(self, party: str) -> Iterator["Room"]:
        """Give a request of a caller its room, empty at first; all of it is given back at the end."""
        room = Room(self, party)
        try:
            yield room
        finally:
            self._give_back(party, room.size)

    async def take(self, party: str, size: int) -> None:
        """Wait until so much room is free; raises Unavailable where that takes too long."""
        waiter = Waiter(party, size, Future())
        with self._lock:
            self._waiters.append(waiter)
        self._grant()
        try:
            async with asyncio.timeout(self._wait_seconds):
                await asyncio.wrap_future(waiter.granted)
        except TimeoutError:
            self._withdraw(waiter)
            raise Unavailable("too many large bodies are under way: send this again") from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise

    def _grant(self) -> None:
        """Let in whoever's turn it is; one that waits for its own caller's share holds up nobody else."""
        with self._lock:
            for waiter in list(self._waiters):
                if self._taken[waiter.party] + waiter.size > self._share_bytes:
                    continue
                if self._taken.total() + waiter.size > self._total_bytes:
                    break
                self._waiters.remove(waiter)
                if waiter.granted.set_running_or_notify_cancel():
                    self._taken[waiter.party] += waiter.size
                    waiter.granted.set_result(None)

    def _withdraw(self, waiter: Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if not waiter.granted.cancelled():
            self._give_back(waiter.party, waiter.size)

    def _give_back(self, party: str, size: int) -> None:
        with self._lock:
            self._taken[party] -= size
            if not self._taken[party]:
                del self._taken[party]
        self._grant()


class Room:
    """What one request holds of the memory for bodies."""

    def __init__(self, memory: Memory, party: str) -> None:
        self._memory, self._party = memory, party
        self.size = 0

    async def take(self, size: int) -> None:
        """Take the room of all that this request may come to, once."""
        await self._memory.take(self._party, size)
        self.size = size


MEMORY = Memory()


async def read(raw: StarletteRequest, max_bytes: int, room: Room, *, gzip: bool) -> bytes:
    """Return a request's body, read under its cap and, where `gzip` may come, inflated under the same.

    Raises HttpError, Unavailable, or Malformed.

    A body above `FREE_BYTES` waits for its room before more of it is read: its own length, and what it may become.
    """
    is_gzip = gzip and raw.headers.get("content-encoding", "").lower() == "gzip"
    pieces, size = [], 0
    async for piece in raw.stream():
        size += len(piece)
        if size > max_bytes:
            raise too_large(max_bytes)
        pieces.append(piece)
        if size > FREE_BYTES and not room.size:
            length = raw.headers.get("content-length", "")
            await room.take((int(length) if length.isdigit() else max_bytes) + (max_bytes if is_gzip else 0))
    body = b"".join(pieces)
    return await _inflated(body, max_bytes, room) if is_gzip else body


async def _inflated(body: bytes, max_bytes: int, room: Room) -> bytes:
    """Inflate a body to the length that its last four bytes say, and never further."""
    length = min(int.from_bytes(body[-4:], "little"), max_bytes)
    if length <= INFLATED_AT_ONCE_BYTES:
        return inflate(body, length, max_bytes)
    if not room.size:
        await room.take(length)
    return await asyncio.to_thread(inflate, body, length, max_bytes)


def inflate(body: bytes, length: int, max_bytes: int) -> bytes:
    """Return what was packed, at most `length` bytes of it;
    raises Malformed where it is more or no gzip, HttpError above the cap.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, length + 1)
    except zlib.error:
        raise Malformed("the body is not gzip", code="malformed_gzip") from None
    if len(plain) > max_bytes:
        del plain  # An error keeps what its frames hold for a while.
        raise too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise Malformed("the body is not one whole gzip member", code="malformed_gzip")
    return plain
