"""Secrets through the functions: once, in time, for whom they were left;
every refusal; and nothing secret in any log.
"""

import base64
import functools
import json
import logging
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa

from skytally.app import wiring
from skytally.cli import cli
from skytally.core.records import iso
from skytally.secrets import envelope, stored_deposits
from tests.support import builders

PAYLOAD = b"-----BEGIN CERTIFICATE-----"
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def left(client, scheduler, headers=None, **fields):
    """Leave a secret; return the response."""
    body = {"vm": "vm-1", "cloud": "uvic", "payload": base64.b64encode(PAYLOAD).decode(), **fields}
    body = {name: value for name, value in body.items() if value is not None}
    return client.post("secret-deposit", json=body, headers=scheduler | (headers or {}))


def claimed(client, token, private_key=builders.SHARED_KEY, vm=None, **how):
    return client.post("secret-claim", data=builders.claim_form(token, builders.public_key(private_key), vm), **how)


def opened(answer, token, vm=None, private_key=builders.SHARED_KEY):
    claim, expires, secret = token.split(".")
    return envelope.open_bundle(answer.content, secret.encode(), private_key, claim, int(expires), vm)


def refusal(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_the_reporter_in_the_bundle_says_where_the_vm_belongs(client, scheduler):
    token = left(client, scheduler, site="Victoria", group="atlas", flavor="c8").json()["token"]
    answer = claimed(client, token)
    assert answer.headers["content-type"] == "application/x-tar"
    payload, reporter = opened(answer, token)
    assert payload == PAYLOAD
    said = json.loads(base64.urlsafe_b64decode(reporter.split(".")[0] + "=="))
    assert (said["role"], said["vm"], said["clouds"], said["site"], said["group"], said["flavor"]) == (
        "reporter",
        "vm-1",
        ["uvic"],
        "Victoria",
        "atlas",
        "c8",
    )


def test_json_claims_work_too(client, scheduler):
    token = left(client, scheduler).json()["token"]
    assert client.post("secret-claim", json=builders.claim_form(token, builders.public_key())).status_code == 200


def test_the_second_taker_is_told_and_written_down(client, scheduler, reader):
    token = left(client, scheduler).json()["token"]
    assert claimed(client, token).status_code == 200
    again, other = claimed(client, token), claimed(client, token, OTHER_KEY)
    assert refusal(again) == refusal(other) == (409, "taken")
    assert (again.json()["error"]["kind"], other.json()["error"]["kind"]) == ("duplicate", "contested")
    assert "the answer was lost on its way to this very vm" in again.json()["error"]["message"]
    taken_at = client.get("dashboard/data?view=secrets", headers=reader).json()["table"][0]["at"]
    digest = envelope.parse_public_key(builders.public_key()).spki_sha256[:12]
    assert f"at {taken_at} from testclient with key {digest}: stop" in other.json()["error"]["message"]
    (row,) = client.get("dashboard/data?view=secrets", headers=reader).json()["table"]
    assert (row["state"], row["vm"], row["contested_count"], row["reported"]) == ("delivered", "vm-1", 1, None)
    listed = json.loads(CliRunner().invoke(cli, ["secrets", "list", "--state", "contested", "--json"]).output)
    assert [(one["vm"], one["contested"][0]["kind"]) for one in listed] == [("vm-1", "contested")]


def test_wrong_proof_and_unknown_claim_look_alike_and_touch_no_store(client, scheduler, monkeypatch):
    token = left(client, scheduler).json()["token"]
    claim, expires, secret = token.split(".")
    monkeypatch.setattr(wiring, "objects", functools.cache(lambda: None))
    answers = [claimed(client, f"{claim}.{expires}.{'0' * 64}"), claimed(client, f"{'z' * 26}.{expires}.{secret}")]
    answers.append(claimed(client, f"{claim}.{int(expires) + 1}.{secret}"))
    assert {refusal(answer) for answer in answers} == {(403, "forbidden")}
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize(("seconds", "status"), [(-1, 200), (0, 200), (1, 410)])
def test_the_edge_of_the_expiry(client, scheduler, at, seconds, status):
    token = left(client, scheduler).json()["token"]
    at(datetime.fromtimestamp(int(token.split(".")[1]) + seconds, UTC))
    assert claimed(client, token).status_code == status


def test_after_the_sweep_it_is_gone_and_the_payload_too(client, scheduler, at, home):
    token = left(client, scheduler, expires_in_seconds=60).json()["token"]
    at(datetime.now(UTC) + timedelta(seconds=62))
    assert client.post("secret-sweep").json() == {"state": "done", "expired": 1, "forgotten": 0}
    at(datetime.now(UTC))
    assert refusal(claimed(client, token)) == (410, "expired")
    assert list(wiring.objects().list("prep/")) == []


def test_records_go_when_nobody_needs_them(client, scheduler, at):
    token = left(client, scheduler, headers={"Idempotency-Key": "k"}, expires_in_seconds=60).json()["token"]
    claimed(client, token)
    claimed(client, token, OTHER_KEY)
    waiting = left(client, scheduler, vm="vm-2").json()["claim"]
    for days, prefixes in ((9, {"mark", "audit"}), (32, {"audit"}), (368, set())):
        at(datetime.now(UTC) + timedelta(days=days))
        assert client.post("secret-sweep").json()["state"] == "done"
        left_over = {key.partition("/")[0] for key in wiring.objects().list("") if waiting not in key}
        assert left_over - {"preflight"} == prefixes


def test_revoking_wins_only_if_nobody_has_it(client, scheduler):
    for taken in (False, True):
        answer = left(client, scheduler).json()
        claim, expires, _ = answer["token"].split(".")
        if taken:
            claimed(client, answer["token"])
        revoked = client.post("secret-revoke", json={"claim": claim, "expires": int(expires)}, headers=scheduler)
        if taken:
            assert refusal(revoked) == (409, "taken")
            error = revoked.json()["error"]
            assert error["address"] == "testclient"
            assert len(error["spki_sha256"]) == 64
            assert error["at"].endswith("Z")
        else:
            assert revoked.json() == {"state": "revoked"}
            assert refusal(claimed(client, answer["token"])) == (410, "revoked")
            again = client.post("secret-revoke", json={"claim": claim, "expires": int(expires)}, headers=scheduler)
            assert again.json() == {"state": "revoked"}


def test_revoking_what_is_not_there_or_not_yours(client, scheduler, bearer):
    token = left(client, scheduler).json()["token"]
    claim, expires, _ = token.split(".")
    body = {"claim": claim, "expires": int(expires)}
    assert refusal(client.post("secret-revoke", json=body, headers=bearer("scheduler", clouds=("cern",)))) == (
        403,
        "not_yours",
    )
    assert refusal(client.post("secret-revoke", json=body | {"claim": "z" * 26}, headers=scheduler)) == (404, "unknown")
    assert claimed(client, token).status_code == 200


def test_each_name_of_a_batch_takes_it_once(client, scheduler):
    names = ["host-1", "host-2", "host-3"]
    answer = left(client, scheduler, vm=None, vms=names).json()
    token = answer["token"]
    for name in names[:2]:
        payload, reporter = opened(claimed(client, token, vm=name), token, name)
        assert payload == PAYLOAD
        assert json.loads(base64.urlsafe_b64decode(reporter.split(".")[0] + "=="))["vm"] == name
        assert refusal(claimed(client, token, OTHER_KEY, vm=name)) == (409, "taken")
    assert len(list(wiring.objects().list("prep/"))) == 1
    for name in (None, "host-4"):
        assert refusal(claimed(client, token, vm=name)) == (403, "forbidden")
    claim, expires, _ = token.split(".")
    revoked = client.post("secret-revoke", json={"claim": claim, "expires": int(expires)}, headers=scheduler)
    assert refusal(revoked) == (409, "taken")
    assert [holder["vm"] for holder in revoked.json()["error"]["holders"]] == names[:2]
    assert refusal(claimed(client, token, vm="host-3")) == (410, "revoked")


def test_the_last_of_a_batch_removes_the_payload(client, scheduler):
    token = left(client, scheduler, vm=None, vms=["a", "b"]).json()["token"]
    for name in ("a", "b"):
        assert claimed(client, token, vm=name).status_code == 200
    assert list(wiring.objects().list("prep/")) == []
    assert refusal(claimed(client, token, vm="a")) == (409, "taken")


def test_a_single_vm_may_say_its_name_but_no_other(client, scheduler):
    token = left(client, scheduler).json()["token"]
    assert refusal(claimed(client, token, vm="vm-2")) == (403, "forbidden")
    assert opened(claimed(client, token, vm="vm-1"), token, "vm-1")[0] == PAYLOAD
    assert refusal(claimed(client, token, vm="vm-1")) == (409, "taken")
    assert refusal(claimed(client, token)) == (409, "taken")


def test_only_an_allowed_source_takes_it(client, scheduler, monkeypatch):
    monkeypatch.setenv("SKYTALLY_TRUSTED_HOPS", "1")
    wiring.close()
    token = left(client, scheduler, sources=["192.0.2.0/24", "2001:db8::/32"]).json()["token"]
    for address in ("198.51.100.1", "nonsense", "2001:db9::1"):
        assert refusal(claimed(client, token, headers={"X-Forwarded-For": address})) == (403, "forbidden")
    assert claimed(client, token, headers={"X-Forwarded-For": "203.0.113.1, 192.0.2.9"}).status_code == 200
    audits = [json.loads(wiring.objects().get(key)) for key in wiring.objects().list("audit/")]
    # Two callers may share one of a thousand places.
    assert len(audits) in {2, 3}
    assert {(one["kind"], one["reason"]) for one in audits} == {("refused", "source")}


def test_the_same_request_twice_is_one_deposit(client, scheduler):
    key = {"Idempotency-Key": "boot-77"}
    first, again = left(client, scheduler, key), left(client, scheduler, key)
    assert first.json() == again.json()
    assert len(list(wiring.objects().list("prep/"))) == 1
    assert refusal(left(client, scheduler, key, vm="vm-2")) == (409, "exists")
    token = first.json()["token"]
    assert claimed(client, token).status_code == 200
    assert left(client, scheduler, key).json() == first.json()
    assert refusal(claimed(client, token, OTHER_KEY)) == (409, "taken")


def test_a_request_repeated_after_its_expiry_is_told_so(client, scheduler, at):
    key = {"Idempotency-Key": "boot-78"}
    assert left(client, scheduler, key, expires_in_seconds=60).status_code == 201
    at(datetime.now(UTC) + timedelta(seconds=61))
    assert refusal(left(client, scheduler, key, expires_in_seconds=60)) == (410, "expired")


def test_a_scheduler_leaves_secrets_within_its_clouds(client, bearer):
    assert refusal(left(client, bearer("scheduler", clouds=("cern",)))) == (403, "not_yours")
    assert left(client, bearer("scheduler", clouds=("cern", "uvic"))).status_code == 201


@pytest.mark.parametrize(
    "fields",
    [
        {"vm": None},
        {"vms": ["a"]},
        {"vm": None, "vms": ["a", "a"]},
        {"vm": ""},
        {"vm": "a\nb"},
        {"vm": "x" * 256},
        {"payload": "not base64!"},
        {"payload": None},
        {"expires_in_seconds": 59},
        {"expires_in_seconds": 604_801},
        {"expires_in_seconds": "soon"},
        {"sources": ["192.0.2.1/24"]},
        {"sources": "192.0.2.0/24"},
        {"cores": 0},
    ],
    ids=str,
)
def test_a_deposit_that_makes_no_sense_is_refused(client, scheduler, fields):
    assert refusal(left(client, scheduler, **fields)) == (400, "malformed")
    assert list(wiring.objects().list("prep/")) == []


@pytest.mark.parametrize(
    "change",
    [{"claim": "../../etc"}, {"claim": "A" * 26}, {"expires": "x"}, {"proof": "0"}, {"public_key": ""}],
    ids=str,
)
def test_a_claim_that_makes_no_sense_is_refused(client, scheduler, change):
    form = builders.claim_form(left(client, scheduler).json()["token"], builders.public_key()) | change
    assert refusal(client.post("secret-claim", data=form)) == (400, "malformed")


def test_a_bad_key_burns_nothing(client, scheduler):
    token = left(client, scheduler).json()["token"]
    bad = client.post("secret-claim", data=builders.claim_form(token, "QUJD"))
    assert refusal(bad) == (400, "malformed_public_key")
    assert claimed(client, token).status_code == 200


def test_a_changed_deposit_is_noticed_and_burns_nothing(client, scheduler):
    token = left(client, scheduler).json()["token"]
    (key,) = wiring.objects().list("prep/")
    box = msgspec.msgpack.decode(wiring.objects().get(key), type=stored_deposits.SealedDeposit)
    wiring.objects().delete(key)
    wiring.objects().create(key, msgspec.msgpack.encode(msgspec.structs.replace(box, content_key_wrapped=b"\x00" * 60)))
    assert refusal(claimed(client, token)) == (403, "forbidden")
    assert list(wiring.objects().list("mark/")) == []


def test_no_secret_reaches_a_log(client, scheduler, caplog, home):
    caplog.set_level(logging.DEBUG)
    answer = left(client, scheduler)
    token = answer.json()["token"]
    form = builders.claim_form(token, builders.public_key())
    bundle = client.post("secret-claim", data=form)
    _, reporter = opened(bundle, token)
    for _ in range(2):
        client.post("secret-claim", data=form)
        client.post("secret-claim", data=form | {"proof": "0" * 64})
        client.post("secret-claim", data=form | {"public_key": "?"})
    client.post("usage-report", json={"samples": [{}]}, headers={"Authorization": f"Bearer {reporter}"})
    wiring.documents()
    (home / "objects").rename(home / "gone")
    (home / "objects").write_text("")
    left(client, scheduler)
    claimed(client, token)
    told = caplog.text
    assert '"status": 409' in told
    assert '"status": 503' in told
    keys = [path.read_text() for path in (home / "keys").iterdir()]
    for secret in (
        token,
        token.split(".")[2],
        form["proof"],
        reporter,
        scheduler["Authorization"],
        PAYLOAD.decode(),
        base64.b64encode(PAYLOAD).decode(),
        *keys,
    ):
        assert secret not in told


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_unmounted_folder_of_objects_is_an_outage_and_no_secret_is_lost(
    client, scheduler, reader, home, is_restarted
):
    token = left(client, scheduler).json()["token"]
    claim, expires, _ = token.split(".")
    folder, away = home / "objects", home / "away"
    folder.rename(away)
    folder.mkdir()
    if is_restarted:
        wiring.close()
    assert refusal(claimed(client, token)) == (503, "unavailable")
    revoked = client.post("secret-revoke", json={"claim": claim, "expires": int(expires)}, headers=scheduler)
    assert refusal(revoked) == (503, "unavailable")
    if not is_restarted:
        answers = left(client, scheduler), client.get("dashboard/data?view=secrets", headers=reader)
        assert [refusal(answer) for answer in (*answers, client.post("secret-sweep"))] == [(503, "unavailable")] * 3
    assert list(folder.iterdir()) == []
    folder.rmdir()
    away.rename(folder)
    assert opened(claimed(client, token), token)[0] == PAYLOAD


def test_what_lies_in_the_store_opens_nothing_by_itself(client, scheduler, home):
    left(client, scheduler)
    stored = b"".join(path.read_bytes() for path in (home / "objects").rglob("*") if path.is_file())
    assert PAYLOAD not in stored
    assert base64.b64encode(PAYLOAD) not in stored


def test_the_secrets_of_a_window_are_those_that_wait_or_came_to_their_end_in_it(client, scheduler, reader, bearer, at):
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=30)
    for vm, hours_ago in (("old", 30), ("new", 2)):
        at(now - timedelta(hours=hours_ago))
        assert claimed(client, left(client, scheduler, vm=vm).json()["token"]).status_code == 200
    left(client, scheduler, vm="waits", expires_in_seconds=604_800)
    at(now)

    def look(**query):
        return client.get("dashboard/data", params={"view": "secrets", **query}, headers=reader).json()

    assert {row["vm"] for row in look()["table"]} == {"old", "new", "waits"}
    day = look(window="day", sort="vm-down")
    assert ([row["vm"] for row in day["table"]], day["totals"]["waiting_count"], day["totals"]["delivered_count"]) == (
        ["waits", "new"],
        1,
        1,
    )
    assert [row["vm"] for row in look(window="hour")["table"]] == ["waits"]
    others = bearer("reader", clouds=("cern",), lifetime=timedelta(days=3))
    assert client.get("dashboard/data?view=secrets", headers=others).json()["row_count"] == 0
    hour = (now - timedelta(hours=2)).replace(minute=0, second=0)
    assert day["series"] == [
        {"at": iso(hour), "until": iso(hour + timedelta(hours=1)), "state": "delivered", "secret_count": 1}
    ]
    assert [row["vm"] for row in look(**{"from": iso(now - timedelta(hours=40))}, vm="old")["table"]] == ["old"]
    assert look(**{"from": "2025-01-01T00:00:00Z"})["doubts"] == [{"kind": "kept_days", "days": 31}]
