"""Any JSON value, mostly one at some edge. In each list the simplest come first: examples shrink towards them."""

import json
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, zip_longest
from typing import Any

from hypothesis import strategies as st

from tests.properties.deployment import DAY, HOUR, MINUTE, NOW


@dataclass(frozen=True)
class Literal:
    """JSON text that Python's encoder does not write, or that is too long to stand in a report.

    It is `piece`, `times` in a row, then `end` as often, all of it between two `around`.
    """

    piece: str
    times: int = 1
    end: str = ""
    around: str = ""

    @property
    def text(self) -> str:
        """Return it as it is sent."""
        return self.around + self.piece * self.times + self.end * self.times + self.around


def encoded(value: Any) -> bytes:
    """Write JSON, with surrogates escaped and literals as they are."""
    literals: list[str] = []

    def placeholder(literal: Literal) -> str:
        literals.append(literal.text)
        return "@literal@"

    pieces = json.dumps(value, default=placeholder).split('"@literal@"')
    return "".join(chain(*zip_longest(pieces, literals, fillvalue=""))).encode()


# fmt: off
NUMBERS = (
    0, 1, -1, -0.0, 0.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), -(2**63) - 1, 10**30, 1e15, 4e13, 1e308,
    -1e308, 5e-324, 1e-9, Literal("1e999"), Literal("-1e999"), Literal("-0"), Literal("1", 5_000), Literal("1E+2"),
    Literal("0." + "3" * 40),
)
TEXTS = (
    "", "x", " ", "0", "1", "-1", "1.0", "1e308", "NaN", "null", "true", "١٢", "a,b", 'a"b', "a\nb", "a\r\nb", "a\tb",
    "\x00", "a\x00b", "\x7f", "=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "[red]x[/red]", "[/]", "\x1b[31mx", "\u202ex",
    "\u2066x\u2069", "\u200b", "\ufeff", "é", "e\u0301", "\ud800", "\udc80", "\udfff\ud800", "\U0001f600", "\uffff",
    "a/b", "../../x", ".", "..", "*", "?", "_id", "a#b", "a@b", "a:b", "%%", "%s", "{}", "x" * 255, "x" * 256,
    "é" * 255, "\U0001f600" * 255, "x" * 600,
)
LONG = (
    Literal("x", 9_000, around='"'), Literal("x", 40_000, around='"'), Literal("[", 200, "]"),
    Literal("[", 20_000, "]"), Literal('{"a":[', 2_000, "]}"),
)
OFFSETS = ("Z", "+00:00", "+14:00", "-14:00", "+23:59", "-23:59", "-00:00", "", "z", "+24:00", "+0100", " +01:00")
TIMES = (
    "0001-01-01T00:00:00", "0001-01-02T00:00:00", "1900-01-01T00:00:00", "1969-12-31T23:59:59.999",
    "1970-01-01T00:00:00", "1999-12-31T23:59:59", "2000-01-01T00:00:00", "2000-01-02T00:00:00", "2019-12-31T23:59:59",
    "2020-01-01T00:00:00", "2020-01-02T00:00:00", "2026-10-31T23:59:59.999", "2026-11-01T00:00:00",
    "2026-11-30T23:59:60", "2026-11-29T24:00:00", "2026-12-01T00:00:00", "2027-02-29T00:00:00", "2028-02-29T00:00:00",
    "2038-01-19T03:14:08", "2099-12-30T00:00:00", "2099-12-31T23:59:59.999999", "2100-01-01T00:00:00",
    "2100-01-02T00:00:00", "2262-04-12T00:00:00", "9999-12-31T23:59:59", "9999-12-31T23:59:59.999999",
    "9999-12-31T23:59:59.9999999", "10000-01-01T00:00:00", "0000-00-00T00:00:00", "2026-11-29T11:00:00.000000001",
    "2026-11-29 11:00:00", "2026-W48-7T11:00:00", "2026-333T11:00:00", "2026-11-29",
)
# fmt: on
AWAY = (0 * DAY, timedelta(milliseconds=1), MINUTE, 5 * MINUTE, HOUR, DAY - MINUTE, DAY, DAY + MINUTE, 31 * DAY)
NEAR_NOW = tuple(f"{NOW + sign * span:%Y-%m-%dT%H:%M:%S.%f}Z" for span in AWAY for sign in (1, -1))
MOMENTS = st.sampled_from(NEAR_NOW) | st.builds("{}{}".format, st.sampled_from(TIMES), st.sampled_from(OFFSETS))
KEYS = st.sampled_from(("more", "", "vm", "cloud", "\x00", "\ud800", "__proto__", "x" * 300)) | st.text(max_size=4)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from(NUMBERS),
        st.sampled_from(TEXTS),
        MOMENTS,
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(), max_size=20),
    )
    nested = st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
    )
    return plain | nested | st.sampled_from(LONG)
