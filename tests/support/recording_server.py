"""The HTTP server of tests: it records every request and replies as a test says."""

import contextlib
import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

POLL_SECONDS = 0.01


class Request(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: Message
    body: bytes


class Reply(NamedTuple):
    """A reply to send; its headers come before those that the server would send itself."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


def json_reply(value: Any, status: int = 200, **headers: str) -> Reply:
    """Return a reply in JSON."""
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


class RecordingServer:
    """What a test holds of its server: where it is, what it was sent, and how it replies.

    `respond` returns the reply to a request, or None to close the connection without one; a test may replace it at any
    time, and keep what else belongs to its server in attributes of its own.
    """

    def __init__(self, url: str, respond: Callable[[Request], Reply | None]) -> None:
        self.url, self.respond = url, respond
        self.requests: list[Request] = []

    def handle(self, request: Request) -> Reply | None:
        """Record a request; return its reply."""
        self.requests.append(request)
        return self.respond(request)


class Handler(BaseHTTPRequestHandler):
    """Reads a request whole, and sends its reply."""

    recording: RecordingServer

    def handle_any(self) -> None:
        """Reply to one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.recording.handle(Request(self.command, self.path, self.headers, body))
        self.close_connection = True
        if reply is None:
            return
        headers = {"Date": self.date_time_string(), "Content-Length": str(len(reply.body)), **reply.headers}
        # Whoever has read enough goes away.
        with contextlib.suppress(OSError):
            self.send_response_only(reply.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing: the requests are recorded."""


class Server(ThreadingHTTPServer):
    """Waits for its threads when it ends, and says nothing of a peer that left or failed to agree on TLS."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass on what no peer can cause."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def recording_server(
    respond: Callable[[Request], Reply | None] = lambda _: Reply(),
    *,
    port: int = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[RecordingServer]:
    """Serve on loopback, with TLS where a context is given, until the caller is done."""
    kind = type("Bound", (Handler,), {})
    with Server(("127.0.0.1", port), kind) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https" if context else "http"
        kind.recording = RecordingServer(f"{scheme}://127.0.0.1:{server.server_port}", respond)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_SECONDS})
        thread.start()
        try:
            yield kind.recording
        finally:
            server.shutdown()
            thread.join()
