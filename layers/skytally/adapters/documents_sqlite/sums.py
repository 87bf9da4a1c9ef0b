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
from collections.abc import Iterator, Sequence
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
    columns = [*map(quoted, query.by), *(f"SUM({quoted(s)}) AS {quoted(s)}" for s in query.sums)]
    columns += [f"COUNT(DISTINCT {quoted(d)}) AS {quoted(f'{d}_count')}" for d in query.distinct]
    group = f"GROUP BY {', '.join(map(quoted, query.by))} ORDER BY {', '.join(map(quoted, query.by))}" if query.by else ""
    with _snapshot(reader):
        sql, values = _parts(reader, query)
        return [dict(row) for row in reader.execute(f"SELECT {', '.join(columns)} FROM ({sql}) {group}", values)]  # noqa: S608


def series(reader: sqlite3.Connection, query: Query, step: timedelta) -> list[Row]:
    """Answer the same per step: steps of an hour or longer are UTC's, shorter ones are counted from the window's start."""
    step_ms, from_ms_, until_ms = step // timedelta(milliseconds=1), to_ms(query.from_at), to_ms(query.until_at)
    origin_ms = 0 if step_ms >= HOUR_MS else from_ms_
    cells: dict[tuple[Any, ...], dict[str, float]] = defaultdict(lambda: dict.fromkeys(query.sums, 0))
    with _snapshot(reader):
        for row in _by_step(reader, query, step_ms, origin_ms):
            _add(cells[row["step"], *(row[d] for d in query.by)], row, query.sums, 1)
        for part in _halved(reader, query, step_ms, origin_ms):
            _add(cells[part["step"], *(part[d] for d in query.by)], part, query.sums, 1)
        for row in _crossing(reader, query, step_ms, origin_ms):
            _cut(cells, row, query, step_ms, origin_ms)
    return [
        _cell(key, values, query, step_ms, origin_ms)
        for key, values in sorted(cells.items(), key=_order)
        if key[0] * step_ms + origin_ms < until_ms
    ]


def _order(item: tuple[tuple[Any, ...], Any]) -> tuple[Any, ...]:
    step, *dimensions = item[0]
    return (step, *((d is not None, d or "") for d in dimensions))


def _cell(key: tuple[Any, ...], values: dict[str, float], query: Query, step_ms: int, origin_ms: int) -> Row:
    at = from_ms(max(key[0] * step_ms + origin_ms, to_ms(query.from_at)))
    return {"at": at, **dict(zip(query.by, key[1:], strict=True)), **values}


def _add(cell: dict[str, float], row: sqlite3.Row | dict[str, Any], names: Sequence[str], share: float) -> None:
    for name in names:
        cell[name] += row[name] if share == 1 else row[name] * share


def _cut(cells: dict[tuple[Any, ...], dict[str, float]], row: sqlite3.Row, query: Query, step_ms: int, origin_ms: int) -> None:
    """Share an interval out among the steps that it lies in."""
    begin, end = row["from_at"], row["until_at"]
    first, last = max(begin, to_ms(query.from_at)), min(end, to_ms(query.until_at))
    for step in range((first - origin_ms) // step_ms, (last - 1 - origin_ms) // step_ms + 1):
        inside = min(last, (step + 1) * step_ms + origin_ms) - max(first, step * step_ms + origin_ms)
        _add(cells[step, *(row[d] for d in query.by)], row, query.sums, 1 if inside == end - begin else inside / (end - begin))


def _by_step(reader: sqlite3.Connection, query: Query, step_ms: int, origin_ms: int) -> Iterator[sqlite3.Row]:
    """Add up, by step, what lies whole within a step of the window."""
    condition, held = conditions(query.where)
    dimensions = ", ".join(map(quoted, query.by))
    added = ", ".join(f"SUM({quoted(s)}) AS {quoted(s)}" for s in query.sums)
    days = _kept(reader, _whole_days(query)) if step_ms == DAY_MS else set()
    if days:
        marks = ", ".join("?" * len(days))
        sql = (
            f"SELECT day AS step, {dimensions}, {added} FROM interval_day WHERE day IN ({marks}) AND {condition} GROUP BY day, {dimensions}"  # noqa: S608
        )
        yield from reader.execute(sql, [*days, *held])
    for begin, end in _gaps(query, days):
        step = f"(from_at - {origin_ms}) / {step_ms}"
        sql = (
            f"SELECT {step} AS step, {dimensions}, {added} FROM interval WHERE until_at > ? AND until_at <= ? AND from_at >= ? "  # noqa: S608
            f"AND {step} = (until_at - 1 - {origin_ms}) / {step_ms} AND {condition} GROUP BY step, {dimensions}"
        )
        yield from reader.execute(sql, [begin, end, begin, *held])


def _halved(reader: sqlite3.Connection, query: Query, step_ms: int, origin_ms: int) -> Iterator[dict[str, Any]]:
    """Add up, by step, the two parts of what lies in the window and crosses the edge of one step: parts of whole numbers that add up."""
    condition, held = conditions(query.where)
    dimensions = ", ".join(map(quoted, query.by))
    last = f"(until_at - 1 - {origin_ms}) / {step_ms}"
    behind = f"(until_at - {origin_ms} - {last} * {step_ms}) / (until_at - from_at)"
    added = ", ".join(f'SUM({quoted(s)}) AS {quoted(s)}, SUM({quoted(s)} * {behind}) AS "behind:{s}"' for s in query.sums)
    sql = (
        f"SELECT {last} AS step, {dimensions}, {added} FROM interval WHERE until_at > ? AND until_at <= ? AND from_at >= ? "  # noqa: S608
        f"AND {_crosses_one(step_ms, origin_ms)} AND {condition} GROUP BY step, {dimensions}"
    )
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    for row in reader.execute(sql, [begin, end, begin, *held]):
        where = {name: row[name] for name in query.by}
        yield where | {"step": row["step"]} | {s: row[f"behind:{s}"] for s in query.sums}
        yield where | {"step": row["step"] - 1} | {s: row[s] - row[f"behind:{s}"] for s in query.sums}


def _crosses_one(step_ms: int, origin_ms: int) -> str:
    crosses = f"(from_at - {origin_ms}) / {step_ms} + 1 = (until_at - 1 - {origin_ms}) / {step_ms}"
    return f"{_CROSSES} AND {crosses}" if step_ms == DAY_MS else crosses


def _crossing(reader: sqlite3.Connection, query: Query, step_ms: int, origin_ms: int) -> Iterator[sqlite3.Row]:
    """Read what crosses edges of several steps or of the window, and what lies whole within a step that an edge of the window cuts."""
    condition, held = conditions(query.where)
    columns = ", ".join(["from_at", "until_at", *map(quoted, {**dict.fromkeys(query.by), **dict.fromkeys(query.sums)})])
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    crosses = _CROSSES if step_ms == DAY_MS else f"(from_at - {origin_ms}) / {step_ms} <> (until_at - 1 - {origin_ms}) / {step_ms}"
    several = f"{crosses} AND NOT (from_at >= {begin} AND until_at <= {end} AND {_crosses_one(step_ms, origin_ms)})"
    spans: list[tuple[int, int | None, int, int, str]] = [(begin, None, 0, end, several)]
    for edge, since in ((begin, 0), (end, begin)):
        spans.append((edge, -(-(edge - origin_ms) // step_ms) * step_ms + origin_ms, since, edge, f"NOT ({crosses})"))
    for after, last, since, before, wanted in spans:
        bound = "" if last is None else f"AND until_at <= {last} "
        sql = f"SELECT {columns} FROM interval WHERE until_at > ? {bound}AND from_at >= ? AND from_at < ? AND {wanted} AND {condition}"  # noqa: S608
        yield from reader.execute(sql, [after, since, before, *held])


def _gaps(query: Query, days: set[int]) -> Iterator[tuple[int, int]]:
    """Answer the spans of a window that are not of these days."""
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    for day in sorted(days):
        if begin < day * DAY_MS:
            yield begin, day * DAY_MS
        begin = (day + 1) * DAY_MS
    if begin < end:
        yield begin, end


def _parts(reader: sqlite3.Connection, query: Query) -> tuple[str, list[Any]]:
    """Write the union of day sums, crossings, and intervals of days that are not kept."""
    condition, held = conditions(query.where)
    names = {**dict.fromkeys(query.by), **dict.fromkeys(query.distinct)}
    dimensions = ", ".join(map(quoted, names)) or "1"
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    share = f"CAST(MIN(until_at, {end}) - MAX(from_at, {begin}) AS REAL) / (until_at - from_at)"
    inside = f"from_at >= {begin} AND until_at <= {end}"
    cut = "".join(f", CASE WHEN {inside} THEN {quoted(s)} ELSE {quoted(s)} * {share} END AS {quoted(s)}" for s in query.sums)
    days = _kept(reader, _whole_days(query)) if query.index == INDEX else set()
    parts = [f"SELECT {dimensions}{cut} FROM interval WHERE until_at > ? AND from_at < ? AND {_CROSSES} AND {condition}"]  # noqa: S608
    values: list[Any] = [begin, end, *held]
    if days:
        whole = "".join(f", {quoted(s)}" for s in query.sums)
        parts.append(f"SELECT {dimensions}{whole} FROM interval_day WHERE day IN ({', '.join('?' * len(days))}) AND {condition}")  # noqa: S608
        values += [*sorted(days), *held]
    for low, high in _gaps(query, days):
        last = -(-high // DAY_MS) * DAY_MS
        span = f"until_at > ? AND until_at <= ? AND from_at < ? AND NOT ({_CROSSES})"
        parts.append(f"SELECT {dimensions}{cut} FROM interval WHERE {span} AND {condition}")  # noqa: S608
        values += [low, last, high, *held]
    return " UNION ALL ".join(parts), values


class _snapshot:  # noqa: N801
    """Read everything within as of one moment."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader

    def __enter__(self) -> None:
        self._reader.execute("BEGIN")

    def __exit__(self, *_: object) -> None:
        self._reader.execute("COMMIT")
