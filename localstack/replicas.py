"""Functions as processes of this machine:
one `python -m skytally.app.asgi` each, with its own port, environment and secrets.
"""

import asyncio
import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

import httpx2 as httpx

from skytally.deployment.descriptions import SECRETS_FOLDER

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30
STOP_SECONDS = 30
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "VIRTUAL_ENV")


READ_ONLY = """
set -e
mount --make-rprivate /
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
mount --bind "$2" "$2"
mount -o remount,bind,ro "$2"
mount -o remount,bind,ro /
shift 2
exec "$@"
"""


class NotReady(Exception):
    """A process ended, or did not answer in time; the text is the end of its log."""


class Replica:
    """One running process of a function."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.url = f"http://127.0.0.1:{port}"
        self.in_flight = 0
        self.used_at = time.monotonic()

    @property
    def memory_bytes(self) -> int:
        """Return the resident memory, 0 for a process that is gone."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def alive(self) -> bool:
        """Return whether the process still runs."""
        return self.process.returncode is None

    async def stop(self) -> None:
        """Let what is in flight be answered, then end the process and forget its secrets."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self.alive:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


async def start(spec: dict[str, Any], secrets: Path, folder: Path, volumes: tuple[Path, ...]) -> Replica:
    """Start a function's process and wait until it is ready; raises NotReady with the end of its log."""
    mounted = folder / "secrets"
    mounted.mkdir(parents=True, mode=0o700)
    for name in spec.get("secrets") or []:
        shutil.copyfile(secrets / name, mounted / name)
        (mounted / name).chmod(0o400)
    port = free_port()
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    environment = {name: value.replace(SECRETS_FOLDER, str(mounted)) for name, value in spec["envVars"].items()}
    given = {**environment, "PORT": str(port), "SKYTALLY_HOST": "127.0.0.1"}
    with (folder / "log").open("wb") as log:
        command = (*_read_only(mounted, volumes), sys.executable, "-m", "skytally.app.asgi")
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env={**kept, **given}, stdout=log, stderr=log
        )
    replica = Replica(process, port, folder)
    try:
        await _answers(replica)
    except NotReady:
        await replica.stop()
        raise
    return replica


def can_be_read_only() -> bool:
    """Return whether processes can be kept from writing."""
    return os.geteuid() == 0 and shutil.which("unshare") is not None


def _read_only(mounted: Path, volumes: tuple[Path, ...]) -> tuple[str, ...]:
    """Return what a command is run by: a root that nobody can write,
    but for /tmp and volumes, and secrets that nobody can.
    """
    if not can_be_read_only():
        return ()
    return ("unshare", "--mount", "sh", "-c", READ_ONLY, "sh", "/tmp", *map(str, volumes), "--", str(mounted))  # noqa: S108


def free_port() -> int:
    """Ask the kernel for a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(replica: Replica) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(READY_SECONDS * 20):
            if not replica.alive:
                break
            try:
                if (await client.get(f"{replica.url}/_/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)
    raise NotReady((replica.folder / "log").read_text(errors="replace")[-500:] or "it did not answer in time")
