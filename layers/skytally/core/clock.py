"""The server's clock, and countdowns of bounded waits."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)  # noqa: TID251


class Countdown:
    """A countdown of seconds by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def left_seconds(self) -> float:
        """Return the seconds left, at least 0."""
        return max(0.0, self._ends_at - time.monotonic())
