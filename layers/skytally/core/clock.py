"""The server's one clock, and how much is left of a bounded wait."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)  # noqa: TID251


class Countdown:
    """So many seconds from now on, by the clock that nobody sets."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def left_seconds(self) -> float:
        """Return what is left of them, at least 0."""
        return max(0.0, self._ends_at - time.monotonic())
