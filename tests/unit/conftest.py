"""What unit tests keep: documents in SQLite, objects in files. Which of them `make check` leaves to `make test`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.adapters.objects_filesystem import FilesystemObjects

# Tests of the agents run processes under every CPython: they take minutes.
SLOW = {
    "test_openers.py",
    "test_scheduler.py",
    "test_scheduler_history.py",
    "test_scheduler_refused.py",
    "test_vm_agent.py",
    "test_vm_agent_scenarios.py",
    "test_vm_benchmark.py",
    "test_vm_boots.py",
    "test_vm_cores.py",
    "test_vm_jobs.py",
    "test_vm_refused.py",
    "test_vm_unpack.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[SqliteDocuments]:
    """Documents of this test alone."""
    with contextlib.closing(SqliteDocuments(tmp_path / "documents.sqlite")) as documents:
        yield documents


@pytest.fixture(scope="module")
def module_documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteDocuments]:
    """Documents of a module's tests, for examples by the hundred."""
    with contextlib.closing(SqliteDocuments(tmp_path_factory.mktemp("module") / "documents.sqlite")) as documents:
        yield documents


@pytest.fixture
def store(tmp_path: Path) -> FilesystemObjects:
    """Objects of this test alone."""
    return FilesystemObjects(tmp_path / "store")
