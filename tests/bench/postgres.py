"""A fresh PostgreSQL cluster on loopback, as durable as it comes: fsync and synchronous_commit stay on.

Its server refuses to run as root; root's runs as another user, in a folder of its own on the disk that our own state
is on as well.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from localstack.replicas import free_port
from localstack.search_node import IS_ROOT, OTHER_USER
from localstack.server_process import Missing

READY_SECONDS = 60
DEBIAN = "/usr/lib/postgresql"


@dataclass(frozen=True)
class Cluster:
    """A running cluster, which trusts whoever comes over loopback."""

    port: int
    pid: int
    version: str

    def dsn(self, database: str = "postgres") -> str:
        """Return how to connect."""
        return f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"

    def make(self, database: str, *scripts: str) -> None:
        """Make a database, and run scripts of SQL in it."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            for script in scripts:
                connection.execute(script)


def programs() -> Path:
    """Return the folder of initdb and postgres; raise Missing where there is none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path(DEBIAN).glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Missing("without PostgreSQL (initdb and postgres): nothing is measured beside it")


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a cluster until the caller is done, and remove it."""
    bin_folder, port = programs(), free_port()
    how: dict[str, Any] = {"user": OTHER_USER, "group": "nogroup", "extra_groups": []} if IS_ROOT else {}
    folder = Path(tempfile.mkdtemp(prefix="skytally-bench-postgres-"))
    try:
        if IS_ROOT:
            shutil.chown(folder, OTHER_USER)
        how |= {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}, "stdin": subprocess.DEVNULL}
        initdb = [bin_folder / "initdb", "-D", folder / "data", "-U", "postgres", "--auth=trust", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **how)
        command = [bin_folder / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", str(port)]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, **how) as process:
            try:
                yield Cluster(port, process.pid, _version(process, port, folder / "log"))
            finally:
                process.send_signal(signal.SIGINT)  # Its fast shutdown.
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _version(process: "subprocess.Popen[bytes]", port: int, log: Path) -> str:
    """Wait until the server answers; return its version."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres") as connection:
                return str(connection.execute("SHOW server_version").fetchone()[0])
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError(f"postgres does not answer: {log.read_text(errors='replace')[-1_000:]}")
