"""Numbers as they are written: once rounded they stay, and money has the decimals of its currency."""

import json
from decimal import Decimal
from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.accounting.statement_rows import worth
from skytally.core.rounding import money, rounded
from skytally.core.site_data import Cloud
from skytally.http.csv_table import csv

AMOUNTS = st.floats(-1e12, 1e12)
CURRENCIES = st.sampled_from(["EUR", "JPY", "KWD", "CLF", "XXX", None])


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (1234.5, "EUR", "1234.50"),
        (2.5, "JPY", "3"),
        (-2.5, "JPY", "-3"),
        (1.005, "EUR", "1.01"),
        (1234.5, "JPY", "1235"),
        (1235.5, "JPY", "1236"),
        (1.23456, "KWD", "1.235"),
        (0.0, "CHF", "0.00"),
        (-0.125, "CAD", "-0.13"),
        (1e40, "EUR", f"{10**40}.00"),
        (1e308, "EUR", f"{10**308}.00"),
        (1.0, None, "1.00"),
    ],
)
def test_money_has_the_decimals_of_its_currency_also_where_they_are_zeros(amount, currency, written):
    assert str(money(amount, currency)) == written
    assert csv([{"cost": amount, "currency": currency}]).splitlines()[1].split(",")[0] == written


@given(AMOUNTS, AMOUNTS, CURRENCIES)
def test_what_is_rounded_is_short_near_and_stays(hours, cost, currency):
    row = rounded(
        {"core_hours": hours, "cost": cost, "currency": currency, "vm_count": 3, "coverage": None, "final": True}
    )
    assert rounded(row) == row
    assert (row["vm_count"], row["coverage"], row["final"], row["currency"]) == (3, None, True, currency)
    assert abs(row["core_hours"] - hours) <= 5.1e-7 + abs(hours) * 1e-15
    assert -Decimal(json.dumps(row["core_hours"])).as_tuple().exponent <= 6
    assert float(money(cost, currency)) == row["cost"]


@given(st.floats(-1e8, 1e8), st.floats(-1e8, 1e8))
def test_differences_of_rounded_numbers_add_up_to_what_is_written(before, after):
    first, second = (rounded({"hours": value})["hours"] for value in (before, after))
    change = rounded({"hours": second - first})["hours"]
    assert Decimal(repr(first)) + Decimal(repr(change)) == Decimal(repr(second))


@given(st.integers(0, 10**9), st.integers(0, 10**6))
def test_a_cost_is_that_of_exact_core_time_and_price_rounded_half_up(core_ms, price_millis):
    exact = Fraction(core_ms, 3_600_000) * Fraction(price_millis, 1_000) * 100
    cost = worth(core_ms, Cloud(price_per_core_hour=price_millis / 1_000, currency="EUR"))["cost"]
    assert int(money(cost, "EUR") * 100) == floor(exact + Fraction(1, 2))
