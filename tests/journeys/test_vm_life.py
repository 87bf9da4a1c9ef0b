"""A vm's life over HTTP, with the vm.py that the server itself serves;
and the same with the server killed between any two steps.
"""

import contextlib
import http.client
import socket
import subprocess
import sys
import threading

from tests.support.local_server import Server
from tests.support.vm_life import STEPS, lives_through

EDGE = {}


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
