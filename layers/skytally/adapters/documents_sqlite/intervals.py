"""Which intervals lie in a window, and how much of each."""

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from skytally.adapters.documents_sqlite.tables import LATEST_MS, conditions, quoted
from skytally.core.ports import Query
from skytally.core.timestamps import to_ms

INDEX = "interval"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CROSSES = f"from_at / {DAY_MS} <> (until_at - 1) / {DAY_MS}"
# What cannot be read counts nowhere. A moment that is no number is larger than any, and one that is absent satisfies
# nothing.
NAMED = "typeof(label) = 'text' AND typeof(vm) = 'text' AND typeof(cloud) = 'text'"
FORWARD = "from_at <= until_at"
WITHIN_REACH = f"{FORWARD} AND from_at >= 0 AND until_at <= {LATEST_MS}"
# What is kept is looked for in spans of so long, so that a moment far away costs one of them and not centuries of
# nothing.
SPAN_MS = 32 * DAY_MS
# A condition on intervals, its values, and whether all of each lies in the window.
Source = tuple[str, list[Any], bool]


def schema() -> Iterator[str]:
    """Write the statement that finds what crosses midnight without what does not."""
    yield f"CREATE INDEX IF NOT EXISTS interval_crosses ON interval (until_at) WHERE {CROSSES}"


def sources(query: Query, kept_days: Collection[int]) -> Iterator[Source]:
    """Name a window's intervals, each once, but those that lie within one of some days.

    What crosses midnight is found by an index of its own; all else lies within one day, which bounds where it may be.
    """
    condition, held = conditions(query.where)
    condition = f"{NAMED} AND {condition}"
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    yield f"until_at > ? AND from_at < ? AND {CROSSES} AND {WITHIN_REACH} AND {condition}", [begin, end, *held], False
    within = f"until_at > ? AND until_at <= ? AND NOT ({CROSSES}) AND {condition}"
    yield f"{within} AND from_at < ?", [begin, _day_end(begin), *held, begin], False
    yield f"{within} AND from_at >= ? AND from_at < ?", [end, _day_end(end), *held, begin, end], False
    for low, high in gaps(query, kept_days, DAY_MS):
        yield f"{within} AND from_at >= ? AND {FORWARD}", [low, high, *held, begin], True


def _day_end(moment_ms: int) -> int:
    return -(-moment_ms // DAY_MS) * DAY_MS


def gaps(query: Query, kept: Collection[int], unit_ms: int) -> Iterator[tuple[int, int]]:
    """Return the spans of a window that are not of some days or hours."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    for unit in sorted(kept):
        if begin < unit * unit_ms:
            yield begin, unit * unit_ms
        begin = (unit + 1) * unit_ms
    if begin < end:
        yield begin, end


def whole(query: Query, unit_ms: int) -> range:
    """Number the days or hours that lie whole in a window."""
    return range(-(-to_ms(query.from_at) // unit_ms), to_ms(query.until_at) // unit_ms)


def worth_keeping(reader: sqlite3.Connection, query: Query, unit_ms: int, newest: int) -> Iterator[int]:
    """Number those among them from the first in which an interval
    of a span of days ends to the last, but some newest ones.

    A window may be longer than all that is known: it must not be filled with sums of nothing.
    """

    def end(which: str, after_ms: int, until_ms: int) -> int | None:
        sql = f"SELECT {which}(until_at) FROM interval WHERE until_at > ? AND until_at <= ?"  # noqa: S608
        (found,) = reader.execute(sql, (after_ms, until_ms)).fetchone()
        return None if found is None else int(found)

    units = whole(query, unit_ms)
    settled = ((end("MAX", 0, LATEST_MS) or 0) - 1) // unit_ms + 1 - newest
    span_end = units.start * unit_ms
    while (first := end("MIN", span_end, units.stop * unit_ms)) is not None:
        span_begin, span_end = span_end, -(-first // SPAN_MS) * SPAN_MS
        last = end("MAX", span_begin, span_end) or first
        yield from range(max(units.start, (first - 1) // unit_ms), min(units.stop, settled, (last - 1) // unit_ms + 1))


def asks_only(query: Query, dimensions: Collection[str], sums: Collection[str]) -> bool:
    """Say whether sums that are kept by some dimensions can answer a query."""
    return {*query.by, *query.distinct, *query.where} <= {*dimensions} and {*query.sums} <= {*sums}


def inside_sum(query: Query, name: str) -> str:
    """Write how much of an interval's sum lies in the window."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    share = f"CAST(MIN(until_at, {end}) - MAX(from_at, {begin}) AS REAL) / (until_at - from_at)"
    return f"CASE WHEN from_at >= {begin} AND until_at <= {end} THEN {quoted(name)} ELSE {quoted(name)} * {share} END"
