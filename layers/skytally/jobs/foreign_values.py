"""Foreign values: what another system answers, read as what it should be, or as unknown. No value of any kind raises.

A moment outside of what can be is unknown too: it would decide for ever which of two states of a job is the newer.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from skytally.core.records import EARLIEST_MOMENT
from skytally.jobs.panda_errors import cleaned

# Clocks of other systems may be ahead of the server's by so much.
AHEAD = timedelta(days=1)
# Above these a number is nonsense, and sums of it would not be exact any more.
MAX_NUMBER, MAX_IDENTITY = 1e15, 2**63 - 1
MAX_DIGITS, MAX_WORD = 20, 255
_IDENTITY = re.compile(r"[1-9][0-9]{0,18}")


def parsed(body: bytes) -> Any:
    """Return what JSON says, a number of too many digits as None; raises ValueError for what is none."""
    try:
        return json.loads(body.decode("utf-8", "replace"), parse_int=_int)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _int(text: str) -> int | None:
    return int(text) if len(text) <= MAX_DIGITS else None


def moment(value: Any, latest: datetime) -> datetime | None:
    """Return a moment, in UTC where it names no zone; None for what is none, or lies before 2000 or after `latest`."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    return found.astimezone(UTC) if EARLIEST_MOMENT <= found <= latest else None


def number(value: Any) -> float | None:
    """Return a number that may come as text; None for what is none, or not finite."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if abs(found) < MAX_NUMBER and not isinstance(value, bool) else None


def whole_number(value: Any) -> int | None:
    """Return a whole number that may come as text or as a fraction."""
    found = number(value)
    return None if found is None else int(found)


def identity(value: Any) -> int | None:
    """Return the number above zero by which something is known;
    a fraction or a flag is not taken for another's number.
    """
    if (isinstance(value, str) and _IDENTITY.fullmatch(value)) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_IDENTITY else None


def word(value: Any) -> str | None:
    """Return a word of somebody else's, harmless and at most 255 characters."""
    return cleaned(value)[:MAX_WORD] or None if isinstance(value, str) else None
