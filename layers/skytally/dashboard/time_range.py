"""Windows: the time span that a view shows, and the step that its plot is drawn in."""

import calendar
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from skytally.core.errors import Malformed
from skytally.core.months import month_of, month_start_at
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT
from skytally.core.timestamps import EPOCH

WINDOWS = {
    "hour": (timedelta(hours=1), timedelta(minutes=5)),
    "day": (timedelta(days=1), timedelta(hours=1)),
    "week": (timedelta(days=7), timedelta(hours=6)),
    "month": (None, timedelta(days=1)),
}
# Calendar months, by how many months before the one that `until` ends in.
CALENDAR_MONTHS = {"this_month": 0, "last_month": 1}
NAMES = (*WINDOWS, *CALENDAR_MONTHS)
# A free range takes the shortest of these that leaves a plot at most so many bars wide.
STEPS = tuple(timedelta(minutes=m) for m in (5, 60, 360, 1_440, 7 * 1_440, 28 * 1_440))
MOST_BARS = 62
MICROSECOND = timedelta(microseconds=1)


class Window(Struct, frozen=True):
    """A time span and the step that its plot is drawn in."""

    from_at: datetime
    until_at: datetime
    step: timedelta


def window(query: Mapping[str, str], now: datetime) -> Window:
    """Make the window that a query names by `window`, or by `from`; it ends at `until`, or now.

    A month is a calendar month long. `this_month` is the calendar month so far, `last_month` the whole one before it.
    """
    name = query.get("window", "day")
    if name not in NAMES:
        raise Malformed(f"window must be one of {', '.join(NAMES)}", field="window")
    until_at = _moment("until", query["until"]) if "until" in query else now
    if "from" in query:
        return _free(_moment("from", query["from"]), until_at)
    if name in CALENDAR_MONTHS:
        return _calendar_month(until_at, CALENDAR_MONTHS[name])
    span, step = WINDOWS[name]
    return Window(until_at - span if span else _month_before(until_at), until_at, step)


def _calendar_month(until_at: datetime, months_before: int) -> Window:
    """Return the month that ends at a moment, as far as that, or a whole one before it."""
    for _ in range(months_before):
        until_at = month_start_at(month_of(until_at - MICROSECOND))
    return _free(month_start_at(month_of(until_at - MICROSECOND)), until_at)


def _free(from_at: datetime, until_at: datetime) -> Window:
    if from_at >= until_at:
        raise Malformed("from must be earlier than until, or than now where until is not given", field="from")
    fitting = (step for step in STEPS if (until_at - from_at) / step <= MOST_BARS)
    return Window(from_at, until_at, next(fitting, STEPS[-1]))


def _moment(field: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not EARLIEST_MOMENT <= moment <= LATEST_MOMENT:
        raise Malformed(
            f"{field} must be ISO 8601 with a zone, from 2000 to 2100, such as 2026-12-01T00:00:00Z", field=field
        )
    return moment.astimezone(UTC)


def _month_before(moment: datetime) -> datetime:
    year, month = (moment.year, moment.month - 1) if moment.month > 1 else (moment.year - 1, 12)
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def step_start(at: datetime, shown: Window) -> datetime:
    """Return where the step of a moment begins:
    steps of an hour or longer are UTC's, shorter ones are counted from the window's start.
    """
    origin = EPOCH if shown.step >= timedelta(hours=1) else shown.from_at
    return max(at - (at - origin) % shown.step, shown.from_at)


def step_end(at: datetime, shown: Window) -> datetime:
    """Return where a step that begins then ends:
    one of an hour or longer where UTC's next begins, another after its length.
    """
    cut = (at - EPOCH) % shown.step if shown.step >= timedelta(hours=1) else timedelta(0)
    return min(at + shown.step - cut, shown.until_at)
