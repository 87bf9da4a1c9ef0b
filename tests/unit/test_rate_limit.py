"""Token buckets: bursts pass, floods wait, nobody is held up for another, and memory is bounded."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.access.rate_limit import BURST_SECONDS, Buckets, Limits, network_of
from skytally.core.config import Config

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def passed(buckets, caller, calls, now=NOW):
    return sum(buckets.wait_seconds(caller, now) == 0 for _ in range(calls))


def test_a_minutes_worth_at_once_and_then_the_rate():
    buckets = Buckets(2)
    assert passed(buckets, "a", 1_000) == 2 * BURST_SECONDS
    assert passed(buckets, "a", 1_000, NOW + SECOND) == 2
    assert passed(buckets, "a", 1_000, NOW + timedelta(hours=9)) == 2 * BURST_SECONDS, "no more is saved up"


def test_whoever_waits_as_told_is_let_through():
    buckets = Buckets(0.1)
    passed(buckets, "a", 6)
    wait_seconds = buckets.wait_seconds("a", NOW)
    assert wait_seconds == 10
    assert buckets.wait_seconds("a", NOW + wait_seconds * SECOND) == 0


def test_one_caller_holds_up_no_other():
    buckets = Buckets(1)
    passed(buckets, "a", 1_000)
    assert buckets.wait_seconds("b", NOW) == 0


def test_a_clock_that_steps_back_gives_nothing_away():
    buckets = Buckets(1)
    passed(buckets, "a", 60)
    assert buckets.wait_seconds("a", NOW - timedelta(hours=1)) > 0
    assert passed(buckets, "a", 1_000, NOW) == 0


def test_who_is_not_heard_of_for_longest_is_forgotten_first():
    buckets = Buckets(1, max_buckets=3)
    passed(buckets, "a", 60)
    for other in "bcdefgh":
        assert buckets.wait_seconds("a", NOW) > 0, "whoever goes on asking is remembered"
        buckets.wait_seconds(other, NOW)
    assert len(buckets._buckets) == 3


def test_whoever_does_not_come_back_takes_no_memory():
    buckets = Buckets(1)
    for stranger in range(100):
        buckets.wait_seconds(str(stranger), NOW + stranger * SECOND)
    assert len(buckets._buckets) == BURST_SECONDS


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=300))
def test_no_caller_ever_gets_more_than_burst_and_rate(calls):
    buckets, now, let = Buckets(1), NOW, dict.fromkeys("abc", 0)
    for caller, pause in calls:
        now += pause * SECOND
        let[caller] += buckets.wait_seconds(caller, now) == 0
    assert all(count <= BURST_SECONDS + (now - NOW).total_seconds() for count in let.values())


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:9::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        ("testclient", None),
    ],
)
def test_where_a_caller_is(address, place):
    assert network_of(address) == place


def test_neither_many_tokens_nor_many_addresses_get_around_it():
    limits = Limits(1, 1)
    one_address = [limits.wait_seconds("statement", "203.0.113.9", f"Bearer {n}", NOW) for n in range(100)]
    assert one_address.count(0) == BURST_SECONDS
    one_token = [limits.wait_seconds("statement", f"203.0.113.{n}", "Bearer x", NOW) for n in range(100, 200)]
    assert one_token.count(0) == BURST_SECONDS


def test_claims_have_a_limit_of_their_own_which_holds_up_nothing_else():
    limits = Limits(1_000, 1)
    assert [limits.wait_seconds("secret_claim", "203.0.113.9", "", NOW) for _ in range(100)].count(0) == BURST_SECONDS
    assert limits.wait_seconds("usage_report", "203.0.113.9", "Bearer x", NOW) == 0
    assert limits.wait_seconds("secret_claim", "203.0.113.8", "", NOW) == 0


def test_ten_thousand_vms_behind_one_address_boot_at_once():
    usual = Config()
    limits = Limits(usual.calls_per_second, usual.claims_per_second)
    for step in ("agent", "secret_claim", "usage_report"):
        assert [limits.wait_seconds(step, "203.0.113.9", f"Bearer {n}", NOW) for n in range(10_000)].count(0) == 10_000


def test_nothing_is_limited_where_the_settings_say_so():
    limits = Limits(0, 0)
    assert {limits.wait_seconds("secret_claim", "203.0.113.9", "Bearer x", NOW) for _ in range(1_000)} == {0}


def test_no_token_is_kept():
    limits = Limits(1, 1)
    limits.wait_seconds("statement", "203.0.113.9", "Bearer hunter2", NOW)
    assert "hunter2" not in repr(vars(limits._by_token))
