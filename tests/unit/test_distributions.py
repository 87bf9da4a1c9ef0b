"""Buckets and outcomes: what each job document keeps of them follows from its other fields."""

import contextlib
import sqlite3

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.cli import cli
from skytally.core.distributions import BUCKET_FIELDS, DISTRIBUTIONS
from skytally.core.documents import Job
from skytally.core.job_outcomes import STATUSES, outcome_of
from skytally.core.ports import Write
from skytally.jobs import dirac_state, panda_rows
from tests.support.documents import done
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


def test_a_copy_has_the_buckets_of_jobs_that_an_earlier_version_stored(tmp_path, home):
    paths = [tmp_path / name for name in ("old.sqlite", "new.sqlite")]
    with contextlib.closing(SqliteDocuments(paths[0])) as old:
        done(old, Write("job", "panda/1", 1, job("1", wall_ms=3_600_000)))
    with contextlib.closing(sqlite3.connect(paths[0])) as file, file:
        file.execute("UPDATE job SET run_seconds_from = NULL, finished_count = NULL")
    told = CliRunner().invoke(cli, ["copy", "--from", f"sqlite:///{paths[0]}", "--to", f"sqlite:///{paths[1]}"])
    assert told.exit_code == 0, told.output
    with contextlib.closing(sqlite3.connect(paths[1])) as file:
        assert file.execute("SELECT run_seconds_from, finished_count FROM job").fetchall() == [(3_600, 1)]


def test_every_distribution_has_a_field_and_every_final_status_an_outcome():
    assert set(BUCKET_FIELDS.values()) <= set(Job.__struct_fields__)
    final = {*panda_rows.FINAL, *panda_rows.WELL, *dirac_state.FINAL, *dirac_state.FINAL_AFTER_A_DAY}
    assert final | {dirac_state.UNKNOWN_STATUS} == {status for statuses in STATUSES.values() for status in statuses}
    assert {*panda_rows.WELL, *dirac_state.WELL} == set(STATUSES["finished"])
    assert outcome_of("failed", is_final=False) == "other"
