"""What `make demo` shows: a fleet, its jobs on their clouds, and the alarm of the cloud that breaks them."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.servers
ROOT = Path(__file__).resolve().parent.parent.parent


def look(page, view):
    with urllib.request.urlopen(f"{page}/data?view={view}&window=day", timeout=60) as answer:
        return json.load(answer)["table"]


def test_the_demo_has_something_on_every_view_and_leaves_nothing_running(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
    environment |= {"SKYTALLY_HOME": str(tmp_path / "home"), "PORT": "0"}
    command = [sys.executable, "-m", "localstack.demo", "--vms", "20", "--days", "2"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        page = next(line.split()[2].rstrip(";") for line in demo.stdout if line.startswith("look at "))
        try:
            jobs = look(page, "jobs")
            assert sum(row["job_count"] for row in jobs) > 4_000
            assert {row["cloud"] for row in jobs} <= {row["cloud"] for row in look(page, "usage")}
            assert [row["state"] for row in look(page, "health") if row["kind"] == "faulty_cloud"] == ["raised"]
        finally:
            demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=30) == 0
    with pytest.raises(OSError, match="refused"):
        look(page, "jobs")
