"""Sums of a window of intervals by steps: whole hours are summed once for each cloud, and kept until they change.

::

    interval_hour(hour, cloud, site, group, <sums>)    the parts of all intervals that lie in one UTC hour
    interval_hour_kept(hour)                           the hours whose sums are valid; `strike_outs` removes the hours
                                                       of a written interval

Steps of whole hours are summed from kept hours. Other hours, shorter steps and queries by vm are summed from the
intervals, each divided by its time in each step. Parts of whole numbers are whole and add up to the whole. Only an
interval that lies in three steps or more, or that the window's edge cuts, has fractions.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from msgspec import structs

from skytally.adapters.documents_sqlite import exact
from skytally.adapters.documents_sqlite.intervals import (
    HOUR_MS,
    INDEX,
    Source,
    asks_only,
    gaps,
    inside_sum,
    sources,
    whole,
    worth_keeping,
)
from skytally.adapters.documents_sqlite.tables import conditions, quoted
from skytally.core.ports import Query, Row
from skytally.core.timestamps import from_ms, to_ms

# The dimensions and sums of the plots.
DIMENSIONS = ("cloud", "site", "group")
SUMS = ("core_ms", "user_ms", "nice_ms", "system_ms")
# Vms report once an hour, and repeat lost reports: younger hours change too often to be kept.
UNSETTLED_HOURS = 3
# Hours that are summed in one transaction, during which writers wait.
HOURS_PER_TRANSACTION = 24
Cells = dict[tuple[Any, ...], dict[str, float]]


def schema() -> Iterator[str]:
    """Return the statements that create the hours' tables."""
    columns = ", ".join([*(f"{quoted(d)} TEXT" for d in DIMENSIONS), *(f"{quoted(s)} REAL" for s in SUMS)])
    yield f"CREATE TABLE IF NOT EXISTS interval_hour (hour INTEGER, {columns})"
    yield "CREATE INDEX IF NOT EXISTS interval_hour_hour ON interval_hour (hour)"
    yield "CREATE TABLE IF NOT EXISTS interval_hour_kept (hour INTEGER PRIMARY KEY)"


def struck_by(row: str) -> str:
    """Return the statement that removes the hours of a trigger's row."""
    hours = f"{row}.from_at / {HOUR_MS} AND {row}.until_at / {HOUR_MS}"
    return f"DELETE FROM interval_hour_kept WHERE hour BETWEEN {hours}"  # noqa: S608


def missing(reader: sqlite3.Connection, query: Query, step: timedelta) -> list[range]:
    """Return the whole hours of a window that should be kept and are not, a range for each transaction."""
    if not _made_of_hours(query, step):
        return []
    kept = _kept(reader, query)
    ranges: list[range] = []
    for hour in worth_keeping(reader, query, HOUR_MS, UNSETTLED_HOURS):
        if hour in kept:
            continue
        if ranges and ranges[-1].stop == hour and len(ranges[-1]) < HOURS_PER_TRANSACTION:
            ranges[-1] = range(ranges[-1].start, hour + 1)
        else:
            ranges.append(range(hour, hour + 1))
    return ranges


def keep(connection: sqlite3.Connection, hours: range) -> None:
    """Sum hours and store the sums, in the caller's transaction."""
    window = Query(
        index=INDEX,
        from_at=from_ms(hours.start * HOUR_MS),
        until_at=from_ms(hours.stop * HOUR_MS),
        by=DIMENSIONS,
        sums=SUMS,
    )
    cells: Cells = _empty(SUMS)
    _add_up(cells, connection, window, HOUR_MS, 0)
    columns = ["hour", *map(quoted, DIMENSIONS), *map(quoted, SUMS)]
    for table in ("interval_hour", "interval_hour_kept"):
        connection.execute(f"DELETE FROM {table} WHERE hour >= ? AND hour < ?", (hours.start, hours.stop))  # noqa: S608
    connection.executemany(
        f"INSERT INTO interval_hour ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
        [(*key, *map(float, values.values())) for key, values in cells.items()],
    )
    connection.executemany("INSERT INTO interval_hour_kept VALUES (?)", [(hour,) for hour in hours])


def series(reader: sqlite3.Connection, query: Query, step: timedelta) -> list[Row]:
    """Return a row for each step and combination of the dimensions; the caller provides a snapshot.

    Steps of an hour or longer are aligned to UTC, shorter ones to the window's start.
    """
    step_ms, begin = step // timedelta(milliseconds=1), to_ms(query.from_at)
    origin_ms = 0 if step_ms >= HOUR_MS else begin
    cells = _empty(query.sums)
    kept = _kept(reader, query) if _made_of_hours(query, step) else set()
    for row in _kept_rows(reader, query, kept, step_ms // HOUR_MS):
        _add(cells[row["step"], *(row[d] for d in query.by)], {s: row[s] for s in query.sums})
    for low, high in gaps(query, kept, HOUR_MS):
        _add_up(cells, reader, structs.replace(query, from_at=from_ms(low), until_at=from_ms(high)), step_ms, origin_ms)
    return [
        {
            "at": from_ms(max(step * step_ms + origin_ms, begin)),
            **dict(zip(query.by, dimensions, strict=True)),
            **values,
        }
        for (step, *dimensions), values in sorted(cells.items(), key=lambda cell: _order(cell[0]))
    ]


def _made_of_hours(query: Query, step: timedelta) -> bool:
    return step % timedelta(hours=1) == timedelta(0) and asks_only(query, DIMENSIONS, SUMS)


def _kept(reader: sqlite3.Connection, query: Query) -> set[int]:
    hours = whole(query, HOUR_MS)
    return {
        row[0]
        for row in reader.execute(
            "SELECT hour FROM interval_hour_kept WHERE hour >= ? AND hour < ?", (hours.start, hours.stop)
        )
    }


def _kept_rows(reader: sqlite3.Connection, query: Query, kept: set[int], step_hours: int) -> list[Row]:
    if not kept:
        return []
    condition, where_values = conditions(query.where)
    step = f"interval_hour.hour / {step_hours}"
    grouped = f"GROUP BY {', '.join(['1', *map(quoted, query.by)])}"

    def statement(add_up: str) -> str:
        columns = [
            f"{step} AS step",
            *map(quoted, query.by),
            *(f"{add_up}({quoted(s)}) AS {quoted(s)}" for s in query.sums),
        ]
        joined = "interval_hour JOIN interval_hour_kept USING (hour)"
        return f"SELECT {', '.join(columns)} FROM {joined} WHERE hour >= ? AND hour < ? AND {condition} {grouped}"  # noqa: S608

    return exact.rows(reader, query, statement, [min(kept), max(kept) + 1, *where_values])


def _add_up(cells: Cells, reader: sqlite3.Connection, query: Query, step_ms: int, origin_ms: int) -> None:
    """Add the intervals of a window to the cells of the steps that they lie in."""
    for source in sources(query, set()):
        for row in _sums_by_step(reader, query, source, step_ms, origin_ms):
            _add_to_steps(cells, row, query)


def _sums_by_step(reader: sqlite3.Connection, query: Query, source: Source, step_ms: int, origin_ms: int) -> list[Row]:
    """Return sums grouped by the step in which intervals begin and the step in which they end.

    A row has three numbers of each sum: `<sum>` of the whole, `head:<sum>` of the part in the first step, and
    `tail:<sum>` of the part in the last step.
    """
    where, values, is_inside = source
    begin, end = to_ms(query.from_at), to_ms(query.until_at)
    # The interval as far as it lies in the window.
    from_at, until_at = ("from_at", "until_at") if is_inside else (f"MAX(from_at, {begin})", f"MIN(until_at, {end})")
    first = f"({from_at} - {origin_ms}) / {step_ms}"
    last = f"MAX({first}, ({until_at} - 1 - {origin_ms}) / {step_ms})"
    # The shares of the interval's length that lie in its first and in its last step.
    head_share = f"(({first} + 1) * {step_ms} + {origin_ms} - {from_at}) / (until_at - from_at)"
    tail_share = f"({until_at} - {origin_ms} - {last} * {step_ms}) / (until_at - from_at)"
    # Only an interval longer than a step can have steps between, so only it needs the tail.
    is_long = f"until_at - from_at > {step_ms}"
    grouped = f"GROUP BY {', '.join(['1', '2', *map(quoted, query.by)])}"

    def statement(add_up: str) -> str:
        columns = [f"{first} AS first, {last} AS last", *map(quoted, query.by)]
        for s in query.sums:
            columns.append(f"{add_up}({quoted(s) if is_inside else inside_sum(query, s)}) AS {quoted(s)}")
            columns.append(f'{add_up}({quoted(s)} * {head_share}) AS "head:{s}"')
            columns.append(f'{add_up}(CASE WHEN {is_long} THEN {quoted(s)} * {tail_share} END) AS "tail:{s}"')
        return f"SELECT {', '.join(columns)} FROM interval WHERE {where} {grouped}"  # noqa: S608

    return exact.rows(reader, query, statement, values)


def _add_to_steps(cells: Cells, row: Row, query: Query) -> None:
    """Add a row to its steps: the head to the first, the tail to the last, equal parts of the rest to those between."""
    dimensions = tuple(row[d] for d in query.by)
    first, last = row["first"], row["last"]
    if first == last:
        _add(cells[first, *dimensions], {s: row[s] for s in query.sums})
        return
    between = last - first - 1
    heads = {s: row[f"head:{s}"] for s in query.sums}
    tails = {s: row[f"tail:{s}"] if between else row[s] - heads[s] for s in query.sums}
    _add(cells[first, *dimensions], heads)
    _add(cells[last, *dimensions], tails)
    for step in range(first + 1, last):
        _add(cells[step, *dimensions], {s: (row[s] - heads[s] - tails[s]) / between for s in query.sums})


def _empty(names: Sequence[str]) -> Cells:
    return defaultdict(lambda: dict.fromkeys(names, 0))


def _add(cell: dict[str, float], sums: Mapping[str, float]) -> None:
    for name, value in sums.items():
        cell[name] += value


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    step, *dimensions = key
    return (step, *((name is not None, name or "") for name in dimensions))
