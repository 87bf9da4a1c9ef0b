"""Whole milliseconds, which stores keep: a moment or a time is brought to them here and nowhere else.

A moment is cut, never rounded: what a store gives back has the same milliseconds, and so the same version, as what was
written. Seconds on the wire have three decimals and are floats, so they go to the nearest millisecond.
"""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def to_ms(moment: datetime) -> int:
    """Return the whole milliseconds from 1970 to a moment; what is left of one is cut off."""
    return (moment - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    """Return the moment in UTC, so many milliseconds after 1970."""
    return EPOCH + timedelta(milliseconds=ms)


def ms_between(since: datetime, until: datetime) -> int:
    """Return the whole milliseconds between what is stored of two moments; negative where the second is earlier."""
    return to_ms(until) - to_ms(since)


def ms_of_seconds(seconds: float) -> int:
    """Return seconds of the wire as whole milliseconds."""
    return round(seconds * 1_000)
