"""Foreign values: another system's values, parsed to the expected type or None. No value raises, except bad JSON.

An impossible time becomes None too: it would make one state of a job the newest for ever.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from skytally.core.records import EARLIEST_MOMENT
from skytally.jobs.panda_errors import cleaned

# Clocks of other systems may be this far ahead of the server's.
AHEAD = timedelta(days=1)
# A larger number is nonsense, and sums of it would not be exact.
MAX_NUMBER, MAX_IDENTITY = 1e15, 2**63 - 1
MAX_DIGITS, MAX_WORD = 20, 255
_IDENTITY = re.compile(r"[1-9][0-9]{0,18}")


def parsed(body: bytes) -> Any:
    """Return the value of a JSON text, with None for a number of too many digits; raise ValueError for bad JSON."""
    try:
        return json.loads(body.decode("utf-8", "replace"), parse_int=_int)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _int(text: str) -> int | None:
    return int(text) if len(text) <= MAX_DIGITS else None


def moment(value: Any, latest: datetime) -> datetime | None:
    """Return a time, in UTC unless it names a zone; None for no time, and for one before 2000 or after `latest`."""
    if value is None:
        return None
    try:
        parsed_at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    # `replace` takes four times as long.
    at = datetime.combine(parsed_at, parsed_at.time(), UTC) if parsed_at.tzinfo is None else parsed_at
    return at.astimezone(UTC) if EARLIEST_MOMENT <= at <= latest else None


def number(value: Any) -> float | None:
    """Return a number, which may come as text; None for anything else, and for one that is not finite."""
    if value is None:
        return None
    try:
        parsed_number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return parsed_number if abs(parsed_number) < MAX_NUMBER and not isinstance(value, bool) else None


def whole_number(value: Any) -> int | None:
    """Return a whole number, which may come as text or as a fraction, or None."""
    parsed_number = number(value)
    return None if parsed_number is None else int(parsed_number)


def identity(value: Any) -> int | None:
    """Return a numeric identifier above 0, or None; a fraction or a flag is no identifier."""
    if (isinstance(value, str) and _IDENTITY.fullmatch(value)) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and 0 < value <= MAX_IDENTITY else None


def word(value: Any) -> str | None:
    """Return a text without control characters and persons, of at most 255 characters, or None."""
    return cleaned(value)[:MAX_WORD] or None if isinstance(value, str) else None
