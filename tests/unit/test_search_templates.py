"""Which index of a search engine a document belongs to."""

import re
from datetime import datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from skytally.adapters.documents_search.templates import month_of_key

DIGITS = st.text("0123456789", min_size=15, max_size=15).map(lambda text: f"{text[:8]}T{text[9:]}")
MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(2101, 1, 1)).map("{:%Y%m%dT%H%M%S}".format)


@given(DIGITS | MOMENTS, st.integers(0, 10**15 - 1))
@example("20261131T000000", 0)
@example("20261130T235959", 1_000)
@example("20261130T240000", 0)
@example("20261130T235960", 0)
@example("00000101T000000", 0)
@example("20261130T000000", 10**15 - 1)
def test_the_month_of_an_interval_is_what_its_key_says(booted_at, uptime_ms):
    try:
        text = booted_at if re.fullmatch(r"\d{8}T\d{6}", booted_at) else ""
        began_at = datetime.strptime(f"{text}+0000", "%Y%m%dT%H%M%S%z") + timedelta(milliseconds=uptime_ms)
        expected = f"{began_at:%Y-%m}" if 2026 <= began_at.year <= 2099 else "other"
    except (ValueError, OverflowError):
        expected = "other"
    assert month_of_key(f"vm-1-{booted_at}Z@uvic-{uptime_ms}") == expected
