"""What a Vega panel asks for, which rows it makes of the answer, and how it draws them as a table or as bars.

A row has a field for each dimension and each measure. OpenSearch Dashboards fills in the words between percent signs
(vis_type_vega/public/data_model/opensearch_query_parser.ts): the dashboard's query, filters and time.
"""

from typing import Any

from skytally.accounting.measures import Measure
from skytally.boards.board import ALL_TIME, Panel, field_kind
from skytally.boards.opensearch import vega_table

Object = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega/v5.json"
NOT_KNOWN = "(not known)"


def spec(panel: Panel, index: str) -> Object:
    """Write a panel that asks an index of this name."""
    rows = {
        "name": "rows",
        "url": {"index": index, "body": _body(panel)},
        "format": {"property": "aggregations"},
        "transform": _rows(panel),
    }
    drawn = _bars(panel) if panel.chart == "bars" else vega_table.drawn(panel)
    return {"$schema": SCHEMA, "padding": 5, **drawn, "data": [rows, *drawn["data"]]}


def _body(panel: Panel) -> Object:
    asked: list[Any] = [] if panel.index in ALL_TIME else [{"range": {panel.moment: {"%timefilter%": True}}}]
    asked += [{"exists": {"field": panel.known}}] if panel.known else []
    query = {
        "must": ["%dashboard_context-must_clause%"],
        "filter": ["%dashboard_context-filter_clause%", *asked],
        "must_not": ["%dashboard_context-must_not_clause%"],
    }
    aggs = {name: agg for measure in panel.measures for name, agg in _sums(measure).items()}
    rank = {} if panel.rank == "count" else {panel.rank: {"sum": {"field": panel.rank}}}
    for name in reversed(panel.by):
        aggs = {name: {"terms": _terms(panel, name), "aggs": aggs | rank}}
    return {"size": 0, "query": {"bool": query}, "aggs": aggs}


def _terms(panel: Panel, name: str) -> Object:
    kind, optional = field_kind(panel.index, name)
    order = panel.order_of(name)
    rank = "_key" if order else "_count" if panel.rank == "count" else panel.rank
    missing = {"missing": NOT_KNOWN} if optional and kind is str else {}
    return {"field": name, "size": panel.groups(name), "order": {rank: order or "desc"}, **missing}


def _sums(measure: Measure) -> Object:
    if measure.aggregation:
        kind, field = measure.aggregation
        return {measure.name: {kind: {"field": field}}} if field else {}
    return {term: {"sum": {"field": term}} for term in measure.terms if term != "count"}


def _rows(panel: Panel) -> list[Object]:
    """Bring nested buckets into rows: the last dimension's field holds the bucket until its measures are worked out."""
    flattened, path = [], ""
    for name in panel.by:
        flattened.append({"type": "flatten", "fields": [f"{path}{name}.buckets"], "as": [name]})
        path = f"{name}."
    bucket = f"datum.{panel.by[-1]}"
    measures = [{"type": "formula", "as": measure.name, "expr": _value(measure, bucket)} for measure in panel.measures]
    return [*flattened, *measures, *({"type": "formula", "as": name, "expr": _key(panel, name)} for name in panel.by)]


def _value(measure: Measure, bucket: str) -> str:
    def sum_of(term: str) -> str:
        return f"{bucket}.doc_count" if term == "count" else f"{bucket}.{term}.value"

    if measure.aggregation:
        return sum_of(measure.name if measure.aggregation[1] else "count")
    return measure.arithmetic(sum_of)


def _key(panel: Panel, name: str) -> str:
    return f"datum.{name}.key_as_string" if field_kind(panel.index, name)[0] is bool else f"datum.{name}.key"


def _bars(panel: Panel) -> Object:
    """Draw a bar for each value of the first dimension, in parts by the second."""
    (row, part), (measure,) = panel.by, panel.measures
    largest = {"op": "sum", "field": measure.name, "order": "descending"}
    tooltip = f"{{'{row}': datum.{row}, '{part}': datum.{part}, '{measure.title}': {vega_table.text(measure)}}}"
    stack = {"type": "stack", "groupby": [row], "field": measure.name, "sort": {"field": part}, "as": ["begin", "end"]}
    edges = {"x": {"scale": "x", "field": "begin"}, "x2": {"scale": "x", "field": "end"}}
    place = edges | {"y": {"scale": "y", "field": row}, "height": {"scale": "y", "band": 1}}
    fill = {"scale": "colour", "field": part}
    return {
        "data": [{"name": "parts", "source": "rows", "transform": [stack]}],
        "scales": [
            {
                "name": "x",
                "type": "linear",
                "range": "width",
                "domain": {"data": "parts", "field": "end"},
                "nice": True,
            },
            {
                "name": "y",
                "type": "band",
                "range": "height",
                "padding": 0.2,
                "domain": {"data": "rows", "field": row, "sort": True if panel.order_of(row) else largest},
            },
            {
                "name": "colour",
                "type": "ordinal",
                "range": "category",
                "domain": {"data": "rows", "field": part, "sort": True},
            },
        ],
        "axes": [
            {"orient": "left", "scale": "y", "labelLimit": 160},
            {"orient": "bottom", "scale": "x", "tickCount": 5},
        ],
        "legends": [{"fill": "colour"}],
        "marks": [
            {
                "type": "rect",
                "from": {"data": "parts"},
                "encode": {"update": place | {"fill": fill, "tooltip": {"signal": tooltip}}},
            },
        ],
    }
