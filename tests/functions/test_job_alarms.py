"""Faulty clouds, vms that swallow jobs and stuck payloads: found in what is stored, on each store."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.alarms import evidence
from skytally.app import wiring
from skytally.core.documents import Alarm, Cursor, Heartbeat, Job
from skytally.core.ports import Write
from skytally.jobs.dirac_state import ZOMBIE
from tests.support.builders import DOCUMENT_STORES

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
HOUR_MS = 3_600_000
CLOUDS = [f"cloud-{n}" for n in range(6)]
USUAL = {
    "system": "panda",
    "status": "finished",
    "cores": 1,
    "multicore": False,
    "final_at": NOW - 30 * MINUTE,
    "processing_type": "simul",
}
SPENT = {"wall_ms": HOUR_MS, "cpu_ms": HOUR_MS, "core_ms": HOUR_MS, "core_ms_with_cpu": HOUR_MS, "wasted_core_ms": 0}
FAILED = {"status": "failed", "error": "pilot 1099", "error_message": "stage-in failed"}
RUNNING = {"status": "running", "final_at": None, "cpu_ms": 0, "core_ms_with_cpu": 0}


@pytest.fixture(params=DOCUMENT_STORES)
def store(request, home, document_settings, monkeypatch):
    """Each document store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    return wiring.documents()


@pytest.fixture
def jobs(store):
    """Keep so many jobs of some fields."""
    numbers = iter(range(100_000))

    def keep(count, system="panda", **fields):
        blank = dict.fromkeys(Job.__struct_fields__) | {"changed_at": NOW, "seen_at": NOW}
        made = [
            Job(**blank | USUAL | SPENT | {"system": system, "job_id": str(next(numbers))} | fields)
            for _ in range(count)
        ]
        store.write([Write("job", f"{system}/{job.job_id}", 1, job) for job in made]).result()

    return keep


@pytest.fixture
def found(store, round_at):
    """Do a round and answer what is open of the kinds that are not about a machine's disks."""

    def look(moment=NOW):
        assert round_at(moment)["state"] == "done"
        store.refresh()
        alarms = store.find("alarm", Alarm, {"state": ["raised"]})
        return {(alarm.kind, alarm.subject): alarm.message for _, alarm in alarms if alarm.kind != "store_nearly_full"}

    return look


def usual_work(jobs):
    """A hundred jobs a cloud, a tenth of which fail, on ten vms each, of five tasks."""
    for cloud in CLOUDS:
        for n in range(20):
            where = {"cloud": cloud, "vm": f"vm-{n % 10}", "task_id": str(n % 5)}
            jobs(1 if n % 2 else 0, **where, **FAILED)
            jobs(4 if n % 2 else 5, **where)


def test_healthy_clouds_raise_nothing(jobs, found):
    usual_work(jobs)
    assert found() == {}


def test_a_faulty_cloud_is_named_with_its_error_and_is_over_an_hour_after_the_last_evidence(
    store, jobs, found, client, bearer
):
    usual_work(jobs)
    jobs(60, cloud="cloud-2", vm="vm-1", task_id="3", **FAILED)
    jobs(30, cloud="cloud-2", vm="vm-2", task_id="1", status="cancelled")
    message = found()["faulty_cloud", "cloud-2"]
    assert message.startswith("jobs fail on cloud-2: 70 of 160 in the last hour, where ")
    assert "most with pilot 1099 (stage-in failed)" in message
    store.refresh()
    (alarm,) = (alarm for _, alarm in store.find("alarm", Alarm, {}) if alarm.kind == "faulty_cloud")
    shown = client.get("dashboard/data", params=evidence.parameters(alarm), headers=bearer("reader")).json()
    assert (shown["row_count"], {row["error"] for row in shown["table"]}) == (70, {"pilot 1099"})
    assert {row["cloud"] for row in shown["table"]} == {"cloud-2"}
    later = NOW + 45 * MINUTE
    for cloud in CLOUDS:
        jobs(40, cloud=cloud, vm="vm-1", task_id="4", final_at=later - 20 * MINUTE)
    assert list(found(later)) == [("faulty_cloud", "cloud-2")]
    assert found(later + 30 * MINUTE) == {}


def test_an_alarm_is_not_over_because_nothing_is_collected(store, jobs, found):
    def collected(until, asked_at):
        cursor = Cursor(stands_at=until, asked_at=asked_at, error="away")
        store.write([Write("cursor", "panda/q", round(asked_at.timestamp()), cursor)]).result()

    usual_work(jobs)
    jobs(60, cloud="cloud-2", vm="vm-1", task_id="3", **FAILED)
    for hours in range(4):
        collected(NOW, NOW + hours * HOUR)
        assert ("faulty_cloud", "cloud-2") in found(NOW + hours * HOUR)
    collected(NOW + 5 * HOUR, NOW + 5 * HOUR)
    assert ("faulty_cloud", "cloud-2") not in found(NOW + 5 * HOUR)


@pytest.mark.parametrize(
    ("cloud", "how"), [("cloud-2", {"status": "cancelled"}), ("unknown", FAILED), ("elsewhere", FAILED)]
)
def test_what_is_cancelled_or_not_placed_is_no_clouds_fault(jobs, found, cloud, how):
    usual_work(jobs)
    jobs(80, cloud=cloud, vm="vm-1", task_id="3", **how)
    assert found() == {}


def test_a_bad_task_on_one_cloud_is_not_the_clouds_fault(jobs, found):
    usual_work(jobs)
    jobs(80, cloud="cloud-2", vm="vm-1", task_id="its own", **FAILED)
    assert found() == {}


def test_dirac_clouds_are_compared_without_tasks(jobs, found):
    for cloud in CLOUDS:
        jobs(45, "dirac", cloud=cloud, vm="vm-1", status="Done", processing_type=None)
        jobs(5 if cloud != "cloud-1" else 60, "dirac", cloud=cloud, vm="vm-1", status="Failed", processing_type=None)
    assert list(found()) == [("faulty_cloud", "cloud-1")]


def test_a_vm_that_swallows_jobs_is_named_and_its_cloud_is_not(jobs, found):
    usual_work(jobs)
    jobs(90, cloud="cloud-2", vm="vm-3", task_id="3", wall_ms=60_000, **FAILED)
    jobs(90, cloud="cloud-4", vm="vm-3", task_id="3")
    alarms = found()
    assert list(alarms) == [("black_hole_vm", "cloud-2/vm-3")]
    assert alarms["black_hole_vm", "cloud-2/vm-3"].startswith(
        "vm-3 swallows jobs: 92 of 100 failed within the hour, after 2.3 min each"
    )


def test_jobs_that_fail_late_make_no_black_hole(jobs, found):
    usual_work(jobs)
    jobs(25, cloud="cloud-2", vm="vm-30", task_id="3", wall_ms=2 * HOUR_MS, **FAILED)
    assert found() == {}


def test_where_most_vms_of_a_cloud_swallow_jobs_it_is_the_cloud(jobs, found):
    usual_work(jobs)
    for n in range(15):
        jobs(12, cloud="cloud-5", vm=f"bad-{n}", task_id="3", wall_ms=60_000, **FAILED)
    assert list(found()) == [("faulty_cloud", "cloud-5")]


def test_a_task_that_fails_fast_everywhere_makes_no_black_hole(jobs, found):
    usual_work(jobs)
    for cloud in CLOUDS:
        for n in range(20, 28):
            jobs(12, cloud=cloud, vm=f"vm-{n}", task_id="bad", wall_ms=60_000, **FAILED)
    assert found() == {}


def test_a_payload_that_runs_far_longer_than_its_like_or_uses_no_cpu(jobs, found):
    jobs(30, cloud="uvic", vm="vm-1")
    jobs(1, cloud="uvic", vm="vm-1", **RUNNING | {"wall_ms": 30 * HOUR_MS})
    jobs(1, cloud="uvic", vm="vm-2", **RUNNING | {"wall_ms": 23 * HOUR_MS})
    jobs(1, cloud="uvic", vm="vm-3", processing_type="other", **RUNNING | {"wall_ms": 300 * HOUR_MS})
    jobs(
        1,
        cloud="uvic",
        vm="vm-4",
        **RUNNING | {"wall_ms": 4 * HOUR_MS, "cpu_ms": 9_000, "core_ms_with_cpu": 4 * HOUR_MS},
    )
    jobs(
        1,
        cloud="uvic",
        vm="vm-5",
        **RUNNING | {"wall_ms": 4 * HOUR_MS, "cpu_ms": 900_000, "core_ms_with_cpu": 4 * HOUR_MS},
    )
    jobs(1, cloud="uvic", vm="vm-6", seen_at=NOW - 3 * HOUR, **RUNNING | {"wall_ms": 300 * HOUR_MS})
    jobs(1, cloud="unknown", **RUNNING | {"job_id": "77777", "wall_ms": 30 * HOUR_MS})
    assert found() == {
        (
            "stuck_payload",
            "uvic/vm-1",
        ): "stuck on uvic/vm-1: panda/30 has run for 30 h, where its like take 1.0: look at the vm, and end what hangs",
        (
            "stuck_payload",
            "uvic/vm-4",
        ): "stuck on uvic/vm-4: panda/33 has used 9 s of CPU in 4 h: look at the vm, and end what hangs",
        (
            "stuck_payload",
            "panda/77777",
        ): "stuck on panda/77777: panda/77777 has run for 30 h, where its like take 1.0: look at the vm, and end what "
        "hangs",
    }


def test_a_payload_that_outlives_its_job_for_as_long_as_a_vm_names_it(store, jobs, found):
    zombie = {
        "system": "dirac",
        "status": "Killed",
        "cloud": "uvic",
        "vm": "vm-1",
        "final_at": NOW - 4 * HOUR,
        "doubt": ZOMBIE,
    }
    jobs(1, **zombie | {"job_id": "5"})
    jobs(1, **zombie | {"job_id": "6", "doubt": None})
    blank = dict.fromkeys(Heartbeat.__struct_fields__)
    for job_id, last_seen_at in (("5", NOW - 10 * MINUTE), ("6", NOW - 10 * MINUTE), ("7", NOW)):
        times = {"first_seen_at": NOW - 9 * HOUR, "last_seen_at": last_seen_at, "named_together": 1}
        beat = Heartbeat(**blank | times | {"job_id": job_id, "noted": "over", "vm": "vm-1", "cloud": "uvic"})
        store.write([Write("heartbeat", f"{job_id}@vm-1@uvic", 1, beat)]).result()
    assert found() == {
        (
            "stuck_payload",
            "uvic/vm-1",
        ): "stuck on uvic/vm-1: dirac/5 runs on, although DIRAC says Killed: look at the vm, and end what hangs"
    }
    assert found(NOW + 3 * HOUR) == {}
