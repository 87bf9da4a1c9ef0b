"""Sums over a window of intervals, exact and fast: whole days are added up once and kept until something in them changes.

::

    interval_day(day, label, <dimensions>, <sums>)     what lies whole within one UTC day, per boot
    interval_day_kept(day)                             the days whose sums hold; a trigger strikes a day out when an interval changes

An interval that lies whole within a day of the window counts by the day's sum. What crosses midnight, and what lies in the window's first
and last, unfinished days or in a day that is not kept, is added up from the intervals themselves. Whole milliseconds stay whole: only what
a window's or a step's edge cuts carries fractions. All of it is read in one transaction, so a day that is struck out meanwhile cannot be
counted twice or not at all. A window of a thousand vms' month reads 30 000 day sums and as many crossings instead of 720 000 intervals.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from skytally.adapters.documents_sqlite.tables import conditions, from_ms, quoted, to_ms
from skytally.documents import Interval
from skytally.ports import Query, Row

INDEX = "interval"
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
HINTS = msgspec.structs.fields(Interval)
SUMMED = tuple(field.name for field in HINTS if field.type is int)
DIMENSIONS = tuple(field.name for field in HINTS if field.type in {str, str | None})
# A condition on intervals, its values, and whether all of each lies in the window.
Source = tuple[str, list[Any], bool]
_CROSSES = f"from_at / {DAY_MS} <> (until_at - 1) / {DAY_MS}"


def schema() -> Iterator[str]:
    """Write the statements that make the tables of sums, and the triggers that strike days out."""
    columns = ", ".join([*(f"{quoted(d)} TEXT" for d in DIMENSIONS), *(f"{quoted(s)} INTEGER" for s in SUMMED)])
    yield f"CREATE TABLE IF NOT EXISTS interval_day (day INTEGER, {columns}, PRIMARY KEY (day, label)) WITHOUT ROWID"
    yield "CREATE TABLE IF NOT EXISTS interval_day_kept (day INTEGER PRIMARY KEY)"
    yield f"CREATE INDEX IF NOT EXISTS interval_crosses ON interval (until_at) WHERE {_CROSSES}"
    struck = "DELETE FROM interval_day_kept WHERE day IN"
    yield (f"CREATE TRIGGER IF NOT EXISTS interval_inserted AFTER INSERT ON interval BEGIN {struck} (NEW.from_at / {DAY_MS}); END")
    yield (
        f"CREATE TRIGGER IF NOT EXISTS interval_updated AFTER UPDATE ON interval "
        f"BEGIN {struck} (OLD.from_at / {DAY_MS}, NEW.from_at / {DAY_MS}); END"
    )


def keep_day(connection: sqlite3.Connection, day: int) -> None:
    """Add up a day, within the caller's transaction, which no other writer's overlaps."""
    columns = ", ".join([*map(quoted, DIMENSIONS), *map(quoted, SUMMED)])
    added = ", ".join([*map(quoted, DIMENSIONS), *(f"SUM({quoted(s)})" for s in SUMMED)])
    connection.execute("DELETE FROM interval_day WHERE day = ?", (day,))
    connection.execute(
        f"INSERT INTO interval_day (day, {columns}) SELECT ?, {added} FROM interval "  # noqa: S608
        f"WHERE until_at > ? AND until_at <= ? AND from_at >= ? GROUP BY label",
        (day, day * DAY_MS, (day + 1) * DAY_MS, day * DAY_MS),
    )
    connection.execute("INSERT OR IGNORE INTO interval_day_kept VALUES (?)", (day,))


def days_to_keep(reader: sqlite3.Connection, query: Query) -> list[int]:
    """Name the whole days of a window, with intervals in it, that are not kept."""
    whole = _whole_days(query)
    kept = _kept(reader, whole)
    return [day for day in whole if day not in kept]


def _whole_days(query: Query) -> range:
    return range(-(-to_ms(query.from_at) // DAY_MS), to_ms(query.until_at) // DAY_MS)


def _kept(reader: sqlite3.Connection, days: range) -> set[int]:
    return {row[0] for row in reader.execute("SELECT day FROM interval_day_kept WHERE day >= ? AND day < ?", (days.start, days.stop))}


def table(reader: sqlite3.Connection, query: Query) -> list[Row]:
    """Answer a row for each combination of the dimensions, ordered by them."""
    names = {**dict.fromkeys(query.by), **dict.fromkeys(query.distinct)}
    columns = [*map(quoted, query.by), *(f"SUM({quoted(s)}) AS {quoted(s)}" for s in query.sums)]
    columns += [f"COUNT(DISTINCT {quoted(d)}) AS {quoted(f'{d}_count')}" for d in query.distinct]
    with _snapshot(reader):
        kept = _kept(reader, _whole_days(query))
        parts = [_kept_part(query, kept, [*map(quoted, names), *map(quoted, query.sums)])] if kept else []
        for where, values, inside in _sources(query, kept):
            counted = (quoted(s) if inside else f"{_part(query, s)} AS {quoted(s)}" for s in query.sums)
            parts.append((f"SELECT {', '.join([*map(quoted, names), *counted]) or '1'} FROM interval WHERE {where}", values))  # noqa: S608
        union = " UNION ALL ".join(sql for sql, _ in parts)
        dimensions = ", ".join(map(quoted, query.by))
        # A label's boot has one vm and cloud.
        group = f"GROUP BY {'label' if 'label' in query.by else dimensions} ORDER BY {dimensions}" if query.by else ""
        values = [value for _, told in parts for value in told]
        return [dict(row) for row in reader.execute(f"SELECT {', '.join(columns)} FROM ({union}) {group}", values)]  # noqa: S608


def series(reader: sqlite3.Connection, query: Query, step: timedelta) -> list[Row]:
    """Answer the same per step: steps of an hour or longer are UTC's, shorter ones are counted from the window's start."""
    step_ms, begin = step // timedelta(milliseconds=1), to_ms(query.from_at)
    origin_ms = 0 if step_ms >= HOUR_MS else begin
    cells: dict[tuple[Any, ...], dict[str, float]] = defaultdict(lambda: dict.fromkeys(query.sums, 0))
    with _snapshot(reader):
        kept = _kept(reader, _whole_days(query)) if step_ms == DAY_MS else set()
        for row in _kept_rows(reader, query, kept):
            _add(cells[row["day"], *(row[d] for d in query.by)], {s: row[s] for s in query.sums})
        for source in _sources(query, kept):
            for row in _spans(reader, query, source, step_ms, origin_ms):
                _share_out(cells, row, query)
    ordered = sorted(cells.items(), key=lambda item: (item[0][0], _order(item[0][1:])))
    return [
        {"at": from_ms(max(step_at * step_ms + origin_ms, begin)), **dict(zip(query.by, dimensions, strict=True)), **values}
        for (step_at, *dimensions), values in ordered
    ]


def _order(dimensions: Sequence[str | None]) -> list[tuple[bool, str]]:
    """Answer what names are ordered by: what is not known comes first."""
    return [(name is not None, name or "") for name in dimensions]


def _add(cell: dict[str, float], sums: Mapping[str, float]) -> None:
    for name, value in sums.items():
        cell[name] += value


def _share_out(cells: dict[tuple[Any, ...], dict[str, float]], row: sqlite3.Row, query: Query) -> None:
    """Give to each step, from a row's first to its last, what lies in it; the steps between have equal parts."""
    where = tuple(row[d] for d in query.by)
    first, last = row["first"], row["last"]
    if first == last:
        _add(cells[first, *where], {s: row[s] for s in query.sums})
        return
    between = last - first - 1
    heads = {s: row[f"head:{s}"] for s in query.sums}
    tails = {s: row[f"tail:{s}"] if between else row[s] - heads[s] for s in query.sums}
    _add(cells[first, *where], heads)
    _add(cells[last, *where], tails)
    for step in range(first + 1, last):
        _add(cells[step, *where], {s: (row[s] - heads[s] - tails[s]) / between for s in query.sums})


def _spans(reader: sqlite3.Connection, query: Query, source: Source, step_ms: int, origin_ms: int) -> Iterator[sqlite3.Row]:
    """Add up what begins in one step and ends in one, by those two: all of it, what lies in the first and what lies in the last.

    Heads and tails of whole intervals are whole numbers, so that nothing is lost between them.
    """
    where, values, inside = source
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    from_at, until_at = ("from_at", "until_at") if inside else (f"MAX(from_at, {begin})", f"MIN(until_at, {end})")
    first = f"({from_at} - {origin_ms}) / {step_ms}"
    last = f"MAX({first}, ({until_at} - 1 - {origin_ms}) / {step_ms})"
    head = f"(({first} + 1) * {step_ms} + {origin_ms} - {from_at}) / (until_at - from_at)"
    tail = f"({until_at} - {origin_ms} - {last} * {step_ms}) / (until_at - from_at)"
    long = f"until_at - from_at > {step_ms}"  # No other has steps between its first and its last.
    columns = [f"{first} AS first, {last} AS last", *map(quoted, query.by)]
    for s in query.sums:
        columns.append(f"SUM({quoted(s) if inside else _part(query, s)}) AS {quoted(s)}")
        columns.append(f'SUM({quoted(s)} * {head}) AS "head:{s}", SUM(CASE WHEN {long} THEN {quoted(s)} * {tail} END) AS "tail:{s}"')
    sql = f"SELECT {', '.join(columns)} FROM interval WHERE {where} GROUP BY {', '.join(['1', '2', *map(quoted, query.by)])}"  # noqa: S608
    yield from reader.execute(sql, values)


def _part(query: Query, name: str) -> str:
    """Write how much of an interval's sum lies in the window."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    share = f"CAST(MIN(until_at, {end}) - MAX(from_at, {begin}) AS REAL) / (until_at - from_at)"
    return f"CASE WHEN from_at >= {begin} AND until_at <= {end} THEN {quoted(name)} ELSE {quoted(name)} * {share} END"


def _sources(query: Query, kept: set[int]) -> Iterator[Source]:
    """Name the intervals of a window that are not in the sums of kept days: those that may be cut by its edges, and those that are not."""
    condition, held = conditions(query.where)
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    yield f"until_at > ? AND from_at < ? AND {_CROSSES} AND {condition}", [begin, end, *held], False
    within = f"until_at > ? AND until_at <= ? AND NOT ({_CROSSES}) AND {condition}"
    yield f"{within} AND from_at < ?", [begin, _day_end(begin), *held, begin], False
    yield f"{within} AND from_at >= ? AND from_at < ?", [end, _day_end(end), *held, begin, end], False
    for low, high in _gaps(query, kept):
        yield f"{within} AND from_at >= ?", [low, high, *held, begin], True


def _day_end(moment_ms: int) -> int:
    return -(-moment_ms // DAY_MS) * DAY_MS


def _gaps(query: Query, days: set[int]) -> Iterator[tuple[int, int]]:
    """Answer the spans of a window that are not of these days."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    for day in sorted(days):
        if begin < day * DAY_MS:
            yield begin, day * DAY_MS
        begin = (day + 1) * DAY_MS
    if begin < end:
        yield begin, end


def _kept_rows(reader: sqlite3.Connection, query: Query, days: set[int]) -> Iterator[sqlite3.Row]:
    columns = ["day", *map(quoted, query.by)]
    sql, values = _kept_part(query, days, [*columns, *(f"SUM({quoted(s)}) AS {quoted(s)}" for s in query.sums)])
    yield from reader.execute(f"{sql} GROUP BY {', '.join(columns)}", values)


def _kept_part(query: Query, days: set[int], columns: Sequence[str]) -> tuple[str, list[Any]]:
    condition, held = conditions(query.where)
    marks = ", ".join("?" * len(days))
    return f"SELECT {', '.join(columns) or '1'} FROM interval_day WHERE day IN ({marks}) AND {condition}", [*sorted(days), *held]  # noqa: S608


class _snapshot:  # noqa: N801
    """Read everything within as of one moment."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._reader.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._reader.execute("COMMIT")
