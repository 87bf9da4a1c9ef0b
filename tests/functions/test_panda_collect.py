"""panda_collect on a monitor that has the real one's rules and bad days."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from localstack.bigpanda import FAULTS, bigpanda
from skytally.adapters import jobs_panda
from skytally.app import wiring
from skytally.core.documents import Alarm, Cursor, Job, Unreadable
from skytally.core.errors import Unavailable
from skytally.core.ports import Write
from skytally.jobs import panda_collector, panda_rows
from skytally.operation.timer import Deadline
from tests.support import simulated_day
from tests.support.builders import DOCUMENT_STORES

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
NOW = datetime(2026, 11, 24, 5, 0, 30, tzinfo=UTC)


@pytest.fixture
def monitor(home, monkeypatch):
    with bigpanda() as (monitor, base):
        monkeypatch.setenv("SKYTALLY_PANDA_URL", base)
        monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", "CA-IAAS-T3")
        monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
        wiring.close()
        monitor.rows = json.loads((RECORDED / "bigpanda_jobs_full.json").read_text())["jobs"]
        yield monitor


@pytest.fixture
def collect(client, monitor, monkeypatch):
    """Do a round at a moment."""

    def round_at(at=NOW):
        monkeypatch.setattr("skytally.core.clock.now", lambda: at)
        monitor.now = lambda: at.replace(tzinfo=None)
        return client.post("panda-collect")

    return round_at


def changed_at(text):
    return {"modificationtime": text, "statechangetime": text}


def jobs():
    wiring.documents().refresh()
    return {one.job_id: one for _, one in wiring.documents().find("job", Job, {"system": ["panda"]})}


def cursor(queue="CA-IAAS-T3"):
    return wiring.documents().get("cursor", f"panda/{queue}", Cursor)


def ended(number, at, **fields):
    """Make a row of a job that ended at a time."""
    began = {
        "starttime": "2026-11-24T00:00:00",
        "endtime": at,
        "durationsec": 60,
        "batchid": None,
        "modificationhost": "vm-1",
    }
    known = {"pandaid": number, "computingsite": "CA-IAAS-T3", "jobstatus": "finished"} | began | changed_at(at)
    return dict.fromkeys(panda_rows.FIELDS) | known | fields


def use_queues(monkeypatch, queues):
    monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", queues)
    wiring.close()


def test_without_a_monitor_it_is_off(client):
    assert client.post("panda-collect").json() == {"state": "off"}


def test_a_round_brings_what_ended_and_what_runs(collect, monitor):
    answer = collect().json()
    assert (answer["state"], answer["behind_seconds"], answer["unreadable"]) == ("done", 0, 0)
    found = jobs()
    assert {job.status for job in found.values()} == {"finished", "failed", "cancelled", "closed", "running", "holding"}
    assert len(found) == 6
    assert cursor().stands_at == datetime(2026, 11, 24, 4, 58, 30, tzinfo=UTC)
    assert all("," not in query["jobstatus"] and query["outputs"] == "jobs" for query in monitor.queries)
    stamps = [query["timestamp"] for query in monitor.queries]
    assert len(set(stamps)) == len(stamps)


def test_the_same_again_changes_nothing_and_asks_little(collect, monitor):
    collect()
    before, monitor.requests = jobs(), 0
    collect(NOW + timedelta(minutes=10))
    assert {key: (job.status, job.cloud) for key, job in jobs().items()} == {
        key: (job.status, job.cloud) for key, job in before.items()
    }
    assert monitor.requests == 2


@pytest.mark.parametrize("fault", FAULTS)
def test_no_answer_is_never_no_jobs(collect, monitor, fault):
    collect()
    stands_at = cursor().stands_at
    monitor.rows.append(
        monitor.rows[-1]
        | {"pandaid": 99, "modificationtime": "2026-11-24T05:30:00", "statechangetime": "2026-11-24T05:30:00"}
    )
    monitor.next_faults = [fault]
    answer = collect(NOW + timedelta(hours=1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert (cursor().stands_at, "99" in jobs()) == (stands_at, False)
    assert collect(NOW + timedelta(hours=1, minutes=1)).json()["state"] == "done"
    assert "99" in jobs()


@pytest.mark.parametrize("key", [None, b"other", b"two\nlines", b"\xff\xfe"])
def test_a_token_that_does_not_work_is_said_and_not_shown(collect, monitor, monkeypatch, tmp_path, key, caplog):
    monkeypatch.setenv("SKYTALLY_PANDA_TOKEN_FILE", str(tmp_path / "key"))
    wiring.close()
    monitor.key = "good"
    if key is not None:
        (tmp_path / "key").write_bytes(key)
    told = collect()
    assert (told.status_code, "SKYTALLY_PANDA_TOKEN_FILE" in told.json()["error"]["message"]) == (503, True)
    (tmp_path / "key").write_text("good\n")
    assert collect(NOW + timedelta(minutes=1)).json()["state"] == "done"
    assert not any(secret in told.text + caplog.text for secret in ("good", "other", "two"))


def test_a_packed_answer(collect, monitor):
    monitor.packs, monitor.next_faults = True, ["truncated"]
    assert (collect().status_code, jobs()) == (503, {})
    assert collect(NOW + timedelta(minutes=1)).status_code == 200
    assert len(jobs()) == 6


def test_a_comma_in_the_settings_is_two_queues_and_a_star_is_refused(collect, monitor, monkeypatch):
    use_queues(monkeypatch, "CA-IAAS-T3,OTHER")
    assert collect().json()["jobs"] >= 6
    assert {query["computingsite"] for query in monitor.queries} >= {"CA-IAAS-T3|OTHER"}
    monitor.requests = 0
    use_queues(monkeypatch, "CA*")
    assert (collect().status_code, "SKYTALLY_PANDA_QUEUES" in collect().json()["error"]["message"]) == (503, True)
    assert monitor.requests == 0


def test_an_outage_of_days_is_stepped_through_past_the_archive_s_edge(collect, monitor):
    """Also what the archive holds by a late state change, or took too early: no slice inside its edge would ask it."""
    collect()
    later = NOW + timedelta(days=5)
    hours = [NOW + timedelta(hours=hour, minutes=17) for hour in range(5 * 24 - 2)]
    monitor.rows = [ended(100 + n, f"{at:%Y-%m-%dT%H:%M:%S}") for n, at in enumerate(hours)]
    words = {"jobstatus": "failed", "superrorcode": 9, "superrordiag": "Diag from worker : lost"}
    monitor.rows.append(ended(99, "2026-11-25T12:00:00", **words, statechangetime="2026-11-28T12:00:00"))
    monitor.rows.append(ended(98, f"{later - timedelta(hours=71):%Y-%m-%dT%H:%M:%S}", table="archived"))
    monitor.requests = 0
    while (answer := collect(later).json())["behind_seconds"]:
        assert answer["state"] == "done"
    assert {str(n) for n in range(98, 100 + len(hours))} <= set(jobs())
    assert monitor.requests <= 5 * 24 + 5


def test_an_hour_that_is_suddenly_empty_is_believed_and_read_again(collect, monitor):
    rows, monitor.rows = monitor.rows, []
    assert collect().json()["jobs"] == 0
    assert cursor().stands_at == datetime(2026, 11, 24, 4, 58, 30, tzinfo=UTC)
    monitor.rows = rows
    collect(NOW + timedelta(minutes=30))
    assert len(jobs()) == 6


def test_a_second_that_holds_more_than_any_usual_answer(collect, monitor):
    monitor.rows = [ended(n, "2026-11-24T04:30:00") for n in range(1, 5_500)]
    assert collect().json()["state"] == "done"
    assert len(jobs()) == 5_499
    assert {query["limit"] for query in monitor.queries} == {str(panda_rows.LIMIT), str(panda_rows.RAISED_LIMIT)}


def test_one_queue_s_failure_is_its_own(collect, monitor, monkeypatch, client, reader):
    use_queues(monkeypatch, "CA-IAAS-T3,BAD,OTHER")
    monitor.rows += [
        ended(11, "2026-11-24T04:30:00", computingsite="BAD"),
        ended(12, "2026-11-24T04:30:00", computingsite="OTHER"),
    ]
    monitor.faulty_queues = {"BAD"}
    told = collect().json()
    assert (told["state"], told["failed_queues"]) == ("done", 1)
    assert "12" in jobs()
    assert "11" not in jobs()
    assert (cursor().error, cursor("OTHER").error, cursor("BAD").error) == (None, None, "PanDA's monitor answered 500")
    later = NOW + timedelta(hours=3)
    assert collect(later).json()["failed_queues"] == 1
    assert raised(client) == {"stale_source"}
    health = client.get("dashboard/data", params={"view": "health"}, headers=reader).json()["table"]
    assert {row["subject"]: row["state"] for row in health if row["kind"] == "source"}["panda/BAD"] == "failing"
    monitor.faulty_queues, monitor.queries = set(), []
    assert collect(later + timedelta(minutes=10)).json()["failed_queues"] == 0
    assert ("11" in jobs(), cursor("BAD").error, raised(client)) == (True, None, set())
    collect(later + timedelta(minutes=20))
    assert monitor.queries[-1]["computingsite"] == "CA-IAAS-T3|BAD|OTHER"


def raised(client):
    client.post("alarm-raise")
    wiring.documents().refresh()
    return {alarm.kind for _, alarm in wiring.documents().find("alarm", Alarm, {"state": ["raised"]})}


def test_a_job_that_moved_to_another_queue_is_one_job(collect, monitor, monkeypatch):
    use_queues(monkeypatch, "CA-IAAS-T3,OTHER")
    here, there = ended(11, "2026-11-24T04:30:00"), ended(11, "2026-11-24T04:40:00", computingsite="OTHER")
    monitor.rows = [there, here | {"table": "active"}]
    collect()
    assert jobs()["11"].queue == "CA-IAAS-T3", "the older, active row wins within one answer"
    monitor.rows = [there, here]
    monitor.doubled_share = 1.0
    collect(NOW + timedelta(minutes=10))
    assert [job.queue for job in jobs().values()] == ["OTHER"]


def test_two_attempts_of_one_pilot_are_two_jobs_at_one_place(collect, monitor, client, scheduler):
    told = {"batchid": "sched#7.0#1", "jeditaskid": 5}
    monitor.rows = [
        ended(11, "2026-11-24T04:30:00", jobstatus="failed", attemptnr=1, **told),
        ended(12, "2026-11-24T04:50:00", attemptnr=2, **told),
    ]
    place = {
        "batch_id": "sched#7.0#1",
        "vm": "vm-9",
        "cloud": "uvic",
        "started_at": "2026-11-24T00:00:00Z",
        "state": "running",
    }
    client.post("placement-report", json={"jobs": [place]}, headers=scheduler)
    collect()
    found = jobs()
    assert {(one.status, one.attempt, one.cloud, one.vm) for one in found.values()} == {
        ("failed", 1, "uvic", "vm-9"),
        ("finished", 2, "uvic", "vm-9"),
    }


def test_a_placement_days_later_moves_the_job_and_the_totals(collect, monitor, client, scheduler, reader):
    monitor.rows = [ended(11, "2026-11-24T04:30:00", batchid="sched#7.0#1")]
    collect()

    def clouds():
        asked = {"view": "jobs", "until": "2026-11-25T00:00:00Z", "window": "week"}
        table = client.get("dashboard/data", params=asked, headers=reader).json()["table"]
        return {row["cloud"]: row["job_count"] for row in table}

    assert clouds() == {"unknown": 1}
    place = {
        "batch_id": "sched#7.0#1",
        "vm": "vm-9",
        "cloud": "uvic",
        "started_at": "2026-11-24T00:00:00Z",
        "state": "completed",
    }
    client.post("placement-report", json={"jobs": [place]}, headers=scheduler)
    assert clouds() == {"uvic": 1}


def test_a_round_that_has_no_time_left_goes_on_where_it_stopped(monitor, client):
    moments = iter([NOW] * 10 + [NOW + timedelta(seconds=n) for n in range(50, 5_000, 50)])
    round_of = panda_collector.Collection(
        wiring.panda(),
        ("CA-IAAS-T3",),
        wiring.documents(),
        Deadline(lambda: next(moments), NOW + timedelta(seconds=40)),
    )
    assert round_of.run()["behind_seconds"] > 3_600
    assert cursor().stands_at < NOW


class WithoutJobs:
    """A document store that is away whenever jobs are written."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def write(self, writes):
        if any(write.index == "job" for write in writes):
            raise Unavailable("away")
        return self.store.write(writes)


def test_a_cursor_never_passes_jobs_that_were_not_stored(collect, monitor):
    round_of = panda_collector.Collection(
        wiring.panda(),
        ("CA-IAAS-T3",),
        WithoutJobs(wiring.documents()),
        Deadline(lambda: NOW, NOW + timedelta(seconds=40)),
    )
    with pytest.raises(Unavailable, match="away"):
        round_of.run()
    assert jobs() == {}
    stood_at = cursor().stands_at
    collect()
    assert len(jobs()) == 6
    assert all(stood_at <= job.final_at for job in jobs().values() if job.final_at is not None)


class Slow:
    """A monitor of which each answer takes some seconds of a clock that a test reads."""

    def __init__(self, door, seconds, begin):
        self.door, self.seconds, self.now, self.asked = door, seconds, begin, []

    def rows(self, asked):
        self.now += timedelta(seconds=self.seconds)
        self.asked.append(asked)
        return self.door.rows(asked)

    def round(self, *queues):
        """Do a round of ten seconds, and say how far behind it is."""
        deadline = Deadline(lambda: self.now, self.now + timedelta(seconds=10))
        told = panda_collector.Collection(self, queues, wiring.documents(), deadline).run()
        return told["behind_seconds"]


@pytest.mark.parametrize("seconds", [3, 7])
def test_a_queue_that_is_days_behind_gets_farther_in_every_round_however_slow_the_monitor_is(collect, monitor, seconds):
    collect()
    begin = NOW + timedelta(days=2)
    monitor.now = lambda: begin.replace(tzinfo=None)
    monitor.rows += [ended(100 + n, f"{NOW + timedelta(minutes=30 * n + 15):%Y-%m-%dT%H:%M:%S}") for n in range(95)]
    slow, behind = Slow(wiring.panda(), seconds, begin), [2 * 86_400]
    while behind[-1] > 3_600:
        behind.append(slow.round("CA-IAAS-T3"))
        assert behind[-1] < behind[-2]
    assert {str(100 + n) for n in range(93)} <= set(jobs())
    assert len(slow.asked) < 2 * 48


def test_an_hour_of_too_many_jobs_for_a_round_is_read_in_several(collect, monitor):
    """Each part is stored before the cursor passes it, and the next round begins there, not at the hour's begin."""
    collect()
    begin = NOW + timedelta(hours=8)
    monitor.now = lambda: begin.replace(tzinfo=None)
    monitor.rows += [
        ended(1_000 + n, f"{NOW + timedelta(hours=2, seconds=n * 7):%Y-%m-%dT%H:%M:%S}") for n in range(500)
    ]
    slow, rounds = Slow(Cut(wiring.panda(), 70), 7, begin), 0
    while slow.round("CA-IAAS-T3") > 600 and rounds < 100:
        rounds += 1
    assert 3 < rounds < 20
    assert {str(1_000 + n) for n in range(500)} <= set(jobs())


def test_a_queue_that_hangs_takes_no_other_s_time_for_ever(monitor):
    """Asked together they fail, and a round has time for one or two of them alone."""
    queues = tuple(f"Q{n}" for n in range(6))
    monitor.rows = [ended(n, "2026-11-24T04:30:00", computingsite=f"Q{n}") for n in range(1, 6)]
    stood = Cursor(stands_at=NOW - timedelta(hours=1), asked_at=NOW - timedelta(hours=1), error=None)
    wiring.documents().write([Write("cursor", f"panda/{queue}", 1, stood) for queue in queues]).result()
    slow = Slow(Broken(wiring.panda(), "Q0"), 3, NOW)
    for minutes in range(0, 20 * 60, 20):
        slow.now = NOW + timedelta(minutes=minutes)
        monitor.now = lambda: slow.now.replace(tzinfo=None)
        try:
            slow.round(*queues)
        except Unavailable:
            continue
    assert set(jobs()) == {"1", "2", "3", "4", "5"}
    assert cursor("Q0").error


class Cut:
    """A monitor that cuts every answer to so many rows, as it does at its limit."""

    def __init__(self, door, limit):
        self.door, self.limit = door, limit

    def rows(self, asked):
        rows = self.door.rows(asked)
        return rows if len(rows) < self.limit else (rows * asked.limit)[: asked.limit]


def test_what_a_monitor_tells_late_is_found_also_after_a_round_that_was_cut(collect, monitor):
    """It shows a job fifty minutes after it ended, when the cursor has long passed that."""
    collect()
    slow = Slow(wiring.panda(), 7, NOW + timedelta(minutes=20))
    monitor.now = lambda: slow.now.replace(tzinfo=None)
    for minutes in (20, 40, 60):
        slow.now = NOW + timedelta(minutes=minutes)
        slow.round("CA-IAAS-T3")
    monitor.rows.append(ended(77, f"{NOW + timedelta(minutes=20):%Y-%m-%dT%H:%M:%S}"))
    slow.now = NOW + timedelta(minutes=70)
    slow.round("CA-IAAS-T3")
    assert "77" in jobs()


def test_a_failure_makes_the_next_round_read_all_of_the_last_hour_again(collect, monitor):
    collect()
    stood_at = cursor().stands_at
    monitor.faulty_queues = {"CA-IAAS-T3"}
    failing = {"stands_at": stood_at, "asked_at": NOW + timedelta(hours=3), "error": "away"}
    version = round(stood_at.timestamp() * 1_000)
    wiring.documents().write([Write("cursor", "panda/CA-IAAS-T3", version, Cursor(**failing))]).result()
    monitor.faulty_queues, monitor.queries = set(), []
    monitor.rows.append(ended(78, f"{stood_at - timedelta(minutes=50):%Y-%m-%dT%H:%M:%S}"))
    collect(NOW + timedelta(hours=4))
    assert "78" in jobs()


def test_late_words_of_the_batch_system_are_asked_for_once_a_day(collect, monitor):
    collect()
    failed = next(row for row in monitor.rows if row["jobstatus"] == "failed")
    failed |= {
        "statechangetime": "2026-11-24T20:00:00",
        "superrorcode": 9,
        "superrordiag": "Diag from worker : removed by site",
    }
    collect(NOW + timedelta(hours=20))
    assert sum("statechangetimerange" in query for query in monitor.queries) == 1
    collect(NOW + timedelta(hours=25))
    assert sum("statechangetimerange" in query for query in monitor.queries) == 2
    made = jobs()[str(failed["pandaid"])]
    assert made.changed_at == datetime(2026, 11, 24, 20, tzinfo=UTC)
    assert made.final_at == datetime(2026, 11, 24, 4, 41, 14, tzinfo=UTC)


def test_of_two_rows_of_a_job_the_newer_counts(collect, monitor):
    newer = monitor.rows[0] | {"jobstatus": "finished"} | changed_at("2026-11-24T04:55:00")
    monitor.rows = [newer, monitor.rows[0], *monitor.rows[1:]]
    monitor.doubled_share = 1.0
    collect()
    assert jobs()[str(newer["pandaid"])].status == "finished"


@pytest.fixture(params=DOCUMENT_STORES)
def store(request, monitor, document_settings, monkeypatch):
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()


NOTHING = dict.fromkeys(panda_rows.FIELDS)
NONSENSE = [
    *(
        None,
        5,
        "row",
        [],
        {},
        NOTHING,
        NOTHING | {"pandaid": True},
        NOTHING | {"pandaid": 1.5} | changed_at("2026-11-24T04:00:00"),
    ),
    *(
        ended(number, when)
        for number, when in (
            (71, "0000-00-00 00:00:00"),
            (72, "9999-12-31T23:59:59"),
            (73, "noon"),
            (74, None),
            (75, 7),
        )
    ),
    *(ended(number, "2026-11-24T04:30:00") | {"pandaid": number} for number in (0, -1, "1e3", "\uff11", 10**20, "")),
]
READABLE = [
    ended(
        81,
        "2026-11-24T04:30:00",
        jobstatus=None,
        starttime=[],
        endtime={},
        durationsec=10**300,
        corecount="\ud800",
        jobmetrics=[[]],
    ),
    ended(
        82,
        "2026-11-24T04:30:00",
        jobstatus="failed",
        piloterrorcode=[1],
        exeerrorcode="1",
        exeerrordiag="\ud800\0x" * 10**5,
        batchid="\0\n",
    ),
    ended(
        "83",
        "2026-11-24T04:30:00",
        statechangetime="9999-12-31T23:59:59",
        cpuconsumptiontime="nan",
        maxpss="1e999",
        attemptnr=10**18,
    ),
]


def test_rows_that_cannot_be_read_cost_themselves_on_every_store(store, collect, monitor):
    monitor.nonsense = NONSENSE + READABLE
    answer = collect().json()
    assert (answer["state"], answer["failed_queues"], answer["unreadable"] % len(NONSENSE)) == ("done", 0, 0)
    assert set(jobs()) == {str(row["pandaid"]) for row in monitor.rows} | {"81", "82", "83"}
    assert cursor().stands_at == datetime(2026, 11, 24, 4, 58, 30, tzinfo=UTC)
    wiring.documents().refresh()
    noted = [one for _, one in wiring.documents().find("unreadable", Unreadable, {})]
    assert {(one.kind, one.source) for one in noted} == {("row", "panda/CA-IAAS-T3")}
    assert {"71", "72", "73", "74", "75"} <= {one.key_text for one in noted}
    assert {one.reason for one in noted} == {
        "pandaid is no whole number above zero",
        "modificationtime is no time until now",
    }


def test_a_placement_that_no_calendar_holds_leaves_rounds_as_they_are(store, collect, client, scheduler):
    ended_at = {"ended_at": "9999-12-31T23:59:59-14:00"}
    place = {
        "batch_id": "s#1.0#1",
        "vm": "atlas-vm-1.west-cloud",
        "cloud": "west",
        "started_at": "2026-11-24T00:00:00Z",
        "state": "x",
    }
    for bad in (place | {"started_at": "0001-01-01T00:00:00+14:00"}, place | ended_at):
        assert client.post("placement-report", json={"jobs": [bad]}, headers=scheduler).json()["accepted"] == 0
    assert collect().json()["state"] == "done"
    assert {job.cloud for job in jobs().values()} == {"unknown"}
    assert client.post("placement-report", json={"jobs": [place]}, headers=scheduler).json()["accepted"] == 1
    assert "west" in {job.cloud for job in jobs().values()}


def test_a_state_change_of_the_year_9999_freezes_no_job(store, collect, monitor):
    row = ended(
        91,
        "2026-11-24T04:30:00",
        jobstatus="running",
        statechangetime="9999-12-31T23:59:59",
        starttime="2026-11-24T04:00:00",
    )
    monitor.rows = [row]
    collect()
    assert jobs()["91"].status == "running"
    monitor.rows = [ended(91, "2026-11-24T04:50:00")]
    collect(NOW + timedelta(minutes=10))
    assert jobs()["91"].status == "finished"


class Broken:
    """A monitor that crashes its reader over one queue."""

    def __init__(self, door, queue):
        self.door, self.queue = door, queue

    def rows(self, asked):
        if self.queue in asked.queues:
            raise ZeroDivisionError("the password is hunter2")
        return self.door.rows(asked)


def test_a_crash_over_one_queue_is_that_queue_s_failure(monitor, caplog):
    monitor.now = lambda: NOW.replace(tzinfo=None)
    queues = ("CA-IAAS-T3", "BAD")
    source = Broken(wiring.panda(), "BAD")
    round_of = panda_collector.Collection(
        source, queues, wiring.documents(), Deadline(lambda: NOW, NOW + timedelta(seconds=40))
    )
    assert round_of.run()["failed_queues"] == 1
    assert (len(jobs()), cursor().error) == (6, None)
    assert cursor("BAD").stands_at < NOW - timedelta(hours=23)
    assert "incident" in cursor("BAD").error
    assert "hunter2" not in cursor("BAD").error + caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b'{"jobs": {}}',
        b'{"jobs": "x"}',
        b"[]",
        b"5",
        b'{"jobs": [{"pandaid": 1',
        b"{" * 10**6,
        b'{"jobs":' + b"[" * 10**5,
        b"\xff",
    ],
)
def test_an_answer_of_another_shape_is_an_outage(body):
    with pytest.raises(Unavailable):
        jobs_panda._jobs(body)


def test_a_number_of_a_thousand_digits_costs_its_own_row():
    assert jobs_panda._jobs(b'{"jobs": [{"pandaid": ' + b"9" * 5_000 + b'}, {"pandaid": 1}, NaN]}')[1] == {"pandaid": 1}


def test_a_day_on_fifteen_clouds(store, monitor, client, scheduler, reader, monkeypatch):
    """Every job once, on its right cloud where that can be known, whatever failed and whenever placements came."""
    day = simulated_day.Day(jobs=1_500, clouds=15)
    day.live_through(monitor, client, scheduler, monkeypatch)
    found = jobs()
    assert len(found) == len(day.truth)
    assert {number: (found[number].status, found[number].cloud) for number in found} == day.truth
    table = client.get(
        "dashboard/data",
        params={"view": "jobs", "by": "status", "until": day.end.isoformat(), "window": "week"},
        headers=reader,
    ).json()["table"]
    assert {(row["cloud"], row["status"]): row["job_count"] for row in table} == day.counts()
    assert day.late_words
    assert {found[number].error for number in day.late_words} == {"supervisor 9"}
