"""The page's own files: short lines, small modules, all fetched at once, and no markup from data."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "functions" / "dashboard" / "page"
LIBRARY = "plot.min.js"
OURS = sorted(path for path in PAGE.iterdir() if path.name != LIBRARY)
FETCHED_LATER = {"view_statement.js", "sheet.js"}
MOST_COLUMNS = 120
MARKUP = re.compile(r"https?:|//[a-z]|innerHTML|outerHTML|insertAdjacentHTML|\.html\(|eval\(")


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_lines_are_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > MOST_COLUMNS] == []


def test_the_page_names_all_its_modules_so_that_they_are_fetched_at_once_but_for_a_view_that_few_open():
    named = set(re.findall(r'(?:href|src)="dashboard/(?!access")(.*?)"', (PAGE / "index.html").read_text()))
    assert named == {path.name for path in PAGE.iterdir()} - {"index.html"} - FETCHED_LATER


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_the_page_needs_nobody_else_and_writes_no_markup(path):
    assert not MARKUP.search(path.read_text(encoding="utf-8"))
