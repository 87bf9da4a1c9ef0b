"""What the scale bench sends: every sample once, in thousands of one cloud or apart."""

from datetime import UTC, datetime, timedelta

import pytest

from localstack import fleet
from tests.bench import fleet_points

UNTIL = datetime(2026, 11, 12, 12, tzinfo=UTC)


@pytest.mark.parametrize("hours", [3, 20])
def test_every_sample_is_sent_once(hours, monkeypatch):
    monkeypatch.setattr(fleet_points, "BATCH", 100)
    boots = fleet.make(150, hours / 24, UNTIL, seed=1)
    apart = {vm.boot_id for vm in boots[::3]}
    thousands = list(fleet_points.in_thousands(boots, apart, UNTIL))
    sent = [(sample["boot_id"], sample["sampled_at"]) for _, batch in thousands for sample in batch]
    lasts = [vm for vm in boots if vm.boot_id in apart]
    sent += [(vm.boot_id, list(vm.samples(UNTIL))[-1]["sampled_at"]) for vm in lasts]
    assert sorted(sent) == sorted((vm.boot_id, sample["sampled_at"]) for vm in boots for sample in vm.samples(UNTIL))
    cloud_of = {vm.boot_id: vm.cloud for vm in boots}
    assert all({cloud_of[sample["boot_id"]] for sample in batch} == {cloud} for cloud, batch in thousands)


def test_requests_are_held_in_parts_of_some_bytes(monkeypatch):
    monkeypatch.setattr(fleet_points, "HELD_BYTES", 10)
    posts = [b"x" * 4] * 7
    assert [len(part) for part in fleet_points.held(posts)] == [3, 3, 1]


def test_a_boot_of_an_empty_life_sends_nothing():
    vm = fleet.Vm("vm", "uvic", 8, 80, UNTIL, None, UNTIL - timedelta(hours=1))
    assert list(fleet_points.in_thousands([vm], set(), UNTIL)) == []
