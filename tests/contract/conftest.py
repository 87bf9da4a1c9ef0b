"""Every adapter of a port, on the real thing: the same tests run on each."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from localstack import servers
from skytally.config import Config
from skytally.ports import Documents, Objects
from skytally.wiring import open_documents, open_objects

STORES = ("files", "versitygw", "ministack", "fake-gcs")
DOCUMENT_STORES = ("sqlite",)


class Running:
    """The servers that this session has needed so far."""

    def __init__(self, folder, stack):
        self._folder, self._stack = folder, stack
        self._found = {}

    def __getitem__(self, name):
        if name not in self._found:
            folder = self._folder / name
            folder.mkdir(exist_ok=True)
            try:
                self._found[name] = self._stack.enter_context(servers.SERVERS[name](folder))
            except servers.Missing as missing:
                if os.environ.get("CI") == "true":
                    raise
                self._found[name] = str(missing)
        if isinstance(self._found[name], str):
            pytest.skip(self._found[name])
        return self._found[name]


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Running]:
    with ExitStack() as stack:
        yield Running(tmp_path_factory.mktemp("servers"), stack)


@pytest.fixture
def store_settings(running, tmp_path, monkeypatch):
    """Answer a function: the settings of a store, each test in a prefix of its own; credentials go where vendors' clients look."""

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


@pytest.fixture(params=STORES)
def store(request, store_settings) -> dict[str, str]:
    """The settings of each store in turn."""
    return store_settings(request.param)


@pytest.fixture
def objects(store) -> Objects:
    """Each object store in turn."""
    return open_objects(Config.from_env(store))


@pytest.fixture(params=DOCUMENT_STORES)
def documents_settings(request, tmp_path, running) -> dict[str, str]:
    """The settings of each document store in turn, each test with documents of its own."""
    if request.param == "sqlite":
        return {"SKYTALLY_DOCUMENTS": f"sqlite:///{tmp_path}/documents.sqlite"}
    prefix = "".join(letter if letter.isalnum() else "-" for letter in tmp_path.name.lower())
    return {**running[request.param].settings, "SKYTALLY_DOCUMENTS_PREFIX": prefix}


@pytest.fixture
def documents(documents_settings) -> Iterator[Documents]:
    """Each document store in turn."""
    documents = open_documents(Config.from_env(documents_settings))
    yield documents
    documents.close()
