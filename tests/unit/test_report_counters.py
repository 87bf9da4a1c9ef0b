"""Tallies: every report counts once, whatever became of it, and none waits for its count or fails with it."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from skytally.core.documents import Label, Tally
from skytally.core.errors import Malformed, Unavailable
from skytally.core.ports import Write
from skytally.core.records import Receipt, Rejection
from skytally.operation.report_counters import KEPT_EVERY, Tallies

NOW = datetime(2026, 11, 25, 12, 59, 50, tzinfo=UTC)


def report(tallies, at=NOW, error=None, receipt=None):
    with tallies.report("usage_report", at) as count_items:
        if error is not None:
            raise error
        count_items(receipt or Receipt(accepted=2, stale=1, rejected=[Rejection(0, "x", "y")], server_time=at))


def kept(documents):
    documents.write([Write("label", "behind all others", 0, Label(boot_id="x"))]).result()
    return sorted((tally for _, tally in documents.find("tally", Tally, {})), key=lambda tally: tally.hour_at)


def test_each_outcome_counts_and_the_error_goes_on(documents):
    tallies = Tallies(lambda: documents)
    for error in (Malformed("m"), Unavailable("u"), ZeroDivisionError("c")):
        with pytest.raises(type(error)):
            report(tallies, error=error)
    report(tallies, NOW + KEPT_EVERY / 2)
    (first,) = kept(documents)
    assert (first.refused, first.answered, first.unavailable) == (1, 0, 0)
    report(tallies, NOW + KEPT_EVERY * 0.9)
    report(tallies, NOW + KEPT_EVERY)
    old, new = kept(documents)
    assert (old.answered, old.refused, old.unavailable, old.crashed) == (2, 1, 1, 1)
    assert (old.accepted, old.stale, old.rejected) == (4, 2, 2)
    assert (new.hour_at, new.answered) == (NOW + KEPT_EVERY, 1)
    assert len(tallies._counts) == 1


def test_counts_of_threads_and_processes_all_count(documents):
    processes = [Tallies(lambda: documents) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda p=p: [report(p) for _ in range(200)]) for p in processes for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tallies in processes:
        report(tallies, NOW + KEPT_EVERY)
    found = kept(documents)
    assert sum(tally.answered for tally in found) == 3 * 3 * 200 + 3
    assert sum(tally.accepted for tally in found) == 2 * (3 * 3 * 200 + 3)


def test_a_store_that_is_away_spoils_no_report_and_loses_no_count(documents):
    away = [True]

    def store():
        if away[0]:
            raise Unavailable("away")
        return documents

    tallies = Tallies(store)
    report(tallies, NOW - timedelta(minutes=2))
    away[0] = False
    report(tallies, NOW - timedelta(minutes=1))
    (tally,) = kept(documents)
    assert tally.answered == 2
