"""Real search engines for tests, each one node on a port of loopback.

    python -m localstack.servers start opensearch

`node(engine, folder)` makes a server that can be started more than once; `secured(engine, folder)` runs one that asks
who calls.
"""

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from localstack.elasticsearch_node import Elasticsearch
from localstack.opensearch_node import OpenSearch, OpenSearch3
from localstack.search_node import IS_ROOT, Node
from localstack.server_process import Server

ENGINES: dict[str, type[Node]] = {"elasticsearch": Elasticsearch, "opensearch": OpenSearch, "opensearch-3": OpenSearch3}


@contextlib.contextmanager
def node(engine: str, folder: Path, password: str | None = None, **settings: Any) -> Iterator[Node]:
    """Make a server's folders, and remove them at the end."""
    made_in = Path(tempfile.mkdtemp(prefix=f"skytally-{engine}-", dir="/var/tmp" if IS_ROOT else folder))  # noqa: S108
    try:
        running_node = ENGINES[engine](made_in, password)
        running_node.configure(**settings)
        running_node.give_away()
        running_node.keep_password()
        yield running_node
    finally:
        shutil.rmtree(made_in, ignore_errors=True)


def unsecured(engine: str) -> Callable[[Path], contextlib.AbstractContextManager[Server]]:
    """Return what runs an engine that asks nobody who calls."""

    @contextlib.contextmanager
    def serve(folder: Path) -> Iterator[Server]:
        with node(engine, folder) as running_node, running_node.serving(folder / f"{engine}.log") as server:
            yield server

    return serve


@contextlib.contextmanager
def secured(engine: str, folder: Path) -> Iterator[tuple[Node, Server]]:
    """Run an engine that asks who calls; its node can `call` as the first user."""
    with (
        node(engine, folder, secrets.token_hex(16)) as running_node,
        running_node.serving(folder / f"{engine}-secured.log") as server,
    ):
        yield running_node, server
