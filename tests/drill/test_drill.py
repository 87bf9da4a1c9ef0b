"""Two minutes of the drill, and the statistic by which it sees a leak."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drill.gauges import ALLOWED_GROWTH, MIB, growth

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("servers killed", "documents away", "objects away", "disk full", "rolling deployments", "keys rotated")
WORK = ("samples acknowledged", "samples from 1970", "secrets delivered once", "secrets expired", "slow senders ended")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fleet_is_told_exactly_while_servers_die_and_stores_are_away(tmp_path):
    command = [sys.executable, "-m", "tests.drill", "--minutes", "2", "--report", tmp_path / "drill.json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as drill:
        try:
            output, _ = drill.communicate()
        finally:
            drill.terminate()
    assert drill.returncode == 0, output
    counts = json.loads((tmp_path / "drill.json").read_text())["counts"]
    assert all(counts[name] > 0 for name in (*FAULTS, *WORK)), counts
    assert counts["garbage"] > 0.05 * counts["reports"]


def memory(leak_bytes, seconds=120):
    """Return resident bytes of a server that warms up, breathes by 3 MiB, and leaks so much a second."""
    return [
        60 * MIB + 15 * MIB * min(1, second / 20) + 1.5 * MIB * math.sin(second) + leak_bytes * second
        for second in range(seconds)
    ]


def test_a_leak_grows_and_a_warm_up_does_not():
    assert growth(memory(0)) < ALLOWED_GROWTH["memory_bytes"] / 4
    assert growth(memory(100_000)) > ALLOWED_GROWTH["memory_bytes"]


def test_peaks_are_no_growth():
    values = [40 + 200 * (second % 7 == 0) for second in range(120)]
    assert growth(values) == 0
