"""Whole milliseconds, as stores keep times and durations; the only place that converts to them.

A time is cut off, never rounded, so that a stored time gives the same milliseconds, and the same version, again.
Seconds on the wire are floats with three decimals, so they are rounded to the nearest millisecond.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return the whole milliseconds from 1970 to a time, cut off."""
    since = moment - EPOCH
    return since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000


def from_ms(ms: int) -> datetime:
    """Return the time, in UTC, of milliseconds after 1970."""
    return EPOCH + ms * MILLISECOND


def ms_between(since: datetime, until: datetime) -> int:
    """Return the whole milliseconds between two times as stored; negative if the second is earlier."""
    return to_ms(until) - to_ms(since)


def ms_of_seconds(seconds: float) -> int:
    """Return seconds of the wire as whole milliseconds."""
    return round(seconds * 1_000)


def each_in_ms(seconds: Iterable[float]) -> list[int]:
    """Return several numbers of seconds of the wire as whole milliseconds."""
    return [round(value * 1_000) for value in seconds]
