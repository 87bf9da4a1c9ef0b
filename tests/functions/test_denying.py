"""Whoever is shut out stays out: with every renewal of its token, and with every word of others about its vm."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.http import recent
from tests.support import builders
from tests.support.builders import DOCUMENT_STORES

LONG_AGO = timedelta(days=60)


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """Wait until a change of keys or of the deny list counts."""
    monkeypatch.setattr(recent, "RECENT_SECONDS", 0.05)
    return lambda: time.sleep(0.05)


@pytest.fixture(params=DOCUMENT_STORES)
def deny(request, home, document_settings, monkeypatch, counts):
    """Give a function that writes the deny list, on each store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()

    def write(*, vms=(), tokens=()):
        # Written anew under another name, so that two changes within a clock's tick are two.
        (home / "clouds.new").write_text(f"[deny]\nvms = {list(vms)}\ntokens = {list(tokens)}\n# {datetime.now(UTC)}\n")
        (home / "clouds.new").replace(home / "clouds.toml")
        counts()

    write()
    return write


def report(client, headers, *vms):
    now = datetime.now(UTC).replace(microsecond=0)
    samples = [builders.FakeVm(vm, boot_at=now - timedelta(hours=1)).sample(now) for vm in vms]
    return client.post("usage-report", json={"samples": samples}, headers=headers)


def renewed(client, headers, vm="vm-1"):
    return {"Authorization": f"Bearer {report(client, headers, vm).json()['token']}"}


def digest(headers):
    return tokens.digest_of(headers["Authorization"].removeprefix("Bearer "))


@pytest.fixture
def chain(client, bearer, deny, at):
    """A token, the one renewed from it, and the one renewed from that."""
    now = datetime.now(UTC)
    first = bearer("reporter", issued=now - LONG_AGO, lifetime=timedelta(days=90), vm="vm-1", clouds=("uvic",))
    second = renewed(client, first)
    at(now + LONG_AGO)
    third = renewed(client, second)
    at(now)
    return first, second, third


@pytest.mark.parametrize("shut_out", [0, 1, 2])
def test_a_token_that_is_shut_out_takes_all_its_renewals_along(client, bearer, deny, chain, shut_out):
    deny(tokens=[digest(chain[shut_out])])
    answers = [report(client, headers, "vm-1") for headers in chain]
    assert [answer.status_code for answer in answers] == [200] * shut_out + [403] * (3 - shut_out)
    assert {answer.json()["error"]["code"] for answer in answers[shut_out:]} == {"forbidden"}
    assert report(client, bearer("reporter", vm="vm-1", clouds=("uvic",)), "vm-1").status_code == 200


def test_the_id_of_a_chain_shuts_out_all_of_it_and_nobody_gets_a_fresh_token(client, deny, chain):
    (first, *_, last) = chain
    text = last["Authorization"].removeprefix("Bearer ")
    deny(tokens=[tokens.chain_id(text, tokens.content(text))])
    answers = [
        client.post(name, json={}, headers=headers) for headers in chain for name in ("usage-report", "job-heartbeat")
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert not any("token" in answer.json() for answer in answers)
    deny()
    assert report(client, first, "vm-1").status_code == 200


def test_nobody_reports_about_a_vm_that_is_shut_out(client, bearer, reader, deny):
    deny(vms=["uvic/bad"])
    cloud = bearer("reporter", clouds=("uvic",))
    receipt = report(client, cloud, "good-1", "bad", "good-2").json()
    assert (receipt["accepted"], [(r["index"], r["code"]) for r in receipt["rejected"]]) == (2, [(1, "forbidden")])
    beat = {"vm": "bad", "jobs": ["1"]}
    assert client.post("job-heartbeat", json=beat, headers=cloud).json()["error"]["code"] == "forbidden"
    assert client.post("job-heartbeat", json=beat | {"vm": "good-1"}, headers=cloud).status_code == 200
    assert report(client, bearer("reporter", clouds=("uvic",), vm="bad"), "bad").status_code == 403
    month = f"{datetime.now(UTC):%Y-%m}"
    boots = client.get(f"statement?month={month}&detail=boots", headers=reader).json()["boots"]
    assert {boot["vm"] for boot in boots} == {"good-1", "good-2"}


def test_a_vm_of_another_cloud_may_have_the_name_of_one_that_is_shut_out(client, bearer, deny):
    deny(vms=["uvic/bad"])
    assert report(client, bearer("reporter", clouds=("cern",)), "bad").json()["accepted"] == 1
    deny()
    assert report(client, bearer("reporter", clouds=("uvic",)), "bad").json()["accepted"] == 1


def test_a_key_that_was_removed_admits_nobody_and_its_successor_does(client, bearer, home, at, counts):
    old = bearer("reporter", vm="vm-1", clouds=("uvic",))
    assert report(client, old, "vm-1").status_code == 200
    keys = KeyFiles(home / "keys", lambda: datetime.now(UTC) - timedelta(days=2))
    replaced = wiring.keys().token[0].name
    keys.add("token")
    (home / "keys" / replaced).unlink()
    counts()
    assert report(client, old, "vm-1").status_code == 401
    assert report(client, bearer("reporter", vm="vm-1", clouds=("uvic",)), "vm-1").status_code == 200


def test_a_token_that_has_just_been_admitted_is_refused_from_its_expiry_on(client, bearer, at):
    now = datetime.now(UTC).replace(microsecond=0)
    headers = bearer("reporter", issued=now - timedelta(seconds=600), lifetime=timedelta(seconds=660), clouds=("uvic",))
    at(now + timedelta(seconds=59))
    assert client.post("job-heartbeat", json={"vm": "v", "jobs": ["1"]}, headers=headers).status_code == 200
    at(now + timedelta(seconds=60))
    assert client.post("job-heartbeat", json={"vm": "v", "jobs": ["1"]}, headers=headers).status_code == 401
