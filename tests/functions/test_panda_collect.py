"""panda_collect on a monitor that has the real one's rules and bad days."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import simulated_day
from lab import DOCUMENT_STORES

from localstack.bigpanda import FAULTS, bigpanda
from skytally import panda_collection, wiring
from skytally.documents import Cursor, Job

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
        monkeypatch.setattr("skytally.web.clock", lambda: at)
        monitor.now = lambda: at.replace(tzinfo=None)
        return client.post("panda_collect")

    return round_at


def changed_at(text):
    return {"modificationtime": text, "statechangetime": text}


def jobs():
    wiring.documents().refresh()
    return {one.job_id: one for _, one in wiring.documents().find("job", Job, {"system": ["panda"]})}


def cursor():
    return wiring.documents().get("cursor", "panda", Cursor)


def test_without_a_monitor_it_is_off(client):
    assert client.post("panda_collect").json() == {"state": "off"}


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
    assert {key: (job.status, job.cloud) for key, job in jobs().items()} == {key: (job.status, job.cloud) for key, job in before.items()}
    assert monitor.requests <= 3


@pytest.mark.parametrize("fault", FAULTS)
def test_no_answer_is_never_no_jobs(collect, monitor, fault):
    collect()
    stands_at = cursor().stands_at
    monitor.rows.append(
        monitor.rows[-1] | {"pandaid": 99, "modificationtime": "2026-11-24T05:30:00", "statechangetime": "2026-11-24T05:30:00"}
    )
    monitor.next_faults = [fault]
    answer = collect(NOW + timedelta(hours=1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert (cursor().stands_at, "99" in jobs()) == (stands_at, False)
    assert collect(NOW + timedelta(hours=1, minutes=1)).json()["state"] == "done"
    assert "99" in jobs()


def test_a_refused_token_is_said(collect, monitor, monkeypatch, tmp_path):
    monkeypatch.setenv("SKYTALLY_PANDA_TOKEN_FILE", str(tmp_path / "none"))
    wiring.close()
    assert "SKYTALLY_PANDA_TOKEN_FILE" in collect().json()["error"]["message"]


def test_a_comma_in_the_settings_is_two_queues_and_a_star_is_refused(collect, monitor, monkeypatch):
    monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", "CA-IAAS-T3,OTHER")
    wiring.close()
    assert collect().json()["jobs"] >= 6
    assert {query["computingsite"] for query in monitor.queries} >= {"CA-IAAS-T3|OTHER"}
    monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", "CA*")
    wiring.close()
    assert collect().json()["error"]["code"] == "malformed_setting"


def test_an_outage_of_days_is_stepped_through_past_the_archive_s_edge(collect, monitor):
    collect()
    later = NOW + timedelta(days=5)
    for day in range(6):
        at = f"{NOW + timedelta(days=day, hours=1):%Y-%m-%dT%H:%M:%S}"
        monitor.rows.append(
            monitor.rows[-1] | {"pandaid": 100 + day, "jobstatus": "finished", "modificationtime": at, "statechangetime": at}
        )
    while (answer := collect(later).json())["behind_seconds"]:
        assert answer["state"] == "done"
    assert {f"{100 + day}" for day in range(5)} <= set(jobs())


def test_a_round_that_has_no_time_left_goes_on_where_it_stopped(monitor, client):
    moments = iter([NOW] * 4 + [NOW + timedelta(seconds=n) for n in range(50, 5_000, 50)])
    round_of = panda_collection.Collection(
        wiring.panda(), ("CA-IAAS-T3",), wiring.documents(), lambda: next(moments), NOW + timedelta(seconds=40)
    )
    assert round_of.run()["behind_seconds"] > 3_600
    assert cursor().stands_at < NOW


def test_late_words_of_the_batch_system_are_asked_for_once_a_day(collect, monitor):
    collect()
    failed = next(row for row in monitor.rows if row["jobstatus"] == "failed")
    failed |= {"statechangetime": "2026-11-24T20:00:00", "superrorcode": 9, "superrordiag": "Diag from worker : removed by site"}
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


@pytest.mark.parametrize("store", DOCUMENT_STORES)
def test_a_day_on_fifteen_clouds(store, monitor, client, scheduler, reader, monkeypatch, document_settings):
    """Every job once, on its right cloud where that can be known, whatever failed and whenever placements came."""
    for setting, value in document_settings(store).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    day = simulated_day.Day(jobs=1_500, clouds=15)
    day.live_through(monitor, client, scheduler, monkeypatch)
    found = jobs()
    assert len(found) == len(day.truth)
    assert {number: (found[number].status, found[number].cloud) for number in found} == day.truth
    table = client.get("dashboard/data", params={"view": "jobs", "until": day.end.isoformat(), "window": "week"}, headers=reader).json()[
        "table"
    ]
    assert {(row["cloud"], row["status"]): row["job_count"] for row in table} == day.counts()
