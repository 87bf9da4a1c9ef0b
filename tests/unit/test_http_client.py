"""Requests end in time, whatever the peer does, and it is known of each whether anything was sent."""

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from skytally.adapters import http_client
from skytally.adapters.http_client import HttpClient, NotSent

SECONDS = 0.3
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """A server of one answer; it sends each of its pieces after a pause, and notes what it hears."""

    def __init__(self, pieces, pause, context=None):
        self._pieces, self._pause, self._context = pieces, pause, context
        self.heard, self.connections, self.is_over = b"", 0, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        # Closing alone does not wake whoever accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self):
        while not self.is_over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with suppress(OSError), connection:
                connection.settimeout(0.5)
                with (
                    self._context.wrap_socket(connection, server_side=True)
                    if self._context
                    else connection as connection
                ):
                    while data := connection.recv(65_536):
                        self.heard += data
                        for piece in self._pieces:
                            self.is_over.wait(self._pause)
                            connection.sendall(piece)


def bytes_of(text):
    return [bytes([byte]) for byte in text]


@pytest.fixture
def peer_client():
    client = HttpClient()
    yield client
    client._pool.clear()


def timed_out(client, url, **how):
    """Ask, and return how long it took to give up."""
    begin = time.monotonic()
    with pytest.raises(urllib3.exceptions.HTTPError) as failure:
        client.request("GET", url, seconds=SECONDS, **how)
    return failure.value, time.monotonic() - begin


@pytest.mark.parametrize(
    ("pieces", "pause"),
    [
        (bytes_of(HEAD), 0.1),
        ([HEAD, *bytes_of(b"x" * 1_000)], 0.1),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 1_000, 0.1),
        ([WHOLE], 30),
        ([HEAD], 0),
    ],
    ids=["a head by bytes", "a body by bytes", "heads without end", "silence", "a body that never comes"],
)
def test_a_peer_that_never_comes_to_an_end_costs_its_time_and_no_thread(peer_client, pieces, pause):
    threads = threading.active_count() + len(http_client.THREADS._threads)
    with Peer(pieces, pause) as peer:
        for _ in range(3):
            error, seconds = timed_out(peer_client, peer.url)
            assert not isinstance(error, NotSent)
            assert SECONDS * 0.9 < seconds < SECONDS + 0.5
        deadline = time.monotonic() + 3
        while http_client.THREADS._work_queue.qsize() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert b"GET / HTTP/1.1" in peer.heard
    assert threading.active_count() <= threads + 8
    # A thread that still hung would answer nobody.
    with Peer([WHOLE], 0) as peer:
        for _ in range(8):
            assert peer_client.request("GET", peer.url, seconds=2).data == b"ok"


def test_a_peer_that_shakes_no_hands_costs_its_time_and_hears_no_request(peer_client):
    with Peer([b"\x16"] * 1_000, 0.1) as peer:
        error, seconds = timed_out(peer_client, peer.url.replace("http", "https"))
        assert isinstance(error, NotSent)
        assert seconds < SECONDS + 0.5
        assert b"GET" not in peer.heard


def test_a_connection_is_used_again(peer_client):
    with Peer([WHOLE], 0) as peer:
        for _ in range(3):
            assert peer_client.request("GET", peer.url).data == b"ok"
        assert peer.connections == 1


def test_a_name_that_does_not_resolve_in_time_costs_its_time_and_nothing_is_sent_later(peer_client, monkeypatch):
    """The resolver has no time-out; whoever waited for it must not send what nobody waits for any more."""
    real, resolved = socket.getaddrinfo, threading.Event()

    def slow(*args, **named):
        time.sleep(SECONDS * 2)
        try:
            return real(*args, **named)
        finally:
            resolved.set()

    with Peer([WHOLE], 0) as peer:
        with monkeypatch.context() as slowly:
            slowly.setattr("socket.getaddrinfo", slow)
            error, seconds = timed_out(peer_client, peer.url)
        assert isinstance(error, NotSent)
        assert seconds < SECONDS + 0.5
        assert resolved.wait(5)
        time.sleep(0.2)
        assert peer.heard == b""


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://nowhere.invalid/", "https://127.0.0.1:9/"])
def test_a_peer_that_cannot_be_reached_was_sent_nothing(peer_client, url):
    assert isinstance(timed_out(peer_client, url)[0], NotSent)


def test_no_time_is_no_request(peer_client):
    with Peer([WHOLE], 0) as peer:
        with pytest.raises(NotSent):
            peer_client.request("GET", peer.url, seconds=0)
        assert peer.connections == 0


def test_a_connection_that_ends_after_the_request_was_sent_is_no_sign_that_it_was_not(peer_client):
    with Peer([b"HTTP/1.1 "], 0) as peer:
        peer.is_over.set()
        error, _ = timed_out(peer_client, peer.url)
    assert not isinstance(error, NotSent)


def certificate(folder):
    """Make a key and a certificate that it signs itself, for 127.0.0.1."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).add_extension(
        names, critical=True
    )
    path, pem = folder / "certificate.pem", serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(pem))
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(peer_client, tmp_path):
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    with Peer([WHOLE], 0, context) as peer:
        assert isinstance(timed_out(peer_client, peer.url)[0], NotSent)
        assert HttpClient(path).request("GET", peer.url).data == b"ok"
    with Peer(bytes_of(HEAD), 0.1, context) as peer:
        error, seconds = timed_out(HttpClient(path), peer.url)
        assert not isinstance(error, NotSent)
        assert seconds < SECONDS + 0.5
