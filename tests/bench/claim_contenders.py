"""Claims a second: ours on files, and a plain one-time secret beside it."""

import contextlib
import os
import secrets
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from localstack.replicas import free_port
from localstack.server_process import Missing, running
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.core.config import Config
from tests.bench import peer_one_time_secret
from tests.bench.load import Load, drive, post
from tests.bench.serving import serving
from tests.support import builders, left_deposits

ROOT = Path(__file__).resolve().parents[2]
Measure = Callable[[int, int], Load]

FORM = "Content-Type: application/x-www-form-urlencoded"
PUBLIC_KEY = builders.public_key()


@contextlib.contextmanager
def ours(settings: Mapping[str, str]) -> Iterator[Measure]:
    """Run the local server on an object store; yield `measure(connections, claims)`."""
    # The clients of object stores read their own settings from the environment.
    os.environ.update({name: value for name, value in settings.items() if not name.startswith("SKYTALLY_")})
    with serving(**settings) as server:
        objects = wiring.open_objects(Config.from_env({**settings, "SKYTALLY_HOME": str(server.home)}))
        keyring = KeyFiles(server.home / "keys", lambda: datetime.now(UTC)).keyring()

        def measure(connections: int, claims: int) -> Load:
            forms = (
                builders.claim_form(token, PUBLIC_KEY)
                for token in left_deposits.leave(objects, keyring, ["vm"] * claims)
            )
            posts = [post("/function/secret-claim", urllib.parse.urlencode(form).encode(), FORM) for form in forms]
            return drive(server.port, posts, connections)

        measure(1, 20)
        yield measure


@contextlib.contextmanager
def one_time_secrets() -> Iterator[Measure]:
    """Run the peer as one would: two processes of gunicorn with eight threads each."""
    port = free_port()
    gunicorn = Path(sys.executable).with_name("gunicorn")
    if not gunicorn.exists():
        raise Missing("without gunicorn: no one-time secret is measured beside claims")
    with tempfile.TemporaryDirectory(prefix="skytally-bench-peer-") as name:
        folder = Path(name)
        database = peer_one_time_secret.database(str(folder / "secrets.sqlite"))
        command = [gunicorn, "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "8", "--keep-alive", "30"]
        command += ["--log-level", "warning", "tests.bench.peer_one_time_secret:app"]
        environment = {"ONE_TIME_SECRETS": str(folder / "secrets.sqlite")}
        with running(command, environment, f"http://127.0.0.1:{port}/", folder / "log", cwd=ROOT):

            def measure(connections: int, claims: int) -> Load:
                tokens = [secrets.token_urlsafe(32) for _ in range(claims)]
                with database:
                    rows = ((token, secrets.token_bytes(left_deposits.PAYLOAD_BYTES)) for token in tokens)
                    database.executemany("INSERT INTO secret VALUES (?, ?)", rows)
                bodies = (urllib.parse.urlencode({"token": token}).encode() for token in tokens)
                return drive(port, [post("/claim", body, FORM) for body in bodies], connections)

            measure(1, 20)
            yield measure
        database.close()
