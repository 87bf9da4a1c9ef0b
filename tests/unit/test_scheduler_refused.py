"""What the server refuses is kept by scheduler.py for 14 days,
offered again by a person or a newer version, and stops nothing else.
"""

import gzip
import json
import os
import stat
import time

import pytest

from tests.support.scheduler_lab import RECORDED, Pool, fields_of, number_of, receiving, scheduler

DAY = 86_400


@pytest.fixture
def pool(tmp_path):
    with receiving() as receiver:
        yield Pool(tmp_path, receiver)


def kept(pool):
    """Return the numbers of the jobs that were refused, by file."""
    folder = pool.folder / "state" / "refused"
    reports = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(folder.glob("*.json.gz"))]
    return [[number_of(job) for job in report["jobs"]] for report in reports]


def resend(pool):
    return pool.run("--state", pool.folder / "state", verb="resend")


def newer(pool, monkeypatch, version="99"):
    """Run in this process what is a newer version of the file."""
    monkeypatch.setenv("PATH", pool.environment["PATH"])
    monkeypatch.setattr(scheduler, "VERSION", version)
    return scheduler.main(pool.arguments)


def test_a_refused_job_is_kept_for_its_owner_only_said_in_one_line_and_stops_no_other(pool):
    pool.receiver.refused = {2}
    pool.add(1, 2, 3)
    done = pool.run()
    assert (done.returncode, pool.numbers(), kept(pool)) == (0, {1: 1, 3: 1}, [[2]])
    (line,) = done.stderr.splitlines()
    assert "refused 1 of 3 items of a report" in line
    assert "no good (malformed)" in line
    assert "scheduler.py resend" in line
    assert "1 were refused and are kept in" in done.stdout
    (path,) = (pool.folder / "state" / "refused").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(gzip.decompress(path.read_bytes()))["reasons"] == [["no good", "malformed"]]
    pool.add(4)
    assert pool.run().stderr == ""
    assert pool.numbers() == {1: 1, 3: 1, 4: 1}


def test_resend_offers_it_again_and_keeps_what_is_refused_again_with_its_first_time(pool):
    pool.receiver.refused = {2, 3}
    pool.add(1, 2, 3)
    pool.run()
    (path,) = (pool.folder / "state" / "refused").iterdir()
    os.utime(path, (time.time() - 10 * DAY,) * 2)
    pool.receiver.refused = {3}
    done = resend(pool)
    assert (done.returncode, kept(pool)) == (3, [[3]])
    assert "1 of 2 are refused again: no good (malformed)" in done.stderr
    assert time.time() - path.stat().st_mtime == pytest.approx(10 * DAY, abs=100)
    pool.receiver.refused = set()
    done = resend(pool)
    assert (done.returncode, done.stderr, kept(pool)) == (0, "", [])
    assert pool.numbers() == {1: 1, 2: 1, 3: 1}
    assert resend(pool).stdout.startswith("0 kept")


def test_a_newer_version_offers_it_again_once_and_not_every_run(pool, monkeypatch):
    pool.receiver.refused = {2}
    pool.add(2)
    pool.run()
    before = len(pool.receiver.sizes)
    assert newer(pool, monkeypatch) == 3
    assert newer(pool, monkeypatch) == 0
    assert (len(pool.receiver.sizes), kept(pool)) == (before + 1, [[2]])
    pool.receiver.refused = set()
    assert newer(pool, monkeypatch) == 0
    assert kept(pool) == [[2]]
    assert newer(pool, monkeypatch, "100") == 0
    assert (kept(pool), pool.numbers()) == ([], {2: 1})


def test_a_newer_version_that_meets_an_outage_tries_again_with_the_next_run(pool, monkeypatch):
    pool.receiver.refused = {2}
    pool.add(2)
    pool.run()
    pool.receiver.refused, pool.receiver.status = set(), 503
    assert newer(pool, monkeypatch) == 5
    assert kept(pool) == [[2]]
    pool.receiver.status = 200
    assert newer(pool, monkeypatch) == 0
    assert (kept(pool), pool.numbers()) == ([], {2: 1})


def test_what_an_older_version_put_aside_is_offered_once(pool):
    folder = pool.folder / "state" / "refused"
    folder.mkdir(parents=True)
    job = scheduler.run_of(fields_of(7), "cloud_name")
    (folder / "000000000001.json.gz").write_bytes(gzip.compress(json.dumps({"vms": [], "jobs": [job]}).encode()))
    assert pool.run().returncode == 0
    assert (kept(pool), pool.numbers()) == ([], {7: 1})


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_report_that_is_refused_whole_is_kept_and_the_next_goes_through(pool, status):
    pool.receiver.status = status
    pool.add(1)
    done = pool.run()
    assert (done.returncode, "refused a report, which is now kept" in done.stderr, kept(pool)) == (3, True, [[1]])
    pool.receiver.status = 200
    pool.add(2)
    assert pool.run().returncode == 0
    assert resend(pool).returncode == 0
    assert pool.numbers() == {1: 1, 2: 1}


@pytest.mark.parametrize("status", [401, 403, 404, 405, 409, 429])
def test_what_says_nothing_of_the_report_itself_keeps_everything_waiting(pool, status):
    pool.receiver.status = status
    pool.add(1)
    done = pool.run()
    assert (done.returncode, "1 reports wait in" in done.stdout, kept(pool)) == (
        3 if status in {401, 403} else 5,
        True,
        [],
    )
    pool.receiver.status = 200
    assert pool.run().returncode == 0
    assert pool.numbers() == {1: 1}


@pytest.mark.parametrize(
    "odd", [b"<html>The plain HTTP request was sent to HTTPS port", b"[" * 100_000, b"{}", b'{"error": 1}']
)
def test_a_refusal_by_something_that_is_not_our_server_keeps_everything_waiting(pool, odd):
    pool.receiver.status, pool.receiver.odd = 400, odd
    pool.add(1)
    assert (pool.run().returncode, kept(pool)) == (5, [])
    pool.receiver.status, pool.receiver.odd = 200, None
    pool.run()
    assert pool.numbers() == {1: 1}


@pytest.mark.parametrize("form", [None, b"<html>413 Request Entity Too Large</html>"], ids=["ours", "a proxy's"])
def test_what_is_too_large_goes_in_halves(pool, form):
    pool.receiver.limit, pool.receiver.too_large = 3, form
    pool.add(*range(1, 12))
    assert pool.run().returncode == 0
    assert (pool.numbers(), kept(pool)) == (dict.fromkeys(range(1, 12), 1), [])
    assert pool.receiver.sizes[0] == 11
    pool.receiver.limit = 0
    pool.add(12)
    assert (pool.run().returncode, kept(pool)) == ((3, [[12]]) if form is None else (5, []))
    pool.receiver.limit = 9
    assert (pool.run().returncode, resend(pool).returncode) == (0, 0)
    assert pool.numbers() == dict.fromkeys(range(1, 13), 1)


def test_vms_are_numbered_before_jobs(pool):
    vms = [{"vm": "v", "cloud": "west", "started_at": "2026-11-24T06:00:00Z"}]
    jobs = [scheduler.run_of(fields_of(number), "cloud_name") for number in (1, 2)]
    pool.receiver.refused = {2}
    spool = pool.folder / "state" / "spool"
    spool.mkdir(parents=True)
    (spool / "000000000001.json.gz").write_bytes(gzip.compress(json.dumps({"vms": vms, "jobs": jobs}).encode()))
    assert pool.run().returncode == 0
    assert (pool.numbers(), kept(pool), pool.vms) == ({1: 1}, [[2]], vms)


def test_what_every_run_says_again_is_not_kept(pool):
    pool.prints("condor_q", [fields_of(1, JobStatus=2)])
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    pool.receiver.refused = {1}
    done = pool.run()
    assert "which comes with the next run again: no good" in done.stderr
    assert kept(pool) == []


def test_a_damaged_file_stops_no_other(pool):
    pool.receiver.status = 503
    for number in (1, 2):
        pool.add(number)
        pool.run()
    first, _ = sorted((pool.folder / "state" / "spool").iterdir())
    first.write_bytes(first.read_bytes()[:-9])
    pool.receiver.status = 200
    done = pool.run()
    assert (done.returncode, "is damaged" in done.stderr, pool.numbers()) == (0, True, {2: 1})
    assert [path.name for path in (pool.folder / "state" / "spool").iterdir()] == [f"{first.name}.damaged"]


def test_it_goes_after_14_days_and_is_bounded_in_number_and_bytes_the_oldest_first(pool, monkeypatch):
    monkeypatch.setenv("PATH", pool.environment["PATH"])
    pool.receiver.refused = set(range(1, 10))
    for number in range(1, 6):
        pool.add(number)
        assert scheduler.main(pool.arguments) == 0
    first, *_ = sorted((pool.folder / "state" / "refused").iterdir())
    os.utime(first, (time.time() - 14 * DAY - 60,) * 2)
    assert scheduler.main(pool.arguments) == 0
    assert kept(pool) == [[2], [3], [4], [5]]
    monkeypatch.setattr(scheduler, "KEPT_FILES", 3)
    pool.add(6)
    assert scheduler.main(pool.arguments) == 0
    assert kept(pool) == [[4], [5], [6]]
    monkeypatch.setattr(scheduler, "KEPT_BYTES", int(first.with_name("000000000006.json.gz").stat().st_size * 2.5))
    assert scheduler.main(pool.arguments) == 0
    assert kept(pool) == [[5], [6]]


def test_the_history_goes_on_only_behind_what_is_kept(pool, monkeypatch):
    """Where what was refused cannot be written, it is told again."""
    pool.receiver.refused = {1}
    pool.add(1)
    (pool.folder / "state").mkdir()
    (pool.folder / "state" / "refused").write_text("in the way")
    assert pool.run().returncode == 5
    (pool.folder / "state" / "refused").unlink()
    pool.receiver.refused = set()
    assert pool.run().returncode == 0
    assert pool.numbers() == {1: 1}


@pytest.mark.parametrize("index", [10**400, -1, 1, "x", None, [1]])
def test_a_receipt_that_refuses_what_was_not_sent_is_no_receipt(pool, index):
    rejected = [{"index": index, "code": "c", "message": "m"}]
    pool.receiver.odd = json.dumps({"accepted": 0, "stale": 0, "rejected": rejected}).encode()
    pool.add(1)
    assert pool.run().returncode == 5
    pool.receiver.odd = None
    pool.run()
    assert pool.numbers() == {1: 1}


def test_no_escape_of_a_server_or_a_command_reaches_a_terminal(pool):
    evil = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066\u200f\x9b2J"
    pool.receiver.refused, pool.receiver.said = {1}, evil
    pool.add(1)
    refused = pool.run()
    pool.receiver.status, pool.receiver.odd = 403, evil.encode()
    pool.add(2)
    locked = pool.run()
    path = pool.folder / "bin" / "condor_q"
    path.write_text("#!/bin/sh\nprintf '\\033[31mred' >&2\nexit 1\n")
    failed = pool.run()
    for done in (refused, locked, failed):
        assert "\\x1b[31m" in done.stderr
        text = done.stderr + done.stdout
        assert all(" " <= letter <= "~" or letter == "\n" for letter in text), repr(text)


def test_two_copies_do_not_resend_at_once(pool):
    (pool.folder / "state").mkdir()
    with (pool.folder / "state" / "lock").open("w") as lock:
        scheduler.fcntl.flock(lock, scheduler.fcntl.LOCK_EX)
        assert resend(pool).returncode == 4
