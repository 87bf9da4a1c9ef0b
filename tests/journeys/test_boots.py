"""A vm boots from `skytally userdata` while the server is away, its answers are lost, or the vm's power goes.

The road to the server is a proxy that can be away. On the vm, files lie below a folder of the test's, and who sleeps,
sleeps shortly.
"""

import base64
import contextlib
import gzip
import http.client
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest
import yaml

from tests.support.gateway import free_port, wait_until
from tests.support.recording_server import Reply, recording_server

SKYTALLY = Path(sys.executable).parent / "skytally"
SHORT_SLEEPS = "import time\nsleep = time.sleep\ntime.sleep = lambda seconds: sleep(min(seconds, 0.05))\n"
FOLDERS = ("/run/skytally", "/usr/local/sbin/", "/etc/skytally", "/var/lib/", "/dev/console")


class Road:
    """A proxy to the server; `faults` of a function are done one after another, before its requests pass."""

    def __init__(self, server):
        self.server, self.port, self.faults, self.passed, self.proxy = server, free_port(), {}, [], None
        self.base = f"http://127.0.0.1:{self.port}"

    def open(self):
        self.proxy = contextlib.ExitStack()
        self.proxy.enter_context(recording_server(self.handle, port=self.port))
        return self

    def close(self):
        self.proxy.close()

    def handle(self, request):
        """Do the next fault of this function, or let the request pass."""
        function = request.path.removeprefix("/function/").partition("/")[0]
        faults = self.faults.get(function, [])
        fault = faults.pop(0) if faults else None
        if fault == "nothing":
            return None
        if isinstance(fault, dict):
            return Reply(503, headers=fault)
        ahead = http.client.HTTPConnection(self.server.base.removeprefix("http://"), timeout=30)
        ahead.request(request.method, request.path, request.body, dict(request.headers))
        answer = ahead.getresponse()
        data = answer.read()
        ahead.close()
        self.passed.append((function, answer.status))
        if fault == "lost":
            return None
        hop_by_hop = {"transfer-encoding", "connection", "date", "server", "content-length"}
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in hop_by_hop}
        whole = {"Content-Length": str(len(data)), **headers}
        return Reply(answer.status, data[: len(data) // 2] if fault == "cut" else data, whole)


class Vm:
    """A machine below a folder, with the user-data that the operator's command prints for it."""

    def __init__(self, folder, server, *more):
        self.root, self.road, self.console = folder / "vm", Road(server), folder / "vm/dev/console"
        (folder / "token").write_text(server.token("scheduler"))
        payload = io.BytesIO()
        with tarfile.open(fileobj=payload, mode="w:gz") as tar:
            info = tarfile.TarInfo("x509up")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"proxy"))
        (folder / "payload").write_bytes(payload.getvalue())
        who = ["--vm", "boots-1", "--cloud", "uvic", "--token-file", folder / "token", "--payload", folder / "payload"]
        where = ["--unpack", self.root / "condor", "--mode", "0400", *more]
        # The operator's command goes by another road than the vm's.
        command = [SKYTALLY, "userdata", "--base", server.base, *who, *where]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
        self.config = yaml.safe_load(printed.replace(server.base, self.road.base))
        self.prepare()

    def prepare(self):
        """Do what cloud-init does with write_files, and put the tools of the machine in place."""
        for folder in ("run/systemd/system", "etc/systemd/system", "dev", "condor-not", "usr/local/sbin", "tools"):
            (self.root / folder).mkdir(parents=True)
        for file in self.config["write_files"]:
            data = file["content"].encode()
            data = base64.b64decode(data) if "b64" in file.get("encoding", "") else data
            data = gzip.decompress(data) if "gz" in file.get("encoding", "") else data
            text = data.decode().replace(self.road.server.base, self.road.base)
            path = Path(self.here(file["path"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(text))
            path.chmod(int(file["permissions"], 8))
        tools = {
            "sleep": "exec /bin/sleep 0.05",
            "python3": f'exec {sys.executable} "$@" --root {self.root} --state {self.root}/state',
        }
        for name, line in tools.items():
            (self.root / "tools" / name).write_text(f"#!/bin/sh\n{line}\n")
            (self.root / "tools" / name).chmod(0o755)
        (self.root / "tools/sitecustomize.py").write_text(SHORT_SLEEPS)
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
        self.environment |= {"SKYTALLY_BENCHMARK_REPORT": "none", "PYTHONPATH": str(self.root / "tools")}
        self.environment["PATH"] = f"{self.root / 'tools'}:{os.environ['PATH']}"

    def here(self, text):
        for folder in FOLDERS:
            text = text.replace(folder, f"{self.root}{folder}")
        return text

    def cloud_init(self, *, last=None):
        """Do what cloud-init does at every boot; the power goes after `last` commands. Return whether it went."""
        (script,) = (file["path"] for file in self.config["write_files"] if "per-boot" in file["path"])
        path = self.here(script)
        if not Path(path).exists():
            return False
        died = self.root / "died"
        died.unlink(missing_ok=True)
        trap = 'n=0; trap \'n=$((n + 1)); [ $n -le $LAST ] || { : > "$DIED"; kill -KILL 0; }\' DEBUG; set -T; . "$1"'
        environment = {**self.environment, "LAST": str(last), "DIED": str(died)}
        command = ["bash", "-c", trap if last is not None else '. "$1"', "bash", path]
        subprocess.run(command, env=environment, check=False, capture_output=True, timeout=120, start_new_session=True)
        return died.exists()

    def power_cut(self):
        """Empty what lies in memory."""
        for lock in (self.root / "run").glob("skytally-*"):
            lock.rmdir()

    def service(self):
        """Start the service as its unit does."""
        unit = (self.root / "etc/systemd/system/skytally.service").read_text()
        assert "ExecStart=/bin/sh /etc/skytally/run\n" in unit
        command = ["/bin/sh", str(self.root / "etc/skytally/run")]
        return subprocess.Popen(
            command, env=self.environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def lives(self):
        """Let the service run until it has reported, and stop it; return what it said."""
        running = self.service()
        try:
            wait_until(lambda: ("usage-report", 200) in self.road.passed, 120)
        finally:
            running.terminate()
            _, said = running.communicate(timeout=60)
        assert running.returncode == 0, said
        return said

    def has_its_secret(self):
        path = self.root / "condor/x509up"
        return path.exists() and path.read_bytes() == b"proxy" and path.stat().st_mode & 0o777 == 0o400


@pytest.fixture
def vm(server, tmp_path):
    one = Vm(tmp_path, server)
    yield one
    if one.road.proxy:
        one.road.close()


def claims(vm):
    return [status for function, status in vm.road.passed if function == "secret-claim"]


def holds_its_secret_once(vm):
    assert vm.has_its_secret()
    assert claims(vm) == [200]
    assert Path(vm.here("/etc/skytally/claim")).read_bytes() == b""


def test_a_server_that_is_away_before_the_script_is_waited_for(vm):
    script = threading.Thread(target=vm.cloud_init)
    script.start()
    time.sleep(1)
    vm.road.faults["agent"] = [{}, "nothing", "cut", {"Retry-After": "120"}]
    vm.road.open()
    script.join()
    assert vm.road.faults["agent"] == []
    vm.lives()
    holds_its_secret_once(vm)


def test_a_server_that_never_comes_is_said_and_the_next_boot_begins_anew(vm):
    vm.cloud_init()
    assert "there is no vm.py to be had" in vm.console.read_text()
    vm.power_cut()
    vm.road.open()
    vm.cloud_init()
    vm.lives()
    holds_its_secret_once(vm)


FORMS = [
    {},
    {"Retry-After": "1"},
    {"Retry-After": "120"},
    {"Retry-After": formatdate(time.time() + 86_400, usegmt=True)},
    {"Retry-After": formatdate(0, usegmt=True)},
    {"Retry-After": "soon"},
    {"Retry-After": ""},
    "nothing",
]


@pytest.mark.parametrize("function", ["secret-claim", "usage-report"])
def test_every_kind_of_outage_during_the_claim_and_before_the_report_is_waited_out(vm, function):
    vm.road.open()
    vm.cloud_init()
    vm.road.faults[function] = FORMS * 3
    vm.lives()
    holds_its_secret_once(vm)


@pytest.mark.parametrize("away", ["before the claim", "before the report"])
def test_a_refused_connection_is_waited_out(vm, away):
    vm.road.open()
    vm.cloud_init()
    if away == "before the report":
        vm.road.faults["usage-report"] = ["nothing"] * 40
    else:
        vm.road.close()
    running = vm.service()
    try:
        if away == "before the report":
            wait_until(vm.has_its_secret)
            vm.road.close()
        time.sleep(3)
        vm.road.faults.clear()
        vm.road.open()
        wait_until(lambda: ("usage-report", 200) in vm.road.passed, 120)
    finally:
        running.terminate()
        running.communicate(timeout=60)
    holds_its_secret_once(vm)


@pytest.mark.parametrize("fault", ["lost", "cut"])
def test_a_lost_answer_ends_with_one_sentence_and_is_no_second_taker(vm, server, fault):
    vm.road.open()
    vm.cloud_init()
    vm.road.faults["secret-claim"] = [fault]
    running = vm.service()
    _, said = running.communicate(timeout=120)
    assert running.returncode == 3
    (sentence,) = said.splitlines()
    assert sentence.startswith("skytally: secret-claim: 409 the answer was lost on its way to this very vm")
    assert "boot anew, or deposit anew and `vm.py boot`" in sentence
    assert claims(vm) == [200, 409]
    assert not vm.has_its_secret()
    (row,) = server.call("dashboard/data?view=secrets&window=day", token=server.token("reader")).json["table"]
    assert (row["state"], row["contested_count"]) == ("delivered", 0)
    again = vm.service()
    again.communicate(timeout=60)
    assert again.returncode == 2  # the unit ends, and asks nobody
    assert claims(vm) == [200, 409]


def test_power_that_goes_at_any_line_of_the_script_costs_a_boot_and_no_more(vm):
    vm.road.open()
    cuts = 0
    while vm.cloud_init(last=cuts):
        vm.power_cut()
        cuts += 1
    assert cuts > 12
    vm.power_cut()
    vm.cloud_init()
    vm.lives()
    holds_its_secret_once(vm)


def test_a_service_that_is_killed_again_and_again_takes_its_secret_once(vm, server):
    vm.road.open()
    vm.cloud_init()
    vm.road.faults["secret-claim"] = ["nothing", {}, {}, "nothing"]
    for milliseconds in range(100, 1_300, 150):
        running = vm.service()
        time.sleep(milliseconds / 1_000)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    running = vm.service()
    try:
        wait_until(lambda: ("usage-report", 200) in vm.road.passed or running.poll() is not None, 120)
    finally:
        running.terminate()
        running.communicate(timeout=60)
    assert claims(vm).count(200) == 1
    assert vm.has_its_secret() == (("usage-report", 200) in vm.road.passed)
    (row,) = server.call("dashboard/data?view=secrets&window=day", token=server.token("reader")).json["table"]
    assert (row["state"], row["contested_count"]) == ("delivered", 0)
