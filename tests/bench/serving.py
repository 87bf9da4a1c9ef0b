"""A local server on a fresh state, and what it and the processes below it used of the machine."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from localstack.serve import default_processes
from tests.bench.load import Load
from tests.support.local_server import Server

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(home: Path | None = None, **settings: str) -> Iterator[Server]:
    """Run the local server as `make serve` does, for as long as a caller needs it, on a fresh state or the caller's."""
    with tempfile.TemporaryDirectory(prefix="skytally-bench-") as folder:
        server = Server(home or Path(folder), default_processes(), **settings).start()
        try:
            yield server
        finally:
            server.stop()


def family(pid: int) -> dict[int, list[str]]:
    """Return a process and all that it started, and these, each with its fields of /proc/PID/stat."""
    fields: dict[int, list[str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    members = [pid]
    for member in members:
        members += [child for child, of_child in fields.items() if int(of_child[1]) == member]
    return {member: fields[member] for member in members}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its family so far, with that of members that have ended."""
    return sum(sum(map(int, fields[11:15])) for fields in family(pid).values()) / TICKS_A_SECOND


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
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{member}/status").read_text()
            total_kib += int(status.partition("VmHWM:")[2].split()[0])
    return total_kib / 1_024
