"""What goes wrong during a drill: servers are killed and replaced, stores are away, disks full, keys rotated.

::

    kill                    SIGKILL of one server, every few seconds
    documents away          another process holds SQLite's write lock; a search engine is stopped by SIGSTOP
    objects away            the folder leads nowhere (ELOOP); an object server is stopped by SIGSTOP
    disk full               no process can write to a file (RLIMIT_FSIZE): EFBIG where a full disk says ENOSPC
    rolling deployment      a new server starts, and the old one is stopped by SIGTERM
    keys rotated            `skytally keys rotate`

Kills go on during all others. The others come one after another in random order, with some quiet between them.
"""

import asyncio
import contextlib
import os
import random
import resource
import signal
import sqlite3
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from skytally.app.wiring import open_documents
from skytally.core.config import Config
from tests.support.slow_senders import locked

KILL_SECONDS, QUIET_SECONDS, AWAY_SECONDS = (3, 6), (2, 5), (2, 10)
MOST_ROTATIONS, ROTATION_SECONDS = 15, 30
TIMER_SECONDS, MOST_TIMER_CALLS = 5, 120
TIMERS = ("secret-sweep", "alarm-raise", "documents-forget")
SKYTALLY = Path(sys.executable).parent / "skytally"


def between(bounds):
    return random.uniform(*bounds)


class Stores:
    """The two stores, and how each can be away for a while."""

    def __init__(self, home, documents=None, objects=None):
        self._home, self._documents, self._objects = home, documents, objects
        self.settings = {**(documents.settings if documents else {}), **(objects.settings if objects else {})}
        if objects is None:
            (home / "store").mkdir()
            (home / "objects").symlink_to("store")
        if documents is not None:
            with contextlib.closing(open_documents(Config.from_env(self.settings))) as store:
                store.install(datetime.now(UTC))

    async def documents_away(self, seconds):
        if self._documents is None:
            await asyncio.to_thread(self._lock, seconds)
        else:
            await stopped(self._documents, seconds)

    def _lock(self, seconds):
        """Hold the write lock; where others took it for too long, it is waited for again."""
        is_over = False
        while not is_over:
            with contextlib.suppress(sqlite3.OperationalError), locked(self._home):
                time.sleep(seconds)
                is_over = True

    async def objects_away(self, seconds):
        if self._objects is not None:
            await stopped(self._objects, seconds)
            return
        self._lead_to("objects")
        try:
            await asyncio.sleep(seconds)
        finally:
            self._lead_to("store")

    def _lead_to(self, target):
        """Let the objects' folder lead somewhere else, at once."""
        link = self._home / "link"
        link.symlink_to(target)
        link.replace(self._home / "objects")


async def stopped(server, seconds):
    """Stop a server's process, so that it takes connections and answers nothing."""
    pid = server.process.pid if server.worker is None else int(server.worker.read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


class Faults:
    """The faults of one deployment."""

    def __init__(self, deployment, stores, ledger):
        self._deployment, self._stores, self._ledger = deployment, stores, ledger

    async def run(self, seconds):
        """Let things go wrong for some seconds; return when whatever was away is back."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill(until))
            group.create_task(self._cycle(until))
            group.create_task(self._rotate(until, max(ROTATION_SECONDS, seconds / MOST_ROTATIONS)))

    async def _kill(self, until):
        while await quiet(between(KILL_SECONDS), until):
            code = await self._deployment.kill()
            if code is not None:
                self._ledger.violate("no server ends by itself", f"exit code {code}")
            self._ledger.count("servers killed")

    async def _cycle(self, until):
        faults = {
            "documents away": lambda: self._stores.documents_away(between(AWAY_SECONDS)),
            "objects away": lambda: self._stores.objects_away(between(AWAY_SECONDS)),
            "disk full": self._fill_disk,
            "rolling deployments": self._replace,
        }
        names = []
        while await quiet(between(QUIET_SECONDS), until):
            names = names or random.sample(list(faults), len(faults))
            name = names.pop()
            await faults[name]()
            self._ledger.count(name)

    async def _replace(self):
        code, in_flight = await self._deployment.replace()
        self._ledger.count("requests in flight at SIGTERM", in_flight)
        if code != 0:
            self._ledger.violate("a server that is stopped ends with 0", code)

    async def _fill_disk(self):
        limits = {}
        for pid in self._deployment.pids():
            with contextlib.suppress(ProcessLookupError):
                limits[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, limits[pid][1]))
        await asyncio.sleep(between(AWAY_SECONDS))
        for pid, limit in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)

    async def _rotate(self, until, every_seconds):
        environment = {**os.environ, "SKYTALLY_HOME": str(self._deployment.home)}
        while await quiet(every_seconds, until):
            rotation = await asyncio.create_subprocess_exec(
                SKYTALLY, "keys", "rotate", env=environment, stdout=asyncio.subprocess.DEVNULL
            )
            if await rotation.wait() == 0:
                self._ledger.count("keys rotated")
            else:
                self._ledger.violate("keys can be rotated at any time", rotation.returncode)


async def quiet(seconds, until):
    """Let some seconds pass; return whether the end is still to come."""
    await asyncio.sleep(min(seconds, max(0.0, until - time.monotonic())))
    return time.monotonic() < until


async def call_timers(client, ledger, seconds):
    """Call the timers for ever, on any server; a drill of so many seconds has a bounded number of rounds."""
    while True:
        for name in TIMERS:
            answer = await client.ask(name, b"{}", "Content-Type: application/json")
            ledger.count(f"timer {name} {'answered' if answer and answer.status == 200 else 'away'}")
        await asyncio.sleep(max(TIMER_SECONDS, seconds / MOST_TIMER_CALLS))
