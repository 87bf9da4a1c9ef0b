"""A server of several processes on one port: each has its share, and none of them is ever missed for long."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from localstack import fleet
from tests.functions.test_process import status_of
from tests.support import builders
from tests.support.local_server import Server, children
from tests.support.slow_senders import ROOT, converse, head

WITHIN_SECONDS = 20
CONNECTIONS, REPORTS = 12, 6
# A work that says its number and is ready, unless it is to fail first; then it waits for a signal.
WORK = """
import os, signal, sys, threading
from skytally.app.processes import Processes
from multiprocessing.connection import wait
def work(number, ready, parent):
    if "fail" in sys.argv:
        sys.exit(3)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "say" in sys.argv:
        signal.signal(signal.SIGINT, lambda *_: (os.write(1, b"SIGINT\\n"), os._exit(0)))
    print("begun", number, os.getpid(), flush=True)
    if "never" not in sys.argv:
        ready()
    if "stuck" in sys.argv and number == 1:
        threading.Event().wait()
    wait([parent])
    os.write(1, b"alone %d\\n" % number)
sys.exit(Processes(work, 2).run(lambda: print("announced", flush=True)))
"""
# A second process that cannot begin at first, as where there are too many of them.
WITHOUT_A_SECOND = """
import errno, os
fork, left = os.fork, [True, False, False, True]
def limited():
    if left.pop(0):
        return fork()
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
os.fork = limited
"""


@pytest.fixture
def pair(tmp_path):
    """Yield a server of two processes."""
    server = Server(tmp_path, 2).start()
    try:
        soon(lambda: len(children(server.pid)) == 2)
        yield server
    finally:
        if server._process.poll() is None:
            server.stop()


def soon(is_so):
    """Wait until something is so."""
    until = time.monotonic() + WITHIN_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def connections(pid, port):
    """Return the connections to a port that a process has open, each with its fields of /proc/PID/net/tcp."""
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        inodes.add(path.readlink().name.removeprefix("socket:[").removesuffix("]"))
    rows = (line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
    return [row for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01" and row[9] in inodes]


def open_connections(server):
    """Return how many connections each process of a server has open."""
    return [len(connections(pid, server.port)) for pid in children(server.pid)]


def has_read(server, count):
    """Return whether a server has so many connections, and has read all that was sent over them."""
    rows = [row for pid in children(server.pid) for row in connections(pid, server.port)]
    return len(rows) == count and all(row[4].endswith(":00000000") for row in rows)


def begun(*options, before=""):
    """Start the work above; return its process."""
    command = [sys.executable, "-c", before + WORK, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def lines(process, count):
    return [process.stdout.readline().split() for _ in range(count)]


@pytest.mark.slow
def test_each_process_gets_its_share_of_the_connections_that_clients_keep(pair):
    async def keep():
        opened = [await asyncio.open_connection("127.0.0.1", pair.port) for _ in range(CONNECTIONS)]
        for reader, writer in opened:
            writer.write(head("agent/healthz", method="GET"))
            await reader.readuntil(b"\r\n\r\n")
        counts = open_connections(pair)
        for _, writer in opened:
            writer.close()
        return counts

    # The second process may still be beginning.
    soon(lambda: min(asyncio.run(keep())) >= CONNECTIONS // 3)


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_the_other_one_answers_meanwhile(pair):
    for victim in children(pair.pid):
        os.kill(victim, signal.SIGKILL)
        assert status_of(f"{pair.base}/function/agent/healthz") == 200
        soon(lambda victim=victim: victim not in children(pair.pid) and len(children(pair.pid)) == 2)
        assert status_of(f"{pair.base}/function/agent/healthz") == 200
    assert pair.stop() == 0
    assert "a server process ended (-9)" in (pair.home / "server.log").read_text()


@pytest.mark.slow
def test_a_process_that_is_halted_does_not_keep_the_others(pair):
    halted, _ = children(pair.pid)
    os.kill(halted, signal.SIGSTOP)
    pair._process.terminate()
    assert pair._process.wait(WITHIN_SECONDS) == 0
    pair._process.stdout.close()
    soon(lambda: not Path(f"/proc/{halted}").exists())


@pytest.mark.slow
def test_none_outlives_the_parent(pair):
    left = children(pair.pid)
    pair.kill()
    soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))
    assert status_of(f"{pair.base}/function/agent/healthz") is None


@pytest.mark.slow
@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_at_a_stop_signal_each_process_answers_what_it_has(pair, stop_signal):
    token = fleet.reporter_tokens(pair.home, ["uvic"])["uvic"]
    body = json.dumps({"samples": [builders.FakeVm("vm-1").sample(datetime.now(UTC))]}).encode() + b" " * 30_000
    pieces = [body[n : n + 10_000] for n in range(0, len(body), 10_000)]
    begin = head(
        "usage-report",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )

    async def run():
        sent = [asyncio.create_task(converse(pair.port, [begin, *pieces], 0.3)) for _ in range(REPORTS)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(soon, lambda: has_read(pair, REPORTS))
        pair._process.send_signal(stop_signal)
        return [(await answer).status for answer in sent]

    assert asyncio.run(run()) == [200] * REPORTS
    assert pair._process.wait(WITHIN_SECONDS) == 0
    pair._process.stdout.close()


@pytest.mark.slow
def test_a_store_that_cannot_be_opened_is_one_sentence_of_one_process(tmp_path):
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0", "--processes", "2"]
    environment = {**os.environ, "SKYTALLY_HOME": str(tmp_path), "SKYTALLY_DOCUMENTS": "ftp://host"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("skytally: setting SKYTALLY_DOCUMENTS")


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_number_of_processes_that_is_none_is_told(count):
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--processes", count]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"--processes: '{count}' is no number of processes: name 1 or more" in done.stderr


def test_the_others_begin_once_the_first_is_ready():
    with begun() as process:
        first, announced, second = lines(process, 3)
        assert [first[:2], announced, second[:2]] == [["begun", "0"], ["announced"], ["begun", "1"]]
        process.terminate()
        assert process.wait(WITHIN_SECONDS) == 0


def test_a_first_one_that_fails_ends_all_with_its_exit_code():
    with begun("fail") as process:
        assert process.wait(WITHIN_SECONDS) == 3
        assert process.stdout.read() == ""


def test_what_is_stopped_before_it_is_ready_ends_as_it_should():
    with begun("never") as process:
        lines(process, 1)
        process.terminate()
        assert process.wait(WITHIN_SECONDS) == 0
        assert "announced" not in process.stdout.read()


def test_one_that_cannot_begin_is_tried_again_and_all_stop_as_they_should():
    with begun(before=WITHOUT_A_SECOND) as process:
        first, announced, second = lines(process, 3)
        assert [first[:2], announced, second[:2]] == [["begun", "0"], ["announced"], ["begun", "1"]]
        process.terminate()
        assert process.wait(WITHIN_SECONDS) == 0
        assert process.stderr.read().count("no server process can begin (Resource temporarily unavailable)") == 2


def test_a_parent_that_ends_in_a_crash_leaves_none_behind():
    with begun(
        before=WITHOUT_A_SECOND.replace("OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))", "ZeroDivisionError")
    ) as process:
        first, _ = lines(process, 2)
        assert process.wait(WITHIN_SECONDS) == 1
        assert not Path(f"/proc/{first[2]}").exists()


def test_a_stop_signal_is_passed_on_as_it_came():
    with begun("say") as process:
        lines(process, 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_SECONDS) == 0
        assert process.stdout.read() == "SIGINT\n" * 2


def test_one_that_is_stuck_hides_from_no_other_that_the_parent_is_gone():
    with begun("stuck") as process:
        _, _, second = lines(process, 3)
        process.kill()
        try:
            assert lines(process, 1) == [["alone", "0"]]
        finally:
            os.kill(int(second[2]), signal.SIGKILL)


def test_each_notices_that_its_parent_is_gone():
    with begun() as process:
        lines(process, 3)
        process.kill()
        assert sorted(lines(process, 2)) == [["alone", "0"], ["alone", "1"]]
