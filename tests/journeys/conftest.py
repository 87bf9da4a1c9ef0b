"""A running server for every journey."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_server import Server


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running server with a state of its own, on the object store that the command line names."""
    chosen = request.config.getoption("object_store")
    settings = dict(request.getfixturevalue("running")[chosen].settings) if chosen else {}
    if chosen:
        settings["SKYTALLY_OBJECTS"] += f"/{tmp_path.name}"
    server = Server(tmp_path, **settings).start()
    yield server
    if server._process.poll() is None:
        server.stop()
