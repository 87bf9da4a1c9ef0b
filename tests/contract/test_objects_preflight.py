"""The preflight says SAFE to every store that keeps the promise,
and REFUSE, with the reason, to every one that does not.
"""

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from localstack import servers
from skytally.app.wiring import open_objects
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.errors import Unavailable
from skytally.secrets import preflight
from tests.support.broken_store import broken_store

pytestmark = pytest.mark.servers


def clock():
    return datetime.now(UTC)


def pools(*settings):
    return [open_objects(Config.from_env(one)) for one in (settings * 2)[:2]]


def test_every_store_that_keeps_the_promise_is_safe_and_left_as_it_was(object_settings):
    both = pools(object_settings)
    verdict = preflight.examine(both, clock)
    assert (verdict.word, verdict.reasons) == (preflight.SAFE, [])
    assert list(both[0].list("")) == []


def test_two_gateways_on_one_folder_are_safe(running, store_settings):
    first = store_settings("versitygw")
    with servers.versitygw(running._folder / "versitygw") as second:
        assert (
            preflight.examine(pools(first, {**first, "SKYTALLY_S3_ENDPOINT": second.url}), clock).word == preflight.SAFE
        )


@pytest.fixture
def faulty(monkeypatch):
    """Return a function: the settings of a store with a fault."""
    for name, value in servers.S3_USER.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        yield lambda fault: servers.s3_settings(stack.enter_context(broken_store(fault)))


def test_the_stand_in_without_a_fault_is_safe(faulty):
    assert preflight.examine(pools(faulty("none")), clock).reasons == []


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("ignores condition", "one after another"),
        ("ignores condition", "overlapping"),
        ("ignores condition", "in a burst"),
        ("two winners", "overlapping"),
        ("late", "in a burst"),
        ("versioned", "versions"),
        ("clock", "clock"),
    ],
)
def test_every_fault_is_refused_with_its_reason(faulty, fault, check):
    verdict = preflight.examine(pools(faulty(fault)), clock)
    assert verdict.word == preflight.REFUSE
    assert check in [c.name for c in verdict.checks if not c.ok]
    assert any(reason.startswith(f"{check}: ") for reason in verdict.reasons)


def test_a_store_that_is_away_has_no_verdict(faulty, monkeypatch):
    settings = {**faulty("none"), "SKYTALLY_S3_ENDPOINT": "http://127.0.0.1:9"}
    with pytest.raises(Unavailable):
        preflight.examine(pools(settings), clock)


def test_the_gate_asks_once_and_refuses_until_the_store_is_mended(faulty):
    settings = faulty("two winners")
    gate = preflight.Gate(lambda: pools(settings), clock)
    store = pools(settings)[0]
    with pytest.raises(Unavailable, match="overlapping"):
        gate.check(store)
    healed = {"SKYTALLY_OBJECTS": settings["SKYTALLY_OBJECTS"], **faulty("none")}
    later = preflight.Gate(lambda: pools(healed), clock)
    later.check(pools(healed)[0])


def test_a_verdict_serves_other_processes_for_its_time(store_settings):
    settings = store_settings("files")

    def nobody():
        raise AssertionError("examined again")

    first = preflight.Gate(lambda: pools(settings), clock)
    first.check(pools(settings)[0])
    preflight.Gate(nobody, clock).check(pools(settings)[0])
    with pytest.raises(AssertionError, match="examined again"):
        preflight.Gate(nobody, lambda: clock() + preflight.VERDICT_KEPT + timedelta(days=1)).check(pools(settings)[0])


@pytest.mark.parametrize(("fault", "code"), [("none", 0), ("two winners", 1), ("clock", 1)])
def test_doctor_says_so_and_ends_with_a_code(faulty, fault, code, home, monkeypatch):
    for name, value in faulty(fault).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    assert done.exit_code == code, done.output
    verdict = [row for row in json.loads(done.output) if row["check"] == "verdict"]
    assert verdict[0]["finding"] == ("SAFE" if code == 0 else "REFUSE")
    assert CliRunner().invoke(cli, ["doctor"]).exit_code == code


def test_a_deposit_on_a_store_that_is_not_safe_is_refused(faulty, home, client, scheduler, monkeypatch):
    from skytally.app import wiring

    for name, value in faulty("two winners").items():
        monkeypatch.setenv(name, value)
    wiring.close()
    answer = client.post("secret-deposit", json={"vm": "v", "cloud": "c", "payload": "eA=="}, headers=scheduler)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "overlapping" in answer.json()["error"]["message"]
