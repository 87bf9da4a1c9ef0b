"""The arithmetic of the benches' table: medians, ratios, aims, and how they are written."""

import pytest

from tests.bench import figures
from tests.bench.figures import Aim, Figure
from tests.bench.load import Load


def test_a_ratio_is_that_of_the_medians():
    figure = Figure("reports", "samples/s", [100, 900, 300], "peer", [400, 1_000, 100])
    assert (figure.median, figure.ratio) == (300, 0.75)
    assert figure.round_ratios == [0.25, 0.9, 3.0]


def test_without_a_peer_there_is_no_ratio():
    figure = Figure("reports", "samples/s", [100, 200, 300])
    assert (figure.ratio, figure.round_ratios, figure.is_met) == (None, [], None)


@pytest.mark.parametrize(
    ("aim", "is_met"),
    [
        (Aim(0.5, of_ratio=True), True),
        (Aim(0.51, of_ratio=True), False),
        (Aim(200), True),
        (Aim(200.1), False),
        (Aim(200, at_most=True), True),
        (Aim(199.9, at_most=True), False),
    ],
)
def test_an_aim_is_met_from_its_limit_on(aim, is_met):
    assert Figure("reports", "samples/s", [200], "peer", [400], aim).is_met is is_met


def test_an_aim_beside_a_peer_who_is_away_is_neither_met_nor_missed():
    figure = Figure("reports", "samples/s", [200], aim=Aim(0.5, of_ratio=True))
    assert figure.is_met is None
    assert figures.cells(figure)[-2:] == ("≥ 0.50", "")


def test_a_line_says_all_of_it():
    figure = Figure("reports", "samples/s", [19_200, 17_000, 21_000], "AUDITOR", [49_700, 50_000, 42_000], Aim(1, True))
    expected = ("reports", "samples/s", "19,200", "AUDITOR", "49,700", "0.39", "0.34 to 0.50", "≥ 1.00", "missed")
    assert figures.cells(figure) == expected
    assert len(expected) == len(figures.HEADERS)


@pytest.mark.parametrize(("value", "text"), [(0.0814, "0.0814"), (99.94, "99.9"), (100.4, "100"), (84_100, "84,100")])
def test_numbers_are_written_with_what_counts(value, text):
    assert figures.number(value) == text


def test_markdown_is_a_table_of_the_same_cells():
    assert figures.markdown(("a", "b"), [("1", ""), ("2", "x")]) == "| a | b |\n| --- | --- |\n| 1 |  |\n| 2 | x |\n"


def test_quantiles_and_rates_of_a_load():
    load = Load(seconds=4.0, latencies_seconds=[n / 1_000 for n in range(100, 0, -1)])
    assert (load.per_second, load.quantile_ms(0.5), load.quantile_ms(0.99)) == (25, 51, 100)
    load.add(Load(seconds=1.0, latencies_seconds=[1.0] * 25))
    assert (load.per_second, load.quantile_ms(1.0)) == (25, 1_000)
