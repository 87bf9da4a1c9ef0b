"""The provider of OpenFaaS's API over processes:
functions that sleep, roll, grow, run by the clock, and are restarted.
"""

import json
import os
import secrets
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from localstack.bigpanda import bigpanda
from localstack.platform_functions import is_due, memory_limit
from tests.support.builders import claim_form, public_key
from tests.support.gateway import ROOT, SKYTALLY, Gateway, wait_until

READER = "statement?month=2026-11"


@pytest.fixture
def idle_seconds():
    return "600"


# For what is to sleep; such a test asks for nothing that a slow machine could have put to sleep meanwhile.
soon = pytest.mark.parametrize("idle_seconds", ["2"])


@pytest.fixture
def gateway(tmp_path, idle_seconds):
    gateway = Gateway(tmp_path)
    gateway.run(SKYTALLY, "keys", "init")
    gateway.start("--idle-seconds", idle_seconds)
    gateway.run(
        SKYTALLY,
        "deploy",
        "secrets",
        tmp_path / "keys",
        "--gateway",
        gateway.base,
        "--password-file",
        gateway.password_file,
    )
    yield gateway
    gateway.stop()


def spec(gateway, name, *, memory="512Mi", secrets=None, schedule=None, **settings):
    state = gateway.home / "state"
    told = {
        "FUNCTION_TARGET": name,
        "SKYTALLY_KEYS": "/var/openfaas/secrets",
        "SKYTALLY_DOCUMENTS": f"sqlite:///{state}/documents.sqlite",
    }
    return {
        "service": name.replace("_", "-"),
        "image": "skytally:test",
        "envVars": told | {"SKYTALLY_OBJECTS": f"file://{state}/objects"} | settings,
        "secrets": sorted(path.name for path in (gateway.home / "keys").iterdir()) if secrets is None else secrets,
        "labels": {},
        "annotations": {"topic": "cron-function", "schedule": schedule} if schedule else {},
        "limits": {"memory": memory},
        "requests": {},
        "readOnlyRootFilesystem": True,
    }


def ask(gateway, one, method):
    """Make or change a function; return the status."""
    try:
        gateway.system("functions", one, method)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    return 202, ""


def deploy(gateway, *told, **how):
    """Deploy a function, and wait until this version of it answers."""
    one = spec(gateway, *told, SKYTALLY_DEPLOYMENT=secrets.token_hex(8), **how)
    if ask(gateway, one, "PUT")[0] == 404:
        assert ask(gateway, one, "POST")[0] == 202
    wait_until(lambda: version(gateway, one["service"]) == one["envVars"]["SKYTALLY_DEPLOYMENT"])


def version(gateway, service):
    answer = gateway.call(f"{service}/_/ready")
    return answer.json.get("deployment") if answer.status == 200 else None


def replica_count(gateway, name):
    return gateway.system(f"function/{name}")["availableReplicas"]


@soon
def test_a_function_that_nobody_calls_sleeps_and_wakes_with_the_next_call(gateway):
    deploy(gateway, "statement")
    assert gateway.call(READER, token=gateway.token("reader")).status == 200
    wait_until(lambda: replica_count(gateway, "statement") == 0)
    wait_until(lambda: gateway.replicas() == [])
    counted = gateway.system("function/statement")["invocationCount"]
    assert gateway.call(READER, token=gateway.token("reader")).status == 200
    assert gateway.system("function/statement")["invocationCount"] == counted + 1


def test_many_calls_that_wake_a_function_start_one_process(gateway):
    deploy(gateway, "agent")
    gateway.stop()
    gateway.start()
    assert gateway.replicas() == []
    with ThreadPoolExecutor(8) as callers:
        answers = callers.map(lambda _: gateway.call("agent/SHA256SUMS").status, range(8))
    assert (set(answers), len(gateway.replicas())) == ({200}, 1)


def test_a_change_is_another_process(gateway):
    deploy(gateway, "statement")
    (before,) = gateway.replicas()
    deploy(gateway, "statement", SKYTALLY_TRUSTED_HOPS="1")
    wait_until(lambda: before not in gateway.replicas())


def test_what_is_in_flight_while_a_function_rolls_is_answered(gateway):
    """A round that waits for its source ends in the old process, while the new one answers others already."""
    asked, released = threading.Event(), threading.Event()

    def held():
        asked.set()
        released.wait(60)
        return datetime.now(UTC).replace(tzinfo=None)

    with bigpanda() as (monitor, url), ThreadPoolExecutor(1) as caller:
        monitor.now = held
        settings = {"SKYTALLY_PANDA_URL": url, "SKYTALLY_PANDA_QUEUES": "Q"}
        deploy(gateway, "panda_collect", **settings)
        (before,) = gateway.replicas()
        answer = caller.submit(gateway.call, "panda-collect", b"", method="POST")
        assert asked.wait(60)
        deploy(gateway, "panda_collect", SKYTALLY_TRUSTED_HOPS="1", **settings)
        assert (before in gateway.replicas(), len(gateway.replicas())) == (True, 2)
        released.set()
        assert (answer.result().status, answer.result().json["state"]) == (200, "done")
        wait_until(lambda: before not in gateway.replicas())


def test_the_old_process_answers_until_the_new_one_does(gateway, tmp_path):
    gate, main = tmp_path / "gate", tmp_path / "functions" / "agent" / "main.py"
    main.parent.mkdir(parents=True)
    os.mkfifo(gate)
    main.write_text(f"open({str(gate)!r}).read()\n" + (ROOT / "functions" / "agent" / "main.py").read_text())
    deploy(gateway, "agent")
    with ThreadPoolExecutor(1) as operator:
        changed = operator.submit(deploy, gateway, "agent", FUNCTION_SOURCE=str(tmp_path / "functions"))
        with gate.open("w"):
            assert len(gateway.replicas()) == 2
            assert gateway.call("agent/SHA256SUMS").status == 200
        changed.result()


def test_a_change_that_does_not_start_leaves_what_runs(gateway):
    deploy(gateway, "statement")
    before = version(gateway, "statement")
    assert ask(gateway, spec(gateway, "statement", SKYTALLY_TRUSTED_HOPS="many"), "PUT")[0] == 202
    wait_until(lambda: "SKYTALLY_TRUSTED_HOPS" in str(gateway.system("logs?name=statement")))
    assert gateway.call(READER, token=gateway.token("reader")).status == 200
    assert version(gateway, "statement") == before


def test_secrets_are_those_that_are_named_and_nobody_shows_them(gateway, tmp_path):
    status, words = ask(gateway, spec(gateway, "statement", secrets=["none-such"]), "POST")
    assert (status, "none-such" in words) == (400, True)
    deploy(gateway, "agent", secrets=[])
    (replica,) = gateway.replicas()
    mounted = tmp_path / "provider" / "replicas" / replica / "secrets"
    assert list(mounted.iterdir()) == []
    told = json.dumps([gateway.system("secrets"), gateway.system("functions"), gateway.system("logs?name=agent")])
    assert not any(path.read_text().strip() in told for path in (tmp_path / "keys").iterdir())


def test_a_function_that_grows_too_large_is_ended(gateway):
    deploy(gateway, "agent", memory="1Mi")
    wait_until(lambda: replica_count(gateway, "agent") == 0)
    assert gateway.call("agent/SHA256SUMS").status == 200


@soon
def test_a_timer_runs_by_its_schedule_and_sleeps_again(gateway):
    """A sixth field is seconds: the local provider's own, so that nobody waits for a minute."""
    deploy(gateway, "secret_sweep", schedule="*/1 * * * * *", SKYTALLY_TIMER_MIN_SECONDS="3600")
    wait_until(lambda: gateway.system("function/secret-sweep")["invocationCount"] >= 2)
    gateway.system("functions", spec(gateway, "secret_sweep"), "PUT")
    wait_until(lambda: gateway.replicas() == [])


@soon
def test_a_call_for_later_is_made_once_and_keeps_nothing_awake(gateway):
    deploy(gateway, "secret_sweep")
    counted = gateway.system("function/secret-sweep")["invocationCount"]
    request = urllib.request.Request(f"{gateway.base}/async-function/secret-sweep", b"", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert (answer.status, len(answer.headers["X-Call-Id"])) == (202, 32)
    wait_until(lambda: gateway.system("function/secret-sweep")["invocationCount"] == counted + 1)
    wait_until(lambda: gateway.replicas() == [])
    done = gateway.call("secret-sweep", b"", method="POST")
    assert done.json["state"] == "not_due", "the round that nobody waited for was done"


def test_a_restart_knows_functions_and_secrets_again(gateway):
    deploy(gateway, "statement")
    gateway.stop()
    assert gateway.replicas() == []
    gateway.start()
    assert set(gateway.deployed()) == {"statement"}
    assert gateway.call(READER, token=gateway.token("reader")).status == 200


def test_who_may_and_what_is_not_there(gateway):
    gateway.password_file.write_text("wrong")
    for path in ("functions", "function/statement", "secrets", "namespaces", "info", "logs?name=x"):
        with pytest.raises(urllib.error.HTTPError) as error:
            gateway.system(path)
        assert error.value.code == 401
        error.value.close()
    assert gateway.call("nothing").status == 404


def test_who_cannot_keep_functions_from_writing_says_so_at_the_start(tmp_path):
    gateway = Gateway(tmp_path)
    gateway.environment["PATH"] = str(tmp_path)
    gateway.start().stop()
    assert "read-only roots need root and `unshare`" in (tmp_path / "provider.log").read_text()


def test_an_address_is_not_what_a_caller_says_it_is(gateway):
    """The sources of a deposit hold, whatever X-Forwarded-For a thief on this machine makes up."""
    for name in ("secret_deposit", "secret_claim"):
        deploy(gateway, name)
    body = {"vm": "v", "cloud": "c", "payload": "eA==", "sources": ["203.0.113.0/24"]}
    left = gateway.call("secret-deposit", body, token=gateway.token("scheduler"))
    assert left.status == 201, left.body
    refused = gateway.call(
        "secret-claim", claim_form(left.json["token"], public_key()), **{"X-Forwarded-For": "203.0.113.9"}
    )
    assert (refused.status, refused.json["error"]["code"]) == (403, "forbidden")
    deploy(gateway, "secret_claim", SKYTALLY_TRUSTED_HOPS="1")
    taken = gateway.call(
        "secret-claim", claim_form(left.json["token"], public_key()), **{"X-Forwarded-For": "203.0.113.9"}
    )
    assert taken.status == 200, taken.body


@pytest.mark.parametrize(
    ("schedule", "last", "now", "due"),
    [
        ("*/5 * * * *", "11:59:59", "12:00:00", True),
        ("*/5 * * * *", "12:00:00", "12:00:01", False),
        ("*/5 * * * *", "12:00:00", "12:04:59", False),
        ("17 3 * * *", "03:16:59", "03:17:02", True),
        ("17 3 * * *", "15:16:59", "15:17:02", False),
    ],
)
def test_a_schedule_is_due_once_in_utc(schedule, last, now, due):
    moments = [datetime.fromisoformat(f"2026-11-25T{clock}").replace(tzinfo=UTC) for clock in (last, now)]
    assert is_due({"annotations": {"schedule": schedule}}, *moments) is due


def test_what_has_no_schedule_is_never_due():
    now = datetime.now(UTC)
    assert not any(
        is_due(told, now - timedelta(days=9), now)
        for told in ({}, {"annotations": None}, {"annotations": {"topic": "x"}})
    )


@pytest.mark.parametrize(
    ("text", "size"), [("256Mi", 256 * 2**20), ("1Gi", 2**30), ("64Ki", 65_536), ("1000", 1_000), (None, 2**30)]
)
def test_limits_are_bytes(text, size):
    assert memory_limit({"limits": {"memory": text}}) == size
