"""Every adapter of a port, on the real thing: the same tests run on each."""

from collections.abc import Iterator

import pytest

from skytally.app.wiring import open_documents, open_objects
from skytally.core.config import Config
from skytally.core.ports import Documents, Objects
from tests.support.builders import DOCUMENT_STORES

STORES = ("files", "versitygw", "ministack", "fake-gcs")


@pytest.fixture
def store_settings(running, tmp_path, monkeypatch):
    """Return a function: the settings of a store, each test in a prefix of its own;
    credentials go where vendors' clients look.
    """

    def settings(name: str) -> dict[str, str]:
        if name == "files":
            return {"SKYTALLY_OBJECTS": f"file://{tmp_path}/objects"}
        found = dict(running[name].settings)
        found["SKYTALLY_OBJECTS"] += f"/{tmp_path.name}"
        for setting, value in found.items():
            if not setting.startswith("SKYTALLY_"):
                monkeypatch.setenv(setting, value)
        return found

    return settings


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on every store, or on the one that the command line names."""
    if "store_name" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("object_store")
        metafunc.parametrize("store_name", (chosen,) if chosen else STORES)


@pytest.fixture
def object_settings(store_name, store_settings) -> dict[str, str]:
    """The settings of each store in turn."""
    return store_settings(store_name)


@pytest.fixture
def objects(object_settings) -> Objects:
    """Each object store in turn."""
    return open_objects(Config.from_env(object_settings))


@pytest.fixture(params=DOCUMENT_STORES)
def documents_settings(request, document_settings) -> dict[str, str]:
    """The settings of each document store in turn, each test with documents of its own."""
    return document_settings(request.param)


@pytest.fixture
def any_documents(documents_settings) -> Iterator[Documents]:
    """Each document store in turn."""
    documents = open_documents(Config.from_env(documents_settings))
    yield documents
    documents.close()
