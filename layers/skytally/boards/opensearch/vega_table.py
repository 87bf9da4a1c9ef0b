"""How Vega draws rows as a table: a line a row, in the order of the column that was clicked last, moved by the wheel.

Newer versions refuse expressions with the names of a browser's windows, `top` and `parent` among them
(vis_type_vega/public/data_model/vega_validation.ts), so no signal has one.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from skytally.accounting.measures import Measure
from skytally.boards.board import Panel

Object = dict[str, Any]
LINE_PIXELS, WORD_PIXELS, GAP_PIXELS = 18, 12, 8
# A dimension's values are names, longer than numbers are.
DIMENSION_WIDTH, MEASURE_WIDTH = 1.25, 1
FORMATS = {"hours": (",.1f", ""), "share": (".1%", ""), "bytes": (".3s", "B"), "count": (",d", "")}


class Column(Struct, frozen=True):
    """A column whose cells are aligned at a share of the width, less some pixels, and are as long as another share."""

    name: str
    title: str
    text: str
    align: Literal["left", "right"]
    anchor: float
    inset: int
    share: float


def text(measure: Measure) -> str:
    """Write the expression of a measure as people read it; empty where there is nothing to divide by."""
    form, suffix = FORMATS[measure.unit]
    value = f"datum.{measure.name}"
    return f"isNumber({value}) && isFinite({value}) ? format({value}, '{form}') + '{suffix}' : ''"


def drawn(panel: Panel) -> Object:
    """Draw the data `rows`."""
    columns = list(_columns(panel))
    # A title has a line a word: columns of numbers are narrow.
    head = WORD_PIXELS * max(len(column.title.split()) for column in columns) + GAP_PIXELS
    order = {"field": {"signal": "sorting.name"}, "order": {"signal": "sorting.order"}}
    ordered = {"type": "window", "ops": ["row_number"], "as": ["line"], "sort": order}
    shown = {"type": "filter", "expr": "datum.line > first && datum.line <= first + lines"}
    return {
        "signals": _signals("month" if "month" in panel.by else panel.measures[0].name, head),
        "data": [
            {"name": "columns", "values": [msgspec.to_builtins(column) for column in columns]},
            {"name": "ordered", "source": "rows", "transform": [ordered]},
            {"name": "shown", "source": "ordered", "transform": [shown]},
        ],
        "marks": [_header(), *(_cells(column, head) for column in columns), _footer()],
    }


def _columns(panel: Panel) -> Iterator[Column]:
    unit = 1 / (DIMENSION_WIDTH * len(panel.by) + MEASURE_WIDTH * len(panel.measures))
    begin = 0.0
    for name in panel.by:
        share = DIMENSION_WIDTH * unit
        yield Column(name, name.replace("_", " "), f"datum.{name}", "left", round(begin, 4), 0, round(share, 4))
        begin += share
    for measure in panel.measures:
        share = MEASURE_WIDTH * unit
        begin += share
        yield Column(measure.name, measure.title, text(measure), "right", round(begin, 4), GAP_PIXELS, round(share, 4))


def _signals(rank: str, head: int) -> list[Object]:
    turned = "sorting.name === datum.name && sorting.order === 'descending' ? 'ascending' : 'descending'"
    wheel = "clamp(first + (event.deltaY > 0 ? 3 : -3), 0, max(0, length(data('rows')) - lines))"
    return [
        {"name": "lines", "update": f"max(1, floor((height - {head}) / {LINE_PIXELS}) - 1)"},
        {
            "name": "sorting",
            "value": {"name": rank, "order": "descending"},
            "on": [{"events": "@header:click", "update": f"{{name: datum.name, order: {turned}}}"}],
        },
        {
            "name": "first",
            "value": 0,
            "on": [{"events": {"signal": "sorting"}, "update": "0"}, {"events": "wheel!", "update": wheel}],
        },
    ]


def _header() -> Object:
    arrow = "(datum.name === sorting.name ? (sorting.order === 'descending' ? '\u00a0▾' : '\u00a0▴') : '')"
    place = _place("datum.anchor", "datum.inset", "datum.share") | {
        "align": {"field": "align"},
        "baseline": {"value": "top"},
    }
    words = {
        "text": {"signal": f"datum.title + {arrow}"},
        "lineBreak": {"value": " "},
        "lineHeight": {"value": WORD_PIXELS},
    }
    shown = {"tooltip": {"field": "title"}, "cursor": {"value": "pointer"}}
    return {"name": "header", "from": {"data": "columns"}, **_text("guide-title", place | words | shown)}


def _cells(column: Column, head: int) -> Object:
    y = {"signal": f"{head} + (datum.line - first - 0.5) * {LINE_PIXELS}"}
    place = _place(column.anchor, column.inset, column.share) | {"align": {"value": column.align}, "y": y}
    return {
        "from": {"data": "shown"},
        **_text("guide-label", place | {name: {"signal": column.text} for name in ("text", "tooltip")}),
    }


def _footer() -> Object:
    count = "length(data('rows'))"
    part = f"(first + 1) + ' to ' + min(first + lines, {count}) + ' of ' + {count} + ', by the wheel'"
    words = f"{count} > lines ? {part} : ''"
    place = {"x": {"value": 0}, "y": {"signal": f"height - {LINE_PIXELS // 2}"}}
    return _text("guide-label", place | {"text": {"signal": words}})


def _place(anchor: object, inset: object, share: object) -> Object:
    return {"x": {"signal": f"{anchor} * width - {inset}"}, "limit": {"signal": f"{share} * width - {GAP_PIXELS}"}}


def _text(style: str, encoded: Object) -> Object:
    """Write a text mark in a style that OpenSearch Dashboards colours for its light and its dark theme."""
    common = {"baseline": {"value": "middle"}, "fontSize": {"value": 11}}
    return {"type": "text", "style": style, "encode": {"update": common | encoded}}
