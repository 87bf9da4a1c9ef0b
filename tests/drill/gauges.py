"""What a process holds, second by second, and whether that grows.

Of each ten seconds only the least counts, since a process holds more while requests wait. The growth is the Theil–Sen
slope of these values over the last half of a run, times the length of that half. The estimate is robust: more than a
quarter of the values may be peaks. Since the bound is the same for a run of any length, a long run sees smaller leaks:
the bound divided by the requests of the last half. A short run is not judged: its threads and caches still grow to
their bounds. Connections come and go with the traffic: at rest after it there are none left.
"""

import contextlib
import os
from pathlib import Path

from scipy import stats

MIB = 1 << 20
BLOCK_SECONDS = 10
# Threads and caches reach their bounds in the first half of a run of this length.
JUDGED_SECONDS = 20 * 60
# How much of each a process without a leak may seem to gain in the last half of a run, however long that is.
ALLOWED_GROWTH = {"memory_bytes": 8 * MIB, "files": 10, "threads": 5}
# The states ESTABLISHED and CLOSE_WAIT, as Linux numbers them.
HELD = frozenset({"01", "08"})


class Gauges:
    """Samples of one process, and the requests that it got until each."""

    def __init__(self, pid):
        self._process = Path(f"/proc/{pid}")
        self.samples = {name: [] for name in ALLOWED_GROWTH}
        self._requests = []

    def sample(self, requests):
        """Take a sample of memory that is no file's, open files and threads."""
        resident_pages, file_pages = map(int, (self._process / "statm").read_text().split()[1:3])
        self.samples["memory_bytes"].append((resident_pages - file_pages) * os.sysconf("SC_PAGE_SIZE"))
        self.samples["files"].append(sum(1 for _ in self._files()))
        self.samples["threads"].append(len(os.listdir(self._process / "task")))  # noqa: PTH208
        self._requests.append(requests)

    def connections(self, port):
        """Return how many connections to the process's port it has not closed yet."""
        rows = (line.split() for line in (self._process / "net/tcp").read_text().splitlines()[1:])
        return sum(row[1].endswith(f":{port:04X}") and row[3] in HELD for row in rows)

    def _files(self):
        """Yield what each open file leads to, sockets left out."""
        for path in (self._process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = str(path.readlink())
                if not target.startswith("socket:"):
                    yield target

    def smallest_leak_bytes(self):
        """Return how many bytes a request a leak must have to break the bound; None for a run that is not judged."""
        if len(self._requests) < JUDGED_SECONDS:
            return None
        half = last_half(self._requests)
        return round(ALLOWED_GROWTH["memory_bytes"] / max(1, half[-1] - half[0]))


def growth(values):
    """Return how much the floor of a value, which was taken each second, has grown over the last half.

    Return None for a run that is too short to tell a leak from a cache that fills.
    """
    if len(values) < JUDGED_SECONDS:
        return None
    starts = range(0, len(values) - BLOCK_SECONDS + 1, BLOCK_SECONDS)
    half = last_half([min(values[start : start + BLOCK_SECONDS]) for start in starts])
    return float(stats.theilslopes(half).slope) * len(half)


def last_half(values):
    """Return the last half."""
    return values[len(values) // 2 :]
