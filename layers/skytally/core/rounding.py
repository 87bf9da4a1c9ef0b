"""Rounding: numbers as people and files read them.

Sums are made of whole milliseconds and bytes. A number is rounded once, as it becomes a column of a row: to six
decimals (3.6 ms of an hour), money to the smallest unit of its currency, half a unit away from zero. Differences of
rows are differences of rounded numbers.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

DECIMALS = 6
# ISO 4217: currencies whose smallest unit is not a hundredth.
_OTHER_DIGITS = {
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF": 0,
    "BHD IQD JOD KWD LYD OMR TND": 3,
    "CLF UYW": 4,
}
# The column with the currency of an amount.
CURRENCIES = {"cost": "currency", "unsettled_cost": "currency", "billed_cost": "billed_currency"}
# Enough digits for any float.
_ACCOUNTANTS = Context(prec=400, rounding=ROUND_HALF_UP)
MINOR_DIGITS = {currency: digits for currencies, digits in _OTHER_DIGITS.items() for currency in currencies.split()}


def minor_digits(currency: object) -> int:
    """Return how many decimals a currency has; two for an unknown one."""
    return MINOR_DIGITS.get(str(currency), 2)


def money(amount: float | Decimal, currency: object) -> Decimal:
    """Return an amount rounded half up to the decimals of its currency, with trailing zeros."""
    return Decimal(str(amount)).quantize(Decimal(1).scaleb(-minor_digits(currency)), context=_ACCOUNTANTS)


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with each number rounded, amounts by their currency's column."""
    numbers = {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()}
    amounts = {
        name: float(money(row[name], row.get(currency)))
        for name, currency in CURRENCIES.items()
        if isinstance(row.get(name), (int, float, Decimal))
    }
    return numbers | amounts
