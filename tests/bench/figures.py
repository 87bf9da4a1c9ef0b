"""Figures of interleaved rounds, beside what others do in the same rounds: medians, ratios, and whether aims are met.

Nothing here measures: a bench hands over one number a round.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADERS = ("what", "unit", "ours", "beside", "theirs", "ratio", "of the rounds", "aim", "")


@dataclass(frozen=True)
class Aim:
    """What a figure is to reach: its own median, or its ratio to the peer's; at least that much, or at most."""

    limit: float
    of_ratio: bool = False
    at_most: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a value reaches the aim."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {ratio_text(self.limit) if self.of_ratio else number(self.limit)}"


@dataclass(frozen=True)
class Figure:
    """One line of the table: what we reached in each round, and what a peer reached in the same rounds."""

    what: str
    unit: str
    ours: Sequence[float]
    peer: str = ""
    theirs: Sequence[float] = ()
    aim: Aim | None = None

    @property
    def median(self) -> float:
        """Return our median."""
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """Return our median divided by the peer's; None without a peer."""
        return self.median / statistics.median(self.theirs) if self.theirs else None

    @property
    def round_ratios(self) -> list[float]:
        """Return the ratio of each round that both ran."""
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=False)]

    @property
    def is_met(self) -> bool | None:
        """Return whether the aim is met; None without one, or without the peer that it is about."""
        value = self.ratio if self.aim and self.aim.of_ratio else self.median
        return None if self.aim is None or value is None else self.aim.is_met(value)


def number(value: float) -> str:
    """Write a number with three digits that count, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio_text(value: float) -> str:
    """Write a ratio with two digits behind the point."""
    return f"{value:.2f}"


def cells(figure: Figure) -> tuple[str, ...]:
    """Return the line of a figure, a text for each of HEADERS."""
    ratios = figure.round_ratios
    return (
        figure.what,
        figure.unit,
        number(figure.median),
        figure.peer,
        number(statistics.median(figure.theirs)) if figure.theirs else "",
        "" if figure.ratio is None else ratio_text(figure.ratio),
        f"{ratio_text(min(ratios))} to {ratio_text(max(ratios))}" if len(ratios) > 1 else "",
        str(figure.aim or ""),
        {None: "", True: "met", False: "missed"}[figure.is_met],
    )


def markdown(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown; without headers, its rows alone."""
    lines = [*([headers, ["---"] * len(headers)] if headers else []), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
