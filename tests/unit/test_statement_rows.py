"""Statements of many clouds: boots are read of some clouds at once, and the numbers are those of all together."""

import tracemalloc
from datetime import timedelta

import pytest

from skytally.accounting import closing, statement_rows
from skytally.core.site_data import Site
from tests.support.documents import AT, done, usage

MONTH, CLOUDS, BOOTS_A_CLOUD = "2026-11", [f"cloud-{n:02}" for n in range(20)], 40
NOW = AT + timedelta(days=60)


@pytest.fixture
def many_clouds(documents):
    """Yield documents of boots on many clouds."""
    done(documents, *(usage(f"{cloud}-{n:03}", MONTH, cloud) for cloud in CLOUDS for n in range(BOOTS_A_CLOUD)))
    return documents


def totals(documents, clouds=()):
    return closing.statement_totals(MONTH, clouds, documents, Site(), NOW)


def peak_bytes(read):
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("boots_at_once", [1, BOOTS_A_CLOUD - 1, 3 * BOOTS_A_CLOUD, 3 * BOOTS_A_CLOUD + 1])
def test_rows_are_the_same_however_many_boots_are_read_at_once(many_clouds, monkeypatch, boots_at_once):
    together = totals(many_clouds)
    assert [row["cloud"] for row in together["clouds"]] == CLOUDS
    assert {row["boot_count"] for row in together["clouds"]} == {BOOTS_A_CLOUD}
    monkeypatch.setattr(statement_rows, "BOOTS_AT_ONCE", boots_at_once)
    assert totals(many_clouds) == together
    assert totals(many_clouds, CLOUDS[3:5])["clouds"] == together["clouds"][3:5]


def test_a_statement_without_its_boots_keeps_those_of_few_clouds(many_clouds, monkeypatch):
    totals(many_clouds)
    whole = peak_bytes(lambda: totals(many_clouds))
    monkeypatch.setattr(statement_rows, "BOOTS_AT_ONCE", 2 * BOOTS_A_CLOUD)
    assert peak_bytes(lambda: totals(many_clouds)) < whole / 4
