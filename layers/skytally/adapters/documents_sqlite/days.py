"""A window of intervals by vm, cloud or boot:
whole days are added up once, by boot, and kept until something in them changes.

::

    boot_day(day, label, <dimensions>, <sums>)     what lies whole within one UTC day, per boot
    boot_day_kept(day)                             the days whose sums hold; `strike_outs` removes a day when an
                                                   interval changes

An interval that lies whole within a day of the window counts by the day's sum. What crosses midnight, and what lies in
the window's first and last, unfinished days or in a day that is not kept, is added up from the intervals themselves.
Whole milliseconds stay whole: only what a window's edge cuts carries fractions. A day with a sum of more than 64 bits
is not kept. The caller reads all of it as of one moment, so a day that is struck out meanwhile cannot be counted twice
or not at all. A window of a thousand vms' month reads 30 000 day sums and as many crossings instead of 720 000
intervals.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from skytally.adapters.documents_sqlite import exact
from skytally.adapters.documents_sqlite.intervals import (
    DAY_MS,
    FORWARD,
    INDEX,
    NAMED,
    asks_only,
    gaps,
    inside_sum,
    sources,
    whole,
    worth_keeping,
)
from skytally.adapters.documents_sqlite.tables import COVERED, conditions, quoted
from skytally.core.ports import Query, Row

# What is read of intervals by an index alone.
SUMS = tuple(name for name in COVERED[INDEX] if name.endswith("_ms"))
# Each adds a part to a statement, which may have 500.
MOST_GAPS = 400
# Days without flavors.
REPLACED = ("interval_day", "interval_day_kept")
DIMENSIONS = tuple(name for name in COVERED[INDEX] if name not in {*SUMS, "from_at"})


def schema() -> Iterator[str]:
    """Return the statements that create the days' tables, and remove those of earlier versions.

    Other columns are other tables: a process of an earlier version may share the file, and keeps days without a flavor.
    """
    columns = ", ".join([*(f"{quoted(d)} TEXT" for d in DIMENSIONS), *(f"{quoted(s)} INTEGER" for s in SUMS)])
    yield f"CREATE TABLE IF NOT EXISTS boot_day (day INTEGER, {columns}, PRIMARY KEY (day, label)) WITHOUT ROWID"
    yield "CREATE TABLE IF NOT EXISTS boot_day_kept (day INTEGER PRIMARY KEY)"
    yield from (f"DROP TABLE IF EXISTS {name}" for name in REPLACED)


def struck_by(row: str) -> str:
    """Return the statement that removes the day of a trigger's row."""
    return f"DELETE FROM boot_day_kept WHERE day = {row}.from_at / {DAY_MS}"  # noqa: S608


def missing(reader: sqlite3.Connection, query: Query) -> list[int]:
    """Return the whole days of a window that should be kept and are not."""
    if not asks_only(query, DIMENSIONS, SUMS):
        return []
    kept = _kept(reader, query)
    return [day for day in worth_keeping(reader, query, DAY_MS, newest=0) if day not in kept]


def keep(connection: sqlite3.Connection, day: int) -> None:
    """Sum a day and store the sums, in the caller's transaction."""
    columns = ", ".join([*map(quoted, DIMENSIONS), *map(quoted, SUMS)])
    added = ", ".join([*map(quoted, DIMENSIONS), *(f"SUM({quoted(s)})" for s in SUMS)])
    connection.execute("DELETE FROM boot_day WHERE day = ?", (day,))
    try:
        connection.execute(
            f"INSERT INTO boot_day (day, {columns}) SELECT ?, {added} FROM interval "  # noqa: S608
            f"WHERE until_at > ? AND until_at <= ? AND from_at >= ? AND {FORWARD} AND {NAMED} GROUP BY label",
            (day, day * DAY_MS, (day + 1) * DAY_MS, day * DAY_MS),
        )
    except sqlite3.OperationalError as error:
        if not exact.is_overflow(error):
            raise
    else:
        connection.execute("INSERT OR IGNORE INTO boot_day_kept VALUES (?)", (day,))


def _kept(reader: sqlite3.Connection, query: Query) -> set[int]:
    days = whole(query, DAY_MS) if asks_only(query, DIMENSIONS, SUMS) else range(0)
    return {
        row[0]
        for row in reader.execute("SELECT day FROM boot_day_kept WHERE day >= ? AND day < ?", (days.start, days.stop))
    }


def table(reader: sqlite3.Connection, query: Query) -> list[Row]:
    """Return a row for each combination of the dimensions, ordered by them."""
    names = {**dict.fromkeys(query.by), **dict.fromkeys(query.distinct)}
    counts = [f"COUNT(DISTINCT {quoted(d)}) AS {quoted(f'{d}_count')}" for d in query.distinct]
    kept = _kept(reader, query)
    if sum(1 for _ in gaps(query, kept, DAY_MS)) > MOST_GAPS:
        kept = set()
    parts = [_kept_part(query, kept, [*map(quoted, names), *map(quoted, query.sums)])] if kept else []
    for where, values, is_inside in sources(query, kept):
        counted = (quoted(s) if is_inside else f"{inside_sum(query, s)} AS {quoted(s)}" for s in query.sums)
        parts.append(
            (f"SELECT {', '.join([*map(quoted, names), *counted]) or '1'} FROM interval WHERE {where}", values)  # noqa: S608
        )
    union = " UNION ALL ".join(sql for sql, _ in parts)
    dimensions = ", ".join(map(quoted, query.by))
    # A label's boot has one vm and cloud.
    group = f"GROUP BY {'label' if 'label' in query.by else dimensions} ORDER BY {dimensions}" if query.by else ""

    def statement(add_up: str) -> str:
        columns = [*map(quoted, query.by), *(f"{add_up}({quoted(s)}) AS {quoted(s)}" for s in query.sums), *counts]
        return f"SELECT {', '.join(columns)} FROM ({union}) {group}"  # noqa: S608

    return exact.rows(reader, query, statement, [value for _, totals in parts for value in totals])


def _kept_part(query: Query, days: set[int], columns: Sequence[str]) -> tuple[str, list[Any]]:
    condition, where_values = conditions(query.where)
    marks = ", ".join("?" * len(days))
    return f"SELECT {', '.join(columns) or '1'} FROM boot_day WHERE day IN ({marks}) AND {condition}", [  # noqa: S608
        *sorted(days),
        *where_values,
    ]
