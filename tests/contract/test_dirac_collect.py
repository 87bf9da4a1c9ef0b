"""The collector on a real DiracX: jobs are submitted there, named by vms here, driven through their states, and settled."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from localstack.diracx import diracx
from skytally import heartbeat, wiring
from skytally.documents import Job
from skytally.records import Caller, HeartbeatReport

pytestmark = pytest.mark.servers
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
    return lambda: client.post("dirac_collect").json()


def named(*ids, ago=BEFORE, vm="vm-1"):
    heartbeat.record(HeartbeatReport(vm=vm, jobs=tuple(map(str, ids))), CALLER, wiring.documents(), datetime.now(UTC) - ago)


def known(job_id):
    return wiring.documents().get("job", f"dirac/{job_id}", Job)


def run(dirac, job_id, **last):
    """Take a job to our site and let it run; then say what came of it."""
    dirac.move(job_id, "LCG.Victoria.ca")
    dirac.set_state(job_id, datetime.now(UTC).isoformat(), Status="Running", MinorStatus="Application")
    if last:
        dirac.set_state(job_id, datetime.now(UTC).isoformat(), **last)


def test_each_job_ends_as_dirac_says(dirac, collect):
    done, failed, killed, running, silent, unheard = dirac.submit(6)
    for job_id, last in (
        (done, {"Status": "Done", "MinorStatus": "Execution Complete"}),
        (failed, {"Status": "Failed", "MinorStatus": "Payload failed", "ApplicationStatus": "exit 65"}),
        (killed, {"Status": "Killed", "MinorStatus": "Marked for termination"}),
        (running, {}),
        (silent, {"Status": "Stalled"}),
    ):
        run(dirac, job_id, **last)
    named(done, failed, killed, running, silent, 10**9)
    named(unheard, ago=timedelta(minutes=5))
    told = collect()
    assert (told["state"], told["asked"], told["running"]) == ("done", 6, 1)
    ends = {job_id: (known(job_id).status, known(job_id).final_at is not None) for job_id in (done, failed, killed, running, silent)}
    assert list(ends.values()) == [("Done", True), ("Failed", True), ("Killed", True), ("Running", False), ("Stalled", False)]
    assert (known(failed).error, known(failed).error_message, known(failed).site) == ("Payload failed", "exit <N>", "LCG.Victoria.ca")
    assert (known(10**9).status, known(unheard).status) == ("Running", "Running")
    assert collect()["asked"] == 4


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
