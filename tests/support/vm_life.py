"""The steps of a vm's life over HTTP, with the vm.py that the server itself serves."""

import base64
import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime

PAYLOAD = os.urandom(3_000)


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
