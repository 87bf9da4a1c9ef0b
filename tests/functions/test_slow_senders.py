"""Slow senders beside good ones, on real sockets:
the good are answered, the slow are ended, and memory stays bounded.
"""

import asyncio
import contextlib
import json
import re
import socket
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from localstack import fleet
from tests.support import builders, slow_senders
from tests.support.slow_senders import MIB, converse, head, locked, then

JSON = "Content-Type: application/json"
BOUNDS = {"SKYTALLY_HEAD_SECONDS": "1", "SKYTALLY_BODY_SECONDS": "1", "SKYTALLY_IDLE_SECONDS": "2"}
# Far longer than any bound: who is ended later than this is not ended.
PATIENCE_SECONDS = 60


def together(*clients):
    """Let clients speak at the same time; return what each got."""

    async def all_of_them():
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await asyncio.gather(*clients)

    return asyncio.run(all_of_them())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("server")
    with slow_senders.served(home, **BOUNDS) as server:
        server.home = home
        server.token = fleet.reporter_tokens(home, ["uvic"])["uvic"]
        yield server


def get_digests(*headers):
    return head("agent/SHA256SUMS", *headers, method="GET")


def report(token, *headers, pad=0, vm="vm-1"):
    """Write a good report, with spaces behind it."""
    body = (
        json.dumps({"samples": [builders.FakeVm(vm, boot_at=datetime.now(UTC)).sample(datetime.now(UTC))]}).encode()
        + b" " * pad
    )
    return head("usage-report", f"Authorization: Bearer {token}", JSON, f"Content-Length: {len(body)}", *headers), body


def test_slow_senders_are_ended_and_good_ones_are_answered(server):
    start_mib = server.memory_mib
    good = [converse(server.port, [get_digests("Connection: close")]) for _ in range(30)]
    good += [converse(server.port, report(server.token, "Connection: close", vm=f"vm-{n}")) for n in range(30)]
    heads = [slow_senders.slow_head(server.port) for _ in range(60)]
    claims = [slow_senders.slow_claim(server.port) for _ in range(60)]
    silent = [slow_senders.silent(server.port) for _ in range(60)]
    large = [slow_senders.large_body_of_nobody(server.port) for _ in range(28)]
    bombs = [slow_senders.bomb(server.port, server.token) for _ in range(10)]
    answers = iter(together(*heads, *claims, *silent, *large, *bombs, *good))
    kinds = [[next(answers) for _ in kind] for kind in (heads, claims, silent, large, bombs, good)]
    assert [Counter(answer.status for answer in kind) for kind in kinds] == [
        {408: 60},
        {408: 60},
        {None: 60},
        {401: 28},
        {413: 10},
        {200: 60},
    ]
    assert server.most_memory_mib < start_mib + 50


@pytest.mark.parametrize(
    ("pieces", "status", "code"),
    [
        ([b"GET /function/agent/vm.py HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17_000], 431, "head_too_large"),
        ([b"GET /" + b"a" * 17_000], 431, "head_too_large"),
        ([b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 4_000 + b"\r\n"], 431, "head_too_large"),
        (
            then(b"POST /function/secret-claim HTTP/1.1\r\nX: ", slow_senders.endlessly(b"a" * 100)),
            431,
            "head_too_large",
        ),
        ([b"\x16\x03\x01\x02\x00\x01"], 400, "malformed"),
        ([b"GET / HTTP/1.1\r\nHost x\r\n\r\n"], 400, "malformed"),
        ([head("usage-report", JSON, "Content-Length: 8388608", "Connection: close")], 401, "unauthenticated"),
        ([head("usage-report", JSON, "Content-Length: 8388609", "Connection: close")], 413, "too_large"),
        ([head("usage-report", "Content-Length: 10", "Connection: close")], 415, "unsupported_media_type"),
        ([head("secret-claim", JSON, "Content-Length: 10")], 408, "timeout"),
        ([b"GET /function/agent/vm.py HTTP/1.1\r\nHost:"], 408, "timeout"),
    ],
)
def test_what_is_refused_by_the_connection_is_refused_in_json_and_ended(server, pieces, status, code):
    (answer,) = together(converse(server.port, pieces))
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.headers["x-request-id"]) == 16


@pytest.mark.parametrize("rest", [b"1;" + b"a" * 100, b"1\r\n \r\n0\r\nX: y\r\n"])
def test_what_hangs_on_a_body_that_comes_in_chunks_is_bounded_as_a_head_is(server, rest):
    begin = head("usage-report", f"Authorization: Bearer {server.token}", JSON, "Transfer-Encoding: chunked") + rest
    endless = slow_senders.endlessly(rest[2:] if b";" in rest else b"X: y\r\n" * 50)
    (answer,) = together(converse(server.port, then(begin, endless)))
    assert (answer.status, answer.code) == (431, "head_too_large")


@pytest.mark.parametrize("closes", ["Connection: close", "Connection: keep-alive"])
@pytest.mark.parametrize("token", ["", "Authorization: Bearer none-of-ours"])
def test_a_refusal_is_heard_by_whoever_sends_its_whole_body_first(server, closes, token):
    """Closing on a body that is still coming would take the answer back."""
    (answer,) = together(
        converse(
            server.port,
            [head("usage-report", JSON, f"Content-Length: {8 * MIB}", token or "A: b", closes), b" " * 8 * MIB],
        )
    )
    assert (answer.status, answer.code) == (401, "unauthenticated")


def test_a_connection_goes_on_after_a_body_that_nobody_wanted(server):
    wanted = head("usage-report", JSON, f"Content-Length: {2 * MIB}")
    (answer,) = together(converse(server.port, [wanted, b" " * 2 * MIB, get_digests("Connection: close")], 0.1))
    assert answer.status == 401
    assert b"HTTP/1.1 200 OK" in answer.body


def test_of_a_body_that_nobody_wants_only_so_much_is_read(server):
    wanted = head("usage-report", JSON, f"Content-Length: {10**12}")
    (answer,) = together(converse(server.port, then(wanted, slow_senders.endlessly(b" " * 65_536))))
    assert (answer.status, answer.code) == (413, "too_large")


def test_whoever_waits_to_be_told_to_go_on_is_refused_before_its_body_and_the_connection_ends(server):
    wanted = head("usage-report", JSON, f"Content-Length: {8 * MIB}", "Expect: 100-continue")
    (answer,) = together(converse(server.port, [wanted]))
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    begin, body = report(server.token, "Expect: 100-continue")
    (answer,) = together(converse(server.port, [begin, body], 0.1))
    assert answer.status == 100
    assert answer.body.startswith(b"HTTP/1.1 200 OK")


def test_a_body_on_a_slow_line_that_keeps_its_rate_is_read_to_its_end(server):
    """It takes far longer than a body's bound, and each piece buys it time."""
    begin, body = report(server.token, "Connection: close", pad=100_000)
    pieces = [begin, *(body[n : n + 5_000] for n in range(0, len(body), 5_000))]
    (answer,) = together(converse(server.port, pieces, 0.2))
    assert answer.status == 200
    assert answer.seconds > 2


def test_a_large_report_is_accepted_and_others_are_answered_meanwhile(server):
    """It runs beside the loop: a health check of the same process is not kept waiting for all of it."""
    now = datetime.now(UTC).replace(microsecond=0)
    body = json.dumps({"samples": [builders.FakeVm("vm-1", boot_at=now).sample(now)] * 9_000}).encode()
    assert len(body) > 4 * MIB
    sent = [
        head(
            "usage-report",
            f"Authorization: Bearer {server.token}",
            JSON,
            f"Content-Length: {len(body)}",
            "Connection: close",
        ),
        body,
    ]

    async def run():
        large = asyncio.create_task(converse(server.port, sent))
        count = 0
        while not large.done():
            answer = await converse(server.port, [head("usage-report/healthz", "Connection: close", method="GET")])
            count += answer.status == 200
        return count, await large

    count, answer = asyncio.run(run())
    assert answer.status == 200
    assert count > 3


def test_a_client_that_takes_nothing_of_its_answers_is_ended(server):
    """It asks for more than the system keeps for it, and reads what there is only later: the end of it is missing."""
    file = head("dashboard/plot.min.js", method="GET")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(file * 8)
        time.sleep(5)
        size = 0
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65_536):
                size += len(piece)
    (whole,) = together(converse(server.port, [head("dashboard/plot.min.js", "Connection: close", method="GET")]))
    assert 0 < size < 8 * len(whole.body)


def statuses(answer):
    """Return the status of each answer on a connection, in their order."""
    return [answer.status, *(int(status) for status in re.findall(rb"HTTP/1.1 (\d{3}) [A-Z]", answer.body))]


BEHIND = {
    "junk": ([b"junk\r\n\r\n"], 400),
    "a head that is too large": ([b"GET / HTTP/1.1\r\nX: " + b"a" * 17_000], 431),
    "a head that does not end": ([b"GET / HTTP/1.1\r\nX:"], 408),
    "a body in chunks that are none": (
        [head("secret-claim", JSON, "Transfer-Encoding: chunked") + b"no chunk\r\n"],
        400,
    ),
    "more requests than are taken in at once": ([head("agent/SHA256SUMS", method="GET") * 20], 431),
}


@pytest.mark.parametrize(("rest", "status"), BEHIND.values(), ids=BEHIND)
def test_a_refusal_takes_no_earlier_answer_back(server, rest, status):
    begin, body = report(server.token, vm="vm-2")
    answers = together(
        converse(server.port, [get_digests() + rest[0]]),
        converse(server.port, [get_digests() * 3 + rest[0]]),
        converse(server.port, [begin + body + get_digests() + rest[0]]),
    )
    for answer in answers:
        *good, last = statuses(answer)
        assert set(good) == {200}
        assert last == status
    assert [len(statuses(answer)) for answer in answers][:1] == [2] or status == 431
    assert "Traceback" not in (server.home / "server.log").read_text()


def test_a_client_that_sends_no_more_gets_the_answers_that_it_waits_for(server):
    begin, body = report(server.token, vm="vm-3")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(get_digests() + begin + body)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(PATIENCE_SECONDS)
        heard = b"".join(iter(lambda: client.recv(65_536), b""))
    assert statuses(slow_senders.Answer(heard, 0)) == [200, 200]


def test_requests_without_end_on_one_connection_are_not_all_taken_in(server):
    (answer,) = together(converse(server.port, [get_digests() * 500]))
    assert answer.status is None or answer.body.count(b"HTTP/1.1 200") < 500


@pytest.fixture
def narrow(tmp_path):
    """A server with few places, whose bounds alone would keep slow senders for minutes."""
    settings = {"SKYTALLY_CONNECTIONS": "20", **dict.fromkeys(BOUNDS, "120")}
    with slow_senders.served(tmp_path, **settings) as server:
        yield server


@pytest.mark.parametrize("sender", [slow_senders.slow_head, slow_senders.slow_claim, slow_senders.silent])
def test_where_all_places_are_taken_the_slowest_sender_makes_room(narrow, sender):
    async def run():
        slow = [asyncio.create_task(sender(narrow.port)) for _ in range(20)]
        await asyncio.sleep(1)
        good = [await converse(narrow.port, [get_digests("Connection: close")]) for _ in range(10)]
        ended = [task.result() for task in slow if task.done()]
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return good, ended

    good, ended = asyncio.run(run())
    assert {answer.status for answer in good} == {200}
    assert ended
    assert {answer.status for answer in ended} == ({None} if sender is slow_senders.silent else {503})
    assert all(int(answer.headers["retry-after"]) > 0 for answer in ended if answer.status)


def test_where_all_places_are_worked_for_the_next_is_told_to_come_again(narrow, tmp_path):
    """Nobody there is slow, so nobody makes room."""
    token = fleet.reporter_tokens(tmp_path, ["uvic"])["uvic"]
    body = json.dumps({"vm": "vm-1", "jobs": ["1"]}).encode()
    headers = (f"Authorization: Bearer {token}", JSON, f"Content-Length: {len(body)}", "Connection: close")

    async def run():
        with locked(tmp_path):
            under_way = [
                asyncio.create_task(converse(narrow.port, [head("job-heartbeat", *headers) + body])) for _ in range(20)
            ]
            await asyncio.sleep(1)
            late = await converse(narrow.port, [get_digests("Connection: close")])
        return late, await asyncio.gather(*under_way), await converse(narrow.port, [get_digests("Connection: close")])

    late, under_way, later = asyncio.run(run())
    assert (late.status, late.code, int(late.headers["retry-after"]) > 0) == (503, "unavailable", True)
    assert Counter(answer.status for answer in under_way) == {200: 20}
    assert later.status == 200


def test_a_server_that_ends_does_not_wait_for_slow_senders(tmp_path):
    """Their bounds are far longer than a platform waits for a process; one that sends on is answered."""
    with slow_senders.served(tmp_path) as server:
        token = fleet.reporter_tokens(tmp_path, ["uvic"])["uvic"]
        begin, body = report(token, "Connection: close", pad=60_000)
        pieces = [begin, *(body[n : n + 5_000] for n in range(0, len(body), 5_000))]

        async def run():
            slow = [asyncio.create_task(slow_senders.slow_claim(server.port)) for _ in range(10)]
            good = asyncio.create_task(converse(server.port, pieces, 0.1))
            await asyncio.sleep(0.5)
            server.process.terminate()
            return await asyncio.gather(good, *slow)

        good, *slow = asyncio.run(run())
        assert good.status == 200
        assert {answer.status for answer in slow} == {408}
        assert server.process.wait(30) == 0


def test_a_function_by_itself_keeps_its_memory_whatever_nobody_sends(home):
    """As a platform runs it, where 256 MiB are its limit."""
    with slow_senders.served_alone("usage_report", home) as server:
        start_mib = server.memory_mib
        answers = together(*(slow_senders.large_body_of_nobody(server.port, "/") for _ in range(200)))
        assert Counter(answer.status for answer in answers) == {401: 200}
        assert server.most_memory_mib < start_mib + 30
