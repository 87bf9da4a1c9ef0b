"""One row of a source: whatever it is, the jobs of the others are as they would be without it."""

import itertools
import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.core.documents import Job, Unreadable
from skytally.core.ports import JobState, UnreadState
from skytally.jobs import dirac_rows, foreign_values, panda_collector, panda_rows
from skytally.operation.timer import Deadline
from tests.support.builders import ANY_JSON
from tests.support.dirac_lab import AT, HOUR, OURS, Door, beat, job, settle, state

NUMBERS = itertools.count(7_300_001, 10)
QUIET = [HealthCheck.function_scoped_fixture]
STAMP = "2026-11-25T11:30:00"


class Rows:
    """A source with these rows, whatever is asked."""

    def __init__(self, rows):
        self._rows = rows

    def rows(self, _):
        return self._rows


def read(text):
    """Read a row as doors read it."""
    return foreign_values.parsed(text.encode())


def panda_row(number, status="finished"):
    times = dict.fromkeys(("modificationtime", "statechangetime", "endtime"), STAMP) | {
        "starttime": "2026-11-25T11:00:00"
    }
    known = {
        "pandaid": number,
        "jobstatus": status,
        "computingsite": "A",
        "durationsec": 1_800,
        "modificationhost": "vm-1",
    }
    return dict.fromkeys(panda_rows.FIELDS) | known | times


def collected(documents, rows):
    """Do a round; answer its counts."""
    return panda_collector.Collection(
        Rows(rows), ("A",), documents, Deadline(lambda: AT, AT + timedelta(minutes=1))
    ).run()


@settings(max_examples=150, suppress_health_check=QUIET)
@given(column=st.sampled_from([*panda_rows.FIELDS, None]), value=ANY_JSON, at=st.integers(0, 2))
@example(column="pandaid", value="true", at=0)
@example(column="statechangetime", value='"9999-12-31T23:59:59"', at=0)
def test_any_value_in_any_column_of_panda_leaves_the_other_jobs_alone(documents, column, value, at):
    first = next(NUMBERS)
    odd = json.dumps(panda_row(first + 2, "failed") | ({} if column is None else {column: "VALUE"})).replace(
        '"VALUE"', value
    )
    rows = [panda_row(first), panda_row(first + 1)]
    rows.insert(at, read(value if column is None else odd))
    counts = collected(documents, rows)
    assert counts["failed_queues"] == 0
    for number in (first, first + 1):
        known = documents.get("job", f"panda/{number}", Job)
        assert known == panda_rows.job(panda_row(number), AT)
    if column not in {None, "pandaid", "modificationtime"}:
        assert counts["unreadable"] == 0
        assert documents.get("job", f"panda/{first + 2}", Job).changed_at <= AT


COLUMNS = [field for field in JobState.__struct_fields__ if field != "job_id"]
TIMES = {
    "last_update_at": "2026-11-25T12:30:00",
    "started_at": "2026-11-25T12:00:00Z",
    "ended_at": "2026-11-25 12:30:00",
}


def dirac_row(number):
    return dict.fromkeys(COLUMNS) | {"job_id": number, "status": "Done", "site": OURS, "reschedule_count": 0} | TIMES


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=QUIET)
@given(column=st.sampled_from([*COLUMNS, "job_id", None]), value=ANY_JSON, at=st.integers(0, 2))
@example(column="ended_at", value='"9999-12-31T23:59:59"', at=0)
@example(column="rescheduled_at", value='"2099-12-31T23:59:59"', at=0)
def test_any_value_in_any_column_of_dirac_leaves_the_other_jobs_alone(documents, column, value, at):
    first = next(NUMBERS)
    odd = json.dumps(dirac_row(first + 2) | ({} if column is None else {column: "VALUE"})).replace('"VALUE"', value)
    rows = [dirac_row(first), dirac_row(first + 1)]
    rows.insert(at, read(value if column is None else odd))
    numbers = [first, first + 1, first + 2]
    beat(documents, *map(str, numbers))
    door = Door()
    door.states = lambda job_ids: dirac_rows.states(
        set(job_ids), [row for row in rows if row is not None or column is None]
    )
    settle(documents, door, 2)
    for number in numbers[:2]:
        made = job(documents, str(number))
        assert (made.status, made.final_at, made.wall_ms) == ("Done", AT + HOUR / 2, 1_800_000)
    third = job(documents, str(first + 2))
    assert (third.final_at or AT) <= AT + 26 * HOUR
    if third.status != "Running":
        assert documents.get("job", f"dirac/{first + 2}", Job) == third


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("nan"), float("inf"), True, "\ud800", b"1", object(), {}, "9" * 10**6]
)
def test_no_value_of_any_kind_raises(value):
    read = (
        foreign_values.number,
        foreign_values.whole_number,
        foreign_values.identity,
        lambda it: foreign_values.moment(it, AT),
    )
    assert [one(value) for one in read] in ([None] * 4, [1.0, 1, None, None])
    assert not (foreign_values.word(value) or "").encode("ascii", "replace").count(b"?")


def test_where_a_row_is_nobody_s_nobody_is_unknown_to_dirac():
    read = dirac_rows.states({1, 2}, [dirac_row(1), dirac_row(3)])
    assert (read[1].status, read[2]) == ("Done", UnreadState("row 1", "a row that names no job that was asked about"))


class TestUnread:
    """A job of which DIRAC says something that cannot be read."""

    def test_stays_as_it_is_and_is_noted_and_is_never_unknown_to_dirac(self, documents):
        beat(documents, "1", "2", "3")
        door = Door(state(ended=0.5), state(ended=0.5, job_id=2))
        door.known[1] = UnreadState("1", "a job without a status")
        before = job(documents)
        for at in (2, 26, 50):
            assert settle(documents, door, at)["unreadable"] == 1
        assert (job(documents), job(documents, "2").status, job(documents, "3").status) == (
            before,
            "Done",
            "unknown_to_dirac",
        )
        noted = [
            (one.kind, one.source, one.key_text, one.reason) for _, one in documents.find("unreadable", Unreadable, {})
        ]
        assert noted == [("row", "dirac", "1", "a job without a status")]
        door.known[1] = state(ended=0.5)
        settle(documents, door, 51)
        assert job(documents).status == "Done"

    def test_is_read_as_if_times_in_the_future_were_not_told(self, documents):
        beat(documents, "1", "2")
        far = {"last_update_at": AT + 2 * HOUR, "heartbeat_at": AT + 99 * HOUR}
        moved = structs.replace(state(job_id=2, moved=1), rescheduled_at=AT + 99 * HOUR)
        assert settle(documents, Door(state(ended=99, **far), moved), 2)["unreadable"] == 1
        assert (job(documents).final_at, job(documents, "2").status) == (AT + 2 * HOUR, "Running")


@pytest.mark.parametrize("column", ["final_at", "changed_at", "started_at", "ended_at", "seen_at"])
def test_what_is_stored_of_the_future_is_noted_and_made_anew(documents, tmp_path, column):
    beat(documents, "1", "2")
    with closing(sqlite3.connect(tmp_path / "documents.sqlite")) as file, file:
        file.execute(f"UPDATE job SET {column} = 5680281600000 WHERE job_id = '1'")
    assert settle(documents, Door(state(ended=0.5), state(ended=0.5, job_id=2)), 2) == {
        "running": 0,
        "asked": 2,
        "final": 2,
        "unreadable": 1,
    }
    assert structs.replace(job(documents), job_id="2") == job(documents, "2")
    assert [(one.kind, one.key_text) for _, one in documents.find("unreadable", Unreadable, {})] == [
        ("document", "dirac/1")
    ]


def test_runs_that_cannot_be_read_cost_their_own_job(documents, tmp_path):
    beat(documents, "1", "2")
    with closing(sqlite3.connect(tmp_path / "documents.sqlite")) as file, file:
        file.execute("UPDATE job SET runs = '[{' WHERE job_id = '1'")
    assert settle(documents, Door(state(ended=0.5), state(ended=0.5, job_id=2)), 2) == {
        "running": 0,
        "asked": 2,
        "final": 1,
        "unreadable": 1,
    }
    assert (job(documents).status, job(documents, "2").status) == ("Running", "Done")


def test_a_heartbeat_of_no_job_costs_itself(documents, tmp_path):
    beat(documents, "1", "2")
    with closing(sqlite3.connect(tmp_path / "documents.sqlite")) as file, file:
        file.execute("UPDATE heartbeat SET job_id = 'one' WHERE job_id = '1'")
    assert settle(documents, Door(state(ended=0.5, job_id=2)), 2)["final"] == 1
    assert [(one.kind, one.source) for _, one in documents.find("unreadable", Unreadable, {})] == [
        ("document", "heartbeat")
    ]
