"""dirac_collect over HTTP, on both document stores, with a stand-in for DIRAC's command line;
a real DiracX is in tests/contract.
"""

import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from localstack import classic_dirac
from skytally.app import wiring
from skytally.core.documents import Heartbeat, Job, Unreadable
from skytally.core.records import Caller
from skytally.jobs import heartbeats
from tests.support import builders
from tests.support.builders import DOCUMENT_STORES, FakeVm

CALLER = Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))
JOB = classic_dirac.RECORDED_MORE | {"RescheduleTime": None, "EndExecTime": None}


@pytest.fixture(params=DOCUMENT_STORES)
def collect(request, client, document_settings, tmp_path, monkeypatch):
    classic_dirac.set_up(tmp_path)
    told = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "SKYTALLY_DIRAC_URL": "dirac-cli:",
        "SKYTALLY_TIMER_MIN_SECONDS": "0",
    }
    for setting, value in {**document_settings(request.param), **told}.items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    return lambda: client.post("dirac-collect")


def named(*job_ids, hours_ago=3.0, vm="vm-1"):
    at = datetime.now(UTC) - timedelta(hours=hours_ago)
    heartbeats.record(builders.heartbeat(*job_ids, vm=vm), CALLER, wiring.documents(), at)


def job(job_id):
    return wiring.documents().get("job", f"dirac/{job_id}", Job)


def test_a_round_settles_what_fell_silent_and_the_page_shows_it(collect, client, reader):
    named("1", "2", "3")
    named("2", hours_ago=0.2)
    assert collect().json() == {"state": "done", "running": 0, "asked": 3, "final": 2, "unreadable": 0}
    assert (job("1").status, job("3").status, job("2").status, job("2").final_at) == ("Done", "Failed", "Running", None)
    query = "view=jobs&by=status&window=day&until=2026-11-24T12:00:00Z"
    table = client.get(f"dashboard/data?{query}", headers=reader).json()["table"]
    assert {(row["cloud"], row["status"], row["job_count"]) for row in table} >= {
        ("uvic", "Done", 1),
        ("uvic", "Failed", 1),
    }


def test_the_same_round_again_changes_nothing(collect):
    named("1", "2", "3")
    collect()
    before = [job(n) for n in "13"]
    assert collect().json()["final"] == 0
    assert [job(n) for n in "13"] == before


def test_cores_are_the_vm_s(collect, client, bearer):
    vm = FakeVm("vm-1", cores=8)
    now = datetime.now(UTC).replace(microsecond=0)
    who = bearer("reporter", vm="vm-1", clouds=("uvic",))
    assert client.post("usage-report", json={"samples": [vm.sample(now)]}, headers=who).json()["accepted"] == 1
    named("3", hours_ago=1.5)
    named("3", hours_ago=1.2)
    collect()
    assert (job("3").cores, job("3").core_ms) == (8, 8 * job("3").wall_ms)
    assert job("3").wasted_core_ms == job("3").core_ms > 0


def test_a_reschedule_is_followed_and_a_zombie_told_of(collect, tmp_path):
    named("2", hours_ago=2.5)
    collect()
    moved = f"{datetime.now(UTC) - timedelta(hours=2):%Y-%m-%d %H:%M:%S}"
    elsewhere = JOB | {"Status": "Done", "Site": "LCG.Other.org", "RescheduleCounter": "1", "RescheduleTime": moved}
    classic_dirac.tell(tmp_path, {"2": elsewhere})
    collect()
    assert (job("2").status, job("2").cloud, job("2").history) == ("Done", "elsewhere", "0: Running at LCG.Victoria.ca")
    named("2", hours_ago=0)
    collect()
    assert (job("2").status, job("2").doubt) == ("Done", "zombie payload")


def test_a_command_that_is_cut_short_is_an_outage_and_the_next_round_does_it(collect, tmp_path):
    named("1")
    real = (tmp_path / "dstat").read_text()
    (tmp_path / "dstat").write_text("#!/bin/sh\necho 'JobID,Status,Site'\nexit 1\n")
    answer = collect()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "Retry-After" in answer.headers
    assert job("1").status == "Running"
    (tmp_path / "dstat").write_text(real)
    assert (tmp_path / "dstat").stat().st_mode & stat.S_IXUSR
    assert collect().json()["final"] == 1


def test_what_cannot_be_read_of_one_job_stops_no_other_and_is_noted(collect, tmp_path):
    """Status null, a counter that is a word,
    a line break in the last field and before it, and a forged row of another job.
    """
    forged = "x,\n6,Failed,S,None,None,None,None,None,0,Minor,App"
    odd = {
        "1": {"Status": ""},
        "2": {"RescheduleCounter": "many"},
        "3": {"ApplicationStatus": "two\nlines"},
        "4": {"MinorStatus": "a\nb"},
    }
    odd |= {
        "5": {"ApplicationStatus": forged},
        "6": {},
        "7": {"EndExecTime": "9999-12-31 23:59:59", "LastUpdateTime": "0000-00-00 00:00:00"},
    }
    done = JOB | {"Status": "Done", "MinorStatus": "M", "ApplicationStatus": "A"}
    classic_dirac.tell(tmp_path, {number: done | fields for number, fields in odd.items()})
    named(*odd)
    for _ in range(2):
        assert (
            collect().status_code,
            {job(number).status for number in "34567"},
            {job(number).status for number in "12"},
        ) == (
            200,
            {"Done"},
            {"Running"},
        )
    assert job("7").final_at < datetime.now(UTC)
    wiring.documents().refresh()
    noted = {
        (one.source, one.key_text, one.reason)
        for _, one in wiring.documents().find("unreadable", Unreadable, {"kind": ["row"]})
    }
    assert noted == {
        ("dirac", "1", "a job without a status"),
        ("dirac", "2", "a job whose RescheduleCounter is no count"),
    }


def test_a_round_that_crashes_is_an_outage_with_an_incident_and_the_next_one_is_due(collect, monkeypatch):
    named("1")
    with monkeypatch.context() as broken:
        broken.setattr("skytally.jobs.dirac_rows.until", lambda *_: 1 / 0)
        answer = collect()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert "incident" in answer.json()["error"]["message"]
    assert collect().json()["state"] == "done"
    assert job("1").status == "Done"


def test_a_thousand_calls_do_no_more_than_one(collect, client, monkeypatch, tmp_path):
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "60")
    wiring.config.cache_clear()
    named("1", "2")
    states = [client.post("dirac-collect").json()["state"] for _ in range(50)]
    assert states == ["done"] + ["not_due"] * 49
    assert len(classic_dirac.calls(tmp_path)) == 1


def test_five_hundred_jobs_are_one_command(collect, tmp_path):
    named(*map(str, range(1, 501)))
    collect()
    assert len(classic_dirac.calls(tmp_path)) == 1
    beats = wiring.documents().get_many("heartbeat", [f"{n}@vm-1@uvic" for n in (1, 2, 3)], Heartbeat)
    assert [beat.noted for beat in beats] == ["settled", "running", "settled"]
