"""Tests of the agents run processes under every CPython:
they take minutes, so `make check` leaves them to `make test`.
"""

import pytest

SLOW = {
    "test_openers.py",
    "test_scheduler_refused.py",
    "test_vm_agent.py",
    "test_vm_agent_scenarios.py",
    "test_vm_benchmark.py",
    "test_vm_boots.py",
    "test_vm_refused.py",
    "test_vm_unpack.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
