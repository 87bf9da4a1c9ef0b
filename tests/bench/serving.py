"""A local server on a fresh state, and what it and the processes below it used of the machine."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.load import Load
from tests.support.local_server import Server

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(home: Path | None = None, **settings: str) -> Iterator[Server]:
    """Run the local server for as long as the caller needs it, on a fresh state or on the caller's."""
    with tempfile.TemporaryDirectory(prefix="skytally-bench-") as folder:
        server = Server(home or Path(folder), **settings).start()
        try:
            yield server
        finally:
            server.stop()


def family(pid: int) -> list[int]:
    """Return a process and all that it started, and these."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents.setdefault(int(_stat(int(folder.name))[1]), []).append(int(folder.name))
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its family so far, with that of members that have ended."""
    return sum(sum(map(int, _stat(member)[11:15])) for member in family(pid)) / TICKS_A_SECOND


def charged(load: Callable[[], Load], *pids: int) -> Load:
    """Run a load; write into it the CPU time that these servers and their families used meanwhile."""
    before = sum(map(cpu_seconds, pids))
    result = load()
    result.server_cpu_seconds = sum(map(cpu_seconds, pids)) - before
    return result


def peak_memory_mib(pid: int) -> float:
    """Return the most memory that each of a process's family ever held, added up."""
    total_kib = 0
    for member in family(pid):
        status = Path(f"/proc/{member}/status").read_text()
        total_kib += int(status.partition("VmHWM:")[2].split()[0])
    return total_kib / 1_024


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the program's name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
