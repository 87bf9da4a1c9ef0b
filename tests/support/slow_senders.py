"""Clients that cost a server as much as they can: slow heads and bodies,
connections that say nothing, bodies of nobody, gzip bombs.

Each speaks on a socket of its own in one loop, and can be stopped at any time.
"""

import asyncio
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from localstack.replicas import free_port

ROOT = Path(__file__).resolve().parents[2]
MIB = 1_024 * 1_024
BOMB = gzip.compress(b" " * (64 * MIB), 9)


class Served:
    """The local server as a process, and what it holds."""

    def __init__(self, process, base):
        self.process, self.base = process, base
        self.port = int(base.rpartition(":")[2])

    @property
    def memory_mib(self):
        """Return the memory that the process holds now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB

    @property
    def most_memory_mib(self):
        """Return the most that it ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1_024


@contextmanager
def served(home, **settings):
    """Run the local server on a state folder, as one process: its limits are counted."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0", "--processes", "1"]
    with (
        (home / "server.log").open("a") as log,
        subprocess.Popen(
            command,
            env={**clean, "SKYTALLY_HOME": str(home), **settings},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        line = process.stdout.readline()
        assert line.startswith("ready "), (home / "server.log").read_text()
        try:
            yield Served(process, line.split()[1].partition("/function/")[0])
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def served_alone(function, home, **more):
    """Run one function as its image does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
    port = free_port()
    settings = {
        "FUNCTION_TARGET": function,
        "FUNCTION_SOURCE": str(ROOT / "functions"),
        "PORT": str(port),
        "SKYTALLY_HOST": "127.0.0.1",
    }
    environment = {**clean, **settings, "SKYTALLY_HOME": str(home), **more}
    with (
        (home / "function.log").open("a") as log,
        subprocess.Popen([sys.executable, "-m", "skytally.app.asgi"], env=environment, stderr=log) as process,
    ):
        try:
            for _ in range(400):
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                    break
                time.sleep(0.05)
            yield Served(process, f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def locked(home):
    """Keep every writer of the document store waiting."""
    with closing(sqlite3.connect(home / "documents.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


class Answer:
    """What a server answered on a socket, and after how long it hung up."""

    def __init__(self, data, seconds):
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1]) if data else None
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        self.seconds = seconds

    @property
    def code(self):
        """Return the code of the error in the body."""
        return json.loads(self.body)["error"]["code"]


def head(path, *headers, method="POST"):
    """Write a request's head; a path that begins with a slash stands for itself."""
    lines = [f"{method} {path if path.startswith('/') else f'/function/{path}'} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def converse(port, pieces, pause=0.0, *, reads=True):
    """Send pieces with a pause behind each, for as long as the server takes them;
    return what it said once it hung up.
    """
    began = asyncio.get_running_loop().time()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, pieces, pause))
    data = b""
    try:
        with suppress(ConnectionError):
            while reads and (piece := await reader.read(65_536)):
                data += piece
        if not reads:
            await sending
        return Answer(data, asyncio.get_running_loop().time() - began)
    finally:
        sending.cancel()
        writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(writer, pieces, pause):
    with suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)


def endlessly(piece):
    """Repeat a piece for ever."""
    while True:
        yield piece


def slow_head(port, pause=0.2):
    """Send the first line at once, and then a header that never ends."""
    return converse(port, then(b"POST /function/usage-report HTTP/1.1\r\nHost: x\r\nX-A: ", endlessly(b"a")), pause)


def slow_claim(port, pause=0.2):
    """Begin with a claim and send its body byte by byte."""
    headers = ("Content-Type: application/json", "Content-Length: 8000")
    return converse(port, then(head("secret-claim", *headers), endlessly(b" ")), pause)


def silent(port):
    """Connect and say nothing."""
    return converse(port, ())


def large_body_of_nobody(port, path="usage-report", size=8 * MIB):
    """Send a body that is as large as it may be, without a token."""
    headers = ("Content-Type: application/json", f"Content-Length: {size}", "Connection: close")
    return converse(port, then(head(path, *headers), [b" " * 65_536] * (size // 65_536)))


def bomb(port, token):
    """Send what inflates to far more than it may."""
    headers = (
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        "Content-Encoding: gzip",
        f"Content-Length: {len(BOMB)}",
    )
    return converse(port, [head("usage-report", *headers) + BOMB])


def then(first, rest):
    """Put a piece in front of others."""
    yield first
    yield from rest
