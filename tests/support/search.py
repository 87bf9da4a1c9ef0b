"""A search engine as its operator and its callers use it: set up, opened with a key, tried again after an outage."""

import contextlib
import time

import pytest
from click.testing import CliRunner

from localstack import search_server, servers
from skytally.adapters.documents_search import access
from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.errors import Unavailable
from tests.support.documents import done


def put(documents, path, body):
    documents.client.perform("PUT", path, body=body)


def insist(documents, *writes, patience_seconds=240):
    """Send it again until it is kept, as every caller does; an outage that does not pass is raised."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return done(documents, *writes)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextlib.contextmanager
def secured(engine, folder):
    try:
        with search_server.secured(engine, folder) as (node, server):
            yield node, server
    except servers.Missing as missing:
        pytest.skip(str(missing))


def set_up(folder, node, server, monkeypatch):
    """Set the store up and make its keys by the command line, as an operator does."""
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    assert isinstance(CliRunner().invoke(cli, ["doctor", "--install"]).exception, Unavailable)
    (folder / "password").write_text(node.password)
    told = [
        "search-setup",
        "--user",
        node.user,
        "--password-file",
        str(folder / "password"),
        "--out",
        str(folder / "keys"),
    ]
    done = CliRunner().invoke(cli, told, catch_exceptions=False)
    assert done.exit_code == 0
    assert "usage-report, job-heartbeat, placement-report" in done.output
    for group in access.FUNCTIONS:
        assert (folder / "keys" / group).stat().st_mode & 0o077 == 0
        assert (folder / "keys" / group).read_text().strip() not in done.output


@contextlib.contextmanager
def opened(server, key_file):
    told = {**server.settings, "SKYTALLY_DOCUMENTS_API_KEY_FILE": str(key_file)}
    with contextlib.closing(open_documents(Config.from_env(told))) as documents:
        yield documents
