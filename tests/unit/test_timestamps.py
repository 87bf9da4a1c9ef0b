"""Timestamps: one way from moments and seconds to whole milliseconds."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skytally.core.timestamps import EPOCH, from_ms, ms_between, ms_of_seconds, to_ms

LAYERS = Path(__file__).parents[2] / "layers" / "skytally"
MOMENTS = st.datetimes(
    datetime(1900, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)


@given(MOMENTS)
def test_what_is_kept_of_a_moment_has_its_milliseconds_again(moment):
    kept = from_ms(to_ms(moment))
    assert to_ms(kept) == to_ms(moment)
    assert timedelta(0) <= moment - kept < timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS)
def test_order_is_kept(one, other):
    assert (to_ms(one) < to_ms(other)) <= (one < other)
    assert ms_between(one, other) == -ms_between(other, one)


def test_no_float_stands_between():
    # As a float, this moment times a thousand is just below its milliseconds.
    moments = [EPOCH + timedelta(days=20_000, milliseconds=n) for n in range(1_000)]
    assert [to_ms(moment) for moment in moments] == [20_000 * 86_400_000 + n for n in range(1_000)]


@given(st.integers(0, 10**12))
def test_three_decimals_of_seconds_are_exact(ms):
    assert ms_of_seconds(ms / 1_000) == ms


def test_nobody_else_makes_milliseconds_of_moments():
    users = [path for path in LAYERS.rglob("*.py") if "timestamp() * 1_000" in path.read_text()]
    assert users == []
