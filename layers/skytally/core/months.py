"""Months: calendar months in UTC, written YYYY-MM."""

from datetime import UTC, datetime, timedelta
from functools import cache


def month_of(moment: datetime) -> str:
    """Return the calendar month of a moment, in UTC."""
    utc = moment.astimezone(UTC)
    return f"{utc.year:04}-{utc.month:02}"


@cache
def month_start_at(month: str) -> datetime:
    """Return the moment when a month begins."""
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


@cache
def month_end_at(month: str) -> datetime:
    """Return the moment when a month ends, which is when the next begins."""
    return (month_start_at(month) + timedelta(days=32)).replace(day=1)
