"""scheduler.py's reader: histories that rotate, tear and vanish, servers that are away, and kills at any moment."""

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import defaultdict

import pytest

from tests.support.scheduler_lab import T0, Pool, ad, number_of, receiving, scheduler

KILLS = 25


@pytest.fixture
def pool(tmp_path):
    with receiving() as receiver:
        yield Pool(tmp_path, receiver)


def each_once(*numbers):
    return dict.fromkeys(numbers, 1)


def test_each_ad_is_told_once_however_files_rotate(pool):
    pool.add(1, 2, 3)
    assert pool.run().returncode == 0
    pool.add(4)
    pool.rotate("20261124T010000")
    pool.add(5, 6)
    pool.rotate("20261124T010001")
    pool.add(7, 8, torn=20)
    done = pool.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert pool.numbers() == each_once(*range(1, 8))
    with pool.history.open("ab") as file:
        file.write(ad(8)[-20:])
    pool.run()
    assert pool.numbers() == each_once(*range(1, 9))


@pytest.mark.parametrize("stays", [True, False], ids=["and a new file", "and no file yet"])
def test_a_file_renamed_between_listing_and_opening_is_not_read_again(pool, stays):
    class Renamed(scheduler.History):
        looked = False

        def names(self):
            listed = super().names()
            if not self.looked:
                self.looked = True
                pool.rotate("20261124T010000")
                pool.add(3) if stays else pool.history.unlink()
            return listed

    pool.add(1, 2)
    with scheduler.History(str(pool.history), []) as history:
        assert sum(map(len, history.batches())) == 2
    with Renamed(str(pool.history), history.state) as history:
        assert [ad["ClusterId"] for ads in history.batches() for ad in ads] == [3] * stays
    assert history.gap is None


def test_what_is_appended_meanwhile_is_for_another_time(pool):
    pool.add(1)
    with scheduler.History(str(pool.history), []) as history:
        pool.add(2)
        assert [ad["ClusterId"] for ads in history.batches() for ad in ads] == [1]
    with scheduler.History(str(pool.history), history.state) as history:
        assert [ad["ClusterId"] for ads in history.batches() for ad in ads] == [2]


def test_while_no_file_is_current_the_rotated_ones_are_read(pool):
    pool.prints("condor_history", [{"GlobalJobId": "not to be asked"}])
    pool.add(1)
    pool.rotate("20261124T010000")
    pool.history.unlink()
    assert pool.run().returncode == 0
    assert pool.numbers() == each_once(1)
    assert not (pool.folder / "condor_history.args").exists()


def test_names_of_the_repeated_hour_and_a_clock_that_went_back_lose_nothing(pool):
    for number, stamp in ((1, "20261101T013000"), (2, "20261101T010500"), (3, "20261101T010500.1")):
        pool.add(number)
        pool.run()
        os.utime(pool.rotate(stamp), (T0 + 9_000, T0 + 9_000 - number))
    pool.add(4, CompletionDate=T0 - 90_000)
    os.utime(pool.history, (T0, T0))
    pool.run()
    for stamp in ("20261101T013000", "20261101T010500", "20261101T010500.1"):
        pool.history.with_name(f"history.{stamp}").unlink()
        done = pool.run()
        assert (done.returncode, done.stderr) == (0, "")
    assert pool.numbers() == each_once(*range(1, 5))


def test_files_that_go_when_their_time_has_come_are_no_gap(pool):
    rotated = []
    for number in range(1, 9):
        pool.add(number)
        rotated.append(pool.rotate(f"20261124T01000{number}"))
        if len(rotated) > 2:
            rotated.pop(0).unlink()
        assert pool.run().returncode == 0
    assert pool.numbers() == each_once(*range(1, 9))


def test_a_file_that_went_before_it_was_read_is_said_with_its_times(pool):
    pool.add(1, 2)
    pool.run()
    pool.rotate("20261124T010000").unlink()
    pool.add(3)
    done = pool.run()
    assert done.returncode == 6
    assert "between 2026-11-24T06:00:25Z and 2026-11-24T06:00:35Z" in done.stderr
    assert pool.numbers() == each_once(1, 2, 3)
    assert pool.run().returncode == 0


def test_an_inode_that_came_again_is_another_file(pool):
    pool.add(1, 2, 3, 4)
    pool.run()
    state = json.loads((pool.folder / "state" / "state.json").read_text())
    pool.history.unlink()
    pool.add(11, 12)
    state["history"][0]["inode"] = pool.history.stat().st_ino
    (pool.folder / "state" / "state.json").write_text(json.dumps(state))
    assert pool.run().returncode == 6
    assert pool.numbers() == each_once(1, 2, 3, 4, 11, 12)


def test_a_file_cut_short_in_its_place_is_read_anew_and_said(pool):
    pool.add(1, 2, 3)
    pool.run()
    os.truncate(pool.history, len(ad(1)))
    assert pool.run().returncode == 6
    assert pool.numbers() == {1: 2, 2: 1, 3: 1}


def test_a_damaged_state_is_said_and_everything_is_told_again(pool):
    pool.add(1)
    pool.run()
    (pool.folder / "state" / "state.json").write_text('{"history": [')
    done = pool.run()
    assert (done.returncode, "is damaged" in done.stderr) == (0, True)
    assert pool.numbers() == {1: 2}


def test_what_an_outage_keeps_back_is_told_though_its_files_have_gone(pool):
    pool.receiver.status = 503
    rotated = []
    for number in (1, 2, 3):
        pool.add(number)
        done = pool.run()
        assert (done.returncode, f"{number} reports wait in" in done.stdout) == (5, True)
        assert done.stderr.count("503") == 1
        rotated.append(pool.rotate(f"20261124T01000{number}"))
    for path in rotated[:-1]:
        path.unlink()
    pool.add(4)
    pool.receiver.status = 200
    assert pool.run().returncode == 0
    assert [number_of(job) for job in pool.jobs] == [1, 2, 3, 4]
    assert not list((pool.folder / "state" / "spool").iterdir())


def test_a_token_that_is_not_taken_is_an_outage_that_somebody_must_end(pool):
    pool.add(1)
    pool.receiver.status = 403
    done = pool.run()
    assert (done.returncode, str(pool.folder / "token") in done.stderr) == (3, True)
    pool.receiver.status = 200
    assert pool.run().returncode == 0
    assert pool.numbers() == each_once(1)


def test_a_report_that_is_never_taken_is_set_aside_and_stops_nothing_else(pool):
    for number in (1, 2):
        pool.add(number)
        pool.receiver.status = 413
        done = pool.run()
        assert (done.returncode, "refused a report, which is now" in done.stderr) == (3, True)
    aside = sorted((pool.folder / "state" / "refused").iterdir())
    assert [number_of(json.loads(gzip.decompress(path.read_bytes()))["jobs"][0]) for path in aside] == [1, 2]
    pool.receiver.status = 200
    pool.add(3)
    assert pool.run().returncode == 0
    assert pool.numbers() == each_once(3)


def test_where_the_spool_is_full_the_history_keeps_it(pool, monkeypatch, capsys):
    monkeypatch.setenv("PATH", pool.environment["PATH"])
    monkeypatch.setattr(scheduler, "SPOOL_BYTES", 400)
    pool.receiver.status = 503
    for number in (1, 2, 3):
        pool.add(number)
        assert scheduler.main(pool.arguments) == 5
    assert "spool is full" in capsys.readouterr().err
    pool.receiver.status = 200
    assert scheduler.main(pool.arguments) == 0
    assert pool.numbers() == each_once(1, 2, 3)


@pytest.mark.parametrize(
    "odd",
    [
        b"<html>sign in",
        b"{",
        b'{"accepted": 1',
        b"[]",
        b"{}",
        b'{"accepted": "1", "stale": 0, "rejected": []}',
        b"\xff",
    ],
)
def test_an_answer_that_is_no_receipt_is_an_outage(pool, odd):
    pool.add(1)
    pool.receiver.odd = odd
    assert pool.run().returncode == 5
    pool.receiver.odd = None
    assert pool.run().returncode == 0
    assert pool.numbers() == each_once(1)


def test_the_token_follows_no_redirect(pool):
    with receiving() as elsewhere:
        pool.receiver.status, pool.receiver.moved = 302, f"{elsewhere.base}/login"
        pool.add(1)
        assert pool.run().returncode == 5
        assert (elsewhere.asked, elsewhere.told) == ([], [])


def test_two_copies_do_not_run_at_once(pool):
    pool.add(1)
    pool.receiver.delay = 2.0
    first = subprocess.Popen(pool.command(), env=pool.environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not pool.receiver.told and time.monotonic() < deadline:
        time.sleep(0.02)
    second = pool.run()
    assert (second.returncode, "another copy" in second.stderr) == (4, True)
    assert first.wait(20) == 0


def test_a_hundred_thousand_ads_are_read_whole(tmp_path):
    """The reader alone, over fifty files."""
    for part in range(50):
        path = tmp_path / (f"history.20261124T{part:06}" if part < 49 else "history")
        path.write_bytes(
            b"".join(
                f"A = {n}\n*** ClusterId = {n} CompletionDate = {n}\n".encode()
                for n in range(part * 2_000, part * 2_000 + 2_000)
            )
        )
    with scheduler.History(str(tmp_path / "history"), []) as history:
        assert sorted(one["A"] for ads in history.batches() for one in ads) == list(range(100_000))
    with scheduler.History(str(tmp_path / "history"), history.state) as again:
        assert list(again.batches()) == []
    assert (history.gap, again.gap) == (None, None)


class Writer(threading.Thread):
    """HTCondor at work: ads that are torn for a moment,
    files renamed under any name, a clock that steps; no faster than kills come.
    """

    def __init__(self, pool, total, kills):
        super().__init__()
        self.pool, self.total, self.kills, self.chance = pool, total, kills, random.Random(7)

    def run(self):
        number, rotations = 0, 0
        while number < self.total:
            if number > self.total * (len(self.kills) + 1) / KILLS:
                time.sleep(0.005)
                continue
            count = min(self.total - number, self.chance.randrange(1, self.total // 100))
            step = self.chance.choice((0, 0, 3_600, -3_600))
            data = b"".join(ad(n, CompletionDate=T0 + 10 * n + step) for n in range(number + 1, number + count + 1))
            cut = self.chance.randrange(len(data))
            with self.pool.history.open("ab", buffering=0) as file:
                file.write(data[:cut])
                time.sleep(0.003)
                file.write(data[cut:])
            number += count
            if self.chance.random() < 0.3:
                rotations += 1
                self.pool.rotate(f"20261101T01{self.chance.randrange(6_000):04}.{rotations}")


def killed_again_and_again(pool, total, outage=0.0):
    """Run the script and kill it, each time under a base of its own,
    until all is written and it was killed often; return those bases.
    """
    kills, runs, chance = [], 0, random.Random(8)
    writer = Writer(pool, total, kills)
    writer.start()
    while writer.is_alive() or len(kills) < KILLS:
        pool.receiver.status = 503 if chance.random() < outage else 200
        runs += 1
        command = pool.command("--base", f"{pool.receiver.base}/{runs}")
        process = subprocess.Popen(command, env=pool.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05 + chance.random() * 0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(f"/{runs}")
    writer.join()
    pool.receiver.status = 200
    done = pool.run()
    assert (done.returncode, done.stderr) == (0, "")
    return kills


def test_killed_at_any_moment_while_files_rotate_it_loses_nothing(pool):
    """A hundred thousand jobs, files that rotate while they are read,
    torn ends, SIGKILLs: only a batch in flight is told twice.
    """
    kills = killed_again_and_again(pool, 100_000)
    last = {body["base"]: place for place, body in enumerate(pool.receiver.told)}
    told = defaultdict(list)
    for place, body in enumerate(pool.receiver.told):
        for job in body["jobs"]:
            told[job["batch_id"], job["started_at"]].append(place)
    assert set(pool.numbers()) == set(range(1, 100_001))
    assert len(told) == 100_000
    assert sum(len(places) - 1 for places in told.values()) <= len(kills) * scheduler.BATCH_ITEMS
    assert {place for places in told.values() for place in places[:-1]} <= {
        last[base] for base in kills if base in last
    }
    assert pool.run().stdout.startswith("0 kept")


def test_killed_at_any_moment_while_the_server_comes_and_goes_it_loses_nothing(pool):
    """The same with a spool that fills and empties."""
    kills = killed_again_and_again(pool, 20_000, outage=0.5)
    told = pool.numbers()
    assert set(told) == set(range(1, 20_001))
    assert sum(told.values()) - len(told) <= len(kills) * scheduler.BATCH_ITEMS
    assert pool.run().stdout.startswith("0 kept")
