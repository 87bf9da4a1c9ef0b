"""Sums over a window by aggregations that every edition has; exact for intervals that are not cut.

An interval is written with the number of hour and day boundaries (UTC) that it crosses, and with the part of each sum
after the boundary: midnight if it crosses that, else the one hour boundary. So sums by hour or day take three
aggregations: intervals that began in a step, minus their parts after the boundary, plus such parts of intervals that
end in the step. Only intervals that cross several boundaries, or an edge of the window, are fetched by begin and end,
and cut here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from msgspec import structs

from skytally.adapters.documents_search.templates import CUT, DAY_MS
from skytally.core import storable
from skytally.core.documents import Document
from skytally.core.ports import Query, Row
from skytally.core.timestamps import EPOCH, to_ms

HOUR_MS = 3_600_000
# Each page reads all matching documents again, so pages are large; a server allows 65 536 buckets at most.
PAGE_BUCKETS = 20_000
Key = tuple[Any, ...]
Cells = dict[Key, dict[str, float]]
Filter = dict[str, Any]
_SPAN, _CUT = attrgetter("from_at", "until_at"), attrgetter(*CUT)
Search = Callable[..., Any]  # asks one index for aggregations
# An interval without one of these is unreadable and counts nowhere.
NAMED: list[Filter] = [{"exists": {"field": name}} for name in ("label", "vm", "cloud")]


def cuts(document: Document) -> dict[str, Any]:
    """Return the boundaries that an interval crosses, and the parts of its sums after the boundary."""
    from_at, until_at = _SPAN(document)
    begin, end = to_ms(from_at), to_ms(until_at)
    hours_crossed = (end - 1) // HOUR_MS - begin // HOUR_MS
    days_crossed = hours_crossed and (end - 1) // DAY_MS - begin // DAY_MS
    crossed: dict[str, Any] = {"hours_crossed": hours_crossed, "days_crossed": days_crossed}
    if days_crossed == 1 or (days_crossed == 0 and hours_crossed == 1):
        unit = DAY_MS if days_crossed else HOUR_MS
        after, whole = end - (end - 1) // unit * unit, end - begin
        crossed["after"] = {name: value * after // whole for name, value in zip(CUT, _CUT(document), strict=True)}
    return crossed


def filtered(where: Mapping[str, Sequence[str]], *more: Filter) -> Filter:
    """Return a filter of fields by values."""
    return {"bool": {"filter": [*({"terms": {field: list(values)}} for field, values in where.items()), *more]}}


def table(search: Search, query: Query) -> list[Row]:
    """Return a row for each combination of the dimensions, ordered by them.

    Distinct values are counted exactly, by a bucket for each of them.
    """
    grouped_by = query.by + tuple(name for name in query.distinct if name not in query.by)
    cells = _empty(query.sums)
    for key, bucket in _composite(
        search, filtered(query.where, *_inside(query)), _dimensions(query, grouped_by), _sums(query.sums)
    ):
        _add(cells[key], {name: bucket[name]["value"] for name in query.sums}, 1)
    if query.moment is None:
        for begin, end, key, values in _by_begin_and_end(
            search, filtered(query.where, _crosses_window(query)), query, grouped_by
        ):
            inside = min(end, to_ms(query.until_at)) - max(begin, to_ms(query.from_at))
            _add(cells[key], values, inside / (end - begin))
    return list(_rows(cells, query, grouped_by))


def _rows(cells: Cells, query: Query, grouped_by: tuple[str, ...]) -> Iterator[Row]:
    """Return the cells summed up by the query's dimensions."""
    rows, keys_by_row = _empty(query.sums), defaultdict[Key, list[Key]](list)
    for key, values in cells.items():
        _add(rows[key[: len(query.by)]], values, 1)
        keys_by_row[key[: len(query.by)]].append(key)
    for key in sorted(rows, key=_order):
        counts = {
            f"{name}_count": len({k[grouped_by.index(name)] for k in keys_by_row[key]} - {None})
            for name in query.distinct
        }
        yield {**dict(zip(query.by, key, strict=True)), **_whole(rows[key]), **counts}


def series(search: Search, query: Query, step: timedelta) -> list[Row]:
    """Return such rows for each step: steps of an hour or longer are aligned to UTC, shorter ones to the window."""
    step_ms = step // timedelta(milliseconds=1)
    steps = Steps(search, query, step_ms, 0 if step_ms >= HOUR_MS else to_ms(query.from_at))
    if query.moment is not None:
        steps.add_up(query.moment)
    elif step_ms < HOUR_MS:
        steps.cut()
    else:
        crossed = "days_crossed" if step_ms % DAY_MS == 0 else "hours_crossed"
        steps.add_up("from_at", {"range": {crossed: {"lte": 1}}})
        steps.add_up("from_at", {"term": {crossed: 1}}, prefix="after.", sign=-1)
        steps.add_up("until_at", {"term": {crossed: 1}}, prefix="after.")
        steps.cut({"bool": {"should": [_crosses_window(query), {"range": {crossed: {"gt": 1}}}]}})
    return steps.rows()


class Steps:
    """The sums of a window's steps, added up by several aggregations."""

    def __init__(self, search: Search, query: Query, step_ms: int, origin_ms: int) -> None:
        self._search, self._query, self._step_ms, self._origin_ms = search, query, step_ms, origin_ms
        self._cells = _empty(query.sums)

    def add_up(self, moment: str, *query_filter: Filter, prefix: str = "", sign: int = 1) -> None:
        """Add the sums of documents that lie whole in the window, each to the step of one of its times."""
        inside = filtered(self._query.where, *_inside(self._query), *query_filter)
        histogram = {
            "field": moment,
            "fixed_interval": f"{self._step_ms}ms",
            "offset": f"{self._origin_ms % self._step_ms}ms",
        }
        sources = [{"step": {"date_histogram": histogram}}, *_dimensions(self._query, self._query.by)]
        for (at_ms, *key), bucket in _composite(self._search, inside, sources, _sums(self._query.sums, prefix)):
            step = (at_ms - self._origin_ms) // self._step_ms
            _add(self._cells[step, *key], {name: bucket[name]["value"] for name in self._query.sums}, sign)

    def cut(self, *query_filter: Filter) -> None:
        """Divide documents among the steps that they lie in."""
        query, step_ms, origin_ms = self._query, self._step_ms, self._origin_ms
        for begin, end, key, values in _by_begin_and_end(
            self._search, filtered(query.where, _overlaps(query), *query_filter), query, query.by
        ):
            first, last = max(begin, to_ms(query.from_at)), min(end, to_ms(query.until_at))
            for step in range((first - origin_ms) // step_ms, (last - 1 - origin_ms) // step_ms + 1):
                inside = min(last, (step + 1) * step_ms + origin_ms) - max(first, step * step_ms + origin_ms)
                _add(self._cells[step, *key], values, inside / (end - begin))

    def rows(self) -> list[Row]:
        """Return the rows in order; `at` is the step's start, or the window's if that is later."""
        return [
            {"at": self._at(step), **dict(zip(self._query.by, key, strict=True)), **_whole(values)}
            for (step, *key), values in sorted(self._cells.items(), key=lambda cell: _order(cell[0]))
        ]

    def _at(self, step: int) -> datetime:
        return max(EPOCH + timedelta(milliseconds=step * self._step_ms + self._origin_ms), self._query.from_at)


def _composite(
    search: Search, query_filter: Filter, sources: list[Filter], metrics: Filter
) -> Iterator[tuple[Key, Any]]:
    """Return every existing bucket, page by page; without dimensions there is one, if any document matches."""
    everything = {"everything": {"terms": {"field": "_index"}}}
    after: dict[str, Any] = {}
    while True:
        composite = {"sources": sources or [everything], "size": PAGE_BUCKETS, **after}
        answer = search(query=query_filter, aggs={"rows": {"composite": composite, "aggs": metrics}})["rows"]
        for bucket in answer["buckets"]:
            yield tuple(bucket["key"].values()) if sources else (), bucket
        if len(answer["buckets"]) < PAGE_BUCKETS:
            return
        after = {"after": answer["after_key"]}


def _by_begin_and_end(
    search: Search, query_filter: Filter, query: Query, by: Sequence[str]
) -> Iterator[tuple[int, int, Key, dict[str, float]]]:
    """Return begin, end, dimensions and sums of matching intervals, at a sixth of the cost of reading the documents."""
    edges = [{name: {"terms": {"field": name}}} for name in ("from_at", "until_at")]
    for (begin, end, *key), bucket in _composite(
        search, query_filter, [*edges, *_dimensions(query, by)], _sums(query.sums)
    ):
        if begin < end:
            yield begin, end, tuple(key), {name: bucket[name]["value"] for name in query.sums}


def _dimensions(query: Query, names: Sequence[str]) -> list[Filter]:
    """Return the sources of the dimensions; a document without a mandatory field counts nowhere."""
    needed = storable.required(query.index)
    return [{name: {"terms": {"field": name, "missing_bucket": name not in needed}}} for name in names]


def _sums(names: Sequence[str], prefix: str = "") -> Filter:
    return {name: _metric(name, prefix) for name in names}


def _metric(name: str, prefix: str) -> Filter:
    word, _, field = name.partition(":")
    return {"value_count": {"field": field or "key"}} if word == "count" else {"sum": {"field": prefix + name}}


def _range(field: str, **bounds: datetime) -> Filter:
    return {"range": {field: {bound: to_ms(moment) for bound, moment in bounds.items()} | {"format": "epoch_millis"}}}


def _inside(query: Query) -> list[Filter]:
    if query.moment is not None:
        absent: list[Filter] = [{"bool": {"must_not": {"exists": {"field": query.missing}}}}] if query.missing else []
        return [_range(query.moment, gte=query.from_at, lt=query.until_at), *absent]
    # Four bounds, since two would include intervals that end before they begin.
    begins, ends = (
        _range("from_at", gte=query.from_at, lt=query.until_at),
        _range("until_at", gt=query.from_at, lte=query.until_at),
    )
    return [begins, ends, *NAMED]


def _overlaps(query: Query) -> Filter:
    """Return a filter of readable intervals that overlap a window."""
    begins, ends = (
        _range("from_at", gte=storable.EARLIEST, lt=query.until_at),
        _range("until_at", gt=query.from_at, lte=storable.LATEST),
    )
    return {"bool": {"filter": [begins, ends, *NAMED]}}


def _crosses_window(query: Query) -> Filter:
    edges = [_overlaps(structs.replace(query, from_at=edge, until_at=edge)) for edge in (query.from_at, query.until_at)]
    return {"bool": {"should": edges}}


def _empty(names: Sequence[str]) -> Cells:
    return defaultdict(lambda: dict.fromkeys(names, 0))


def _add(cell: dict[str, float], values: Mapping[str, Any], share: float) -> None:
    for name in cell:
        cell[name] += values[name] * share


def _whole(values: dict[str, float]) -> dict[str, float]:
    """Return whole sums as integers; the server sums in floating point, exactly up to 2**53."""
    return {name: int(value) if value == int(value) else value for name, value in values.items()}


def _order(key: Key) -> Key:
    return tuple((part is not None, part or "") if isinstance(part, str | None) else (True, part) for part in key)
