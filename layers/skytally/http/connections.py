"""Connections: what one that sends slowly, too much, or nothing may cost a server.

Invariant: a connection for whose client the server waits ends within its bound (`Bounds`), and where there are too
many, the one that was waited for longest makes room. So slow senders, however many, hold up nobody who sends as fast as
any network does. A refusal is JSON, and it is heard: the answers that are due before it are written first, and what the
client still sends is read for a while and thrown away, since closing on unread bytes would take the answers back.
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
# Of a body that nobody wants, so much is read for the sake of the answer, a piece at a time: at most 5 MiB a second.
SURPLUS_BYTES, PIECE_BYTES, PIECE_SECONDS = 16 * 1_024 * 1_024, 256 * 1_024, 0.05
LEAVING_SECONDS, ENDING_SECONDS = 5.0, 1.0
PIPELINED = 8
# A client that was waited for this long makes room for another: an honest one sends its head at once.
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
        # Those that may make room, by how long they were waited for when they were last looked for: the longest is the
        # last.
        self._slow: list[Connection] = []
        self._looked_at = 0.0
        self._sweeping: asyncio.TimerHandle | None = None
        self._ended_count, self._logged_at = 0, 0.0

    def admit(self, connection: "Connection") -> bool:
        """Take a new connection in, ending the one that was waited for longest where there are too many;
        say whether it may stay.
        """
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
        """Return a connection that makes room; all are looked through only now and then, however many want in."""
        if not self._slow and now - self._looked_at >= MAKES_ROOM_AFTER_SECONDS / 2:
            self._looked_at = now
            self._slow = sorted(self._open, key=Connection.waited_seconds)
        while self._slow:
            longest = self._slow.pop()
            if longest in self._open and longest.waited_seconds() >= MAKES_ROOM_AFTER_SECONDS:
                return longest
        return None

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that is over."""
        self._open.discard(connection)

    def count_ended(self, now: float) -> None:
        """Count a client that was too slow;
        that there are some is said once a minute, since a line for each would be the next flood.
        """
        self._ended_count += 1
        if now - self._logged_at >= LOGGED_EVERY_SECONDS:
            self._logged_at = now
            log.warning(
                logs.Fields(
                    status=408, ended=self._ended_count, message="connections ended: their clients were too slow"
                )
            )

    def _sweep(self) -> None:
        """End what is over its bound, again and again while there are connections."""
        for connection in list(self._open):
            connection.check()
        bounds = self.bounds
        pause = min(SWEEP_SECONDS, min(bounds.head_seconds, bounds.idle_seconds, bounds.body_seconds) / 4)
        self._sweeping = asyncio.get_running_loop().call_later(pause, self._sweep) if self._open else None


class Connection(HttpToolsProtocol):
    """One connection: HTTP as uvicorn speaks it, within bounds."""

    def __init__(self, *, connections: Connections, **named: Any) -> None:
        super().__init__(**named)
        self._connections, self._bounds = connections, connections.bounds
        self._phase, self._since = Phase.IDLE, self.loop.time()
        self._head_bytes = self._unparsed_bytes = self._surplus_bytes = 0
        self._written_bytes = self._sent_bytes = 0
        self._sent_at = self._since
        self._gets_on = False
        self._closes = self._has_hung_up = False
        # The requests that are not answered yet, in their order; and what the client is told behind their answers
        # before the server leaves.
        self._due: deque[RequestResponseCycle] = deque()
        self._last_words: bytes | None = None

    # What the sweep asks.

    def waited_seconds(self) -> float:
        """Return for how long the server has waited for this client;
        none while it does not read, or works on an answer.
        """
        if self._phase is Phase.ANSWER or (self._phase is Phase.BODY and self.flow.read_paused):
            return 0.0
        return self.loop.time() - self._since

    def check(self) -> None:
        """End this connection where its client is over the bound of what it is waited for."""
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
        """Say whether the client has taken nothing of an answer for as long as it may be idle."""
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
        """End this connection at once, for another's sake."""
        self._connections.count_ended(self.loop.time())
        if self._phase in {Phase.HEAD, Phase.BODY}:
            self._answer_at_once(_too_many())
            self.transport.close()
        else:
            self.transport.abort()

    # What uvicorn and the parser call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        if not self._connections.admit(self):
            self._answer_at_once(_too_many())
            self.transport.close()

    def shutdown(self) -> None:
        """Let what is under way end, when the server ends; it waits only for senders that are not slow."""
        super().shutdown()
        self._bounds = structs.replace(self._bounds, body_seconds=ENDING_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._connections.leave(self)
        if self.cycle is not None:
            self.cycle.transport = (
                self.transport
            )  # What stood for it would keep this connection until garbage is collected.
        super().connection_lost(exc)

    @property
    def throws_away(self) -> bool:
        """Say whether what comes now is read for nothing but to be thrown away."""
        return self._phase is Phase.SURPLUS or self._last_words is not None

    def data_received(self, data: bytes) -> None:
        """Parse what came, under the cap of a head; of a body no more is read before the application has taken this."""
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
        """Hand what came to the parser, which calls back; return why it is refused."""
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
        """Begin with a request's head."""
        super().on_message_begin()
        self._phase, self._since = Phase.HEAD, self.loop.time()
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer behind a body."""
        self._count_head(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count_head(self, size: int) -> None:
        self._gets_on = self._phase is not Phase.HEAD
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES or len(self.pipeline) >= PIPELINED:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        """Hand the request over; its body is read as the application asks for it."""
        self._phase, self._since, self._gets_on = Phase.BODY, self.loop.time(), True
        self._surplus_bytes = 0
        super().on_headers_complete()
        self._due.append(self.cycle)
        self.cycle.transport = _Answering(self)  # type: ignore[assignment]
        if self.expect_100_continue:
            # A client that was refused before it began with the body does not send it.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; each buys the client time at the least rate that it may have."""
        self._gets_on = True
        self._since = min(self.loop.time(), self._since + len(body) / BODY_BYTES_PER_SECOND)
        if self._phase is Phase.SURPLUS:
            self._surplus_bytes += len(body)
            if self._surplus_bytes > SURPLUS_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request; the next may come where it is answered already."""
        super().on_message_complete()
        self._gets_on = True
        if self._phase is Phase.SURPLUS:
            self._go_on()
        else:
            self._phase = Phase.ANSWER

    def on_response_complete(self) -> None:
        """End the answer; what still comes of the request's body is thrown away."""
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
        """Hang up, but not on a client that is still sending: it would lose the answer."""
        if self._phase is Phase.BODY and self.cycle.response_complete:
            self._closes = True
        else:
            self.transport.close()

    def client_hung_up(self) -> bool:
        """Take it that the client sends no more; say whether it still waits for answers.

        They are written before the server leaves.
        """
        self._has_hung_up = True
        if self._phase is not Phase.ANSWER or not self._due:
            return False
        self._last_words = self._last_words or b""
        return True

    def _refuse(self, error: SkytallyError) -> None:
        """Refuse in the application's place and leave, as soon as the requests before this one are answered."""
        is_answered = self._phase is Phase.SURPLUS
        if self._phase is Phase.BODY:
            is_answered = self._due[-1].response_started
            if not is_answered:
                self._drop(self._due.pop())
        self._phase, self._last_words = Phase.ANSWER, b"" if is_answered else refusal(error)
        self._leave_once_answered()

    def _leave_once_answered(self) -> None:
        """Say the last words where no answer is due before them, and wait for the client to hang up."""
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
        """Let a request go unanswered by its application, which need not wait for the rest of it."""
        cycle.disconnected = True
        cycle.message_event.set()
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()

    def _answer_at_once(self, error: SkytallyError) -> None:
        """Write a refusal, unless another request's answer,
        or a part of this one's, has to come before it; drop all requests.
        """
        is_first = not self._due or (
            self._phase is Phase.BODY and len(self._due) == 1 and not self._due[0].response_started
        )
        if is_first:
            self.write(refusal(error))
        while self._due:
            self._drop(self._due.pop())


class _Reading(asyncio.BufferedProtocol):
    """Reads a little at a time:
    what comes before anybody has looked at the head is in memory for every connection at once.

    What is thrown away is read in large pieces, which cost least.
    """

    _small, _large = memoryview(bytearray(HEAD_BYTES)), memoryview(bytearray(PIECE_BYTES))

    def __init__(self, connection: Connection) -> None:
        self._connection, self._buffer = connection, self._small
        self.connection_made, self.connection_lost = connection.connection_made, connection.connection_lost  # type: ignore[assignment]
        self.pause_writing, self.resume_writing = connection.pause_writing, connection.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return a buffer of all connections: it is read into and taken from in one step."""
        self._buffer = self._large if self._connection.throws_away else self._small
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what came."""
        self._connection.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool:
        """Let the transport close, unless an answer is due."""
        return self._connection.client_hung_up()


class _Answering:
    """The transport as a request's answer uses it."""

    def __init__(self, connection: Connection) -> None:
        self.write, self.close, self.is_closing = (
            connection.write,
            connection.close_after_answer,
            connection.transport.is_closing,
        )


class _HeadTooLarge(Exception):
    """Ends the parsing of a head."""


def _head_too_large() -> HttpError:
    return HttpError(
        431, "head_too_large", f"send at most {HEAD_BYTES} bytes of request line and headers, and one request at a time"
    )


def _too_many() -> Unavailable:
    return Unavailable("there are too many connections: ask again")


def refusal(error: SkytallyError) -> bytes:
    """Write the whole answer to what no application shall see."""
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
    """Return what makes a server's connections."""
    connections = Connections(bounds)

    def connect(**named: Any) -> asyncio.BufferedProtocol:
        return _Reading(Connection(connections=connections, **named))

    return connect
