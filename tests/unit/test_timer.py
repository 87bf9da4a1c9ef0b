"""Timers: one round a slot, whoever calls and how often; a round that fails is on record, and one that was killed is over in time."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from skytally import timer
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.documents import Round
from skytally.errors import Malformed, Unavailable

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def documents(tmp_path):
    documents = SqliteDocuments(tmp_path / "documents.sqlite")
    yield documents
    documents.close()


def run(documents, at=NOW, work=lambda: {"count": 1}):
    return timer.run("sweep", work, documents, 60, lambda: at)


def test_a_round_and_the_next(documents):
    assert run(documents) == {"state": "done", "count": 1}
    assert run(documents, NOW + timedelta(seconds=59)) == {"state": "not_due"}
    assert run(documents, NOW + timedelta(seconds=60)) == {"state": "done", "count": 1}


def test_of_many_callers_one_works(documents):
    done = []
    with ThreadPoolExecutor(16) as callers:
        states = list(callers.map(lambda _: run(documents, work=lambda: done.append(1) or {})["state"], range(64)))
    assert len(done) == 1
    assert states.count("done") == 1
    assert set(states) <= {"done", "busy", "not_due"}


def test_a_failure_is_on_record_and_the_last_success_too(documents):
    def fail():
        raise Unavailable("the source is away")

    run(documents)
    with pytest.raises(Unavailable):
        run(documents, NOW + timedelta(minutes=2), fail)
    last = documents.get("round", "sweep", Round)
    assert (last.error, last.succeeded_at) == ("the source is away", NOW)
    assert run(documents, NOW + timedelta(minutes=4))["state"] == "done"


def test_a_crash_is_a_failed_round_with_an_incident_and_the_next_is_due_as_usual(documents, caplog):
    def crash():
        raise RuntimeError("the password is hunter2")

    with pytest.raises(Unavailable) as failure:
        run(documents, NOW, crash)
    last = documents.get("round", "sweep", Round)
    assert (last.finished_at, last.succeeded_at, last.error) == (NOW, None, failure.value.message)
    incident = re.search(r"incident ([0-9a-f]{16})$", last.error)[1]
    assert [record.msg["kind"] for record in caplog.records if record.msg.get("incident") == incident] == ["RuntimeError"]
    assert "hunter2" not in last.error + caplog.text
    assert run(documents, NOW + timedelta(seconds=59))["state"] == "not_due"
    assert run(documents, NOW + timedelta(seconds=60))["state"] == "done"
    assert documents.get("round", "sweep", Round).error is None


def test_a_setting_that_is_wrong_is_named_and_is_the_server_s_own_fault(documents):
    def refuse():
        raise Malformed("setting X: names no queue")

    with pytest.raises(Unavailable, match="setting X: names no queue"):
        run(documents, NOW, refuse)
    assert documents.get("round", "sweep", Round).error == "setting X: names no queue"


def test_a_round_that_was_killed_is_over_in_time(documents):
    class Killed(BaseException):
        """The process is gone."""

    def die():
        raise Killed

    with pytest.raises(Killed):
        run(documents, NOW, die)
    assert run(documents, NOW + timedelta(minutes=9))["state"] == "busy"
    assert run(documents, NOW + timedelta(minutes=11))["state"] == "done"
