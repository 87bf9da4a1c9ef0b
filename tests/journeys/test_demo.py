"""What `make demo` shows: a fleet and its jobs, alarms, secrets, and a month that was closed and closed again."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest

pytestmark = pytest.mark.servers
ROOT = Path(__file__).resolve().parent.parent.parent


def look(page, view, **query):
    """Return what a view shows of the last day to whoever has no token."""
    with urllib.request.urlopen(
        f"{page}/data?{urlencode({'view': view, 'window': 'day'} | query)}", timeout=60
    ) as answer:
        return json.load(answer)


def check_alarms(page):
    """The cloud that breaks jobs is an open alarm; a vm that was silent for some time is one that is over."""
    health = look(page, "health")
    assert [row["state"] for row in health["table"] if row["kind"] == "faulty_cloud"] == ["raised"]
    # The server's own timer may fall into the time in which the fleet reports, and raise more of them.
    assert {row["kind"] for row in health["history"] if row["resolved_at"]} == {"silent_vm"}
    assert {row["subject"] for row in look(page, "overview")["alarms"] if row["kind"] == "contested_secret"}


def check_secrets(page):
    """Some wait, one was taken twice, and vms that took theirs have not reported since."""
    secrets = look(page, "secrets")
    assert secrets["totals"]["waiting_count"] == 3
    assert secrets["totals"]["contested_count"] == 1
    assert {"waiting", "taken"} <= {row["boot"] for row in secrets["table"]}


def check_last_month(page, month):
    """It is closed, that of one cloud twice, and what was signed needs no token either."""
    answer = look(page, "statement", month=month)
    revisions = {row["cloud"]: row["revision"] for row in answer["table"]}
    assert (answer["state"], revisions.pop("uvic"), set(revisions.values())) == ("final", 2, {1})
    assert any(row["difference_core_hours"] for row in answer["comparison"])
    signed = page.replace("/dashboard", f"/statement?month={month}&cloud=uvic&detail=signed")
    with urllib.request.urlopen(signed, timeout=60) as reply:
        assert json.loads(json.load(reply)["statement"])["changes"]["core_hours"] > 0


def test_the_demo_has_something_on_every_view_and_leaves_nothing_running(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
    environment |= {"SKYTALLY_HOME": str(tmp_path / "home"), "PORT": "0"}
    command = [sys.executable, "-m", "localstack.demo", "--vms", "20", "--days", "2"]
    began_in = (datetime.now(UTC) - timedelta(minutes=1)).replace(day=1)
    last_month = f"{began_in - timedelta(days=1):%Y-%m}"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        page = next(line.split()[2].rstrip(";") for line in demo.stdout if line.startswith("look at "))
        try:
            jobs = look(page, "jobs")["table"]
            assert sum(row["job_count"] for row in jobs) > 4_000
            assert {row["cloud"] for row in jobs} <= {row["cloud"] for row in look(page, "usage")["table"]}
            systems = {system: look(page, "jobs", system=system)["totals"] for system in ("panda", "dirac")}
            assert systems["panda"]["job_count"] > systems["dirac"]["job_count"] > 50
            check_alarms(page)
            check_secrets(page)
            check_last_month(page, last_month)
        finally:
            demo.send_signal(signal.SIGTERM)
        assert demo.wait(timeout=30) == 0
    with pytest.raises(OSError, match="refused"):
        look(page, "jobs")
