"""Two minutes of the drill, and the statistic by which it sees a leak."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drill.gauges import ALLOWED_GROWTH, JUDGED_SECONDS, MIB, growth
from tests.drill.ledger import Ledger
from tests.drill.report import judge

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


REQUESTS_A_SECOND = 50


def memory(leak_bytes, seconds):
    """Return a server's bytes: caches fill for ten minutes, the heap breathes by 3 MiB, each request leaks so much."""
    return [
        60 * MIB
        + 30 * MIB * min(1, second / 600)
        + 1.5 * MIB * math.sin(second)
        + leak_bytes * REQUESTS_A_SECOND * second
        for second in range(seconds)
    ]


@pytest.mark.parametrize("seconds", [JUDGED_SECONDS, 3_600])
def test_a_leak_grows_and_a_warm_up_does_not(seconds):
    assert growth(memory(0, seconds)) < ALLOWED_GROWTH["memory_bytes"] / 4
    assert growth(memory(1_000, seconds)) > 2 * ALLOWED_GROWTH["memory_bytes"]


def test_a_run_is_not_judged_while_caches_fill():
    assert growth(memory(0, JUDGED_SECONDS - 1)) is None


@pytest.mark.parametrize(("seconds", "is_broken"), [(JUDGED_SECONDS - 1, False), (JUDGED_SECONDS, True)])
def test_a_leak_breaks_a_promise_once_the_run_is_long_enough(seconds, is_broken):
    samples = {"memory_bytes": memory(1_000, seconds), "files": [50] * seconds, "threads": [40] * seconds}
    ledger = Ledger()
    rows = judge(samples, ledger)
    assert bool(ledger.violations) == is_broken
    assert rows["files"]["growth_in_last_half"] == (0 if is_broken else None)


def test_peaks_are_no_growth():
    values = [40 + 200 * (second % 7 == 0) for second in range(JUDGED_SECONDS)]
    assert growth(values) == 0
