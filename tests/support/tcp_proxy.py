"""A proxy of one port that can hold answers back, and can speak TLS:
what stands between a function and its store on a bad day.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import TypeVar


class Proxy:
    """Bytes there and back; while `holds_back` is set no answer reaches the caller, whatever the server did."""

    def __init__(self, target: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self._target, self._tls = target, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.holds_back = threading.Event()
        self._open: list[socket.socket] = [self._listener]

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._connect, args=(self._listener.accept()[0],), daemon=True).start()

    def _connect(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            caller = self._tls.wrap_socket(plain, server_side=True) if self._tls else plain
            server = socket.create_connection(self._target)
            self._open += [caller, server]
            threading.Thread(target=self._carry, args=(server, caller, True), daemon=True).start()
            self._carry(caller, server, False)

    def _carry(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not (is_answer and self.holds_back.is_set()):
                    target.sendall(data)

    def close(self) -> None:
        """Hang up on everybody."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class TunnelProxy(Proxy):
    """A proxy as the environment's `https_proxy` names it; `heads` are its callers' requests for a tunnel."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target, None)
        self.heads: list[bytes] = []

    def _connect(self, plain: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += plain.recv(1)
        self.heads.append(head)
        plain.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        super()._connect(plain)


P = TypeVar("P", bound=Proxy)


@contextlib.contextmanager
def proxy(target: tuple[str, int], tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy on a free port until the caller is done."""
    with running(Proxy(target, tls)) as one:
        yield one


@contextlib.contextmanager
def running(one: P) -> Iterator[P]:
    """Run a proxy until the caller is done."""
    threading.Thread(target=one.serve, daemon=True).start()
    try:
        yield one
    finally:
        one.close()
