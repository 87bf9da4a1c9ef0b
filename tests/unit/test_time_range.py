"""Windows: what a query names, and steps that fit."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.core.errors import Malformed
from skytally.dashboard.time_range import MOST_BARS, step_end, step_start, window

NOW = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)


def test_named_windows_end_now_and_a_month_is_a_calendar_month():
    assert window({}, NOW).from_at == NOW - timedelta(days=1)
    assert window({"window": "month"}, NOW).from_at == datetime(2026, 2, 28, 12, 30, tzinfo=UTC)
    assert window({"window": "hour", "until": "2026-01-01T00:00:00Z"}, NOW).from_at == datetime(
        2025, 12, 31, 23, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("name", "until", "begin", "end"),
    [
        ("this_month", "2026-03-31T12:30:00Z", (2026, 3, 1), (2026, 3, 31, 12, 30)),
        ("last_month", "2026-03-31T12:30:00Z", (2026, 2, 1), (2026, 3, 1)),
        ("this_month", "2026-03-01T00:00:00Z", (2026, 2, 1), (2026, 3, 1)),
        ("last_month", "2026-03-01T00:00:00Z", (2026, 1, 1), (2026, 2, 1)),
        ("last_month", "2026-01-01T00:00:01Z", (2025, 12, 1), (2026, 1, 1)),
        ("this_month", "2026-04-01T01:00:00+02:00", (2026, 3, 1), (2026, 3, 31, 23)),
    ],
)
def test_a_calendar_month_is_utcs_and_never_empty(name, until, begin, end):
    shown = window({"window": name, "until": until}, NOW)
    assert (shown.from_at, shown.until_at) == (datetime(*begin, tzinfo=UTC), datetime(*end, tzinfo=UTC))
    assert (shown.until_at - shown.from_at) / shown.step <= MOST_BARS


def test_from_goes_before_the_windows_name_and_reaches_until_now():
    shown = window({"window": "hour", "from": "2026-03-29T12:30:00+02:00"}, NOW)
    assert (shown.from_at, shown.until_at) == (datetime(2026, 3, 29, 10, 30, tzinfo=UTC), NOW)


@pytest.mark.parametrize(
    ("span", "step"),
    [
        (timedelta(minutes=1), timedelta(minutes=5)),
        (timedelta(hours=5), timedelta(minutes=5)),
        (timedelta(hours=6), timedelta(hours=1)),
        (timedelta(days=1), timedelta(hours=1)),
        (timedelta(days=3), timedelta(hours=6)),
        (timedelta(days=31), timedelta(days=1)),
        (timedelta(days=90), timedelta(days=7)),
        (timedelta(days=760), timedelta(days=28)),
        (timedelta(days=9_000), timedelta(days=28)),
    ],
)
def test_a_free_range_has_a_step_that_leaves_its_bars_wide(span, step):
    shown = window({"from": (NOW - span).isoformat()}, NOW)
    assert shown.step == step
    assert span / step <= MOST_BARS or step == timedelta(days=28)


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-03-31T12:30:00Z"},
        {"from": "yesterday"},
        {"from": "2026-03-30T00:00:00"},
        {"from": "2026-03-30T00:00:00Z", "until": "x"},
        {"from": "1999-12-31T23:59:59.999Z"},
        {"from": "2000-01-01T00:00:00+00:01"},
        {"until": "2100-01-01T00:00:00.001Z"},
        {"until": "2099-12-31T23:59:59-00:01"},
        {"until": "9999-12-31T23:59:59-23:59", "window": "month"},
        {"from": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_a_range_that_is_none_is_refused(query):
    with pytest.raises(Malformed):
        window(query, NOW)


@pytest.mark.parametrize("query", [{}, {"window": "hour"}, {"window": "week"}, {"from": "2026-03-28T12:34:56.789Z"}])
def test_steps_lie_end_to_end_from_the_windows_start_to_its_end(query):
    shown = window(query, NOW)
    at, steps = shown.from_at, 0
    while at < shown.until_at:
        end = step_end(at, shown)
        assert at < end <= at + shown.step
        assert {step_start(at, shown), step_start(end - timedelta(milliseconds=1), shown)} == {at}
        at, steps = end, steps + 1
    assert at == shown.until_at
    assert steps <= MOST_BARS + 1
