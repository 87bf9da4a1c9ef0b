"""One caller whose requests are slow holds its share of a function, and nobody else waits for it."""

import asyncio
import json
import urllib.parse
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from localstack import fleet
from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.http import workers
from tests.support import builders, slow_senders
from tests.support.slow_senders import converse, head, locked

JSON = "Content-Type: application/json"


@pytest.fixture
def server(tmp_path):
    with slow_senders.served(tmp_path) as server:
        server.tokens = fleet.reporter_tokens(tmp_path, ["uvic", "cern"])
        server.tokens |= {role: (tmp_path / "tokens" / role).read_text() for role in ("scheduler", "reader")}
        server.home = tmp_path
        yield server


def call(server, path, body=None, token="", media=JSON):
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = [media, f"Authorization: Bearer {server.tokens[token]}"] if token else [media]
    headers += ["Connection: close", *([] if body is None else [f"Content-Length: {len(data)}"])]
    pieces = [head(path, *headers, method="GET" if body is None else "POST"), b"" if body is None else data]
    return converse(server.port, pieces)


def heartbeat(server, cloud, *jobs):
    return call(server, "job-heartbeat", {"vm": f"{cloud}-1", "jobs": list(jobs)}, cloud)


def test_a_caller_whose_requests_wait_for_the_store_keeps_nobody_else_waiting(server):
    """A vm of another cloud, a reader,
    a scheduler and a vm with a claim are answered while none of the slow requests is.
    """
    allowed = workers.TOKEN.running + workers.TOKEN.waiting

    async def run():
        deposit = await call(server, "secret-deposit", {"vm": "v", "cloud": "c", "payload": "eA=="}, "scheduler")
        claim = urllib.parse.urlencode(builders.claim_form(json.loads(deposit.body)["token"], builders.public_key()))
        with locked(server.home):
            slow = [asyncio.create_task(heartbeat(server, "uvic", str(n + 1))) for n in range(allowed + 4)]
            done, waiting = await asyncio.wait(slow, timeout=1)
            others = [
                await heartbeat(server, "cern"),
                await call(server, "statement?month=2026-11", token="reader"),
                await call(server, "dashboard/data", token="reader"),
                await call(server, "secret-claim", claim, media="Content-Type: application/x-www-form-urlencoded"),
                await call(server, "usage-report", {"samples": [7]}, "cern"),
            ]
            still = {task for task in waiting if not task.done()}
        return done, others, still, await asyncio.gather(*waiting)

    done, others, still, slow = asyncio.run(run())
    assert [answer.status for answer in others] == [200] * 5
    assert len(still) == allowed
    assert Counter(answer.status for answer in slow) == {200: allowed}
    refused = [task.result() for task in done]
    assert {(answer.status, answer.code) for answer in refused} == {(429, "too_many_requests")}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert len(refused) == 4


def test_a_renewed_token_has_the_share_of_its_chain(server):
    """Whoever renews its token often does not get a share for each."""
    fresh = renewals(server.home, server.tokens["uvic"], workers.TOKEN.running)

    async def run():
        with locked(server.home):
            slow = []
            for n, token in enumerate(fresh):
                server.tokens["uvic"] = token
                slow += [asyncio.create_task(heartbeat(server, "uvic", str(10 * n + k + 1))) for k in range(2)]
            await asyncio.wait(slow, timeout=1)
            server.tokens["uvic"] = fresh[0]
            after = asyncio.create_task(heartbeat(server, "uvic"))
            await asyncio.wait([after], timeout=1)
            is_held = not after.done()
        return is_held, await asyncio.gather(after, *slow)

    is_held, answers = asyncio.run(run())
    assert is_held
    assert {answer.status for answer in answers} == {200}


def renewals(home, token, count):
    """Renew a token again and again, as a server does past half its life."""
    now = datetime.now(UTC)
    keys = KeyFiles(home / "keys", lambda: now).keyring().token
    made = [token]
    for n in range(1, count):
        at = now + timedelta(seconds=n)
        caller = tokens.content(made[-1])
        half = (caller.issued + caller.expires) / 2 - at.timestamp()
        made.append(tokens.renewed(made[-1], caller, keys, at + timedelta(seconds=half + 1)))
    return made
