"""Request bodies: read and inflated under a size limit, in a bounded memory.

Invariant: all bodies of this process use at most `TOTAL_BYTES`, and one caller's at most half of that. Besides, each
request has `FREE_BYTES`, which are enough for small reports and claims. A request reserves once all that it may need,
so no request holds memory while it waits for more.
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
# Inflated in a tenth of a millisecond; larger bodies are inflated in a thread.
INFLATED_AT_ONCE_BYTES = 64 * 1_024
WAIT_SECONDS = 10.0


class Waiter(Struct, eq=False):
    """A request that waits for memory."""

    party: str
    size: int
    granted: "Future[None]"


class Memory:
    """The memory for bodies: first come, first served, but a caller beyond its share delays nobody else."""

    def __init__(
        self, total_bytes: int = TOTAL_BYTES, share_bytes: int = SHARE_BYTES, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._total_bytes, self._share_bytes, self._wait_seconds = total_bytes, share_bytes, wait_seconds
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()
        self._waiters: list[Waiter] = []

    @contextmanager
    def reservation(self, party: str) -> Iterator["Reservation"]:
        """Yield the reservation of a caller's request, empty at first; release it at the end."""
        reservation = Reservation(self, party)
        try:
            yield reservation
        finally:
            if reservation.size:
                self._give_back(party, reservation.size)

    async def take(self, party: str, size: int) -> None:
        """Wait until this many bytes are free; raise Unavailable if that takes too long."""
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
        """Grant memory to the next waiters; one that waits for its own caller's share delays nobody else."""
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


class Reservation:
    """One request's part of the memory for bodies."""

    def __init__(self, memory: Memory, party: str) -> None:
        self._memory, self._party = memory, party
        self.size = 0

    async def take(self, size: int) -> None:
        """Reserve, once, all bytes that this request may need."""
        await self._memory.take(self._party, size)
        self.size = size


MEMORY = Memory()


async def read(raw: StarletteRequest, max_bytes: int, reservation: Reservation, *, gzip: bool) -> bytes:
    """Return a request's body, read under a size limit and, with `gzip`, inflated under the same limit.

    A body above `FREE_BYTES` reserves its own length and its inflated length before more of it is read. Raise
    HttpError, Unavailable or Malformed.
    """
    is_gzip = gzip and raw.headers.get("content-encoding", "").lower() == "gzip"
    pieces, size = [], 0
    async for piece in raw.stream():
        size += len(piece)
        if size > max_bytes:
            raise too_large(max_bytes)
        pieces.append(piece)
        if size > FREE_BYTES and not reservation.size:
            length = raw.headers.get("content-length", "")
            await reservation.take((int(length) if length.isdigit() else max_bytes) + (max_bytes if is_gzip else 0))
    body = b"".join(pieces)
    return await _inflated(body, max_bytes, reservation) if is_gzip else body


async def _inflated(body: bytes, max_bytes: int, reservation: Reservation) -> bytes:
    """Return a body inflated to at most the length in its last four bytes."""
    length = min(int.from_bytes(body[-4:], "little"), max_bytes)
    if length <= INFLATED_AT_ONCE_BYTES:
        return inflate(body, length, max_bytes)
    if not reservation.size:
        await reservation.take(length)
    return await asyncio.to_thread(inflate, body, length, max_bytes)


def inflate(body: bytes, length: int, max_bytes: int) -> bytes:
    """Return the content of a gzip of at most `length` bytes.

    Raise Malformed for more bytes or bad gzip, HttpError above the size limit.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, length + 1)
    except zlib.error:
        raise Malformed("the body is not gzip", code="malformed_gzip") from None
    if len(plain) > max_bytes:
        del plain  # An error keeps its frames' variables alive for a while.
        raise too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        raise Malformed("the body is not one whole gzip member", code="malformed_gzip")
    return plain
