"""A fleet's reports, lost, doubled and shuffled: every total is exact,
and the page agrees with the statement to the last digit.
"""

from pathlib import Path

import pytest

from tests.support.builders import SEARCH_ENGINES
from tests.support.local_server import Server, fleet

ROOT = Path(__file__).resolve().parents[2]


def test_a_day_of_a_fleet_is_exact(server):
    done = fleet(server, "--vms", "300", "--days", "1", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree to the last digit" in done.stdout


def test_two_months_of_a_few_vms_are_exact(server):
    done = fleet(server, "--vms", "8", "--days", "62", "--lost", "0.5", "--doubled", "0.3", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_a_day_of_a_fleet_is_exact_on_a_search_engine(engine, document_settings, tmp_path):
    server = Server(tmp_path, **document_settings(engine)).start()
    try:
        done = fleet(server, "--vms", "100", "--days", "1", "--check")
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree to the last digit" in done.stdout
