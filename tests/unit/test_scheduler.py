"""scheduler.py as a process of its own: what it tells of jobs and vms,
whatever the ads hold and whichever command fails.
"""

import json
import shutil
import stat
import subprocess
import sys
from functools import partial

import pytest

from tests.support.agent_lab import interpreters
from tests.support.scheduler_lab import (
    RECORDED,
    SCRIPT,
    T0,
    TOKEN,
    Pool,
    ad,
    fields_of,
    number_of,
    receiving,
    scheduler,
)

WEST = {
    "group_name": "g",
    "cloud_name": "west",
    "vmid": "1",
    "hostname": "g--west--1--x",
    "cores": 8,
    "status": "ACTIVE",
}
WEST |= {"start_time": "2026-07-01 12:00:00", "flavor_name": "c8"}


@pytest.fixture
def pool(tmp_path):
    with receiving() as receiver:
        yield Pool(tmp_path, receiver)


def waiting(number, status, **fields):
    """Describe a job in the queue that has run and runs no more."""
    gone = {
        "CompletionDate": None,
        "ExitCode": None,
        "LastVacateTime": T0 + 10 * number + 4,
        "LastRemoteWallClockTime": 4.0,
    }
    return fields_of(number, JobStatus=status, EnteredCurrentStatus=T0 + 90_000, **gone, **fields)


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: path.split("/")[-3])
def test_what_is_told_of_a_job_by_every_python(pool, python):
    pool.add(1)
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    done = pool.run(python=python)
    assert (done.returncode, done.stderr) == (0, "")
    assert pool.jobs == [
        {
            "batch_id": f"sched.test@#1.0#{T0}",
            "vm": "vm-1",
            "cloud": "west",
            "slot": "slot1_1",
            "started_at": "2026-11-24T06:00:10Z",
            "ended_at": "2026-11-24T06:00:15Z",
            "wall_seconds": 5.0,
            "cpu_seconds": 4.0,
            "exit_code": 0,
            "state": "completed",
        }
    ]


def test_awkward_ads(pool):
    never = {"LastRemoteHost": None, "CompletionDate": None, "JobStatus": 3, "JobCurrentStartDate": None}
    pool.add(1, **never, banner="*** Offset = 0 ClusterId = 1 CompletionDate = -1")
    pool.add(2, JobStatus=3, CompletionDate=0, EnteredCurrentStatus=T0 + 99, ExitCode=None)
    pool.add(3, NumShadowStarts=2, RemoteWallClockTime=15.0, LastRemoteWallClockTime=12.0)
    pool.add(4, NumShadowStarts=2, RemoteWallClockTime=15.0)
    with pool.history.open("ab") as file:
        file.write(ad(5).replace(b"vm-5", b"vm-\xe9").replace(b"RemoteUserCpu = 3.0", b"RemoteUserCpu = Cpus + 1"))
    pool.run()
    jobs = {number_of(job): job for job in pool.jobs}
    assert set(jobs) == {2, 3, 4, 5}
    assert (jobs[2]["state"], jobs[2]["ended_at"], "exit_code" in jobs[2]) == ("removed", "2026-11-24T06:01:39Z", False)
    assert (jobs[3]["wall_seconds"], jobs[4]["wall_seconds"]) == (12.0, 5)
    assert (jobs[5]["vm"], jobs[5]["cpu_seconds"]) == ("vm-�", 1.0)


def test_values_that_nobody_would_believe_stop_nothing(pool):
    pool.add(1, JobCurrentStartDate=900_000_000_000)
    pool.add(2, MachineAttrcloud_name0="x" * 5_000_000)
    with pool.history.open("ab") as file:
        file.write(ad(3, ExitCode=True).replace(b"vm-3", b"vm\tx"))
    pool.add(4, GlobalJobId="a#b#4.0#1", CompletionDate=T0 - 90_000, JobCurrentStartDate=T0, RemoteWallClockTime=None)
    assert pool.run().returncode == 0
    two, three, four = pool.jobs
    assert "cloud" not in two
    assert (three["vm"], "exit_code" in three) == ("vm?x", False)
    assert (four["batch_id"], four["started_at"], four["ended_at"]) == (
        "a#b#4.0#1",
        "2026-11-24T06:00:00Z",
        "2026-11-24T06:00:45Z",
    )


def test_a_run_ends_with_the_run_and_not_when_the_job_is_removed_days_later(pool):
    pool.add(1, **{name: value for name, value in waiting(1, 3).items() if name not in {"GlobalJobId", "ClusterId"}})
    pool.run()
    (job,) = pool.jobs
    assert (job["state"], job["ended_at"], job["wall_seconds"]) == ("removed", "2026-11-24T06:00:14Z", 4.0)


def test_every_run_of_a_job_that_moved(pool):
    """The epoch history has a run each;
    the history's own ad tells the last one again, under the same start, and more of it.
    """
    pool.epoch(9, T0, "vm-a")
    pool.epoch(9, T0 + 100, "vm-b")
    pool.add(
        9,
        LastRemoteHost="slot1@vm-b",
        JobCurrentStartDate=T0 + 100,
        CompletionDate=T0 + 130,
        LastRemoteWallClockTime=30.0,
    )
    pool.run("--epoch-history", pool.epochs)
    assert [(job["vm"], job["wall_seconds"], "exit_code" in job) for job in pool.jobs] == [
        ("vm-a", 30, False),
        ("vm-b", 30, False),
        ("vm-b", 30.0, True),
    ]
    assert len({(job["batch_id"], job["started_at"]) for job in pool.jobs}) == 2


def test_what_says_most_of_a_run_is_told_last_though_the_job_ends_while_it_is_read(pool, monkeypatch):
    class Ends(scheduler.Report):
        def from_epochs(self, *arguments):
            pool.epoch(2, T0 + 20, "vm-2")
            pool.add(2)
            super().from_epochs(*arguments)

    monkeypatch.setenv("PATH", pool.environment["PATH"])
    pool.epoch(1, T0 + 10, "vm-1")
    pool.add(1)
    (pool.folder / "state").mkdir()
    options = scheduler.options_of([*pool.arguments, "--epoch-history", str(pool.epochs)])
    assert Ends(options, TOKEN).run() == 0
    assert scheduler.Report(options, TOKEN).run() == 0
    assert {number_of(job): job.get("exit_code") for job in pool.jobs} == {1: 0, 2: 0}


def test_the_end_is_known_by_when_the_vm_was_left_too(pool):
    job = waiting(1, 5) | {"LastRemoteWallClockTime": None, "NumShadowStarts": 2}
    pool.prints("condor_q", [job])
    pool.run()
    assert [(job["ended_at"], job["wall_seconds"]) for job in pool.jobs] == [("2026-11-24T06:00:14Z", 4)]


def test_what_every_run_says_again_is_not_kept_for_a_server_that_is_away(pool):
    pool.prints("condor_q", [fields_of(1, JobStatus=2)])
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    pool.receiver.status = 503
    done = pool.run()
    assert (done.returncode, "wait in" in done.stdout) == (5, False)


def test_a_server_that_says_when_is_asked_again_in_the_same_run_and_no_more_than_that(pool):
    pool.add(1)
    pool.receiver.later = ["0", "Wed, 25 Nov 2026 10:00:00 GMT"]
    done = pool.run()
    assert (done.returncode, pool.numbers(), pool.receiver.later) == (0, {1: 1}, [])
    pool.add(2)
    pool.receiver.later = ["0"] * 4
    done = pool.run()
    assert (done.returncode, "1 reports wait in" in done.stdout) == (5, True)
    assert len(pool.receiver.later) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("3600", 120),
        ("9" * 400, 120),
        ("-5", 0),
        ("Wed, 25 Nov 2026 10:01:40 GMT", 40),
        ("Wednesday, 25-Nov-26 10:01:40 GMT", 40),
        ("Wed Nov 25 10:01:40 2026", 40),
        ("Wed, 25 Nov 2026 10:00:00 GMT", 0),
        ("Thu, 26 Nov 2026 10:00:00 GMT", 120),
        ("soon", 0),
        ("", 0),
    ],
)
def test_every_form_of_retry_after_is_read_by_the_server_s_clock(value, seconds):
    assert scheduler.retry_after({"Retry-After": value, "Date": "Wed, 25 Nov 2026 10:01:00 GMT"}) == seconds


def test_epochs_that_are_closed_are_said_and_keep_nothing_back(pool):
    pool.add(1)
    done = pool.run("--epoch-history", pool.folder / "nowhere" / "epoch_history")
    assert (done.returncode, "only the last run is told" in done.stderr, pool.numbers()) == (0, True, {1: 1})


def test_a_pool_without_epochs_has_none(pool):
    assert pool.run("--epoch-history", pool.epochs).returncode == 0


def test_what_runs_and_the_machines(pool):
    pool.prints("condor_q", (RECORDED / "condor_q.json").read_bytes())
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    assert pool.run().returncode == 0
    assert [job["state"] for job in pool.jobs if "ended_at" not in job]
    (vm,) = pool.vms
    assert (vm["vm"], vm["cloud"], vm["flavor"], vm["cores"]) == ("vm", "west-cloud", "c8-30gb", 2)


def test_of_a_job_that_runs_again_nothing_of_the_run_before_is_told(pool):
    pool.prints(
        "condor_q", [fields_of(1, JobStatus=2, RemoteHost="slot1@vm-b", LastRemoteWallClockTime=4.0, NumShadowStarts=2)]
    )
    pool.run()
    (job,) = pool.jobs
    assert job == {
        "batch_id": f"sched.test@#1.0#{T0}",
        "vm": "vm-b",
        "cloud": "west",
        "slot": "slot1",
        "started_at": "2026-11-24T06:00:10Z",
        "state": "running",
    }


def test_jobs_that_wait_again_or_are_held_ran_until_then_and_are_told_once(pool):
    pool.prints("condor_q", [waiting(1, 1), waiting(2, 5)])
    pool.receiver.status = 503
    assert pool.run().returncode == 5
    pool.receiver.status = 200
    pool.run()
    pool.run()
    told = [(number_of(job), job["state"], job["ended_at"], job["wall_seconds"]) for job in pool.jobs]
    assert told == [(1, "idle", "2026-11-24T06:00:14Z", 4.0), (2, "held", "2026-11-24T06:00:24Z", 4.0)]
    assert "LastRemoteHost =!= undefined" in (pool.folder / "condor_q.args").read_text()


def test_ads_of_a_command_with_bytes_and_expressions_that_are_no_values(pool):
    text = json.dumps(
        [
            fields_of(
                1,
                JobStatus=2,
                RequestCpus="/Expr(Cpus)/",
                ExitCode=None,
                RemoteUserCpu="/Expr(x)/",
                RemoteHost="s@vm-E",
            )
        ]
    )
    pool.prints("condor_q", text.encode().replace(b"vm-E", b"vm-\xe9"))
    assert pool.run().returncode == 0
    assert [job["vm"] for job in pool.jobs] == ["vm-�"]


def test_a_vm_has_ended_when_it_was_missing_twice(pool):
    there = (RECORDED / "condor_status.json").read_bytes()
    for printed, code, ended in (
        (there, 0, 0),
        ("", 1, 0),
        ("", 0, 0),
        (there, 0, 0),
        ("", 0, 0),
        ("", 0, 1),
        ("", 0, 1),
    ):
        pool.prints("condor_status", printed, code)
        assert pool.run().returncode == (5 if code else 0)
        assert len([vm for vm in pool.vms if "ended_at" in vm]) == ended
    (gone,) = [vm for vm in pool.vms if "ended_at" in vm]
    assert gone["state"] == "gone"


def test_one_source_that_is_away_keeps_no_other_from_being_told(pool):
    pool.add(1)
    pool.prints("condor_q", "[", 1)
    pool.prints("condor_status", "[{", 0)
    done = pool.run()
    assert (done.returncode, pool.numbers()) == (5, {1: 1})
    assert "condor_q failed: no daemon" in done.stderr
    assert "condor_status was cut short" in done.stderr


@pytest.mark.parametrize("printed", ["{}", '["x"]', "3"])
def test_what_is_json_but_no_ads_is_an_outage(pool, printed):
    pool.prints("condor_q", printed)
    done = pool.run()
    assert (done.returncode, "something else than ads" in done.stderr) == (5, True)


def test_where_files_cannot_be_read_the_command_is_asked_for_what_is_new(pool):
    run = partial(pool.run, "--history", pool.folder / "nowhere")
    pool.prints("condor_history", [fields_of(2), fields_of(1)])
    assert run().returncode == 0
    pool.prints("condor_history", [fields_of(3), fields_of(2)], limited=[fields_of(2)])
    assert run().returncode == 0
    assert pool.numbers() == {1: 1, 2: 1, 3: 1}
    assert f'-since GlobalJobId == "sched.test@#1.0#{T0}"' in (pool.folder / "condor_history.args").read_text()
    pool.prints("condor_history", [fields_of(9)], limited=[])
    done = run()
    assert (done.returncode, "in no history any more" in done.stderr) == (6, True)
    pool.prints("condor_history", "[", 1)
    assert run().returncode == 5
    assert pool.numbers() == {1: 1, 2: 1, 3: 1, 9: 1}


@pytest.fixture
def vms_listed(pool):
    """Return a run in which cloudscheduler lists vms, or what else it says."""
    (pool.folder / "password").write_text("word\n")
    words = [
        "--cloudscheduler",
        pool.receiver.base,
        "--cloudscheduler-user",
        "u",
        "--cloudscheduler-password-file",
        pool.folder / "password",
    ]

    def listed(*rows, zone="America/Vancouver", **answer):
        pool.receiver.listed = json.dumps(
            {"response_code": 0, "message": None, "vm_list": list(rows), **answer}
        ).encode()
        return pool.run(*words, "--zone", zone)

    return listed


@pytest.mark.parametrize(
    ("shown", "started", "state"),
    [
        ("2026-07-01 12:00:00", "2026-07-01T19:00:00Z", "ACTIVE"),
        ("2026-12-01 12:00:00", "2026-12-01T20:00:00Z", "ACTIVE"),
        ("2026-11-01 01:30:00", "2026-11-01T08:30:00Z", "ACTIVE, started in an hour that came twice"),
    ],
)
def test_cloudscheduler_s_times_are_local_and_of_the_repeated_hour_the_earlier_is_meant(
    pool, vms_listed, shown, started, state
):
    assert vms_listed({**WEST, "start_time": shown}, {**WEST, "vmid": "2", "start_time": None}).returncode == 0
    told = {"vm": "g--west--1--x", "cloud": "west", "flavor": "c8", "cores": 8, "started_at": started, "state": state}
    assert pool.vms == [told]
    assert pool.receiver.asked == ["/vm/list/ Basic dTp3b3Jk"]


def test_cloudscheduler_s_list_may_be_text_and_its_errors_end_no_vm(pool, vms_listed):
    assert vms_listed(vm_list=json.dumps([WEST])).returncode == 0
    for answer in (
        {"response_code": 1, "message": "no", "vm_list": []},
        {"vm_list": "["},
        {"vm_list": None},
        {"vm_list": ["x"]},
    ):
        for _ in range(2):
            done = vms_listed(**answer)
            assert (done.returncode, "does not list its vms" in done.stderr) == (5, True)
    assert not any("ended_at" in vm for vm in pool.vms)
    vms_listed()
    vms_listed()
    assert [vm["state"] for vm in pool.vms if "ended_at" in vm] == ["gone"]


def test_a_dry_run_prints_and_touches_nothing(pool):
    pool.add(1)
    done = pool.run("--dry-run")
    assert "sched.test@#1.0" in done.stdout
    assert (pool.receiver.told, (pool.folder / "state").exists()) == ([], False)


def test_install_writes_units_that_systemd_reads_as_they_were_meant(pool):
    units = pool.folder / "units"
    units.mkdir()
    words = ["install", "--base", "https://x.example/a%20b$c '\"\\", "--token-file", "token", "--units", str(units)]
    subprocess.run([sys.executable, str(SCRIPT), *words], check=True, capture_output=True, cwd=pool.folder)
    service = (units / "skytally-scheduler.service").read_text()
    assert f'"report" "--token-file" "{pool.folder / "token"}"' in service
    assert r'''"--base" "https://x.example/a%%20b$$c '\"\\"''' in service
    assert TOKEN not in service
    assert "OnUnitActiveSec=5min" in (units / "skytally-scheduler.timer").read_text()
    if shutil.which("systemd-analyze"):
        told = [
            "systemd-analyze",
            "verify",
            str(units / "skytally-scheduler.service"),
            str(units / "skytally-scheduler.timer"),
        ]
        done = subprocess.run(told, capture_output=True, text=True, check=False)
        assert "skytally" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report"], "--token-file"),
        (["report", "--base", "x.example", "--token-file", "t"], "--base is an address"),
        (
            ["report", "--base", "https://x.example", "--token-file", "/nowhere"],
            "scheduler token cannot be read: /nowhere",
        ),
        (["report", "--base", "https://x.example", "--token-file", "/dev/null"], "/dev/null holds no scheduler token"),
        (["install", "--dry-run"], "--token-file"),
        (["report", "--dry-run", "--zone", "Mars/Base"], "--zone Mars/Base is not known"),
        (["report", "--dry-run", "--ca", "/nowhere"], "--ca /nowhere is not there"),
        (["report", "--dry-run", "--cloudscheduler", "https://x.example"], "--cloudscheduler-user"),
        (["report", "--dry-run", "--cloud-attribute", "a b"], "--cloud-attribute"),
    ],
)
def test_wrong_usage_is_said(words, said):
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False)


def test_help_prints_examples_whatever_the_locale():
    for python in interpreters():
        done = subprocess.run([python, str(SCRIPT), "--help"], capture_output=True, env={"LC_ALL": "C"}, check=True)
        assert b"scheduler.py install   --base" in done.stdout


def test_the_state_is_its_owner_s(pool):
    pool.add(1)
    pool.run()
    assert stat.S_IMODE((pool.folder / "state").stat().st_mode) == 0o700
