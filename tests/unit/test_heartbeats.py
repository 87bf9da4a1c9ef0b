"""Heartbeats: which ids are taken, and that what a vm said last is what is kept, however its reports arrive."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core import records
from skytally.core.documents import Heartbeat
from skytally.core.errors import NotYours
from skytally.jobs import heartbeats
from tests.support import builders
from tests.support.dirac_lab import AT, CALLER, HOUR, MINUTE, Door, beat, job, settle, state

WRONG = ["0", "-1", "007", "12 34", "9" * 20, "../1", "", "1\n", "１２", "1e3", 5, None, ["1"], {"id": "1"}, str(2**63)]


def kept(documents, vm="vm-1"):
    return documents.get("heartbeat", f"1@{vm}@uvic", Heartbeat)


def test_a_job_shows_as_soon_as_a_vm_names_it(documents):
    assert beat(documents, "1", "2").accepted == 2
    assert (job(documents).status, job(documents).cloud, job(documents).vm, job(documents).final_at) == (
        "Running",
        "uvic",
        "vm-1",
        None,
    )


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_an_id_that_is_none_is_refused_by_itself(documents, wrong):
    told = beat(documents, "76", wrong, "77")
    assert (told.accepted, [(one.index, one.code) for one in told.rejected]) == (2, [(1, "malformed_job")])
    assert job(documents, "76")
    assert job(documents, "77")


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_every_id_that_dirac_may_give_is_taken_as_it_writes_it(number):
    assert heartbeats.is_job_id(str(number))
    assert not any(
        heartbeats.is_job_id(text) for text in (f"0{number}", f"+{number}", f" {number}", f"-{number}", f"{number}.0")
    )


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=builders.ANY_JSON)
@example(value="1e400")
def test_any_value_among_the_jobs_leaves_the_others_alone(documents, value):
    body = f'{{"vm": "vm-1", "jobs": ["760001", {value}, "760002"]}}'
    told = heartbeats.record(records.parse(body.encode(), records.HeartbeatReport), CALLER, documents, AT)
    assert [(one.index, one.code) for one in told.rejected] in ([], [(1, "malformed_job")])
    assert told.accepted == 3 - len(told.rejected)
    assert documents.get("heartbeat", "760001@vm-1@uvic", Heartbeat)
    assert job(documents, "760002")


def test_a_crash_costs_its_own_job_and_stores_nothing_of_it(documents, monkeypatch, caplog):
    real = heartbeats._continued
    monkeypatch.setattr(
        heartbeats, "_continued", lambda beat, *more: real(beat, *more) if beat.job_id != "2" else 1 / 0
    )
    told = beat(documents, "1", "2", "3")
    assert (told.accepted, [(one.index, one.code) for one in told.rejected]) == (2, [(1, "internal")])
    assert caplog.records[0].msg["incident"] in told.rejected[0].message
    assert {one.job_id for _, one in documents.find("heartbeat", Heartbeat, {})} == {"1", "3"}
    assert job(documents, "2") is None


def test_one_id_many_times_is_one_job(documents):
    assert beat(documents, "1", "1", "1").accepted == 1


def test_the_last_time_seen_never_goes_back(documents):
    beat(documents, "1", at=2)
    assert beat(documents, "1", at=1).stale == 1
    assert (kept(documents).first_seen_at, kept(documents).last_seen_at) == (AT + 2 * HOUR, AT + 2 * HOUR)


def test_the_same_again_changes_nothing(documents):
    beat(documents, "1")
    before = kept(documents), job(documents)
    assert beat(documents, "1").accepted == 1
    assert (kept(documents), job(documents)) == before


@pytest.mark.slow
@settings(max_examples=25)
@given(times=st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_in_any_order_the_newest_is_kept(tmp_path_factory, times):
    documents = SqliteDocuments(tmp_path_factory.mktemp("order") / "d.sqlite")
    seen = []
    for minutes in times:
        beat(documents, "1", at=minutes / 60)
        seen.append(kept(documents).last_seen_at)
    assert seen == [AT + timedelta(hours=max(times[: n + 1]) / 60) for n in range(len(times))]
    documents.close()


def test_times_are_the_servers_and_the_vms_own_are_kept_as_claimed(documents):
    claimed = AT + 2 * HOUR
    heartbeats.record(builders.heartbeat("1", seen_at=claimed), CALLER, documents, AT)
    assert (kept(documents).last_seen_at, kept(documents).claimed_at, job(documents).seen_at) == (AT, claimed, AT)


@pytest.mark.parametrize(
    ("late", "seen_hours_ago"),
    [(timedelta(minutes=4), 0), (6 * MINUTE, 0.1), (47 * HOUR, 47), (72 * HOUR, 72), (73 * HOUR, 0), (-2 * HOUR, 0)],
)
def test_what_a_vm_tells_late_is_seen_when_it_says_and_a_wrong_clock_is_not_believed(documents, late, seen_hours_ago):
    report = builders.heartbeat("1", seen_at=AT - late)
    assert heartbeats.record(report, CALLER, documents, AT).accepted == 1
    seen_at = AT - seen_hours_ago * HOUR
    assert (kept(documents).first_seen_at, kept(documents).last_seen_at, job(documents).started_at) == (seen_at,) * 3


def test_what_is_told_late_is_no_pause(documents):
    beat(documents, "1")
    settle(documents, Door(state("Running")), 0.1)
    for quarter in range(1, 9):
        beat(documents, "1", at=quarter / 4, told=2)
    assert (kept(documents).noted, kept(documents).last_seen_at, kept(documents).paused_at) == (
        "running",
        AT + 2 * HOUR,
        None,
    )


def test_what_was_taken_and_is_told_again_changes_nothing(documents):
    """The answer was lost, not the report."""
    beat(documents, "1")
    beat(documents, "1", at=1)
    before = kept(documents), job(documents)
    assert beat(documents, "1", at=0.99, told=1.25).stale == 1
    assert (kept(documents), job(documents)) == before


def test_only_about_the_vm_that_the_token_names_or_any_of_its_cloud(documents):
    with pytest.raises(NotYours):
        beat(documents, "1", vm="vm-2", caller=structs.replace(CALLER, vm="vm-1"))
    assert kept(documents, "vm-2") is None
    assert beat(documents, "1", vm="vm-2").accepted == 1


def test_two_vms_that_name_one_job_are_both_kept(documents):
    beat(documents, "1", vm="vm-1")
    beat(documents, "1", vm="vm-2", at=0.5)
    assert {beat.vm for _, beat in documents.find("heartbeat", Heartbeat, {"job_id": ["1"]})} == {"vm-1", "vm-2"}


def test_a_run_goes_on_until_it_is_over_and_then_another_begins(documents):
    beat(documents, "1", "2", at=0)
    beat(documents, "1", at=0.25)
    assert (kept(documents).noted, kept(documents).first_seen_at, kept(documents).named_together) == ("new", AT, 2)
    settle(documents, Door(state("Done", ended=0.3)), 2)
    assert kept(documents).noted == "over"
    beat(documents, "1", at=3)
    assert (kept(documents).noted, kept(documents).first_seen_at, kept(documents).named_together) == (
        "after_end",
        AT + 3 * HOUR,
        1,
    )
