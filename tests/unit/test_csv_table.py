"""CSV: no text of a stranger's is a formula, in whatever spreadsheet the file is opened; numbers stay numbers."""

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.core.errors import Malformed, Unavailable
from skytally.core.plain_text import visible
from skytally.http import csv_table

STARTS = set("=+-@＝＋－＠")
LEADS = [
    "",
    ";",
    "\t",
    "\r",
    "\n",
    " ",
    "\u00a0",
    "\ufeff",
    "\x00",
    '"',
    "'",
    "\u200b",
    "\u202e",
    "; ",
    ";\t",
    "a;",
    "a,",
    "a\n",
    "a|",
    'a;"',
]
nasty = st.text(
    st.sampled_from("=+-@＝＋－＠;,|\t\r\n \"'\\a1.\u00a0\ufeff\x00\u202e\u200b🦉→"), max_size=12
) | st.text(max_size=12)


def leads(letter):
    """Say whether a spreadsheet may pass over a letter before it decides what a cell is."""
    return letter == '"' or unicodedata.category(letter)[0] in "CZ"


def first_seen(cell):
    """Return what decides: an apostrophe makes a text of whatever follows."""
    return next((letter for letter in cell if not leads(letter)), "")


def cells(text, delimiter):
    """Read a file as spreadsheets do, whole,
    and line by line where one takes a line's end for a row's whatever the quotes.
    """
    pieces = [text, *text.splitlines()]
    return [
        cell
        for piece in pieces
        for row in csv.reader(io.StringIO(piece, newline=""), delimiter=delimiter)
        for cell in row
    ]


@pytest.mark.parametrize("start", sorted(STARTS))
@pytest.mark.parametrize("lead", LEADS, ids=ascii)
def test_a_formula_is_text_whatever_stands_before_it(lead, start):
    written = csv_table.csv([{"vm": f"{lead}{start}cmd()", "cores": 8}])
    ((value, cores),) = list(csv.reader(io.StringIO(written, newline="")))[1:]
    assert first_seen(value) not in STARTS
    assert value.startswith("'") or lead.startswith("a")
    assert f"'{start}cmd()" in value or value.startswith("'")
    assert cores == "8"


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            nasty, nasty, st.lists(nasty, max_size=3), st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        )
    )
)
def test_no_cell_of_text_begins_as_a_formula_wherever_the_file_is_split(rows):
    written = csv_table.csv(
        [{"vm": vm, "cloud": cloud, "others": others, "hours": hours} for vm, cloud, others, hours in rows]
    )
    for delimiter in ",;\t|":
        for cell in cells(written, delimiter):
            assert first_seen(cell) not in STARTS or is_number(cell), (delimiter, cell)


def is_number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


@given(
    st.text(st.characters(exclude_characters=sorted(STARTS), exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"])),
    st.floats(-1e300, 1e300),
)
def test_a_harmless_name_and_every_number_are_written_as_they_are(name, number):
    written = csv_table.csv([{"vm": name, "n": number, "whole": -7, "none": None, "sure": True}])
    assert list(csv.reader(io.StringIO(written, newline="")))[1:] == [[name, str(number), "-7", "", "True"]]


def test_a_decimal_comma_comes_with_semicolons_and_formulas_are_text_all_the_same():
    rows = [
        {"vm": "a;b", "core_hours": -1234.5, "cost": 1.5, "currency": "KWD"},
        {"vm": "=1", "core_hours": 1e-6, "cost": None, "currency": None},
    ]
    assert csv_table.csv(rows, decimal=",").split("\r\n") == [
        "vm;core_hours;cost;currency",
        '"a;b";-1234,5;1,500;KWD',
        "'=1;1e-06;;",
        "",
    ]
    with pytest.raises(Malformed):
        csv_table.csv(rows, decimal=";")


def test_an_outage_at_the_first_row_is_one_before_anything_is_written():
    def rows():
        raise Unavailable("the store is away")
        yield

    with pytest.raises(Unavailable):
        next(csv_table.csv_pieces(rows(), ["vm"]))
    assert list(csv_table.csv_pieces([], ["vm"])) == ["vm\r\n"]


def test_headers_have_units_and_moments_are_what_spreadsheets_take_for_dates():
    row = {
        "boot_at": "2026-10-31T03:59:59.999Z",
        "until": "2026-11-01T00:00:00Z",
        "coverage": 0.5,
        "vm": "2026-10-31T03:59:59Z",
        "seen_at": "now",
    }
    assert csv_table.csv([row]).split("\r\n")[:2] == [
        "boot_at_utc,until_utc,coverage_share,vm,seen_at_utc",
        "2026-10-31 03:59:59,2026-11-01 00:00:00,0.5,2026-10-31T03:59:59Z,now",
    ]


def test_what_turns_the_direction_of_text_is_written_out():
    (row,) = list(
        csv.DictReader(
            io.StringIO(
                csv_table.csv([{"vm": "exe\u202egnp.x\u2066\u200f\u061c", "message": "one\ntwo\x1b"}]), newline=""
            )
        )
    )
    assert row == {"vm": "exe\\u202egnp.x\\u2066\\u200f\\u061c", "message": "one\ntwo\\u001b"}


@given(st.text())
def test_visible_text_hides_nothing_and_changes_nothing_else(text):
    seen = visible(text)
    assert not any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in seen)
    assert not any(
        unicodedata.bidirectional(letter) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
        for letter in seen
    )
    assert not set(seen) & set("\u200e\u200f\u061c\ufeff")
    assert visible(seen) == seen
    if text.isprintable():
        assert seen == text


def test_a_list_is_one_cell_and_a_link_its_title_and_address():
    links = [{"title": "BigPanDA", "url": "https://pandamon.example.org/job/1"}, {"title": "log", "url": "https://l/1"}]
    text = csv_table.csv([{"links": links, "names": ["a", "b"], "none": []}])
    assert text.splitlines()[1:] == ["BigPanDA https://pandamon.example.org/job/1; log https://l/1,a; b,"]
