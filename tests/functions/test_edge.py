"""The edge of every function: request ids, headers, and limits that answer before anything is asked of a store."""

import io
import json
import logging
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from localstack.serve import AllFunctions
from skytally.app import wiring
from skytally.core import logs
from tests.support import described

BASE = "http://skytally.test/function/"


def stand_still(monkeypatch):
    """Read the settings anew, and stop the clock: no bucket fills while a slow machine asks."""
    now = datetime.now(UTC)
    monkeypatch.setattr("skytally.core.clock.now", lambda: now)
    wiring.close()


@pytest.fixture
def limited(home, monkeypatch):
    """All functions, with the least limits, called from an address that is counted."""
    monkeypatch.setenv("SKYTALLY_CALLS_PER_SECOND", "2")
    monkeypatch.setenv("SKYTALLY_CLAIMS_PER_SECOND", "1")
    stand_still(monkeypatch)
    with TestClient(
        AllFunctions(), base_url=BASE, raise_server_exceptions=False, client=("203.0.113.9", 4711)
    ) as client:
        client.event_hooks = {"response": [described.check]}
        yield client


def test_a_flood_is_answered_before_any_store_is_asked(limited, home, bearer, monkeypatch):
    headers = bearer("reader")
    for _ in range(120):
        limited.get("statement/nothing", headers=headers)
    with monkeypatch.context() as patched:
        patched.setattr(wiring, "documents", lambda: pytest.fail("a store was asked"))
        patched.setattr(wiring, "keys", lambda: pytest.fail("the keys were read"))
        answer = limited.get("statement?month=2026-11", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_requests")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/json"


def test_claims_from_one_address_are_guessed_slowly(limited):
    statuses = [limited.post("secret-claim", data={"claim": "x"}).status_code for _ in range(61)]
    assert statuses == [400] * 60 + [429]
    assert limited.get("agent/SHA256SUMS").status_code == 200


def test_health_is_never_refused(home, monkeypatch):
    monkeypatch.setenv("SKYTALLY_CALLS_PER_SECOND", "1")
    stand_still(monkeypatch)
    with TestClient(AllFunctions(), base_url=BASE, client=("203.0.113.9", 4711)) as client:
        assert {client.get("statement/healthz").status_code for _ in range(100)} == {200}


@pytest.mark.parametrize(("hops", "status"), [("0", 200), ("1", 429)])
def test_an_address_is_whom_the_settings_trust_to_know_it(home, monkeypatch, hops, status):
    """Behind a proxy of this machine that is not trusted, everybody looks alike and nobody is refused for another."""
    monkeypatch.setenv("SKYTALLY_CALLS_PER_SECOND", "1")
    monkeypatch.setenv("SKYTALLY_TRUSTED_HOPS", hops)
    stand_still(monkeypatch)
    with TestClient(AllFunctions(), base_url=BASE, client=("127.0.0.1", 4711)) as client:
        answers = [client.get("agent/SHA256SUMS", headers={"X-Forwarded-For": "203.0.113.9"}) for _ in range(61)]
    assert answers[-1].status_code == status


def test_every_answer_has_its_requests_id_and_the_headers(client, reader):
    asked = (
        "statement?month=2026-11",
        "statement",
        "nothing",
        "agent/vm.py",
        "dashboard",
        "statement/healthz",
        "usage-report",
        "agent/x/y",
    )
    for path in asked:
        answer = client.get(path, headers=reader | {"X-Request-Id": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1", path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert "no-" in answer.headers["cache-control"], path
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], path
    odd = client.request("TRACE", "statement", headers={"X-Request-Id": "x y"})
    assert (odd.status_code, len(odd.headers["x-request-id"])) == (405, 16)


def test_log_lines_carry_the_requests_id(client, monkeypatch):
    stream, log = io.StringIO(), logging.getLogger("skytally")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonLines())
    log.addHandler(handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr("skytally.core.records.convert", lambda *_, **__: 1 / 0)
            crashed = client.post("secret-claim", data={"claim": "x"}, headers={"X-Request-Id": "mine-2"})
    finally:
        log.removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["request_id"] for line in lines} == {"mine-2"}
    assert crashed.json()["error"]["incident"] in {line.get("incident") for line in lines}
    assert [line["status"] for line in lines if "status" in line] == [500]


def test_a_wrong_setting_is_said_by_the_function_that_meets_it(home, client, monkeypatch):
    monkeypatch.setenv("SKYTALLY_CALLS_PER_SECOND", "many")
    wiring.close()
    answer = client.get("statement?month=2026-11", headers={"Authorization": "Bearer x"})
    assert (answer.status_code, answer.json()["error"]["code"], "Retry-After" in answer.headers) == (
        503,
        "unavailable",
        True,
    )
    assert "SKYTALLY_CALLS_PER_SECOND" in answer.json()["error"]["message"]
