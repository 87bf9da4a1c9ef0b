"""Alarms: raised once, told until they are heard, resolved by themselves, muted by the site's data."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from skytally.app import wiring
from skytally.deployment.catalog import FUNCTIONS
from tests.support import builders

OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


NOW = datetime.now(UTC).replace(microsecond=0)
pytestmark = pytest.mark.usefixtures("now")


def taken_twice(client, scheduler):
    body = {"vm": "vm-1", "cloud": "uvic", "payload": base64.b64encode(b"x").decode()}
    token = client.post("secret-deposit", json=body, headers=scheduler).json()["token"]
    assert client.post("secret-claim", data=builders.claim_form(token, builders.public_key())).status_code == 200
    assert (
        client.post("secret-claim", data=builders.claim_form(token, builders.public_key(OTHER_KEY))).status_code == 409
    )


def test_a_contested_secret_is_told_once(client, scheduler, webhook, round_at):
    taken_twice(client, scheduler)
    assert round_at(NOW + timedelta(minutes=1)) == {"state": "done", "open": 1, "raised": 1, "resolved": 0}
    assert round_at(NOW + timedelta(minutes=2)) == {"state": "done", "open": 1, "raised": 0, "resolved": 0}
    (told,) = webhook.heard
    assert (told["state"], told["kind"], told["cloud"]) == ("raised", "contested_secret", "uvic")
    assert told["text"].startswith("raised: the secret of vm-1 was taken from testclient")


def test_a_secret_after_which_nobody_reported(client, scheduler, bearer, webhook, round_at):
    body = {"vm": "vm-2", "cloud": "uvic", "payload": "eA=="}
    token = client.post("secret-deposit", json=body, headers=scheduler).json()["token"]
    client.post("secret-claim", data=builders.claim_form(token, builders.public_key()))
    assert round_at(NOW + timedelta(minutes=10))["open"] == 0
    assert round_at(NOW + timedelta(minutes=30))["raised"] == 1
    late = NOW + timedelta(minutes=31)
    vm = builders.FakeVm("vm-2", boot_at=NOW - timedelta(minutes=1))
    client.post(
        "usage-report", json={"samples": [vm.sample(late)]}, headers=bearer("reporter", vm="vm-2", clouds=("uvic",))
    )
    assert round_at(NOW + timedelta(minutes=32))["resolved"] == 1
    assert [(told["kind"], told["state"]) for told in webhook.heard] == [
        ("unreported_secret", "raised"),
        ("unreported_secret", "resolved"),
    ]


def test_how_far_a_boot_is_until_its_vm_reports(client, scheduler, reader, bearer, at):
    def told(moment):
        at(moment)
        (row,) = client.get("dashboard/data?view=secrets&window=day", headers=reader).json()["table"]
        return row["boot"], row["reported"]

    at(NOW)
    body = {"vm": "vm-2", "cloud": "uvic", "payload": "eA=="}
    token = client.post("secret-deposit", json=body, headers=scheduler).json()["token"]
    assert told(NOW + timedelta(minutes=1)) == ("waiting", None)
    client.post("secret-claim", data=builders.claim_form(token, builders.public_key()))
    assert told(NOW + timedelta(minutes=2)) == ("taken", None)
    assert told(NOW + timedelta(minutes=30)) == ("lost", False)
    vm = builders.FakeVm("vm-2", boot_at=NOW - timedelta(minutes=1))
    reporter = bearer("reporter", vm="vm-2", clouds=("uvic",))
    client.post("usage-report", json={"samples": [vm.sample(NOW + timedelta(minutes=30))]}, headers=reporter)
    assert told(NOW + timedelta(minutes=31)) == ("reports", True)


def test_a_host_that_is_not_the_expected_one_takes_the_secret_and_raises_an_alarm(
    client, scheduler, reader, webhook, round_at
):
    body = {"vm": "vm-2", "cloud": "uvic", "payload": "eA==", "hostname": "vm-2.uvic.example.org"}
    token = client.post("secret-deposit", json=body, headers=scheduler).json()["token"]
    key = builders.public_key(comment="root@stranger")
    assert client.post("secret-claim", data=builders.claim_form(token, key)).status_code == 200
    assert round_at(NOW + timedelta(minutes=1))["raised"] == 1
    (told,) = webhook.heard
    assert (told["kind"], told["cloud"]) == ("other_host", "uvic")
    assert "which calls itself root@stranger, not vm-2.uvic.example.org" in told["message"]
    (row,) = client.get("dashboard/data?view=secrets", headers=reader).json()["table"]
    assert row["other_hostname"] == "stranger"


def test_a_silent_vm_and_its_return(client, bearer, webhook, round_at):
    vm, caller = builders.FakeVm("vm-3", boot_at=NOW - timedelta(hours=5)), bearer("reporter", clouds=("uvic",))
    client.post("usage-report", json={"samples": [vm.sample(NOW - timedelta(hours=3))]}, headers=caller)
    assert round_at(NOW)["raised"] == 1
    client.post("usage-report", json={"samples": [vm.sample(NOW)]}, headers=caller)
    assert round_at(NOW + timedelta(minutes=1)) == {"state": "done", "open": 0, "raised": 0, "resolved": 1}
    assert webhook.heard[-1]["resolved_at"]


def test_a_receiver_that_is_away_is_told_later(client, scheduler, webhook, round_at):
    taken_twice(client, scheduler)
    webhook.status = 500
    assert round_at(NOW + timedelta(minutes=1))["error"]["code"] == "unavailable"
    assert webhook.heard == []
    webhook.status = 200
    assert round_at(NOW + timedelta(minutes=2))["raised"] == 1
    assert len(webhook.heard) == 1


def test_health_shows_timers_and_open_alarms_of_the_readers_clouds(
    client, scheduler, reader, bearer, webhook, round_at
):
    before = client.get("dashboard/data?view=health", headers=reader).json()["table"]
    assert {(row["subject"], row["state"]) for row in before} == {
        (function.name, "off" if function.name in {"panda_collect", "dirac_collect"} else None)
        for function in FUNCTIONS
        if function.schedule
    }
    taken_twice(client, scheduler)
    webhook.status = 500
    round_at(NOW + timedelta(minutes=1))
    webhook.status = 200
    failing = client.get("dashboard/data?view=health", headers=reader).json()["table"]
    assert [row["state"] for row in failing if row["subject"] == "alarm_raise"] == ["failing"]
    round_at(NOW + timedelta(minutes=2))
    for clouds, kinds in (((), ["contested_secret"]), (("cern",), [])):
        rows = client.get("dashboard/data?view=health", headers=bearer("reader", clouds=clouds)).json()["table"]
        assert [row["kind"] for row in rows if row["kind"] != "timer"] == kinds
        assert [row["state"] for row in rows if row["subject"] == "alarm_raise"] == ["well"]


def test_what_the_site_mutes_is_not_told(client, scheduler, webhook, round_at, home, monkeypatch):
    (home / "clouds.toml").write_text('[alarms]\nmuted = ["contested_secret:*"]\n')
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()
    taken_twice(client, scheduler)
    assert round_at(NOW + timedelta(minutes=1))["open"] == 0
    assert webhook.heard == []


def test_without_a_webhook_alarms_are_kept_all_the_same(client, scheduler, home, monkeypatch):
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    taken_twice(client, scheduler)
    assert client.post("alarm-raise").json() == {"state": "done", "open": 1, "raised": 1, "resolved": 0}


def test_a_denied_vm_is_shut_out_at_once(client, bearer, home, monkeypatch):
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    (home / "clouds.toml").write_text("[deny]\n")
    wiring.close()
    caller = bearer("reporter", vm="vm-1", clouds=("uvic",))
    report = {"samples": [builders.FakeVm("vm-1").sample(NOW)]}
    assert client.post("usage-report", json=report, headers=caller).status_code == 200
    (home / "clouds.toml").write_text('[deny]\nvms = ["uvic/vm-1"]\n')
    assert client.post("usage-report", json=report, headers=caller).json()["error"]["code"] == "forbidden"


def test_money_and_energy_are_on_the_statement_where_the_site_knows_them(client, bearer, home, monkeypatch):
    (home / "clouds.toml").write_text(
        '[clouds.uvic]\nprice_per_core_hour = 0.5\ncurrency = "CAD"\nwatts_per_core = 10\npue = '
        "1.5\nco2_grams_per_kwh = 100\n"
    )
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    monkeypatch.setattr("skytally.core.clock.now", lambda: now)
    for cloud in ("uvic", "=cmd()"):
        samples = [builders.FakeVm("vm-1", boot_at=now - timedelta(hours=2)).sample(now)]
        caller = bearer("reporter", clouds=(cloud,), issued=now)
        assert client.post("usage-report", json={"samples": samples}, headers=caller).json()["accepted"] == 1
    month, reader = "2026-11", bearer("reader", issued=now)
    rows = {row["cloud"]: row for row in client.get(f"statement?month={month}", headers=reader).json()["clouds"]}
    assert (rows["uvic"]["cost"], rows["uvic"]["currency"]) == (8.0, "CAD")
    assert rows["uvic"]["energy_kwh"] == pytest.approx(0.24)
    assert rows["uvic"]["co2_kg"] == pytest.approx(0.024)
    assert rows["=cmd()"]["cost"] is None
    csv = client.get(f"statement?month={month}&format=csv", headers=reader)
    assert csv.headers["content-type"].startswith("text/csv")
    lines = csv.text.splitlines()
    assert lines[0].startswith("month,cloud,vm_count,boot_count,wall_hours")
    assert lines[1].startswith(f"{month},'=cmd(),1,1,2.0")


def test_a_month_that_begins_within_the_window_and_rows_by_vm(client, bearer, reader):
    for name in ("vm-1", "vm-2"):
        vm = builders.FakeVm(name, boot_at=NOW - timedelta(hours=2))
        client.post(
            "usage-report",
            json={"samples": [vm.sample(NOW)]},
            headers=bearer("reporter", vm=name, clouds=("uvic",), site="Victoria"),
        )
    data = client.get("dashboard/data?by=vm&site=Victoria", headers=reader).json()
    assert [(row["cloud"], row["vm"], row["core_hours"]) for row in data["table"]] == [
        ("uvic", "vm-1", 16.0),
        ("uvic", "vm-2", 16.0),
    ]
    assert len(client.get("dashboard/data?by=vm&vm=vm-2", headers=reader).json()["table"]) == 1
    assert client.get("dashboard/data?site=CERN", headers=reader).json()["table"] == []
    assert client.get("dashboard/data?by=nothing", headers=reader).json()["error"]["field"] == "by"
