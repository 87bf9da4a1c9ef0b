"""A running server for every journey."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server with a state of its own."""
    server = Server(tmp_path).start()
    yield server
    if server._process.poll() is None:
        server.stop()
