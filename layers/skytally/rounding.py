"""Rounding: numbers as people and files read them.

Sums are made of whole milliseconds and bytes. A number is rounded once, where it becomes a column of a row: to six
decimals (3.6 ms of an hour), money to the smallest unit of its currency. Differences of rows are differences of what
the rows show.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

DECIMALS = 6
# ISO 4217: currencies whose smallest unit is not a hundredth.
_OTHER_DIGITS = {
    "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF": 0,
    "BHD IQD JOD KWD LYD OMR TND": 3,
    "CLF UYW": 4,
}
MINOR_DIGITS = {currency: digits for currencies, digits in _OTHER_DIGITS.items() for currency in currencies.split()}


def minor_digits(currency: object) -> int:
    """Return how many decimals an amount of a currency has; two for one that is not known."""
    return MINOR_DIGITS.get(str(currency), 2)


def money(amount: float, currency: object) -> Decimal:
    """Return an amount with the decimals of its currency, also where they are zeros."""
    return Decimal(f"{amount:.{minor_digits(currency)}f}")


def rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with each number rounded; `cost` by the row's `currency`."""
    numbers = {name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in row.items()}
    cost = row.get("cost")
    return numbers | ({"cost": float(money(cost, row.get("currency")))} if isinstance(cost, (int, float)) else {})
