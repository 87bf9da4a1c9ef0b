"""A backup while functions run, everything lost, and the backup brought back:
every total is as it was, and nothing newer is undone.
"""

import subprocess
import sys
from pathlib import Path

from tests.support.vm_life import STEPS, Life

SKYTALLY = Path(sys.executable).parent / "skytally"


def copy(server, source, target):
    told = ["--from", f"sqlite:///{source}", "--to", f"sqlite:///{target}"]
    done = subprocess.run([SKYTALLY, "copy", *told], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_was_backed_up_comes_back_and_nothing_newer_goes(server, tmp_path):
    live, backup = tmp_path / "documents.sqlite", tmp_path / "backup.sqlite"
    life = Life(server, tmp_path)
    for step in STEPS[:-1]:
        getattr(life, step)()
    copy(server, live, backup)
    kept = life.statement()["boots"]
    assert len(kept) == 1

    server.kill()
    for path in tmp_path.glob("documents.sqlite*"):
        path.unlink()
    server.start()
    assert life.statement()["boots"] == []
    copy(server, backup, live)
    assert life.statement()["boots"] == kept

    life.stop()
    copy(server, backup, live)
    (boot,) = life.statement()["boots"]
    assert boot["final"] is True
    assert boot["core_seconds"] >= kept[0]["core_seconds"]
