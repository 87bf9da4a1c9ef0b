"""Listings: order and parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.core.errors import Malformed
from skytally.dashboard.paging import LazyRows, PageRequest, cut, listed


def rows(*values):
    return [{"name": value} for value in values]


def test_names_order_as_people_count_and_what_is_not_known_comes_last_either_way():
    assert [row["name"] for row in listed(rows("vm-10", None, "VM-9", "vm-2"), PageRequest("name-up"))] == [
        "vm-2",
        "VM-9",
        "vm-10",
        None,
    ]
    assert [row["name"] for row in listed(rows("vm-10", None, "VM-9", "vm-2"), PageRequest("name-down"))] == [
        "vm-10",
        "VM-9",
        "vm-2",
        None,
    ]
    assert [row["name"] for row in listed(rows(2.5, None, -1, 0), PageRequest("name-down"))] == [2.5, 0, -1, None]


def test_a_part_is_cut_after_the_order():
    assert [row["name"] for row in listed(rows(3, 1, 2, 5, 4), PageRequest("name-up", offset=1, limit=2))] == [2, 3]
    assert listed(rows(1, 2), PageRequest(offset=5)) == []


def test_without_an_order_rows_stay_as_they_are():
    assert listed(rows(2, 1, 3), cut({})) == rows(2, 1, 3)


@given(st.lists(st.none() | st.text()), st.sampled_from(["up", "down"]), st.integers(1, 5))
def test_pages_hold_every_row_once_whatever_it_is_named(values, way, limit):
    whole = listed(rows(*values), PageRequest(f"name-{way}"))
    paged = [
        row
        for offset in range(0, len(values), limit)
        for row in listed(rows(*values), PageRequest(f"name-{way}", offset, limit))
    ]
    assert paged == whole
    assert sorted(str(row["name"]) for row in whole) == sorted(map(str, values))


@pytest.mark.parametrize("sort", ["name", "name-", "name-sideways", "-up", "other-up", "__class__-up"])
def test_an_order_that_there_is_not_is_refused(sort):
    with pytest.raises(Malformed, match="sort must be one of name"):
        listed(rows(1), PageRequest(sort))


@pytest.mark.parametrize("text", ["-1", "1.5", "", "many", "1e3", "٣", "9" * 10])
def test_a_number_that_is_none_is_refused(text):
    for field in ("limit", "offset"):
        with pytest.raises(Malformed, match=field):
            cut({field: text})


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.sampled_from(["", "name-up", "name-down", "rest-up", "rest-down"]),
    st.integers(0, 5),
)
def test_drafts_list_as_their_whole_rows_do_and_only_those_shown_are_worked_out(values, sort, limit):
    worked_out = []

    def rest(at):
        worked_out.append(at)
        return {"rest": -values[at]}

    asked = PageRequest(sort, offset=1, limit=limit)
    shown = listed(LazyRows(rows(*values), rest), asked)
    assert shown == listed([row | {"rest": -row["name"]} for row in rows(*values)], asked)
    assert len(worked_out) == len(set(worked_out))
    if not sort.startswith("rest"):
        assert len(worked_out) <= limit + 1
