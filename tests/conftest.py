"""What all tests share: a deployment of their own on SQLite and files, and callers with tokens for it."""

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis
import pytest
from starlette.testclient import TestClient

from localstack import servers
from localstack.serve import AllFunctions, first_start
from skytally.access import tokens
from skytally.adapters.documents_search.wire import Refused
from skytally.app import wiring
from skytally.app.wiring import open_documents
from skytally.core import clock
from skytally.core.config import Config
from skytally.core.first_use import prepare_records
from skytally.core.records import Caller
from skytally.operation import timer
from tests.support import described
from tests.support.builders import empty, remove

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True)
hypothesis.settings.register_profile("unshrunk", deadline=None)
hypothesis.settings.load_profile("untimed")

# Tests share stores among threads, as functions do.
prepare_records()

# A run that is ended ends its servers, as one that is interrupted does.
signal.signal(signal.SIGTERM, signal.default_int_handler)

Headers = dict[str, str]
BASE = "http://skytally.test/function/"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make localstack` and others choose the one object store that contracts and journeys run on."""
    parser.addoption(
        "--object-store", choices=sorted(servers.SERVERS), help="run object contracts and journeys on this server alone"
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh state folder, with keys, that the settings name; no other setting of this machine gets through."""
    for name in [name for name in os.environ if name.startswith("SKYTALLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTALLY_HOME", str(tmp_path))
    wiring.close()
    first_start(Config.from_env())
    yield tmp_path
    wiring.close()


@pytest.fixture
def client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """All functions, called without sockets, each answer held to the description;
    rounds may take as long as a busy machine needs.
    """
    monkeypatch.setattr(timer, "WORKS_SECONDS", 100.0)
    monkeypatch.setattr(timer, "ENDS_SECONDS", 200.0)
    with TestClient(AllFunctions(), base_url=BASE, raise_server_exceptions=False) as client:
        client.event_hooks = {"response": [described.check]}
        yield client


@pytest.fixture
def bearer(home: Path) -> Callable[..., Headers]:
    """Make the header of a caller: bearer("reporter", vm="v", clouds=("c",))."""

    def make(
        role: str, *, lifetime: timedelta = timedelta(days=1), issued: datetime | None = None, **fields: object
    ) -> Headers:
        begin = issued or clock.now()
        times = {"issued": int(begin.timestamp()), "expires": int((begin + lifetime).timestamp())}
        return {"Authorization": f"Bearer {tokens.issue(Caller(role=role, **times, **fields), wiring.keys().token)}"}

    return make


@pytest.fixture
def scheduler(home: Path) -> Headers:
    """The operator's scheduler."""
    return {"Authorization": f"Bearer {(home / 'tokens' / 'scheduler').read_text()}"}


@pytest.fixture
def reader(home: Path) -> Headers:
    """The operator's reader."""
    return {"Authorization": f"Bearer {(home / 'tokens' / 'reader').read_text()}"}


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
                if os.environ.get("CI") == "true" and not isinstance(missing, servers.MissingOptional):
                    raise
                self._found[name] = str(missing)
        if isinstance(self._found[name], str):
            pytest.skip(self._found[name])
        return self._found[name]


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        yield Running(tmp_path_factory.mktemp("servers"), stack)


class Prefixes:
    """Prefixes of search engines that are set up and empty: setting one up takes longer than most tests."""

    def __init__(self, running):
        self._running, self._free = running, {}

    def take(self, engine):
        """Return the settings of a document store with nothing in it."""
        server = self._running[engine].settings
        if self._free.get(engine):
            return self._free[engine].pop()
        settings = {**server, "SKYTALLY_DOCUMENTS_PREFIX": f"t{secrets.token_hex(8)}"}
        with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
            documents.install(datetime.now(UTC))
        return settings

    def give_back(self, engine, settings):
        """Empty what a test has written to; what it has broken is not used again."""
        with contextlib.closing(open_documents(Config.from_env(settings))) as documents, contextlib.suppress(Refused):
            empty(documents, settings["SKYTALLY_DOCUMENTS_PREFIX"])
            self._free.setdefault(engine, []).append(settings)


@pytest.fixture(scope="session")
def prefixes(running) -> Prefixes:
    return Prefixes(running)


@pytest.fixture
def document_settings(prefixes, tmp_path) -> Iterator[Callable[[str], dict[str, str]]]:
    """Give a function: the settings of a document store with nothing in it,
    which a test fills, and changes in no other way.
    """
    taken = []

    def settings(name: str) -> dict[str, str]:
        if name == "sqlite":
            return {"SKYTALLY_DOCUMENTS": f"sqlite:///{tmp_path}/documents.sqlite"}
        taken.append((name, prefixes.take(name)))
        return taken[-1][1]

    yield settings
    for engine, found in taken:
        prefixes.give_back(engine, found)


@pytest.fixture
def spoilt_settings(running) -> Iterator[Callable[[str], dict[str, str]]]:
    """Give a function: the same, of a store whose indices and templates a test changes; nothing of it stays."""
    made = []

    def settings(name: str) -> dict[str, str]:
        made.append(Prefixes(running).take(name))
        return made[-1]

    yield settings
    for found in made:
        with contextlib.closing(open_documents(Config.from_env(found))) as documents:
            remove(documents.client, found["SKYTALLY_DOCUMENTS_PREFIX"])
