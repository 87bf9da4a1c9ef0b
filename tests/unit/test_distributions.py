"""Buckets and outcomes: what each job document keeps of them follows from its other fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from skytally.core.distributions import BUCKET_FIELDS, DISTRIBUTIONS
from skytally.core.documents import Job
from skytally.core.job_outcomes import STATUSES, outcome_of
from skytally.jobs import dirac_state, panda_rows
from tests.support.placements import job


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_buckets_are_some_and_leave_no_gap(name):
    spans = DISTRIBUTIONS[name].spans()
    assert 20 <= len(spans) <= 40
    assert [end for _, end in spans[:-1]] == [begin for begin, _ in spans[1:]]
    assert all(begin < end for begin, end in spans[:-1])
    assert (spans[0][0], spans[-1][1]) == (0, None)


@given(st.sampled_from(sorted(DISTRIBUTIONS)), st.integers(-10, 10**13) | st.floats(0, 2))
def test_a_value_is_in_its_bucket(name, value):
    distribution = DISTRIBUTIONS[name]
    begin = distribution.bucket_of(value)
    if value < 0:
        assert begin is None
    else:
        end = dict(distribution.spans())[begin]
        assert begin <= value
        assert end is None or value < end


def test_what_a_job_keeps_follows_it_through_every_change():
    ended = job("1", status="failed", final_at=job("1").changed_at, wall_ms=3_600_000, cpu_ms=1, core_ms_with_cpu=20)
    assert (ended.failed_count, ended.finished_count, ended.run_seconds_from, ended.efficiency_from) == (
        1,
        0,
        3_600,
        0.05,
    )
    going_on = structs.replace(ended, final_at=None, wall_ms=0, core_ms_with_cpu=0)
    assert (going_on.failed_count, going_on.run_seconds_from, going_on.efficiency_from) == (0, None, None)


def test_every_distribution_has_a_field_and_every_final_status_an_outcome():
    assert set(BUCKET_FIELDS.values()) <= set(Job.__struct_fields__)
    final = {*panda_rows.FINAL, *panda_rows.WELL, *dirac_state.FINAL, *dirac_state.FINAL_AFTER_A_DAY}
    assert final | {dirac_state.UNKNOWN_STATUS} == {status for statuses in STATUSES.values() for status in statuses}
    assert {*panda_rows.WELL, *dirac_state.WELL} == set(STATUSES["finished"])
    assert outcome_of("failed", is_final=False) == "other"
