"""The intervals of a window, and the share of each that lies in it."""

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any

from skytally.adapters.documents_sqlite.tables import LATEST_MS, conditions, quoted
from skytally.core.ports import Query
from skytally.core.timestamps import to_ms

INDEX = "interval"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
CROSSES = f"from_at / {DAY_MS} <> (until_at - 1) / {DAY_MS}"
# Unreadable intervals count nowhere. In SQLite a text is larger than any number, and NULL satisfies no comparison.
NAMED = "typeof(label) = 'text' AND typeof(vm) = 'text' AND typeof(cloud) = 'text'"
FORWARD = "from_at <= until_at"
WITHIN_REACH = f"{FORWARD} AND from_at >= 0 AND until_at <= {LATEST_MS}"
# Kept units are searched in periods of this length, so that one interval far away does not cost centuries of them.
SPAN_MS = 32 * DAY_MS
# A condition on intervals, its values, and whether these intervals lie whole in the window.
Source = tuple[str, list[Any], bool]


def schema() -> Iterator[str]:
    """Return the statements that create the index of intervals that cross midnight, and remove an earlier version's.

    The index has the cloud, so that an interval of another cloud is not looked up in the table.
    """
    yield f"CREATE INDEX IF NOT EXISTS interval_crosses_cloud ON interval (until_at, cloud) WHERE {CROSSES}"
    yield "DROP INDEX IF EXISTS interval_crosses"


def sources(query: Query, kept_days: Collection[int]) -> Iterator[Source]:
    """Return conditions that select a window's intervals, each once, except those within one of the kept days.

    Intervals across midnight have an index of their own. All others lie within one day, which bounds the search.
    """
    condition, where_values = conditions(query.where)
    condition = f"{NAMED} AND {condition}"
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    yield (
        f"until_at > ? AND from_at < ? AND {CROSSES} AND {WITHIN_REACH} AND {condition}",
        [begin, end, *where_values],
        False,
    )
    within = f"until_at > ? AND until_at <= ? AND NOT ({CROSSES}) AND {condition}"
    yield f"{within} AND from_at < ?", [begin, _day_end(begin), *where_values, begin], False
    yield f"{within} AND from_at >= ? AND from_at < ?", [end, _day_end(end), *where_values, begin, end], False
    for low, high in gaps(query, kept_days, DAY_MS):
        yield f"{within} AND from_at >= ? AND {FORWARD}", [low, high, *where_values, begin], True


def _day_end(moment_ms: int) -> int:
    return -(-moment_ms // DAY_MS) * DAY_MS


def gaps(query: Query, kept: Collection[int], unit_ms: int) -> Iterator[tuple[int, int]]:
    """Return the periods of a window outside the kept days or hours."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    for unit in sorted(kept):
        if begin < unit * unit_ms:
            yield begin, unit * unit_ms
        begin = (unit + 1) * unit_ms
    if begin < end:
        yield begin, end


def whole(query: Query, unit_ms: int) -> range:
    """Return the numbers of the days or hours that lie whole in a window."""
    return range(-(-to_ms(query.from_at) // unit_ms), to_ms(query.until_at) // unit_ms)


def worth_keeping(reader: sqlite3.Connection, query: Query, unit_ms: int, newest: int) -> Iterator[int]:
    """Return those of them with intervals, from the first to the last of each period, except the newest ones.

    A window may be much longer than the data: hours and days without intervals get no sums.
    """

    def end(which: str, after_ms: int, until_ms: int) -> int | None:
        sql = f"SELECT {which}(until_at) FROM interval WHERE until_at > ? AND until_at <= ?"  # noqa: S608
        (end_ms,) = reader.execute(sql, (after_ms, until_ms)).fetchone()
        return None if end_ms is None else int(end_ms)

    units = whole(query, unit_ms)
    settled = ((end("MAX", 0, LATEST_MS) or 0) - 1) // unit_ms + 1 - newest
    span_end = units.start * unit_ms
    while (first := end("MIN", span_end, units.stop * unit_ms)) is not None:
        span_begin, span_end = span_end, -(-first // SPAN_MS) * SPAN_MS
        last = end("MAX", span_begin, span_end) or first
        yield from range(max(units.start, (first - 1) // unit_ms), min(units.stop, settled, (last - 1) // unit_ms + 1))


def asks_only(query: Query, dimensions: Collection[str], sums: Collection[str]) -> bool:
    """Return whether sums kept by these dimensions can answer a query."""
    return {*query.by, *query.distinct, *query.where} <= {*dimensions} and {*query.sums} <= {*sums}


def inside_sum(query: Query, name: str) -> str:
    """Return an SQL expression: the part of an interval's sum that lies in the window."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    share = f"CAST(MIN(until_at, {end}) - MAX(from_at, {begin}) AS REAL) / (until_at - from_at)"
    return f"CASE WHEN from_at >= {begin} AND until_at <= {end} THEN {quoted(name)} ELSE {quoted(name)} * {share} END"
