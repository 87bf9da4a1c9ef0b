"""Providers' bills as spreadsheets of many countries write them:
the same numbers, or a refusal with line and column.
"""

import codecs
import csv
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.accounting.bill import MAX_CLOUDS, Billed, read
from skytally.core.errors import Malformed

MINUS = {"before": "-{}", "typographic": "−{}", "behind": "{}-", "in brackets": "({})"}
CLOUDS = st.text("abcü éÄß-_.'\",;\t", min_size=1, max_size=8).map(str.strip).filter(bool)
MILLIS = st.integers(-(10**14), 10**14)


def read_text(text, encoding="utf-8", decimal=None):
    return read(io.BytesIO(text.encode(encoding)), decimal)


def refusal(text, **options):
    with pytest.raises(Malformed) as refused:
        read_text(text, **options)
    return refused.value.message


def written(millis, decimal, group, minus):
    """Write thousandths with four decimals, which no thousands separator can stand before."""
    whole, part = divmod(abs(millis), 1_000)
    text = f"{whole:,}".replace(",", group) + f"{decimal}{part:03}0"
    return minus.format(text) if millis < 0 else text


DIALECTS = st.fixed_dictionaries(
    {
        "separator": st.sampled_from(",;\t"),
        "decimal": st.sampled_from(".,"),
        "group": st.sampled_from(["", " ", "\u00a0", "'", "the other one"]),
        "minus": st.sampled_from(list(MINUS.values())),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
        "end": st.sampled_from(["\n", "\r\n", "\r"]),
        "order": st.permutations(["cloud", "core_hours", "cost", "currency", "what"]),
    }
)


@given(lines=st.lists(st.tuples(CLOUDS, MILLIS, MILLIS), max_size=20), dialect=DIALECTS)
def test_what_is_written_in_any_dialect_is_read_as_the_same_numbers(lines, dialect):
    names = ("separator", "decimal", "group", "minus", "encoding", "end", "order")
    separator, decimal, group, minus, encoding, end, order = (dialect[name] for name in names)
    group = {"the other one": "." if decimal == "," else ","}.get(group, group)
    if encoding == "cp1252":
        minus = minus.replace("−", "-")
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, lineterminator=end)
    writer.writerow([name.replace("core_hours", "Core hours") for name in order])
    expected = {}
    for cloud, hours, cost in lines:
        numbers = {"core_hours": written(hours, decimal, group, minus), "cost": written(cost, decimal, group, minus)}
        row = {"cloud": cloud, **numbers, "currency": "EUR", "what": "vms; ä"}
        writer.writerow([row[name] for name in order])
        sums = expected.get(cloud, (0, 0))
        expected[cloud] = (sums[0] + hours, sums[1] + cost)
    found = read_text(file.getvalue(), encoding)
    assert found == {cloud: Billed(hours / 1_000, cost / 1_000, "EUR") for cloud, (hours, cost) in expected.items()}


@pytest.mark.parametrize(
    ("number", "point", "comma"),
    [
        ("1234.5", 1234.5, None),
        ("1234,5", None, 1234.5),
        ("1234.567", 1234.567, None),
        ("0.125", 0.125, None),
        ("0,125", None, 0.125),
        ("1.234.567", None, 1234567),
        ("1,234,567.8", 1234567.8, None),
        ("1'234.5", 1234.5, None),
        ("1 234", 1234, 1234),
        ("-1.5E+03", -1500, None),
        ("1,5e-1", None, 0.15),
        ("+7", 7, 7),
        ("1.234", 1.234, 1234),
        ("1,234", 1234, 1.234),
        ("1.234'567", None, None),
        ("1,2,3", None, None),
        ("1,234.567,8", None, None),
        ("1e400", None, None),
        ("1000000000000", None, None),
        ("--5", None, None),
        ("nan", None, None),
        ("5 h", None, None),
        ("٣", None, None),
    ],
)
def test_a_number_is_read_with_the_decimal_separator_that_it_can_have(number, point, comma):
    for decimal, value in ((".", point), (",", comma)):
        text = f"cloud\tcore_hours\nuvic\t{number}\n"
        if value is None:
            assert refusal(text, decimal=decimal).startswith("line 2, column core_hours of the bill: ")
        else:
            assert read_text(text, decimal=decimal) == {"uvic": Billed(value)}
    if None not in {point, comma} and point != comma:
        assert "by --decimal" in refusal(f"cloud\tcore_hours\nuvic\t{number}\n")


def test_another_line_tells_the_decimal_separator_of_the_whole_bill():
    assert read_text("cloud;core_hours\nuvic;1.234\ncern;0,5\n") == {"uvic": Billed(1234), "cern": Billed(0.5)}
    assert read_text("cloud;core_hours\nuvic;0.5\nuvic;1.234\n") == {"uvic": Billed(1.734)}


def test_credits_are_taken_off_and_may_be_more_than_the_rest():
    assert read_text("cloud,core_hours\nuvic,100\nuvic,-24.5\ncern,(3)\n") == {"uvic": Billed(75.5), "cern": Billed(-3)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 of the bill names the columns, cloud and core_hours among them"),
        ("cloud,hours\nuvic,1\n", "it has no core_hours ('cloud', 'hours'): rename"),
        ("cloud,core_hours,Core Hours\nuvic,1,1\n", "it has 2 core_hours"),
        ("cloud|core_hours\nuvic|1\n", "by comma, semicolon or tab"),
        ("cloud,core_hours\nuvic,1\n\nuvic,1,5\n", "line 4 of the bill has 3 fields and its header 2: quote"),
        ("cloud,core_hours\nuvic,\n", "line 2, column core_hours of the bill is empty"),
        ("cloud,core_hours\nuvic\n", "line 2, column core_hours of the bill is empty"),
        ("cloud,core_hours\n ,1\n", "line 2, column cloud of the bill is empty"),
        ("cloud,core_hours\nuvic,many\n", "line 2, column core_hours of the bill: 'many' is no number"),
        (
            "cloud;core_hours\nuvic;1,5\ncern;2.25\n",
            "line 3, column core_hours of the bill: 2.25 has another decimal separator than line 2",
        ),
        (
            "cloud;core_hours\nuvic;1,234\ncern;2\n",
            "line 2, column core_hours of the bill: 1,234 may be 1234.0 or 1.234",
        ),
        ('cloud,core_hours\n"a\nb",1\nuvic,x\n', "line 4, column core_hours"),
        ('cloud,core_hours\nuvic,1\n"cern,1\nuvic,2\n', "line 3 of the bill is no CSV"),
        (
            "cloud,core_hours,cost,currency\nuvic,1,2,EUR\nuvic,1,2,CHF\n",
            "line 3, column currency of the bill: CHF, and line 2 has EUR",
        ),
        ("cloud,core_hours,cost,currency\nuvic,1,2,euros\n", "line 2, column currency of the bill: 'euros' is no code"),
        ("cloud,core_hours,cost,currency\nuvic,1,€ 2,EUR\n", "line 2, column cost of the bill: '€ 2' is no number"),
    ],
)
def test_what_is_not_read_is_refused_with_its_place_and_what_to_do(text, words):
    assert words in refusal(text)


def test_two_clouds_may_be_billed_in_two_currencies():
    assert read_text("currency;cost;cloud;core_hours\nEUR;1,50;uvic;10\nCHF;2,00;cern;20\n") == {
        "uvic": Billed(10, 1.5, "EUR"),
        "cern": Billed(20, 2, "CHF"),
    }


def test_bytes_that_are_no_text_are_refused():
    for content in (codecs.BOM_UTF8 + b"cloud,core_hours\n\xff,1\n", b"cloud,core_hours\nuvic\x81\xff,1\n"):
        with pytest.raises(Malformed, match="save the bill as UTF-8"):
            read(io.BytesIO(content))


def test_a_file_without_lines_and_one_with_too_many_clouds_are_refused():
    with pytest.raises(Malformed, match="line 2 of the bill is longer"):
        read(io.BytesIO(b"cloud,core_hours\n" + b"x" * (1 << 21)))
    many = "".join(f"{n},1\n" for n in range(MAX_CLOUDS + 1))
    assert f"line {MAX_CLOUDS + 2}, column core_hours of the bill: this is cloud {MAX_CLOUDS + 1}" in refusal(
        f"cloud,core_hours\n{many}"
    )


@pytest.mark.slow
def test_a_long_bill_takes_no_more_memory_than_a_short_one(tmp_path):
    path = tmp_path / "bill.csv"
    lines = 30_000
    path.write_text("cloud;core_hours;what\n" + "uvic;1,5;a virtual machine of one hour\n" * lines)
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            assert read(file) == {"uvic": Billed(1.5 * lines)}
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak_bytes < path.stat().st_size / 4
