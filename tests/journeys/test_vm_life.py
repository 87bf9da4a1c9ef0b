"""A vm's life over HTTP, with the vm.py that the server itself serves;
and the same with the server killed between any two steps.
"""

import base64
import contextlib
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime

from running import Server

PAYLOAD = os.urandom(3_000)
EDGE = {}


class Life:
    """The steps of a vm's life, in order; each leaves what the next needs."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder

    def deposit(self):
        body = {"vm": "journey-1", "cloud": "uvic", "site": "Victoria", "payload": base64.b64encode(PAYLOAD).decode()}
        answer = self.server.call("secret-deposit", body, token=self.server.token("scheduler"))
        assert answer.status == 201, answer.body
        (self.folder / "claim").write_text(answer.json["token"])

    def download(self):
        script = self.server.call("agent/vm.py").body
        digests = self.server.call("agent/SHA256SUMS").body.decode()
        assert f"{hashlib.sha256(script).hexdigest()}  vm.py" in digests.splitlines()
        (self.folder / "vm.py").write_bytes(script)

    def boot(self):
        self.run(
            "boot",
            "--claim-file",
            self.folder / "claim",
            "--payload",
            self.folder / "payload",
            "--benchmark-report",
            self.benchmark(),
        )
        assert (self.folder / "payload").read_bytes() == PAYLOAD
        assert (self.folder / "payload").stat().st_mode & 0o777 == 0o600

    def report(self):
        self.run("report")

    def stop(self):
        self.run("stop")

    def benchmark(self):
        path = self.folder / "benchmark.json"
        path.write_text(
            '{"app": "HEPscore23", "profiles": {"hepscore": {"score": 16.0, "app_info": {"config_hash": "x"}}}, '
            '"host": {}}'
        )
        return path

    def run(self, verb, *more):
        command = [
            sys.executable,
            self.folder / "vm.py",
            verb,
            "--base",
            self.server.base,
            "--state",
            self.folder / "state",
            *more,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def statement(self):
        path = f"statement?month={datetime.now(UTC):%Y-%m}&detail=boots"
        return self.server.call(path, token=self.server.token("reader")).json


STEPS = ("deposit", "download", "boot", "report", "stop")


def lives_through(server, folder, between):
    life = Life(server, folder)
    for step in STEPS:
        getattr(life, step)()
        between(life, step)
    return life


def test_a_vm_takes_its_secret_and_is_accounted(server, tmp_path):
    life = lives_through(server, tmp_path, lambda *_: None)
    statement = life.statement()
    (boot,) = statement["boots"]
    assert (boot["vm"], boot["cloud"], boot["final"], boot["coverage"]) == ("journey-1", "uvic", True, 1.0)
    assert boot["document"].startswith("journey-1-2")
    assert boot["core_seconds"] >= boot["cpu_seconds"] > 0
    (cloud,) = statement["clouds"]
    assert cloud["core_hours"] == round(boot["core_seconds"] / 3600, 6)
    assert cloud["silent_vms"] == 0
    table = server.call("dashboard/data?window=day", token=server.token("reader")).json["table"]
    assert [row["cloud"] for row in table] == ["uvic"]


def test_a_second_taker_gets_nothing(server, tmp_path):
    def read_user_data(life, step):
        if step == "deposit":
            (tmp_path / "read-by-others").write_text((tmp_path / "claim").read_text())

    life = lives_through(server, tmp_path, read_user_data)
    assert (tmp_path / "claim").read_bytes() == b""
    command = [
        sys.executable,
        tmp_path / "vm.py",
        "boot",
        "--base",
        server.base,
        "--state",
        tmp_path / "thief",
        "--claim-file",
        tmp_path / "read-by-others",
    ]
    done = subprocess.run(
        [*command, "--payload", tmp_path / "stolen"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 3, done.stderr
    assert not (tmp_path / "stolen").exists()
    assert len(life.statement()["boots"]) == 1


def test_a_server_killed_between_any_two_steps_loses_nothing_that_was_answered(server, tmp_path):
    known = {}

    def kill(life, step):
        server.restart()
        for boot in life.statement()["boots"]:
            assert boot["core_seconds"] >= known.get("core_seconds", 0)
            known.update(boot)
        assert bool(known) == (step in STEPS[2:])

    lives_through(server, tmp_path, kill)
    assert known["final"] is True


def test_sigterm_ends_the_server_in_time(server):
    assert server.stop() == 0


def ask(server):
    """Begin a round that does not come to its end."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.call("panda-collect", {})


def test_sigterm_ends_the_server_whatever_its_sources_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        panda = {"SKYTALLY_PANDA_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "SKYTALLY_PANDA_QUEUES": "Q"}
        server = Server(tmp_path, **panda).start()
        asking = threading.Thread(target=ask, args=[server], daemon=True)
        asking.start()
        with silent.accept()[0]:
            assert server.stop() == 0
        asking.join()
