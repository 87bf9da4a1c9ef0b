"""What all tests share: a deployment of their own on SQLite and files, and callers with tokens for it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from localstack.serve import AllFunctions, first_start
from skytally import token, wiring
from skytally.config import Config
from skytally.records import Caller

Headers = dict[str, str]
BASE = "http://skytally.test/function/"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh state folder, with keys, that the settings name; no other setting of this machine gets through."""
    for name in [name for name in __import__("os").environ if name.startswith("SKYTALLY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTALLY_HOME", str(tmp_path))
    wiring.close()
    first_start(Config.from_env())
    yield tmp_path
    wiring.close()


@pytest.fixture
def client(home: Path) -> Iterator[TestClient]:
    """All functions, called without sockets."""
    with TestClient(AllFunctions(), base_url=BASE, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def bearer(home: Path) -> Callable[..., Headers]:
    """Make the header of a caller: bearer("reporter", vm="v", clouds=("c",))."""

    def make(role: str, *, lifetime: timedelta = timedelta(days=1), issued: datetime | None = None, **fields: object) -> Headers:
        begin = issued or datetime.now(UTC)
        times = {"issued": int(begin.timestamp()), "expires": int((begin + lifetime).timestamp())}
        return {"Authorization": f"Bearer {token.issue(Caller(role=role, **times, **fields), wiring.keys().token)}"}

    return make


@pytest.fixture
def scheduler(home: Path) -> Headers:
    """The operator's scheduler."""
    return {"Authorization": f"Bearer {(home / 'tokens' / 'scheduler').read_text()}"}


@pytest.fixture
def reader(home: Path) -> Headers:
    """The operator's reader."""
    return {"Authorization": f"Bearer {(home / 'tokens' / 'reader').read_text()}"}
