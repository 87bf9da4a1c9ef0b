"""What a TSVB panel asks for and how it is drawn: a series a measure, by the largest values of one dimension.

TSVB shows the last metric of a series. Words are those of vis_type_timeseries/common/vis_schema.ts, which has no
others.
"""

from typing import Any

from skytally.accounting.measures import Measure
from skytally.boards.board import Panel

Object = dict[str, Any]
FORMATS = {"hours": "0,0.0", "share": "0.0%", "bytes": "0.0b", "count": "0,0"}
LOOKS = {
    "number": {"chart_type": "line", "stacked": "none", "fill": 0, "line_width": 1},
    "series": {"chart_type": "bar", "stacked": "stacked", "fill": 0.8, "line_width": 0},
    "lines": {"chart_type": "line", "stacked": "none", "fill": 0, "line_width": 2},
}


def params(panel: Panel, index: str) -> Object:
    """Write a panel that asks an index pattern of this title."""
    # A number is the last bucket's, so there must be one; a bucket that goes on would be dropped.
    kind = {"type": "timeseries"} if panel.timed else {"type": "metric", "time_range_mode": "entire_time_range"}
    return {
        **kind,
        "id": panel.name,
        "index_pattern": index,
        "time_field": panel.moment,
        "interval": ">=1h",
        "drop_last_bucket": 0,
        "series": [_series(panel, measure) for measure in panel.measures],
        "axis_formatter": "number",
        "axis_position": "left",
        "axis_scale": "normal",
        "legend_position": "right",
        "show_legend": 1,
        "show_grid": 1,
        "tooltip_mode": "show_all",
        **({"filter": {"language": "kuery", "query": f"{panel.known}: *"}} if panel.known else {}),
    }


def _series(panel: Panel, measure: Measure) -> Object:
    return {
        "id": measure.name,
        "label": measure.title,
        "metrics": _metrics(panel, measure),
        **_split(panel),
        **LOOKS[panel.chart],
        "formatter": FORMATS[measure.unit],
        "axis_position": "left",
        "separate_axis": 0,
        "point_size": 1,
        "color": "#54B399",
        "split_color_mode": "opensearchDashboards",
    }


def _split(panel: Panel) -> Object:
    if not panel.by:
        return {"split_mode": "everything"}
    [name] = panel.by
    rank = "_count" if panel.rank == "count" else panel.rank
    order = {"terms_order_by": rank, "terms_direction": "desc", "terms_size": str(panel.groups(name))}
    return {"split_mode": "terms", "terms_field": name, **order}


def _metrics(panel: Panel, measure: Measure) -> list[Object]:
    """Write the sums, by their own names, among them the one that ranks; then the measure."""
    terms = () if measure.aggregation else measure.terms
    sums = [_sum(term) for term in dict.fromkeys((*terms, *([panel.rank] if panel.rank != "count" else [])))]
    if measure.aggregation:
        kind, field = measure.aggregation
        return [*sums, {"id": measure.name, "type": kind, **({"field": field} if field else {})}]
    variables = [{"id": term, "name": term, "field": term} for term in terms]
    script = measure.arithmetic(lambda term: f"params.{term}")
    return [*sums, {"id": measure.name, "type": "calculation", "variables": variables, "script": script}]


def _sum(term: str) -> Object:
    return {"id": term, "type": "count"} if term == "count" else {"id": term, "type": "sum", "field": term}
