"""Connections: the limits for clients that send slowly, too much, or nothing.

Invariants:

* A connection whose client the server waits for ends within its bound (`Bounds`). If there are too many connections,
  the one that was waited for longest is ended. So slow senders, however many, delay nobody else.
* A refusal is JSON, and it reaches the client: pending answers are written before it, and what the client still sends
  is read and dropped for a while, since closing with unread bytes would discard the answers.
"""

import asyncio
import logging
import secrets
from collections import deque
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import httptools
from msgspec import Struct, structs
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from skytally.core import logs
from skytally.core.errors import Malformed, SkytallyError, Unavailable
from skytally.http import web
from skytally.http.http_error import HttpError, too_slow

HEAD_BYTES = 16 * 1_024
# An ISDN line. A body of 8 MiB takes it a quarter of an hour.
BODY_BYTES_PER_SECOND = 8 * 1_024
# How much of a refused body is read and dropped so that the answer arrives, by pieces of at most 5 MiB per second.
SURPLUS_BYTES, PIECE_BYTES, PIECE_SECONDS = 16 * 1_024 * 1_024, 256 * 1_024, 0.05
LEAVING_SECONDS, ENDING_SECONDS = 5.0, 1.0
PIPELINED = 8
# A connection waited for this long may be ended for another: an honest client sends its head at once.
MAKES_ROOM_AFTER_SECONDS = 0.1
SWEEP_SECONDS = 1.0
LOGGED_EVERY_SECONDS = 60.0
log = logging.getLogger("skytally")


class Bounds(Struct, frozen=True, kw_only=True):
    """How long a client may take, and how many connections there may be."""

    head_seconds: float
    idle_seconds: float
    body_seconds: float
    connections: int


class Phase(Enum):
    """What the server waits for on a connection."""

    IDLE = auto()  # the client's next request
    HEAD = auto()  # the rest of its head
    BODY = auto()  # the rest of its body
    ANSWER = auto()  # the application
    SURPLUS = auto()  # the rest of a body that is answered already
    LEAVING = auto()  # the client, to hear why it is refused and to hang up


class Connections:
    """All connections of one server."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._open: set[Connection] = set()
        # Connections that may be ended, by their waiting time at the last search; the longest is the last.
        self._slow: list[Connection] = []
        self._looked_at = 0.0
        self._sweeping: asyncio.TimerHandle | None = None
        self._ended_count, self._logged_at = 0, 0.0

    def admit(self, connection: "Connection") -> bool:
        """Add a connection and return True; if there are too many, end the slowest first or return False."""
        if len(self._open) >= self.bounds.connections:
            slow = self._slowest(connection.loop.time())
            if slow is None:
                return False
            slow.make_room()
            self._open.discard(slow)
        self._open.add(connection)
        if self._sweeping is None:
            self._sweep()
        return True

    def _slowest(self, now: float) -> "Connection | None":
        """Return a connection to end, or None; all are searched only now and then, however many are refused."""
        if not self._slow and now - self._looked_at >= MAKES_ROOM_AFTER_SECONDS / 2:
            self._looked_at = now
            self._slow = sorted(self._open, key=Connection.waited_seconds)
        while self._slow:
            longest = self._slow.pop()
            if longest in self._open and longest.waited_seconds() >= MAKES_ROOM_AFTER_SECONDS:
                return longest
        return None

    def leave(self, connection: "Connection") -> None:
        """Remove a closed connection."""
        self._open.discard(connection)

    def count_ended(self, now: float) -> None:
        """Count a client that was too slow, and log the count once a minute at most."""
        self._ended_count += 1
        if now - self._logged_at >= LOGGED_EVERY_SECONDS:
            self._logged_at = now
            log.warning(
                logs.Fields(
                    status=408, ended=self._ended_count, message="connections ended: their clients were too slow"
                )
            )

    def _sweep(self) -> None:
        """End connections beyond their bounds, repeatedly while there are connections."""
        for connection in list(self._open):
            connection.check()
        bounds = self.bounds
        pause = min(SWEEP_SECONDS, min(bounds.head_seconds, bounds.idle_seconds, bounds.body_seconds) / 4)
        self._sweeping = asyncio.get_running_loop().call_later(pause, self._sweep) if self._open else None


class Connection(HttpToolsProtocol):
    """One connection: uvicorn's HTTP protocol within bounds."""

    def __init__(self, *, connections: Connections, **named: Any) -> None:
        super().__init__(**named)
        self._connections, self._bounds = connections, connections.bounds
        self._phase, self._since = Phase.IDLE, self.loop.time()
        self._head_bytes = self._unparsed_bytes = self._surplus_bytes = 0
        self._written_bytes = self._sent_bytes = 0
        self._sent_at = self._since
        self._gets_on = False
        self._closes = self._has_hung_up = False
        # The unanswered requests in their order, and the last answer before the server closes the connection.
        self._due: deque[RequestResponseCycle] = deque()
        self._last_words: bytes | None = None

    # What the sweep asks.

    def waited_seconds(self) -> float:
        """Return how long the server has waited for this client; 0 while it does not read or works on an answer."""
        if self._phase is Phase.ANSWER or (self._phase is Phase.BODY and self.flow.read_paused):
            return 0.0
        return self.loop.time() - self._since

    def check(self) -> None:
        """End this connection if its client is beyond the bound of its phase."""
        if self._is_stuck():
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._phase is Phase.BODY and self.flow.read_paused:
            self._since = self.loop.time()
        elif self.waited_seconds() > self._seconds_allowed():
            self._end()

    def _seconds_allowed(self) -> float:
        bounds = self._bounds
        limits = {Phase.IDLE: bounds.idle_seconds, Phase.HEAD: bounds.head_seconds, Phase.LEAVING: LEAVING_SECONDS}
        return limits.get(self._phase, bounds.body_seconds)

    def _is_stuck(self) -> bool:
        """Return whether the client has read nothing of an answer for longer than it may be idle."""
        sent_bytes, now = self._written_bytes - self.transport.get_write_buffer_size(), self.loop.time()
        if sent_bytes != self._sent_bytes or sent_bytes == self._written_bytes:
            self._sent_bytes, self._sent_at = sent_bytes, now
        return now - self._sent_at > self._bounds.idle_seconds

    def _end(self) -> None:
        if self._phase in {Phase.HEAD, Phase.BODY}:
            self._connections.count_ended(self.loop.time())
            self._refuse(too_slow("head" if self._phase is Phase.HEAD else "body"))
        elif self._phase is Phase.LEAVING:
            self.transport.abort()
        else:
            self.transport.close()

    def make_room(self) -> None:
        """End this connection at once, to admit another."""
        self._connections.count_ended(self.loop.time())
        if self._phase in {Phase.HEAD, Phase.BODY}:
            self._answer_at_once(_too_many())
            self.transport.close()
        else:
            self.transport.abort()

    # What uvicorn and the parser call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse if there are too many connections."""
        super().connection_made(transport)
        if not self._connections.admit(self):
            self._answer_at_once(_too_many())
            self.transport.close()

    def shutdown(self) -> None:
        """Finish pending requests as the server ends, but do not wait for slow senders."""
        super().shutdown()
        self._bounds = structs.replace(self._bounds, body_seconds=ENDING_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection and its references."""
        self._connections.leave(self)
        if self.cycle is not None:
            self.cycle.transport = (
                self.transport
            )  # What stood for it would keep this connection until garbage is collected.
        super().connection_lost(exc)

    @property
    def throws_away(self) -> bool:
        """Return whether received data are dropped."""
        return self._phase is Phase.SURPLUS or self._last_words is not None

    def data_received(self, data: bytes) -> None:
        """Parse received data; a head is limited, and of a body no more is read before the application takes this."""
        if self.transport.is_closing():
            return
        if self._last_words is None:
            self._take(data)
        if self.throws_away:
            self.flow.pause_reading()
            self.loop.call_later(PIECE_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _take(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        error = self._parse(data)
        if error is not None:
            self._refuse(error)
        elif self._phase is Phase.BODY and self.cycle.body:
            self.flow.pause_reading()

    def _parse(self, data: bytes) -> SkytallyError | None:
        """Pass data to the parser, which calls back; return the error if they are refused."""
        self._gets_on = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # The request is answered as HTTP: nothing else is spoken here.
        except httptools.HttpParserError as error:
            return (
                _head_too_large()
                if isinstance(error.__context__, _HeadTooLarge)
                else Malformed("this is no HTTP request")
            )
        self._unparsed_bytes = 0 if self._gets_on else self._unparsed_bytes + len(data)
        return _head_too_large() if self._unparsed_bytes > HEAD_BYTES else None

    def on_message_begin(self) -> None:
        """Begin a request's head."""
        super().on_message_begin()
        self._phase, self._since = Phase.HEAD, self.loop.time()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Add a piece of the request target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, or a trailer after a body."""
        self._count_head(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._gets_on = self._phase is not Phase.HEAD
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES or len(self.pipeline) >= PIPELINED:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        """Pass the request to the application, which reads the body as it needs it."""
        self._phase, self._since, self._gets_on = Phase.BODY, self.loop.time(), True
        self._surplus_bytes = 0
        super().on_headers_complete()
        self._due.append(self.cycle)
        self.cycle.transport = _Answering(self)  # type: ignore[assignment]
        if self.expect_100_continue:
            # A client that is refused before its body does not send the body.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Add a piece of a body; its size extends the client's time by the lowest allowed rate."""
        self._gets_on = True
        self._since = min(self.loop.time(), self._since + len(body) / BODY_BYTES_PER_SECOND)
        if self._phase is Phase.SURPLUS:
            self._surplus_bytes += len(body)
            if self._surplus_bytes > SURPLUS_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; if it is answered already the next may begin."""
        super().on_message_complete()
        self._gets_on = True
        if self._phase is Phase.SURPLUS:
            self._go_on()
        else:
            self._phase = Phase.ANSWER

    def on_response_complete(self) -> None:
        """End the answer; the rest of the request's body is dropped."""
        self._due.popleft()
        if self._last_words is not None:
            self._leave_once_answered()
        elif self.cycle.response_complete:
            self.cycle.body = bytearray()
            if self._phase is Phase.BODY:
                self._phase = Phase.SURPLUS
            elif self._phase is Phase.ANSWER:
                self._go_on()
        super().on_response_complete()

    def _go_on(self) -> None:
        self._phase, self._since = Phase.IDLE, self.loop.time()
        if self._closes:
            self.transport.close()

    # What the application's side does.

    def write(self, data: bytes) -> None:
        """Send a piece of an answer."""
        self._written_bytes += len(data)
        self.transport.write(data)

    def close_after_answer(self) -> None:
        """Close the connection after the answer; a client that is still sending would lose the answer."""
        if self._phase is Phase.BODY and self.cycle.response_complete:
            self._closes = True
        else:
            self.transport.close()

    def client_hung_up(self) -> bool:
        """Note that the client sends no more; return whether it still waits for answers, which are written first."""
        self._has_hung_up = True
        if self._phase is not Phase.ANSWER or not self._due:
            return False
        self._last_words = self._last_words or b""
        return True

    def _refuse(self, error: SkytallyError) -> None:
        """Refuse the request in place of the application, after the answers before it, and close."""
        is_answered = self._phase is Phase.SURPLUS
        if self._phase is Phase.BODY:
            is_answered = self._due[-1].response_started
            if not is_answered:
                self._drop(self._due.pop())
        self._phase, self._last_words = Phase.ANSWER, b"" if is_answered else refusal(error)
        self._leave_once_answered()

    def _leave_once_answered(self) -> None:
        """Write the last answer once no other is due, and wait for the client to close."""
        if self._due or self._last_words is None or self.transport.is_closing():
            return
        self.write(self._last_words)
        self._phase, self._since = Phase.LEAVING, self.loop.time()
        self.flow.resume_reading()
        if self._has_hung_up:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()

    def _drop(self, cycle: RequestResponseCycle) -> None:
        """Drop a request: its application neither answers it nor waits for the rest of it."""
        cycle.disconnected = True
        cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()

    def _answer_at_once(self, error: SkytallyError) -> None:
        """Write a refusal unless an answer, or the rest of one, is due before it; drop all requests."""
        is_first = not self._due or (
            self._phase is Phase.BODY and len(self._due) == 1 and not self._due[0].response_started
        )
        if is_first:
            self.write(refusal(error))
        while self._due:
            self._drop(self._due.pop())


class _Reading(asyncio.BufferedProtocol):
    """A reader of small pieces, since every connection may hold one before its head is checked.

    Dropped data are read in large pieces, which cost least.
    """

    _small, _large = memoryview(bytearray(HEAD_BYTES)), memoryview(bytearray(PIECE_BYTES))

    def __init__(self, connection: Connection) -> None:
        self._connection, self._buffer = connection, self._small
        self.connection_made, self.connection_lost = connection.connection_made, connection.connection_lost  # type: ignore[assignment]
        self.pause_writing, self.resume_writing = connection.pause_writing, connection.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer that all connections share: it is filled and emptied in one step."""
        self._buffer = self._large if self._connection.throws_away else self._small
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass the received data on."""
        self._connection.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Return whether to keep the transport open because an answer is due."""
        return self._connection.client_hung_up()


class _Answering:
    """The transport that a request's answer uses."""

    def __init__(self, connection: Connection) -> None:
        self.write, self.close, self.is_closing = (
            connection.write,
            connection.close_after_answer,
            connection.transport.is_closing,
        )


class _HeadTooLarge(Exception):
    """The end of parsing at a head that is too large."""


def _head_too_large() -> HttpError:
    return HttpError(
        431, "head_too_large", f"send at most {HEAD_BYTES} bytes of request line and headers, and one request at a time"
    )


def _too_many() -> Unavailable:
    return Unavailable("there are too many connections: ask again")


def refusal(error: SkytallyError) -> bytes:
    """Return the whole HTTP answer of a refusal without an application."""
    reply = web.error_reply(error)
    headers = {**web.SECURITY_HEADERS, "Connection": "close", "X-Request-Id": secrets.token_hex(8)}
    reply.headers.update(headers)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in reply.raw_headers)
    return (
        f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}\r\n".encode()
        + lines
        + b"\r\n"
        + bytes(reply.body)
    )


def protocol(bounds: Bounds) -> Any:
    """Return the factory of a server's connections."""
    connections = Connections(bounds)

    def connect(**named: Any) -> asyncio.BufferedProtocol:
        return _Reading(Connection(connections=connections, **named))

    return connect
