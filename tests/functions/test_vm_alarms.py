"""Wrong clocks, benchmarks that nobody can believe, and disks that fill up:
raised once, without flapping, resolved by themselves.
"""

import shutil
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from skytally.alarms import vm_checks
from skytally.alarms.service_checks import full_stores
from skytally.app import wiring
from skytally.core.documents import Alarm, Usage
from skytally.core.ports import DiskUsage
from tests.support import builders

NOW = datetime.now(UTC).replace(microsecond=0)
pytestmark = pytest.mark.usefixtures("now")
MINUTE = timedelta(minutes=1)


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def report(client, bearer):
    """Let a vm report a sample."""

    def send(vm, at, **more):
        headers = bearer("reporter", vm=vm.vm, clouds=("uvic",), flavor="c8")
        answer = client.post("usage-report", json={"samples": [vm.sample(at, **more)]}, headers=headers)
        assert answer.json().get("accepted") == 1, answer.text

    return send


def states(webhook, kind):
    return [body["state"] for body in webhook.heard if body["kind"] == kind]


def test_a_clock_that_hovers_about_the_limit_makes_one_alarm(report, webhook, round_at):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=1))
    for minutes, offset, told in (
        (0, 59, []),
        (5, -61, ["raised"]),
        (10, -45, []),
        (15, 61, []),
        (20, 31, []),
        (25, 2, []),
        (30, -31, []),
    ):
        at, before = NOW + minutes * MINUTE, len(webhook.heard)
        report(vm, at, clock_offset_seconds=offset)
        round_at(at)
        assert [body["state"] for body in webhook.heard[before:]] == told, minutes
    assert "off by -61 s" in webhook.heard[0]["message"]
    report(vm, NOW + 35 * MINUTE, clock_offset_seconds=0)
    round_at(NOW + 59 * MINUTE)
    assert states(webhook, "clock_offset") == ["raised"]
    round_at(NOW + 60 * MINUTE)
    assert states(webhook, "clock_offset") == ["raised", "resolved"]


@pytest.mark.parametrize(
    ("last", "hours_later", "is_silent"),
    [
        ("2026-10-31T22:30:00", 2.1, True),
        ("2026-10-31T22:30:00", 1.9, False),
        ("2026-10-31T12:00:00", 3.0, True),
        ("2026-11-01T00:00:00", 2.1, True),
    ],
)
def test_a_vm_that_dies_at_the_end_of_a_month_is_silent_in_the_next(last, hours_later, is_silent):
    last_at = datetime.fromisoformat(f"{last}+00:00")
    blank = dict.fromkeys(Usage.__struct_fields__, 0)
    names = {"vm": "vm-1", "label": "vm-1-a", "cloud": "uvic", "month": "2026-10", "final": False}
    usage = Usage(**blank | names | {"last_sampled_at": last_at})
    found = list(vm_checks.silent_vms([usage], last_at + timedelta(hours=hours_later)))
    assert [finding.kind for finding in found] == ["silent_vm"] * is_silent


def test_a_vm_that_reports_after_its_memory_snapshot_was_restored_is_not_silent(
    report, webhook, round_at, client, bearer, at
):
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    at(now)
    vm = builders.FakeVm("vm-1", boot_at=now - timedelta(hours=9))
    report(vm, now - timedelta(hours=4))
    back = vm.sample(now - timedelta(hours=6)) | {"sampled_at": builders.stamp(now), "previous": None}
    told = client.post(
        "usage-report", json={"samples": [back]}, headers=bearer("reporter", vm="vm-1", clouds=("uvic",), flavor="c8")
    )
    assert told.json()["stale"] == 1
    round_at(now)
    assert webhook.heard == []
    round_at(now + timedelta(hours=3))
    assert states(webhook, "silent_vm") == ["raised"]


def test_a_vm_that_booted_again_without_a_last_report_is_not_silent(report, webhook, round_at):
    report(builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=9)), NOW - timedelta(hours=5))
    round_at(NOW)
    assert states(webhook, "silent_vm") == ["raised"]
    again = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=1))
    report(again, NOW)
    round_at(NOW + MINUTE)
    assert states(webhook, "silent_vm") == ["raised", "resolved"]
    round_at(NOW + timedelta(hours=3))
    assert states(webhook, "silent_vm") == ["raised", "resolved", "raised"]
    assert webhook.heard[-1]["subject"].startswith(f"vm-1-{again.boot_at:%Y%m%dT%H%M%SZ}")


def test_a_clock_far_ahead_is_told_although_it_did_not_say_so(report, webhook, round_at):
    report(builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=1)), NOW + 6 * MINUTE)
    round_at(NOW)
    assert states(webhook, "clock_offset") == ["raised"]
    assert "ahead of the server" in webhook.heard[0]["message"]


def test_a_benchmark_in_quarantine_until_a_person_confirms_it(report, webhook, round_at, home, monkeypatch):
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    (home / "clouds.toml").write_text("[deny]\n")
    wiring.close()
    vms = [builders.FakeVm(f"vm-{n}", boot_at=NOW - timedelta(hours=1)) for n in range(4)]
    for vm, score in zip(vms, (10.0, 10.5, 9.5, 30.0), strict=True):
        report(vm, NOW, benchmark={"kernel": "zbs", "score_hs23": score})
    round_at(NOW)
    (raised,) = webhook.heard
    assert (raised["kind"], raised["subject"].startswith("vm-3-")) == ("benchmark_quarantine", True)
    assert "says 30 HS23 a core, which is not believed, and the 10.25 of others like it counts" in raised["message"]
    (home / "clouds.toml").write_text(f'[benchmarks]\nconfirmed_boots = ["{vms[3].boot_id}"]\n')
    wiring.close()
    assert round_at(NOW + MINUTE)["resolved"] == 1


def test_a_vm_that_ends_takes_its_alarms_with_it(report, webhook, round_at):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=1))
    report(vm, NOW, clock_offset_seconds=600)
    assert round_at(NOW)["raised"] == 1
    report(vm, NOW + MINUTE, clock_offset_seconds=600, final=True)
    assert round_at(NOW + 30 * MINUTE)["resolved"] == 1


def test_a_full_disk_is_told_once_and_is_over_when_there_is_room_again(client, webhook, round_at, monkeypatch):
    gib = 1_024**3
    for minutes, free in ((0, 9), (5, 11), (10, 9), (15, 60)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Disk(200 * gib, 0, free * gib))
        round_at(NOW + minutes * MINUTE)
    assert states(webhook, "store_nearly_full") == ["raised", "raised"]
    assert {body["subject"] for body in webhook.heard} == {"the disk of the documents", "the disk of the objects"}
    assert "has 9.0 of 200.0 GiB left" in webhook.heard[0]["message"]
    assert round_at(NOW + 40 * MINUTE)["resolved"] == 2
    assert [alarm.state for _, alarm in wiring.documents().find("alarm", Alarm, {})] == ["resolved", "resolved"]


def test_how_much_room_a_disk_needs():
    gib = 1_024**3
    assert [
        one.subject
        for one in full_stores(
            [DiskUsage.of_disk("small", 4 * gib, 50 * gib), DiskUsage.of_disk("ok", 6 * gib, 50 * gib)], ()
        )
    ] == ["small"]
    assert [one.subject for one in full_stores([DiskUsage.of_disk("ok", 6 * gib, 50 * gib)], ["ok"])] == ["ok"]
    assert [one.subject for one in full_stores([DiskUsage.of_disk("large", 11 * gib, 4_000 * gib)], ())] == []
