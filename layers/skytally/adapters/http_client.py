"""HTTP requests with a total time limit, whatever the peer does.

urllib3's time-outs hold for each read, so a peer that sends a byte now and then never times out, and name resolution
has no time-out. Here a request runs in a thread. The caller waits no longer than the limit; then the socket is shut
down, which ends the thread too.
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
    """Nothing of a request was sent, so its peer has done nothing."""


class _Request:
    """A running request and its connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._is_over = False
        self.is_sent = False

    def begins(self, connection: HTTPConnection, *, to_send: bool) -> None:
        """Note the connection before it connects or sends; raise TimeoutError if the time is over."""
        with self._lock:
            if self._is_over:
                raise urllib3.exceptions.TimeoutError("the request's time is over")
            self._connection = connection
            self.is_sent = self.is_sent or to_send

    def end(self) -> None:
        """Shut the socket down, whoever uses it; nothing is sent from now on."""
        with self._lock:
            self._is_over = True
            open_socket = self._connection and self._connection.sock
            if open_socket:
                with suppress(OSError):
                    # Not TLS's own shutdown, which would remove state that the reader still uses.
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)


class _Connection(HTTPConnection):
    """A connection that its request can end."""

    def connect(self) -> None:
        """Connect, after noting it in the request."""
        _thread.request.begins(self, to_send=False)
        super().connect()

    def send(self, data: Any) -> None:
        """Send, or raise TimeoutError after the request's time."""
        if self.sock is None:
            self.connect()
        _thread.request.begins(self, to_send=True)
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """A TLS connection that its request can end."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class HttpClient:
    """A pool of connections that follows no redirects and retries nothing."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._pool = urllib3.PoolManager(retries=False, ca_certs=str(ca_file) if ca_file else None)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def request(
        self, method: str, url: str, *, seconds: float = REQUEST_SECONDS, **options: Any
    ) -> urllib3.BaseHTTPResponse:
        """Return an answer, read whole; raise urllib3's HTTPError if it does not come within the seconds in all.

        Raise NotSent if nothing was sent.
        """
        if seconds <= 0:
            raise NotSent("no time is left for a request")
        request = _Request()
        answer: Future[urllib3.BaseHTTPResponse] = THREADS.submit(self._answer, request, method, url, seconds, options)
        try:
            return answer.result(seconds)
        except (TimeoutError, urllib3.exceptions.HTTPError) as error:
            answer.cancel()
            request.end()
            if not request.is_sent:
                raise NotSent("the peer cannot be reached") from None
            raise urllib3.exceptions.ProtocolError(f"the answer did not come ({type(error).__name__})") from None

    def _answer(
        self, request: _Request, method: str, url: str, seconds: float, options: dict[str, Any]
    ) -> urllib3.BaseHTTPResponse:
        _thread.request = request
        return self._pool.request(method, url, timeout=urllib3.Timeout(total=seconds), redirect=False, **options)
