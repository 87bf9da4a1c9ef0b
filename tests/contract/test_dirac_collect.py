"""The collector on a real DiracX: jobs are submitted there,
named by vms here, driven through their states, and settled.
"""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from localstack import classic_dirac
from localstack.diracx import diracx
from skytally.app import wiring
from skytally.core.documents import Job
from skytally.core.records import Caller
from skytally.jobs import heartbeats
from tests.support import builders

CALLER = Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))
BEFORE = timedelta(hours=3)


@pytest.fixture(scope="module")
def dirac(tmp_path_factory):
    with diracx(tmp_path_factory.mktemp("diracx")) as server:
        yield server


@pytest.fixture
def collect(home, client, dirac, monkeypatch):
    (home / "token").write_text(json.dumps({"access_token": dirac.token()}))
    monkeypatch.setenv("SKYTALLY_DIRAC_URL", dirac.url)
    monkeypatch.setenv("SKYTALLY_DIRAC_TOKEN_FILE", str(home / "token"))
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    return lambda: client.post("dirac-collect").json()


def named(*ids, ago=BEFORE, vm="vm-1"):
    heartbeats.record(builders.heartbeat(*map(str, ids), vm=vm), CALLER, wiring.documents(), datetime.now(UTC) - ago)


def known(job_id):
    return wiring.documents().get("job", f"dirac/{job_id}", Job)


def run(dirac, job_id, **last):
    """Take a job to our site and let it run; then say what came of it."""
    dirac.move(job_id, "LCG.Victoria.ca")
    dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Running", MinorStatus="Application")
    if last:
        dirac.set_state(job_id, datetime.now(UTC).isoformat(), **last)


def at(hours):
    return datetime.now(UTC) + timedelta(hours=hours)


def test_each_job_ends_as_dirac_says(dirac, collect):
    done, failed, killed, running, silent, unheard = dirac.submit(6)
    for job_id, last in (
        (done, {"Status": "Done", "MinorStatus": "Execution Complete"}),
        (failed, {"Status": "Failed", "MinorStatus": "Payload failed", "ApplicationStatus": "exit 65"}),
        (killed, {"Status": "Killed", "MinorStatus": "Marked for termination"}),
        (running, {}),
        (silent, {"Status": "Stalled"}),
        (unheard, {}),
    ):
        run(dirac, job_id, **last)
    named(done, failed, killed, running, silent, 10**9)
    named(unheard, ago=timedelta(minutes=5))
    told = collect()
    assert (told["state"], told["asked"], told["final"]) == ("done", 7, 3)
    ends = {
        job_id: (known(job_id).status, known(job_id).final_at is not None)
        for job_id in (done, failed, killed, running, silent)
    }
    assert list(ends.values()) == [
        ("Done", True),
        ("Failed", True),
        ("Killed", True),
        ("Running", False),
        ("Stalled", False),
    ]
    assert (known(failed).error, known(failed).error_message, known(failed).site) == (
        "Payload failed",
        "exit <N>",
        "LCG.Victoria.ca",
    )
    assert (known(10**9).status, known(unheard).status, known(unheard).site) == (
        "Running",
        "Running",
        "LCG.Victoria.ca",
    )
    told = collect()
    assert (told["asked"], told["running"], told["final"]) == (6, 1, 0)


def test_times_are_the_payload_s(dirac, collect):
    """The server takes no status from before a job's submission, but the times of the run."""
    done, stalled = dirac.submit(2)
    for job_id in (done, stalled):
        dirac.move(job_id, "LCG.Victoria.ca")
        dirac.set_state(job_id, at(-6).isoformat(), Status="Running", MinorStatus="Application")
    for moment in (-2, 0):
        dirac.set_state(done, at(moment).isoformat(), Status="Done", MinorStatus="Execution Complete")
    dirac.set_state(stalled, at(0).isoformat(), Status="Failed", MinorStatus="Job stalled: pilot not running")
    for ago in range(6, 2, -1):
        named(done, stalled, ago=timedelta(hours=ago - 0.1))
    collect()
    assert known(done).wall_ms == pytest.approx(4 * 3_600_000, abs=60_000)
    assert known(stalled).wall_ms == pytest.approx(3.2 * 3_600_000, abs=900_000)


def test_what_moved_while_nobody_asked_is_followed(dirac, collect):
    """The real server keeps the first run's StartExecTime and EndExecTime; only RescheduleTime tells."""
    failed, evicted = dirac.submit(2)
    for job_id in (failed, evicted):
        dirac.move(job_id, "LCG.Victoria.ca")
        dirac.set_state(job_id, at(-6).isoformat(), Status="Running", MinorStatus="Application")
    dirac.set_state(failed, at(-4).isoformat(), Status="Failed", MinorStatus="Payload failed")
    named(failed, evicted, ago=timedelta(hours=5.9))
    named(failed, evicted, ago=timedelta(hours=4.1))
    for job_id in (failed, evicted):
        dirac.reschedule(job_id)
        dirac.move(job_id, "LCG.Other.org")
        dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Running", MinorStatus="Application")
        dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Done", MinorStatus="Execution Complete")
    collect()
    for job_id in (failed, evicted):
        made = known(job_id)
        assert (made.status, made.cloud, made.site, made.attempt) == ("Done", "elsewhere", "LCG.Other.org", 1)
        assert datetime.now(UTC) - made.final_at < timedelta(minutes=5)
        assert made.wall_ms == pytest.approx(2 * 3_600_000, abs=900_000)


def test_what_failed_and_was_rescheduled_after_that_is_reopened(dirac, collect):
    (job_id,) = dirac.submit(1)
    run(dirac, job_id, Status="Failed", MinorStatus="Payload failed")
    named(job_id)
    collect()
    assert known(job_id).final_at is not None
    dirac.reschedule(job_id)
    collect()
    assert (known(job_id).final_at, known(job_id).attempt) == (None, 1)
    run(dirac, job_id)
    named(job_id, ago=timedelta(0), vm="vm-2")
    collect()
    assert (known(job_id).status, known(job_id).cloud, known(job_id).vm, known(job_id).doubt) == (
        "Running",
        "uvic",
        "vm-2",
        None,
    )


def test_a_rescheduled_job_is_followed_elsewhere(dirac, collect):
    (job_id,) = dirac.submit(1)
    run(dirac, job_id)
    named(job_id)
    collect()
    dirac.reschedule(job_id)
    collect()
    assert (known(job_id).final_at, known(job_id).attempt, known(job_id).cloud) == (None, 1, "uvic")
    dirac.move(job_id, "LCG.Other.org")
    dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Running", MinorStatus="Application")
    collect()
    assert (known(job_id).cloud, known(job_id).site, known(job_id).status) == ("elsewhere", "LCG.Other.org", "Running")
    dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Done", MinorStatus="Execution Complete")
    collect()
    assert (known(job_id).status, known(job_id).final_at is not None) == ("Done", True)
    assert "0: Running at LCG.Victoria.ca" in known(job_id).history


def test_a_forged_token_is_an_outage(dirac, collect, home):
    (job_id,) = dirac.submit(1)
    named(job_id)
    (home / "token").write_text("e30.e30.x")
    assert collect()["error"]["code"] == "unavailable"
    assert known(job_id).status == "Running"


class TestCommandLine:
    """The classic command line behind `dirac-cli:`, found where the shell finds it."""

    @pytest.fixture
    def collect(self, client, tmp_path, monkeypatch):
        classic_dirac.set_up(tmp_path)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("SKYTALLY_DIRAC_URL", "dirac-cli:")
        monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
        wiring.close()
        return lambda: client.post("dirac-collect")

    def test_each_job_ends_as_dirac_says(self, collect, tmp_path):
        named(1, 2, 3, 99)
        told = collect().json()
        assert (told["state"], told["asked"], told["final"]) == ("done", 4, 2)
        assert [known(n).status for n in (1, 2, 3, 99)] == ["Done", "Running", "Failed", "Running"]
        assert (known(3).error, known(3).application_status) == ("Application Finished With Errors", "exit code=11")
        assert len(classic_dirac.calls(tmp_path)) == 1

    def test_a_job_is_followed_elsewhere(self, collect, tmp_path):
        named(2)
        collect()
        moved = {
            "RescheduleCounter": "1",
            "RescheduleTime": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
            "Site": "LCG.Other.org",
        }
        classic_dirac.tell(tmp_path, {"2": classic_dirac.RECORDED_MORE | classic_dirac.RECORDED["2"] | moved})
        collect()
        assert (known(2).cloud, known(2).site, known(2).history) == (
            "elsewhere",
            "LCG.Other.org",
            "0: Running at LCG.Victoria.ca",
        )

    @pytest.mark.parametrize("broken", ["", "not json"])
    def test_a_command_that_fails_is_an_outage_that_changes_nothing(self, collect, tmp_path, broken):
        named(1)
        (tmp_path / "dstat.json").write_text(broken)
        before = known(1)
        answer = collect()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert known(1) == before
        classic_dirac.tell(tmp_path, {"1": classic_dirac.RECORDED_MORE | classic_dirac.RECORDED["1"]})
        assert collect().json()["final"] == 1
