"""Sums over a window of documents that have one time each: a document counts whole if its time lies in the window."""

import sqlite3
from datetime import timedelta
from typing import Any

from skytally.adapters.documents_sqlite import exact
from skytally.adapters.documents_sqlite.tables import conditions, quoted
from skytally.core.ports import Query, Row
from skytally.core.timestamps import from_ms, to_ms

HOUR_MS = 3_600_000


def table(reader: sqlite3.Connection, query: Query) -> list[Row]:
    """Return a row for each combination of the dimensions, ordered by them."""
    return _select(reader, query, [])


def series(reader: sqlite3.Connection, query: Query, step: timedelta) -> list[Row]:
    """Return such rows for each step: steps of an hour or longer are aligned to UTC, shorter ones to the window."""
    step_ms = step // timedelta(milliseconds=1)
    origin_ms = (0 if step_ms >= HOUR_MS else to_ms(query.from_at)) % step_ms
    at = f"({quoted(query.moment or '')} - {origin_ms}) / {step_ms} * {step_ms} + {origin_ms}"
    return [{**row, "at": max(from_ms(row["at"]), query.from_at)} for row in _select(reader, query, [f"{at} AS at"])]


def _select(reader: sqlite3.Connection, query: Query, first: list[str]) -> list[Row]:
    groups = [column.rpartition(" AS ")[2] for column in first] + [quoted(name) for name in query.by]
    counts = [f"COUNT(DISTINCT {quoted(name)}) AS {quoted(f'{name}_count')}" for name in query.distinct]
    condition, where_values = conditions(query.where)
    moment = quoted(query.moment or "")
    values: list[Any] = [to_ms(query.from_at), to_ms(query.until_at), *where_values]
    condition += f" AND {quoted(query.missing)} IS NULL" if query.missing else ""
    grouped = f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""

    def statement(add_up: str) -> str:
        columns = [*first, *map(quoted, query.by), *(_sum(name, add_up) for name in query.sums), *counts]
        return (
            f"SELECT {', '.join(columns)} FROM {quoted(query.index)} WHERE {moment} >= ? AND {moment} < ? AND "  # noqa: S608
            f"{condition}{grouped}"
        )

    return exact.rows(reader, query, statement, values)


def _sum(name: str, add_up: str) -> str:
    word, _, field = name.partition(":")
    if word != "count":
        return f"{add_up}({quoted(name)}) AS {quoted(name)}"
    return f'COUNT({quoted(field)}) AS "{name}"' if field else "COUNT(*) AS count"
