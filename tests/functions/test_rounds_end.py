"""Rounds of real processes against a source that never comes to an end:
they end in time, and by a signal, and are on record.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from skytally.adapters.http_client import REQUEST_SECONDS
from skytally.app import wiring
from skytally.core.documents import Round
from skytally.operation import timer
from tests.support.slow_senders import served, served_alone

pytestmark = pytest.mark.slow


@pytest.fixture(params=["silent", "trickling"])
def source(request):
    """A monitor that takes every request and never ends an answer."""
    listener, is_over, asked = socket.create_server(("127.0.0.1", 0)), threading.Event(), threading.Event()

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            asked.set()
            while not is_over.wait(0.2):
                if request.param == "trickling":
                    connection.sendall(b"H")

    def serve():
        with ThreadPoolExecutor(16) as answers, contextlib.suppress(OSError):
            while True:
                answers.submit(answer, listener.accept()[0])

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    is_over.set()
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


@pytest.fixture(params=[served, served_alone], ids=["all functions", "one function"])
def server(request, home, source):
    """A process that is about to ask the monitor."""
    settings = {"SKYTALLY_PANDA_URL": source[0], "SKYTALLY_PANDA_QUEUES": "A,B,C,D"}
    settings["SKYTALLY_TIMER_MIN_SECONDS"] = "0"
    if request.param is served:
        with served(home, **settings) as server:
            yield server, f"{server.base}/function/panda-collect"
    else:
        with served_alone("panda_collect", home, **settings) as server:
            yield server, f"{server.base}/"


def call(url):
    """Call a timer; return its status and what it says."""
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, b"", method="POST"), timeout=40)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError:
        return None, None
    with answer:
        body = answer.read()
    # A server that must end breaks off what it cannot answer any more.
    return answer.status, json.loads(body) if body.startswith(b"{") else None


def last():
    wiring.close()
    return wiring.documents().get("round", "panda_collect", Round)


def test_a_round_ends_in_time_and_the_next_can_begin(server):
    begin = time.monotonic()
    status, told = call(server[1])
    took = time.monotonic() - begin
    assert (status, told["error"]["code"]) == (503, "unavailable")
    assert REQUEST_SECONDS - 1 < took < 20
    assert last().finished_at is not None
    assert last().error == told["error"]["message"]


def test_a_round_that_goes_on_at_sigterm_is_on_record_and_the_process_ends_in_time(server, source):
    process = server[0].process
    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(call, server[1])
        assert source[1].wait(10)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
        assert (code, time.monotonic() - begin < 25) == (0, True)
        called.result()
    assert last().finished_at is not None
    assert last().error


def test_a_round_that_is_killed_blocks_the_next_for_its_lease_and_no_longer(server, source):
    with ThreadPoolExecutor(1) as caller:
        called = caller.submit(call, server[1])
        assert source[1].wait(10)
        os.kill(server[0].process.pid, signal.SIGKILL)
        called.result()
    begun = last()
    assert begun.finished_at is None
    soon, late = (begun.started_at + timer.LEASE * share for share in (0.9, 1))
    states = [
        timer.run("panda_collect", lambda _: {}, wiring.documents(), 0, lambda at=at: at)["state"]
        for at in (soon, late)
    ]
    assert states == ["busy", "done"]
    assert begun.started_at < datetime.now(UTC)
