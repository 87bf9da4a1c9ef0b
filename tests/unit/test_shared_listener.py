"""A process's share of a listener: it leaves connections to those with fewer, and loses none."""

import asyncio
import contextlib
import os
import resource
import socket

import pytest

from skytally.http import shared_listener
from skytally.http.shared_listener import Share, SharedListener, no_connections


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)
        self._transport.close()


@contextlib.contextmanager
def listening(share, open_connections=lambda: 0):
    """Yield the port of a shared listener in the running loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shared = SharedListener(listener, share, open_connections, Echo)
        try:
            yield listener.getsockname()[1]
        finally:
            shared.close()


async def echoed(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def with_no_file_left(coroutine):
    """Wait for a coroutine while this process can open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_file = os.dup(0)
    os.close(next_file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, hard))
    try:
        await coroutine
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_numbers_of_one_process_are_seen_by_those_it_has_forked():
    counts = no_connections(2)
    if not (child := os.fork()):
        Share(counts, 1).is_largest(7)
        os._exit(0)
    os.waitpid(child, 0)
    assert list(counts) == [0, 7]


@pytest.mark.parametrize(("mine", "others", "is_largest"), [(0, 0, False), (3, 3, False), (4, 3, True), (2, 9, False)])
def test_who_has_more_than_another_has_the_largest_share(mine, others, is_largest):
    counts = no_connections(3)
    counts[1] = others
    counts[2] = max(mine, others)
    assert Share(counts, 0).is_largest(mine) is is_largest


def test_with_more_than_the_others_a_process_leaves_a_connection_to_them_for_a_moment(monkeypatch):
    monkeypatch.setattr(shared_listener, "LEFT_SECONDS", 0.3)

    async def seconds(open_connections):
        with listening(Share(no_connections(2), 0), lambda: open_connections) as port:
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await echoed(port) == b"hello"
            return loop.time() - began

    assert asyncio.run(seconds(0)) < 0.3 <= asyncio.run(seconds(1))


def test_a_connection_counts_for_the_others_from_when_it_is_taken():
    counts = no_connections(2)

    async def taken():
        with listening(Share(counts, 0)) as port:
            assert await echoed(port) == b"hello"

    asyncio.run(taken())
    assert list(counts) == [1, 0]


def test_connections_go_on_once_files_can_be_opened_again(monkeypatch, caplog):
    monkeypatch.setattr(shared_listener, "PAUSE_SECONDS", 0.1)

    async def with_too_many_files():
        with (
            listening(Share(no_connections(1), 0)) as port,
            socket.create_connection(("127.0.0.1", port), timeout=10) as client,
        ):
            await with_no_file_left(asyncio.sleep(0.3))
            client.sendall(b"hello")
            return await asyncio.to_thread(client.recv, 10)

    assert asyncio.run(with_too_many_files()) == b"hello"
    assert "no connection can be taken for a moment: Too many open files" in str(caplog.records[0].msg)


def test_all_that_come_at_once_are_served():
    async def crowd():
        with listening(Share(no_connections(2), 0), lambda: 5) as port:
            return await asyncio.gather(*(echoed(port) for _ in range(50)))

    assert asyncio.run(crowd()) == [b"hello"] * 50
