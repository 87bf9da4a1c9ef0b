"""What cannot be read or looked at, on each store:
it costs itself, is shown and alarmed, and is over when it is met no more.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from skytally.adapters.documents_search import SearchDocuments
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.alarms import alarm_round, vm_checks
from skytally.app import wiring
from skytally.core import unreadable
from skytally.secrets import outcomes
from tests.support import builders, secret_lab
from tests.support.builders import DOCUMENT_STORES

NOW = datetime.now(UTC).replace(microsecond=0)
pytestmark = pytest.mark.usefixtures("now", "on_each_store")


@pytest.fixture(params=DOCUMENT_STORES)
def on_each_store(request, webhook, document_settings, monkeypatch):
    """Run on each document store in turn, with a receiver of alarms."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()


def reports(client, bearer, *vms, at, cloud="uvic", boots=1, **more):
    """Let vms report once, in one report of all their boots."""
    booted = [builders.FakeVm(vm, boot_at=NOW - timedelta(hours=5, seconds=n)) for n in range(boots) for vm in vms]
    samples = [vm.sample(at, **more) for vm in booted]
    answer = client.post("usage-report", json={"samples": samples}, headers=bearer("reporter", clouds=(cloud,)))
    assert answer.json()["rejected"] == []


silent = partial(reports, at=NOW - timedelta(hours=3))
clock_is_off = partial(reports, at=NOW - timedelta(minutes=5), clock_offset_seconds=600)


def health(client, headers):
    return client.get("dashboard/data?view=health", headers=headers).json()


def open_alarms(client, headers, kind):
    return [row for row in health(client, headers)["table"] if row["kind"] == kind and row["state"] == "raised"]


def metric(client, headers, name, **labels):
    families = text_string_to_metric_families(client.get("dashboard/metrics", headers=headers).text)
    return [
        one.value
        for family in families
        for one in family.samples
        if one.name == name and labels.items() <= one.labels.items()
    ]


def junk(*keys):
    for key in keys:
        wiring.objects().create(key, b"junk")


def test_junk_in_the_bucket_is_shown_alarmed_and_stops_nothing(client, bearer, reader, scheduler, webhook, round_at):
    day, claim = f"{NOW:%Y%m%d}", "c" * 26
    keys = (f"mark/{day}/{claim}", f"audit/{day}/{claim}/contested-001", f"prep/9999999999/{claim}", "prep/loose")
    deposit = {"vm": "vm-1", "cloud": "uvic", "payload": "eA=="}
    token = client.post("secret-deposit", json=deposit, headers=scheduler).json()["token"]
    junk(*keys)
    silent(client, bearer, "vm-0")
    assert client.post("secret-sweep").json() == {"state": "done", "expired": 0, "forgotten": 0}
    assert round_at(NOW)["state"] == "done"
    assert {body["kind"] for body in webhook.heard} >= {"silent_vm"}
    assert client.post("secret-claim", data=builders.claim_form(token, builders.public_key())).status_code == 200
    assert round_at(NOW + timedelta(minutes=5))["state"] == "done"
    secrets = client.get("dashboard/data?view=secrets", headers=reader).json()["table"]
    assert [(row["vm"], row["state"]) for row in secrets] == [("vm-1", "delivered")]
    alarms = open_alarms(client, reader, "unreadable_document")
    assert sorted(row["subject"] for row in alarms) == sorted(f"{key.partition('/')[0]}: {key}" for key in keys)
    shown = {row["subject"]: row for row in health(client, reader)["table"] if row["kind"] == "unreadable"}
    assert {subject: row["message"].partition(" left out")[0] for subject, row in shown.items()} == {
        "object of audit": "1",
        "object of mark": "1",
        "object of prep": "2",
    }
    assert health(client, reader)["totals"]["unreadable_things"] == 4
    assert metric(client, reader, "skytally_unreadable", kind="object", source="prep") == [2]
    theirs = [row for row in health(client, bearer("reader", clouds=("cern",)))["table"] if row["kind"] == "unreadable"]
    assert {row["message"] for row in theirs} == {"1 left out", "2 left out"}
    for key in keys:
        wiring.objects().delete(key)
    over = NOW + unreadable.MET_WITHIN + timedelta(minutes=6)
    assert round_at(over)["resolved"] >= 4
    assert open_alarms(client, reader, "unreadable_document") == []


def test_a_token_that_invents_boots_leaves_its_neighbours_and_the_receiver_alone(
    client, bearer, reader, webhook, round_at
):
    clock_is_off(client, bearer, "bad", boots=200)
    clock_is_off(client, bearer, *(f"good-{n}" for n in range(5)))
    clock_is_off(client, bearer, "far", cloud="cern")
    told = round_at(NOW)
    alarms = open_alarms(client, reader, "clock_offset")
    assert (len(alarms), told["open"]) == (alarm_round.MOST_OPEN + 2, alarm_round.MOST_OPEN + 2)
    names = [row["subject"] for row in alarms]
    assert all(any(name.startswith(f"good-{n}-") for name in names) for n in range(5))
    assert [row["cloud"] for row in alarms if row["subject"].startswith("far-")] == ["cern"]
    (more,) = (row for row in alarms if row["subject"] == "uvic: more")
    assert more["message"].startswith("155 more clock_offset of uvic")
    assert metric(client, reader, "skytally_alarms_open", kind="clock_offset", cloud="uvic") == [
        alarm_round.MOST_OPEN + 1
    ]
    for minutes in (5, 10):
        assert round_at(NOW + timedelta(minutes=minutes)) == {
            "state": "done",
            "open": alarm_round.MOST_OPEN + 2,
            "raised": 0,
            "resolved": 0,
        }
    clock_is_off(client, bearer, "late")
    assert round_at(NOW + timedelta(minutes=15)) == {
        "state": "done",
        "open": alarm_round.MOST_OPEN + 2,
        "raised": 1,
        "resolved": 0,
    }
    assert any(row["subject"].startswith("late-") for row in open_alarms(client, reader, "clock_offset"))
    assert {body["state"] for body in webhook.heard} == {"raised"}


def fails_on(monkeypatch, index):
    """Let a store's sums of one index fail as no store of ours may."""
    for kind in (SqliteDocuments, SearchDocuments):
        real = kind.table
        monkeypatch.setattr(
            kind, "table", lambda self, query, real=real: 1 / 0 if query.index == index else real(self, query)
        )


def test_a_check_that_crashes_is_an_alarm_and_stops_no_other(client, bearer, reader, round_at, monkeypatch):
    silent(client, bearer, "vm-0")
    round_at(NOW)
    with monkeypatch.context() as broken:
        fails_on(broken, "job")
        silent(client, bearer, "vm-1")
        assert round_at(NOW + timedelta(minutes=5)) == {"state": "done", "open": 4, "raised": 3, "resolved": 0}
    assert [row["subject"] for row in open_alarms(client, reader, "failed_check")] == ["ended jobs", "running jobs"]
    assert len(open_alarms(client, reader, "silent_vm")) == 2
    assert round_at(NOW + timedelta(minutes=10))["resolved"] == 2


def test_a_vm_that_makes_a_check_crash_costs_itself(client, bearer, reader, webhook, round_at, monkeypatch):
    silent(client, bearer, "bad", "good")
    round_at(NOW)
    real = vm_checks.is_silent
    with monkeypatch.context() as broken:
        broken.setattr(vm_checks, "is_silent", lambda usage, now: 1 / 0 if usage.vm == "bad" else real(usage, now))
        silent(client, bearer, "far", cloud="cern")
        told = round_at(NOW + timedelta(minutes=5))
    failed = open_alarms(client, reader, "failed_check")
    found = sorted((row["cloud"], row["subject"].partition(": bad-")[0]) for row in failed)
    assert found == [("uvic", "benchmarks"), ("uvic", "clocks"), ("uvic", "silent vms")]
    assert sorted(row["subject"][:4] for row in open_alarms(client, reader, "silent_vm")) == ["bad-", "far-", "good"]
    assert told["resolved"] == 0
    assert round_at(NOW + timedelta(minutes=10))["resolved"] == 3


def test_broken_site_data_are_alarmed_and_shown_until_they_are_mended(
    client, reader, bearer, home, monkeypatch, round_at, webhook
):
    path = home / "clouds.toml"
    path.write_text('[alarms]\nmuted = ["silent_vm:quiet-*"]\n')
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(path))
    wiring.close()
    silent(client, bearer, "quiet")
    assert (round_at(NOW)["open"], metric(client, reader, "skytally_site_data_failed")) == (0, [0])
    path.write_text('[clouds.uvic]\nowner = "UVic\n')
    assert round_at(NOW + timedelta(minutes=5)) == {"state": "done", "open": 1, "raised": 1, "resolved": 0}
    ((kind, message),) = ((body["kind"], body["message"]) for body in webhook.heard)
    assert (kind, "line 2, clouds.uvic" in message, "UVic" in message) == ("broken_site_data", True, False)
    (row,) = (row for row in health(client, reader)["table"] if row["kind"] == "site_data")
    assert (row["state"], bool(row["since"]), "line 2, clouds.uvic" in row["message"]) == ("failing", True, True)
    (theirs,) = (
        row for row in health(client, bearer("reader", clouds=("cern",)))["table"] if row["kind"] == "site_data"
    )
    assert "uvic" not in theirs["message"]
    assert metric(client, reader, "skytally_site_data_failed") == [1]
    path.write_text('[alarms]\nmuted = ["silent_vm:quiet-*"]\n')
    assert round_at(NOW + timedelta(minutes=10))["resolved"] == 1
    assert not [row for row in health(client, reader)["table"] if row["kind"] == "site_data"]


def test_a_mark_that_cannot_be_read_is_a_contested_secret_where_somebody_proves_the_token(
    client, scheduler, reader, round_at
):
    token = client.post(
        "secret-deposit", json={"vm": "vm-1", "cloud": "uvic", "payload": "eA=="}, headers=scheduler
    ).json()["token"]
    junk(outcomes.outcome_key(*secret_lab.parts(token)))
    assert client.post("secret-claim", data=builders.claim_form(token, builders.public_key())).status_code == 409
    round_at(NOW + timedelta(minutes=1))
    assert len(open_alarms(client, reader, "contested_secret")) == 1
