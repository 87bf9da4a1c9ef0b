"""Reports as they are decoded: an item that no decoder takes costs itself."""

import json
import sys
from collections import Counter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.core import records
from skytally.core.errors import Malformed
from skytally.core.records import TOO_DEEP

JSON = st.recursive(
    st.none() | st.text(st.sampled_from('[]{}"\\a')) | st.integers(-9, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)
DEEP = {
    "lists": b"[" * 20_000 + b"]" * 20_000,
    "objects": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "both, with brackets in strings": b'[{"]":"[{"},' * TOO_DEEP + b'"}"' + b"]" * TOO_DEEP,
    "one too many": b"[" * TOO_DEEP + b"]" * TOO_DEEP,
}


def items_of(body: bytes) -> list[object]:
    return [msgspec.json.decode(item) for item in records.parse_report(body, records.Samples).samples]


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(before=JSON, after=JSON)
def test_what_is_nested_by_the_thousand_costs_its_item_alone(name, before, after):
    body = b'{"samples":[%s,{"vm":%s},%s]}' % (json.dumps(before).encode(), DEEP[name], json.dumps(after).encode())
    first, _, last = items_of(body)
    assert (first, last) == (before, after)


UNDECODABLE = {"half a surrogate pair": rb'"\ud800"', "a name that is one": rb'{"\ud800":1}'}
LONG = b"1" * 5_000


@pytest.mark.parametrize("odd", UNDECODABLE.values(), ids=UNDECODABLE)
@pytest.mark.parametrize("sign", [b"", b"-"])
def test_what_no_decoder_takes_costs_its_item_alone_beside_numbers_of_any_length(odd, sign):
    long = sign + LONG
    first, *own, last = items_of(b'{"samples":[{"more":%s},%s,[%s,%s],7]}' % (long, odd, odd, long))
    assert (own, last) == ([None, None], 7)
    assert abs(first["more"]) > 1e300
    assert (first["more"] < 0) == bool(sign)


@pytest.mark.parametrize(
    "body", [b"[" * 20_000, b'{"samples":' + b"[" * 20_000 + b"]" * 19_999 + b"}", b"[" * 20_000 + b"]" * 20_000]
)
def test_a_report_whose_end_nobody_knows_is_refused(body):
    with pytest.raises(Malformed):
        records.parse_report(body, records.Samples)


@pytest.mark.parametrize("odd", [b'"\xff"', b'"\xed\xa0\x80"', b'{"\xc3":1}'])
def test_bytes_that_are_no_utf_8_cost_their_item_alone_beside_what_is_no_json(odd):
    assert items_of(b'{"samples":[%s,NaN,{"vm":"\xc3\xa9"}]}' % odd) == [None, None, {"vm": "\xe9"}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("items", ["7", "7,NaN"])
def test_a_report_in_another_encoding_is_refused_whatever_its_items_are(encoding, items):
    with pytest.raises(Malformed):
        records.parse_report(f'{{"samples":[{items}]}}'.encode(encoding), records.Samples)


@pytest.mark.timeout(60)  # It took minutes where each bracket was looked for to the end of the report.
@pytest.mark.parametrize("piece", [b'\\"', b"\\\\", b'"', b'"\\', b"[", b"x"])
def test_a_deep_report_that_does_not_end_is_refused(piece):
    body = b'{"samples":[' + b"[" * 5_000 + b'"' + piece * 50_000
    with pytest.raises(Malformed):
        records.parse_report(body, records.Samples)


@pytest.mark.parametrize("last", [b"1", b"NaN"])
def test_a_report_of_too_many_items_is_refused_without_a_look_at_each(last):
    calls = Counter()
    sys.setprofile(lambda frame, *_: calls.update([frame.f_code.co_filename]))
    try:
        with pytest.raises(Malformed):
            records.parse_report(b'{"samples":[' + b"[]," * 200_000 + last + b"]}", records.Samples)
    finally:
        sys.setprofile(None)
    assert 0 < calls[records.__file__] < 200
