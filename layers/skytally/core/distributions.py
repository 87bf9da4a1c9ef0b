"""Distributions of jobs: the buckets that run time, memory, disk and efficiency are counted in.

The edges are round and never depend on the jobs, so each document can keep its bucket, and counting is grouping by it.
A bucket reaches from its edge to below the next one; the last has no end.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MEBIBYTE = 1_024**2


class Distribution(Struct, frozen=True):
    """A value of jobs, its unit, and where its buckets begin."""

    unit: Literal["seconds", "bytes", "share"]
    edges: Sequence[float]

    def bucket_of(self, value: float | None) -> float | None:
        """Return where the bucket of a value begins; None for what is not known or below the first."""
        at = 0 if value is None else bisect_right(self.edges, value)
        return self.edges[at - 1] if at else None

    def spans(self) -> list[tuple[float, float | None]]:
        """Return begin and end of each bucket."""
        return [*pairwise(self.edges), (self.edges[-1], None)]


_SECONDS = (
    *(0, 1, 2, 5, 10, 20, 30),
    *(minutes * MINUTE for minutes in (1, 2, 5, 10, 15, 20, 30, 45)),
    *(hours * HOUR for hours in (1, 1.5, 2, 3, 4, 6, 8, 10, 12, 15, 18)),
    *(days * DAY for days in (1, 1.5, 2, 3, 4, 7, 14)),
)
# 1, 1.5, 2, 3, 4, 6 ... GiB, from 16 MiB to 512 GiB.
_BYTES = (0, *(part * MEBIBYTE * 2**power for power in range(4, 19) for part in (1, 1.5)), 512 * 1_024 * MEBIBYTE)
DISTRIBUTIONS = {
    "run_seconds": Distribution("seconds", [int(edge) for edge in _SECONDS]),
    "max_pss_bytes": Distribution("bytes", [int(edge) for edge in _BYTES]),
    "disk_bytes": Distribution("bytes", [int(edge) for edge in _BYTES]),
    "efficiency": Distribution("share", [part / 20 for part in range(21)]),
}
# The field of a job that keeps where its bucket begins.
BUCKET_FIELDS = {name: f"{name}_from" for name in DISTRIBUTIONS}
_BY_FIELD = [(BUCKET_FIELDS[name], distribution) for name, distribution in DISTRIBUTIONS.items()]


def buckets(
    wall_ms: int | None, max_pss_bytes: int | None, disk_bytes: int | None, efficiency: float | None
) -> list[tuple[str, float | None]]:
    """Return the bucket that a job is in, by field; a job that did not run has no run time."""
    values = (wall_ms // 1_000 if wall_ms else None, max_pss_bytes, disk_bytes, efficiency)
    return [
        (field, None if value is None else of.bucket_of(value))
        for (field, of), value in zip(_BY_FIELD, values, strict=True)
    ]
