"""A listening socket that several processes share, each with about as many connections as the others.

A server takes whatever waits as soon as it can, so the process that wakes up first would have all connections of
clients that keep theirs, and the others none. Here a process takes one at a time, and leaves it to the others for a
moment while it has more than one of them.
"""

import asyncio
import logging
import mmap
import socket
from collections.abc import Callable

from msgspec import Struct

from skytally.core import logs

LEFT_SECONDS = 0.005
# How long no connection is taken after one could not be, since this process has too many files open.
PAUSE_SECONDS = 1.0
log = logging.getLogger("skytally")


class Share(Struct, frozen=True):
    """One process among those that share a listener: how many connections each has open, and its place there."""

    open_connections: memoryview
    number: int

    def is_largest(self, count: int) -> bool:
        """Note how many connections this process has open; return whether that is more than another one has."""
        self.open_connections[self.number] = count
        return count > min(self.open_connections)


def no_connections(processes: int) -> memoryview:
    """Return numbers of connections that processes forked later share: none of any yet."""
    return memoryview(mmap.mmap(-1, 8 * processes)).cast("q")


class SharedListener:
    """Take one's share of a listener's connections, in the running loop, until it is closed."""

    def __init__(
        self,
        listener: socket.socket,
        share: Share,
        count_open: Callable[[], int],
        make_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listener, self._share = listener, share
        self._count_open, self._make_protocol = count_open, make_protocol
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[object]] = set()
        self._pausing: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._listen()

    def close(self) -> None:
        """Take no more connections."""
        self._loop.remove_reader(self._listener)
        if self._pausing is not None:
            self._pausing.cancel()

    async def wait_closed(self) -> None:
        """Wait until all connections that were taken have begun."""
        await asyncio.gather(*self._beginning, return_exceptions=True)

    def tell(self) -> None:
        """Let the other processes know how many connections this one has open."""
        self._share.is_largest(self._count())

    def _count(self) -> int:
        return self._count_open() + len(self._beginning)

    def _listen(self) -> None:
        self._loop.add_reader(self._listener, self._on_connection)

    def _on_connection(self) -> None:
        if self._share.is_largest(self._count()):
            self._pause(LEFT_SECONDS, self._take_what_is_left)
        else:
            self._take_one()

    def _take_what_is_left(self) -> None:
        self._listen()
        self._take_one()

    def _take_one(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # Another process was faster, or the client has left.
        except OSError as error:
            self._pause(PAUSE_SECONDS, self._listen)
            log.warning(logs.Fields(message=f"no connection can be taken for a moment: {error.strerror}"))
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)
        self.tell()  # With too low a number here, two processes would leave the next one to each other.

    def _pause(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._listener)
        self._pausing = self._loop.call_later(seconds, then)
