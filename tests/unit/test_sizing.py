"""The sizing model: what vms cost, by the costs of their reports and documents."""

import dataclasses
from pathlib import Path

import pytest

from tests.bench.sizing import COSTS, Costs, cost_row, error_percent, fitted, needs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "maintain.md"

ROUND_COSTS = Costs(
    interval_bytes=400, boot_bytes=1_000, single_cpu_seconds=0.001, batched_cpu_seconds=1, base_mib=100, boot_kib=2
)


def test_needs_grow_with_vms_and_reports():
    one_an_hour = needs(10_000, 1, ROUND_COSTS)
    assert one_an_hour.bytes_a_month == 10_000 * (720 * 400 + 1_000)
    assert one_an_hour.cores == pytest.approx(10_000 / 3_600 * 0.001)
    assert one_an_hour.memory_mib == pytest.approx(100 + 10_000 * 2 / 1_024)
    assert needs(10_000, 4, ROUND_COSTS).cores == pytest.approx(4 * one_an_hour.cores)


def test_a_vm_that_boots_often_costs_more_boots_but_no_more_intervals():
    often, once = (needs(10, 1, ROUND_COSTS, boots) for boots in (30, 1))
    assert often.bytes_a_month - once.bytes_a_month == 10 * 29 * 1_000
    assert often.cores == once.cores


def test_costs_by_two_points_meet_both_memories_and_the_larger_points_rest():
    by_few, by_many = (dataclasses.replace(ROUND_COSTS, base_mib=mib, interval_bytes=mib) for mib in (120, 300))
    costs = fitted((1_000, by_few), (10_000, by_many))
    assert [costs.memory_mib(boots) for boots in (1_000, 10_000)] == [pytest.approx(120), pytest.approx(300)]
    assert costs.interval_bytes == 300
    assert fitted((1_000, by_few), (1_000, by_few)).memory_mib(1_000) == 120


@pytest.mark.parametrize(("expected", "measured", "percent"), [(110, 100, 10), (75, 100, -25), (3, 3, 0)])
def test_an_error_is_a_share_of_what_was_measured(expected, measured, percent):
    assert error_percent(expected, measured) == pytest.approx(percent)


@pytest.mark.parametrize("store", COSTS)
def test_a_batched_sample_costs_less_than_a_report_of_its_own(store):
    assert COSTS[store].batched_cpu_seconds < COSTS[store].single_cpu_seconds


@pytest.mark.parametrize("store", COSTS)
def test_the_page_for_operators_has_the_same_costs(store):
    assert f"| {' | '.join(cost_row(store, COSTS[store]))} |" in PAGE.read_text()
