"""How verdicts are reached, kept and asked for, on the file adapter and on one that fails at a step."""

import io
import threading
from datetime import UTC, datetime, timedelta

import pytest

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.core.errors import Unavailable
from skytally.secrets import preflight
from skytally.secrets.preflight import Check, Gate, HalfwayBody, Verdict

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SAFE = Verdict(NOW, (Check("versions", True, "not kept"), Check("reading", True, "fine")))
REFUSE = Verdict(NOW, (Check("versions", False, "kept"), Check("reading", True, "fine")))


def clock():
    return datetime.now(UTC)


def at(verdict, moment):
    return Verdict(moment, verdict.checks)


def verdicts(store):
    return list(store.list("preflight/"))


class Failing(FilesystemObjects):
    """A store that is away from its nth create on."""

    def __init__(self, root, creates):
        super().__init__(root)
        self.left = creates

    def create(self, key, data):
        self.left -= 1
        if self.left < 0:
            raise Unavailable("away")
        return super().create(key, data)


class Examined(FilesystemObjects):
    """A store that counts its examinations, and may keep versions."""

    count, keeps_versions = 0, False

    def versioned(self):
        self.count += 1
        return self.keeps_versions


def test_one_failure_refuses_and_says_which():
    assert (SAFE.word, SAFE.reasons) == ("SAFE", [])
    assert (REFUSE.word, REFUSE.reasons) == ("REFUSE", ["versions: kept"])
    assert list(preflight.rows(REFUSE)) == [("versions", "FAILED", "kept"), ("reading", "ok", "fine")]


def test_a_verdict_holds_for_its_time(store):
    preflight.keep(SAFE, store)
    assert preflight.kept(store, NOW + timedelta(days=6, hours=23)) == SAFE
    assert preflight.kept(store, NOW + timedelta(days=7)) is None


def test_a_new_verdict_takes_the_place_of_older_ones(store):
    for seconds, verdict in enumerate((SAFE, REFUSE, SAFE, REFUSE)):
        preflight.keep(at(verdict, NOW + timedelta(seconds=seconds)), store)
    assert len(verdicts(store)) == 1
    assert preflight.kept(store, NOW).word == "REFUSE"


def test_of_two_verdicts_the_later_counts_however_close_they_are(store):
    for microseconds, verdict in ((2, REFUSE), (1, SAFE)):
        preflight.keep(at(verdict, NOW + timedelta(microseconds=microseconds)), store)
    assert preflight.kept(store, NOW).word == "REFUSE"


@pytest.mark.parametrize(
    "data", [b"", b"not JSON", b'{"at": "2026-11-25T12:00:00Z", "checks": [{"name": "versions"}]}']
)
def test_what_cannot_be_read_is_no_verdict(store, data):
    store.create("preflight/20261125120000000000-safe", data)
    assert preflight.kept(store, NOW) is None


def test_an_examination_that_fails_half_way_leaves_nothing(tmp_path):
    store = Failing(tmp_path, creates=40)
    with pytest.raises(Unavailable):
        preflight.examine((store, store), clock)
    assert verdicts(store) == []


@pytest.mark.parametrize(("seconds", "good"), [(-6, False), (-4, True), (4, True), (6, False)])
def test_a_clock_may_be_five_seconds_off(store, seconds, good):
    verdict = preflight.examine((store, store), lambda: clock() + timedelta(seconds=seconds))
    assert [check.ok for check in verdict.checks if check.name == "clock"] == [good]
    assert verdict.word == ("SAFE" if good else "REFUSE")


@pytest.mark.parametrize("size", [1, 7, 64, -1, None])
def test_a_halfway_body_gives_all_and_waits_once(size):
    whole, steps = bytes(range(101)), []
    body = HalfwayBody(whole, lambda: steps.append("midway"))
    assert body.seek(0, io.SEEK_END) == 101
    body.seek(0)
    assert steps == []
    while piece := body.read(size):
        steps.append(piece)
    assert b"".join(step for step in steps if step != "midway") == whole
    assert steps.count("midway") == 1
    assert b"".join(steps[: steps.index("midway")]) == whole[:50]


def test_many_that_ask_at_once_wait_for_one_examination(tmp_path):
    store, passed = Examined(tmp_path), []
    gate = Gate(lambda: (store, store), clock)

    def ask():
        gate.check(store)
        passed.append(1)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), store.count) == (20, 1)
    gate.check(store)
    assert store.count == 1


def test_an_outage_is_no_verdict_and_the_next_one_asks_again(tmp_path):
    store = Failing(tmp_path, creates=10)
    gate = Gate(lambda: (store, store), clock)
    with pytest.raises(Unavailable, match="away"):
        gate.check(store)
    store.left = 10_000
    gate.check(store)
    assert [key.rpartition("-")[2] for key in verdicts(store)] == ["safe"]


def test_a_refusal_names_its_reasons_and_is_looked_at_again_after_a_minute(tmp_path):
    store, now = Examined(tmp_path), [clock()]
    store.keeps_versions = True
    gate = Gate(lambda: (store, store), lambda: now[0])
    for later_seconds, examinations in ((0, 1), (0, 1), (59, 1), (2, 2)):
        now[0] += timedelta(seconds=later_seconds)
        with pytest.raises(Unavailable, match=r"versions: kept.*skytally doctor"):
            gate.check(store)
        assert store.count == examinations
    assert len(verdicts(store)) == 1


def test_a_safe_verdict_of_another_process_is_taken_over(tmp_path):
    store = Examined(tmp_path)
    preflight.keep(at(SAFE, clock()), store)
    Gate(lambda: pytest.fail("examined again"), clock).check(store)
    assert store.count == 0
