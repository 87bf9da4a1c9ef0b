"""scheduler.py as a process of its own: histories that rotate, tear and vanish, commands that fail, and kills at any moment."""

import contextlib
import gzip
import http.server
import importlib.util
import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "functions" / "agent" / "scheduler.py"
RECORDED = ROOT / "tests" / "recorded"
spec = importlib.util.spec_from_file_location("scheduler", SCRIPT)
scheduler = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scheduler)
T0 = 1_795_500_000


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is told, and can be away."""

    told, status, delay = [], 200, 0.0

    def do_POST(self):
        body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
        cls = type(self)
        if cls.status == 200:
            cls.told.append(body)
        time.sleep(cls.delay)
        receipt = {"accepted": len(body["jobs"]) + len(body["vms"]), "stale": 0, "rejected": [], "server_time": "2026-11-24T00:00:00Z"}
        answer = json.dumps(receipt if cls.status == 200 else {"error": {"code": "x"}}).encode()
        with contextlib.suppress(OSError):
            self.send_response(cls.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    kind = type("Mine", (Receiver,), {"told": [], "status": 200})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    kind.base = f"http://127.0.0.1:{server.server_port}"
    yield kind
    server.shutdown()
    server.server_close()
    thread.join()


class Pool:
    """A folder of history files, and commands that print what they are given."""

    def __init__(self, folder, receiver):
        self.folder, self.receiver = folder, receiver
        (folder / "bin").mkdir()
        (folder / "token").write_text("secret-token\n")
        self.history = folder / "spool" / "history"
        self.history.parent.mkdir()
        self.history.touch()
        for name in ("condor_q", "condor_status", "condor_history"):
            self.prints(name, "")
        self.prints("condor_config_val", "", 1)

    def prints(self, name, text, code=0):
        path = self.folder / "bin" / name
        (self.folder / f"{name}.out").write_bytes(text if isinstance(text, bytes) else text.encode())
        path.write_text(f'#!/bin/sh\ncat "{self.folder}/{name}.out"\n[ {code} = 0 ] || echo "no daemon" >&2\nexit {code}\n')
        path.chmod(0o755)

    def add(self, *numbers, torn=0, path=None, **fields):
        """Append ads; the last one without so many of its bytes."""
        data = b"".join(ad(number, **fields) for number in numbers)
        with (path or self.history).open("ab") as file:
            file.write(data[: len(data) - torn])

    def rotate(self, stamp):
        self.history.rename(self.history.with_name(f"history.{stamp}"))
        self.history.touch()

    def command(self, *more):
        told = [
            "--base",
            self.receiver.base,
            "--token-file",
            self.folder / "token",
            "--state",
            self.folder / "state",
            "--history",
            self.history,
        ]
        return [sys.executable, str(SCRIPT), "report", *map(str, told), *map(str, more)]

    @property
    def environment(self):
        return {**os.environ, "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}

    def run(self, *more):
        return subprocess.run(self.command(*more), env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def numbers(self):
        """Count how often each job was told."""
        return Counter(int(job["batch_id"].split("#")[-2].split(".")[0]) for body in self.receiver.told for job in body["jobs"])


def ad(number, **fields):
    """Write an ad as HTCondor does; `banner` is what its last line says."""
    started = T0 + 10 * number
    told = {
        "GlobalJobId": f"sched.test@#{number}.0#{T0}",
        "ClusterId": number,
        "JobStatus": 4,
        "LastRemoteHost": f"slot1_1@vm-{number % 7}",
    }
    told |= {"JobCurrentStartDate": started, "CompletionDate": started + 5, "RemoteWallClockTime": 5.0, "NumShadowStarts": 1, "ExitCode": 0}
    told |= {"MachineAttrcloud_name0": "west", "RemoteUserCpu": 3.0, "RemoteSysCpu": 1.0} | fields
    banner = told.pop("banner", f'*** Offset = 0 ClusterId = {number} ProcId = 0 Owner = "alice" CompletionDate = {started + 5}')
    lines = [f"{name} = {json.dumps(value) if value is not None else 'undefined'}" for name, value in told.items()]
    return ("\n".join([*lines, banner]) + "\n").encode()


@pytest.fixture
def pool(tmp_path, receiver):
    return Pool(tmp_path, receiver)


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
    assert pool.numbers() == dict.fromkeys(range(1, 8), 1)
    with pool.history.open("ab") as file:
        file.write(ad(8)[-20:])
    pool.run()
    assert pool.numbers() == dict.fromkeys(range(1, 9), 1)


def test_what_is_told_of_a_job(pool):
    pool.add(1)
    pool.run()
    assert pool.receiver.told[0]["jobs"] == [
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


def test_names_of_the_repeated_hour_and_a_clock_that_went_back_lose_nothing(pool):
    for number, stamp in ((1, "20261101T013000"), (2, "20261101T010500"), (3, "20261101T010500.1")):
        pool.add(number)
        pool.run()
        pool.rotate(stamp)
    pool.add(4, CompletionDate=T0 - 90_000)
    pool.run()
    assert pool.numbers() == dict.fromkeys(range(1, 5), 1)


def test_an_outage_moves_nothing(pool):
    pool.add(*range(1, 4))
    pool.receiver.status = 503
    done = pool.run()
    assert (done.returncode, done.stderr.count("answered 503") > 0, "Traceback" in done.stderr) == (5, True, False)
    pool.receiver.status = 403
    assert pool.run().returncode == 3
    pool.receiver.status = 200
    assert pool.run().returncode == 0
    assert pool.numbers() == {1: 1, 2: 1, 3: 1}


def test_a_file_that_went_before_it_was_read_is_said(pool):
    pool.add(1, 2)
    pool.run()
    pool.rotate("20261124T010000")
    pool.add(3)
    (pool.history.with_name("history.20261124T010000")).unlink()
    done = pool.run()
    assert "before it was read whole" in done.stderr
    assert pool.numbers() == {1: 1, 2: 1, 3: 1}


def test_an_inode_that_came_again_is_another_file(pool):
    pool.add(1, 2, 3, 4)
    pool.run()
    state = json.loads((pool.folder / "state" / "state.json").read_text())
    pool.history.unlink()
    pool.add(11, 12)
    state["history"][0]["inode"] = pool.history.stat().st_ino
    (pool.folder / "state" / "state.json").write_text(json.dumps(state))
    done = pool.run()
    assert "before it was read whole" in done.stderr
    assert pool.numbers() == dict.fromkeys((1, 2, 3, 4, 11, 12), 1)


def test_awkward_ads(pool):
    pool.add(
        1,
        LastRemoteHost=None,
        CompletionDate=None,
        JobStatus=3,
        JobCurrentStartDate=None,
        banner="*** Offset = 0 ClusterId = 1 CompletionDate = -1",
    )
    pool.add(2, JobStatus=3, CompletionDate=0, EnteredCurrentStatus=T0 + 99, ExitCode=None)
    pool.add(3, NumShadowStarts=2, RemoteWallClockTime=15.0, LastRemoteWallClockTime=12.0)
    pool.add(4, NumShadowStarts=2, RemoteWallClockTime=15.0)
    with pool.history.open("ab") as file:
        file.write(ad(5).replace(b"vm-5", b"vm-\xe9").replace(b"RemoteUserCpu = 3.0", b"RemoteUserCpu = Cpus + 1"))
    pool.run()
    jobs = {int(job["batch_id"].split("#")[-2].split(".")[0]): job for job in pool.receiver.told[0]["jobs"]}
    assert set(jobs) == {2, 3, 4, 5}
    assert (jobs[2]["state"], jobs[2]["ended_at"], "exit_code" in jobs[2]) == ("removed", "2026-11-24T06:01:39Z", False)
    assert (jobs[3]["wall_seconds"], jobs[4]["wall_seconds"]) == (12.0, 5)
    assert (jobs[5]["vm"], jobs[5]["cpu_seconds"]) == ("vm-�", 1.0)


def test_every_run_of_a_job_that_moved(pool):
    """The epoch history has a run each; the history's own ad tells the last one again, under the same start."""
    epochs = pool.history.with_name("epoch_history")
    for start, host in ((T0, "slot1@vm-a"), (T0 + 100, "slot1@vm-b")):
        banner = f'*** EPOCH ClusterId=9 ProcId=0 RunInstanceId=1 Owner="alice" CurrentTime={start + 30}'
        pool.add(9, path=epochs, RemoteHost=host, JobCurrentStartDate=start, RemoteWallClockTime=7.0, CompletionDate=None, banner=banner)
    pool.add(9, LastRemoteHost="slot1@vm-b", JobCurrentStartDate=T0 + 100, CompletionDate=T0 + 130, LastRemoteWallClockTime=30.0)
    pool.run("--epoch-history", epochs)
    jobs = [job for body in pool.receiver.told for job in body["jobs"]]
    assert [(job["vm"], job["wall_seconds"]) for job in jobs] == [("vm-a", 30), ("vm-b", 30), ("vm-b", 30.0)]
    assert len({(job["batch_id"], job["started_at"]) for job in jobs}) == 2


def test_what_runs_and_the_machines(pool):
    pool.prints("condor_q", (RECORDED / "condor_q.json").read_bytes())
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    assert pool.run().returncode == 0
    running = [job for body in pool.receiver.told for job in body["jobs"]]
    assert [job["state"] for job in running if "ended_at" not in job]
    (vm,) = [vm for body in pool.receiver.told for vm in body["vms"]]
    assert (vm["vm"], vm["cloud"], vm["flavor"], vm["cores"]) == ("vm", "west-cloud", "c8-30gb", 2)


def test_a_vm_has_ended_when_it_was_missing_twice(pool):
    pool.prints("condor_status", (RECORDED / "condor_status.json").read_bytes())
    pool.run()
    pool.prints("condor_status", "", 1)
    assert pool.run().returncode == 5
    pool.prints("condor_status", "")
    pool.run()
    assert not any("ended_at" in vm for body in pool.receiver.told for vm in body["vms"])
    pool.run()
    (gone,) = [vm for body in pool.receiver.told for vm in body["vms"] if "ended_at" in vm]
    assert gone["state"] == "gone"
    pool.run()
    assert len([vm for body in pool.receiver.told for vm in body["vms"] if "ended_at" in vm]) == 1


def test_one_source_that_is_away_keeps_no_other_from_being_told(pool):
    pool.add(1)
    pool.prints("condor_q", "[", 1)
    pool.prints("condor_status", "[{", 0)
    done = pool.run()
    assert (done.returncode, pool.numbers()) == (5, {1: 1})
    assert "condor_q failed: no daemon" in done.stderr
    assert "condor_status was cut short" in done.stderr


def test_where_files_cannot_be_read_the_command_is_asked(pool):
    pool.prints("condor_history", (RECORDED / "condor_history.json").read_bytes())
    assert pool.run("--history", pool.folder / "nowhere").returncode == 0
    assert sum(len(body["jobs"]) for body in pool.receiver.told) > 0


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


def test_a_dry_run_prints_and_moves_nothing(pool):
    pool.add(1)
    done = pool.run("--dry-run")
    assert "sched.test@#1.0" in done.stdout
    assert pool.receiver.told == []
    pool.run()
    assert pool.numbers() == {1: 1}


def test_install_writes_units_without_the_token(pool):
    (pool.folder / "units").mkdir()
    told = ["install", "--base", "https://x.example", "--token-file", str(pool.folder / "token"), "--units", str(pool.folder / "units")]
    subprocess.run([sys.executable, str(SCRIPT), *told], check=True, capture_output=True)
    service = (pool.folder / "units" / "skytally-scheduler.service").read_text()
    assert '"--base" "https://x.example"' in service
    assert "secret-token" not in service
    assert "OnUnitActiveSec=5min" in (pool.folder / "units" / "skytally-scheduler.timer").read_text()


def test_wrong_usage_is_said():
    done = subprocess.run([sys.executable, str(SCRIPT), "report"], capture_output=True, text=True, check=False)
    assert (done.returncode, "--token-file" in done.stderr) == (2, True)


VM_ROW = {
    "group_name": "g",
    "cloud_name": "west",
    "vmid": "1",
    "hostname": "g--west--1--x",
    "start_time": "2026-11-01 01:30:00",
    "cores": 8,
    "status": "ACTIVE",
}


def test_cloudscheduler_s_times_are_local_and_the_repeated_hour_is_the_earlier():
    listed = scheduler.cloudscheduler_vms([VM_ROW, {**VM_ROW, "start_time": None}], ZoneInfo("America/Vancouver"))
    (vm,) = listed.values()
    assert (vm["started_at"], vm["cores"], vm["cloud"]) == ("2026-11-01T08:30:00Z", 8, "west")


@pytest.mark.parametrize(
    "answer", [{"response_code": 1, "message": "no", "vm_list": []}, {"response_code": 0}, ["x"], {"response_code": 0, "vm_list": "["}]
)
def test_cloudscheduler_s_errors_come_with_200(answer, receiver, tmp_path):
    with pytest.raises(scheduler.Unavailable):
        listed(answer, receiver, tmp_path)


@pytest.mark.parametrize("pack", [lambda rows: rows, json.dumps])
def test_cloudscheduler_s_list_may_be_text(pack, receiver, tmp_path):
    assert listed({"response_code": 0, "message": None, "vm_list": pack([VM_ROW])}, receiver, tmp_path) == [VM_ROW]


def listed(answer, receiver, folder):
    receiver.do_GET = lambda self: answered(self, json.dumps(answer).encode())
    (folder / "password").write_text("x")
    options = {
        "cloudscheduler": receiver.base,
        "cloudscheduler_user": "u",
        "cloudscheduler_password_file": str(folder / "password"),
        "ca": None,
    }
    return scheduler.cloudscheduler(type("Options", (), options))


def answered(handler, body):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.slow
def test_killed_at_any_moment_while_files_rotate_it_loses_nothing(pool):
    """Thousands of ads, files that rotate while they are read, torn ends, SIGKILLs: every ad is told, and only a batch in flight twice."""
    chance, total, number = random.Random(7), 20_000, 0
    over = threading.Event()

    def write():
        nonlocal number
        while number < total:
            count = min(total - number, chance.randrange(1, 200))
            data = b"".join(ad(n) for n in range(number + 1, number + count + 1))
            cut = chance.randrange(len(data))
            with pool.history.open("ab", buffering=0) as file:
                file.write(data[:cut])
                time.sleep(0.003)
                file.write(data[cut:])
            number += count
            if chance.random() < 0.3:
                pool.rotate(f"20261124T{number:06}")
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    kills = 0
    while not over.is_set():
        process = subprocess.Popen(pool.command(), env=pool.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.random() * 0.2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    writer.join()
    assert pool.run().returncode == 0
    told = pool.numbers()
    assert set(told) == set(range(1, total + 1))
    assert kills > 0
    assert sum(told.values()) - total <= kills * scheduler.BATCH_ADS
    again = pool.run()
    assert pool.numbers() == told
    assert again.stdout.startswith("0 kept")


def test_a_hundred_thousand_ads_are_read_whole(tmp_path):
    """The reader alone, over fifty files."""
    for part in range(50):
        path = tmp_path / (f"history.20261124T{part:06}" if part < 49 else "history")
        path.write_bytes(
            b"".join(f"A = {n}\n*** ClusterId = {n} CompletionDate = {n}\n".encode() for n in range(part * 2_000, part * 2_000 + 2_000))
        )
    history = scheduler.History(str(tmp_path / "history"), [])
    assert sorted(one["A"] for ads in history.batches() for one in ads) == list(range(100_000))
    assert list(scheduler.History(str(tmp_path / "history"), history.state).batches()) == []
    assert history.gaps == 0


def test_the_state_is_its_owner_s(pool):
    pool.add(1)
    pool.run()
    assert stat.S_IMODE((pool.folder / "state").stat().st_mode) == 0o700
