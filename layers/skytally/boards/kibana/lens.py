"""What a Lens panel asks for and how it is drawn.

A measure that is more than one sum is a formula: a hidden column for each sum, `<measure>X0` and so on, one for the
arithmetic over them, and the formula itself, as the editor of Lens would make them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from skytally.accounting.measures import Measure
from skytally.boards.board import Panel, field_kind

Object = dict[str, Any]
Columns = dict[str, Object]
LAYER = "panel"
TIME = "time"
RECORDS = "___records___"
FORMATS = {
    "hours": {"id": "number", "params": {"decimals": 1}},
    "share": {"id": "percent", "params": {"decimals": 1}},
    "bytes": {"id": "bytes", "params": {"decimals": 1}},
    "count": {"id": "number", "params": {"decimals": 0}},
}
SHAPES = {"number": "lnsMetric", "table": "lnsDatatable"}
LOOKS = {"series": "bar_stacked", "lines": "line", "bars": "bar_horizontal_stacked"}
KINDS = {str: "string", bool: "boolean", int: "number", float: "number"}


def attributes(panel: Panel) -> Object:
    """Write a panel; its data view is the reference that carries the layer's name."""
    columns = _columns(panel)
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}
    state = {
        "datasourceStates": {"formBased": {"layers": {LAYER: layer}}},
        "visualization": _visualization(panel),
        "query": {"language": "kuery", "query": f"{panel.known}: *" if panel.known else ""},
        "filters": [],
        "internalReferences": [],
        "adHocDataViews": {},
    }
    return {
        "title": panel.title,
        "description": panel.note,
        "visualizationType": SHAPES.get(panel.chart, "lnsXY"),
        "state": state,
    }


def _columns(panel: Panel) -> Columns:
    """Write the groups, then time, so that the largest groups are those of the whole window, then the measures."""
    columns = {name: _groups(panel, name) for name in panel.by}
    if panel.timed:
        along = {"interval": "1h", "includeEmptyRows": True, "dropPartials": False}
        columns[TIME] = _column("date_histogram", panel.moment, "Time", along) | {
            "dataType": "date",
            "isBucketed": True,
            "scale": "interval",
        }
    for measure in panel.measures:
        columns |= _measure(measure)
    return columns


def _column(operation: str, field: str, label: str, params: Object) -> Object:
    asked = {"operationType": operation, "sourceField": field, "params": params}
    return {**asked, "label": label, "customLabel": True, "dataType": "number", "isBucketed": False, "scale": "ratio"}


def _sum(term: str, label: str) -> Object:
    operation, field = ("count", RECORDS) if term == "count" else ("sum", term)
    return _column(operation, field, label, {"emptyAsNull": False})


def _groups(panel: Panel, name: str) -> Object:
    kind, optional = field_kind(panel.index, name)
    order = panel.order_of(name)
    by_name = {"orderBy": {"type": "alphabetical", "fallback": False}}
    largest = {"orderBy": {"type": "custom"}, "orderAgg": _sum(panel.rank, panel.rank)}
    params = {
        "size": panel.groups(name),
        "orderDirection": order or "desc",
        "otherBucket": True,
        # A number has no word for what is missing.
        "missingBucket": optional and kind in {str, bool},
        "parentFormat": {"id": "terms"},
        **(by_name if order else largest),
    }
    bucket = {"dataType": KINDS[kind], "isBucketed": True, "scale": "ordinal"}
    return _column("terms", name, name.replace("_", " "), params) | bucket


def _measure(measure: Measure) -> Columns:
    shown = {"format": FORMATS[measure.unit], "emptyAsNull": False}
    if measure.distinct:
        return {measure.name: _column("unique_count", measure.distinct, measure.title, shown)}
    if measure.mean_of:
        return {measure.name: _column("average", measure.mean_of, measure.title, shown)}
    if measure.sums == ("count",) and not measure.over:
        return {measure.name: _column("count", RECORDS, measure.title, shown)}
    return _formula(measure)


def _formula(measure: Measure) -> Columns:
    parts = {term: f"{measure.name}X{n}" for n, term in enumerate(measure.terms)}
    label, arithmetic = f"Part of {measure.title}", f"{measure.name}X{len(parts)}"
    text, tree = _divided(measure, parts)
    shown = {"formula": text, "isFormulaBroken": False, "format": FORMATS[measure.unit]}
    columns = {column: _sum(term, label) for term, column in parts.items()}
    columns[arithmetic] = _column("math", "", label, {"tinymathAst": tree}) | {"references": list(parts.values())}
    columns[measure.name] = _column("formula", "", measure.title, shown) | {"references": [arithmetic]}
    for name in (arithmetic, measure.name):
        del columns[name]["sourceField"]
    return columns


def _divided(measure: Measure, parts: Mapping[str, str]) -> tuple[str, Any]:
    """Return the formula as people read it, and as a tree over its columns."""
    text, tree = _added(measure.sums, parts)
    if measure.scale != 1:
        text, tree = _operation("divide", "/", (text, tree), (str(measure.scale), measure.scale))
    if measure.over:
        text, tree = _operation("divide", "/", (text, tree), _added(measure.over, parts))
    return text, tree


def _added(terms: Sequence[str], parts: Mapping[str, str]) -> tuple[str, Any]:
    named = [("count()" if term == "count" else f"sum({term})", parts[term]) for term in terms]
    whole: tuple[str, Any] = named[0]
    for one in named[1:]:
        whole = _operation("add", "+", whole, one)
    return (f"({whole[0]})" if len(terms) > 1 else whole[0]), whole[1]


def _operation(name: str, sign: str, left: tuple[str, Any], right: tuple[str, Any]) -> tuple[str, Any]:
    text = f"{left[0]} {sign} {right[0]}"
    place = {"location": {"min": 0, "max": len(text)}, "text": text}
    return text, {"type": "function", "name": name, "args": [left[1], right[1]], **place}


def _visualization(panel: Panel) -> Object:
    layer = {"layerId": LAYER, "layerType": "data"}
    names = [measure.name for measure in panel.measures]
    if panel.chart == "number":
        return {**layer, "metricAccessor": names[0]}
    if panel.chart == "table":
        sorting = {"columnId": "month" if "month" in panel.by else names[0], "direction": "desc"}
        columns = [{"columnId": name} for name in (*panel.by, *names)]
        return {**layer, "columns": columns, "paging": {"size": 20, "enabled": True}, "sorting": sorting}
    *others, split = panel.by
    look = LOOKS[panel.chart]
    drawn = {"seriesType": look, "position": "top", "showGridlines": False}
    drawn |= {"xAccessor": TIME if panel.timed else others[0], "splitAccessor": split, "accessors": names}
    legend = {"isVisible": True, "position": "right"}
    return {
        "preferredSeriesType": look,
        "layers": [layer | drawn],
        "legend": legend,
        "valueLabels": "hide",
        "fittingFunction": "None",
    }
