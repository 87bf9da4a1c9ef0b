"""HTTP requests that end: a request takes at most so many seconds in all, whatever its peer does.

urllib3's time-outs hold for each read, so a peer that sends a byte now and then is never late, and name resolution has
none. Here a request runs in a thread, and whoever made it waits no longer than its time; then its socket is shut, which
ends the thread too.
"""

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

REQUEST_SECONDS = 8.0
THREADS = ThreadPoolExecutor(8, "request")
_thread = threading.local()


class NotSent(urllib3.exceptions.HTTPError):
    """Nothing of a request was sent: its peer has done nothing of what it asks."""


class _Request:
    """A request under way, and the connection that it uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._is_over = False
        self.is_sent = False

    def begins(self, connection: HTTPConnection, *, to_send: bool) -> None:
        """Take a connection, to connect or to send;
        raises TimeoutError where the time is over, so that nothing is sent any more.
        """
        with self._lock:
            if self._is_over:
                raise urllib3.exceptions.TimeoutError("the request's time is over")
            self._connection = connection
            self.is_sent = self.is_sent or to_send

    def end(self) -> None:
        """Shut the socket under whoever still reads or writes; nothing is sent from now on."""
        with self._lock:
            self._is_over = True
            open_socket = self._connection and self._connection.sock
            if open_socket:
                with suppress(OSError):
                    # Not TLS's own shutdown: the reader still uses what that takes away.
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """A connection that its request can end."""

    def connect(self) -> None:
        """Connect, and let the request know."""
        _thread.request.begins(self, to_send=False)
        super().connect()

    def send(self, data: Any) -> None:
        """Send, unless the request's time is over."""
        if self.sock is None:
            self.connect()
        _thread.request.begins(self, to_send=True)
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same under TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class HttpClient:
    """A pool of connections; follows no redirect and repeats nothing."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._pool = urllib3.PoolManager(retries=False, ca_certs=str(ca_file) if ca_file else None)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def request(
        self, method: str, url: str, *, seconds: float = REQUEST_SECONDS, **how: Any
    ) -> urllib3.BaseHTTPResponse:
        """Return an answer, read whole;
        raises urllib3's HTTPError where it does not come within so many seconds in all.

        Raises NotSent where nothing was sent.
        """
        if seconds <= 0:
            raise NotSent("no time is left for a request")
        request = _Request()
        answer: Future[urllib3.BaseHTTPResponse] = THREADS.submit(self._answer, request, method, url, seconds, how)
        try:
            return answer.result(seconds)
        except (TimeoutError, urllib3.exceptions.HTTPError) as error:
            answer.cancel()
            request.end()
            if not request.is_sent:
                raise NotSent("the peer cannot be reached") from None
            raise urllib3.exceptions.ProtocolError(f"the answer did not come ({type(error).__name__})") from None

    def _answer(
        self, request: _Request, method: str, url: str, seconds: float, how: dict[str, Any]
    ) -> urllib3.BaseHTTPResponse:
        _thread.request = request
        return self._pool.request(method, url, timeout=urllib3.Timeout(total=seconds), redirect=False, **how)
