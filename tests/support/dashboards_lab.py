"""What OpenSearch Dashboards does with a board: read its file, ask as TSVB and Vega would, work out what is shown.

Written from its sources, vis_type_timeseries/server/lib/vis_data and vis_type_vega/public/data_model, and from no code
of skytally. `ask` is a function of an index and a body; `scripts` says whether the engine runs scripts: one without has
them worked out here.
"""

import ast
import json
import operator
from datetime import UTC, datetime, timedelta

from tests.support.board_lab import GRAFANA_SUMS, kuery, script

MS = timedelta(milliseconds=1)
SIGNS = {ast.Add: operator.add, ast.Div: operator.truediv}
CLAUSES = {f"%dashboard_context-{name}_clause%" for name in ("must", "filter", "must_not")}


def panel(one):
    """Read a visualization."""
    state = json.loads(one["attributes"]["visState"])
    assert state["aggs"] == []
    return {"metrics": Tsvb, "vega": Vega}[state["type"]](state["params"])


class Tsvb:
    """A TSVB panel."""

    def __init__(self, params):
        self.params = params

    def shown(self, ask, scripts, from_at, until_at):
        """Return a row for each value of each series: its group, `time` and the series' id."""
        rows = []
        for series in self.params["series"]:
            answer = ask(self.params["index_pattern"], self._body(series, scripts, from_at, until_at))["aggregations"][
                series["id"]
            ]
            groups = answer.get("buckets", [answer])
            rows += [row for group in groups for row in self._rows(series, scripts, group)]
        return rows

    def _body(self, series, scripts, from_at, until_at):
        begin, end = from_at, until_at - MS
        moments = {"gte": begin.isoformat(), "lte": end.isoformat(), "format": "strict_date_optional_time"}
        must = [
            {"range": {self.params["time_field"]: moments}},
            *kuery(self.params.get("filter", {"language": "kuery", "query": ""})),
        ]
        split = self._split(series)
        inside = {metric["id"]: agg for metric in series["metrics"] if (agg := tsvb_metric(metric, scripts))}
        split.setdefault("aggs", {})["timeseries"] = {**self._steps(begin, end), "aggs": inside}
        return {"size": 0, "query": {"bool": {"must": must}}, "aggs": {series["id"]: split}}

    def _steps(self, begin, end):
        if self._is_whole:
            return {"auto_date_histogram": {"field": self.params["time_field"], "buckets": 1}}
        assert self.params["interval"] == ">=1h"
        bounds = {"min": round(begin.timestamp() * 1_000), "max": round(end.timestamp() * 1_000)}
        steps = {"field": self.params["time_field"], "min_doc_count": 0, "time_zone": "UTC", "extended_bounds": bounds}
        return {"date_histogram": steps | {"calendar_interval": "1h"}}

    @property
    def _is_whole(self):
        return self.params["type"] != "timeseries" and self.params.get("time_range_mode") == "entire_time_range"

    @staticmethod
    def _split(series):
        if series["split_mode"] == "everything":
            return {"filter": {"match_all": {}}}
        assert series["split_mode"] == "terms"
        order, direction = series["terms_order_by"], series["terms_direction"]
        terms = {"field": series["terms_field"], "size": int(series["terms_size"])}
        metric = next((metric for metric in series["metrics"] if metric["id"] == order), {"type": "count"})
        if metric["type"] in GRAFANA_SUMS:
            return {
                "terms": terms | {"order": {f"{order}-SORT": direction}},
                "aggs": {f"{order}-SORT": tsvb_metric(metric, False)},
            }
        return {"terms": terms | {"order": {order if order in {"_key", "_count"} else "_count": direction}}}

    def _rows(self, series, scripts, group):
        buckets = group["timeseries"]["buckets"]
        if not self._is_whole and self.params.get("drop_last_bucket", 1):
            buckets = buckets[:-1]
        if self.params["type"] == "metric":
            assert len(buckets) < 2, "only the last bucket would be shown"
        for bucket in buckets:
            if bucket["doc_count"]:
                at = datetime.fromtimestamp(bucket["key"] / 1_000, UTC)
                value = tsvb_value(series["metrics"][-1], bucket, series["metrics"], scripts)
                yield {series.get("terms_field"): group.get("key"), "time": at, series["id"]: value}


def tsvb_metric(metric, scripts):
    """Write the aggregation of a metric; none for scripts where there is nothing to run them."""
    if metric["type"] in GRAFANA_SUMS:
        return {metric["type"]: {"field": metric["field"]}}
    if not scripts:
        return None
    if metric["type"] == "count":
        run = {"source": "count * 1", "lang": "expression"}
        return {"bucket_script": {"buckets_path": {"count": "_count"}, "script": run, "gap_policy": "skip"}}
    assert metric["type"] == "calculation"
    paths = {variable["name"]: variable["field"] for variable in metric["variables"]}
    run = {"source": metric["script"], "lang": "painless", "params": {"_interval": 3_600_000}}
    return {"bucket_script": {"buckets_path": paths, "script": run, "gap_policy": "skip"}}


def tsvb_value(metric, bucket, metrics, scripts):
    if metric["type"] == "count":
        return bucket["doc_count"]
    if metric["type"] != "calculation":
        return bucket[metric["id"]]["value"]
    if scripts:
        return bucket.get(metric["id"], {}).get("value")
    parts = {one["id"]: one for one in metrics}
    return script(
        metric["script"],
        {v["name"]: tsvb_value(parts[v["field"]], bucket, metrics, scripts) for v in metric["variables"]},
    )


class Vega:
    """A Vega panel; `data` are its data sets by name."""

    def __init__(self, params):
        self.spec = json.loads(params["spec"])
        self.data = {data["name"]: data for data in self.spec["data"]}

    def shown(self, ask, _, from_at, until_at):
        """Return the rows that are drawn; a browser does the arithmetic."""
        [source] = [data for data in self.data.values() if "url" in data]
        body = filled(source["url"]["body"], from_at, until_at)
        rows = [ask(source["url"]["index"], body)[source["format"]["property"]]]
        for step in source["transform"]:
            rows = TRANSFORMS[step["type"]](rows, step)
        missing = dict(terms(body["aggs"]))
        return [{name: known(name, value, missing) for name, value in row.items()} for row in rows]


def filled(body, from_at, until_at):
    """Put a dashboard without query and filters into the words between percent signs."""
    moments = {"gte": from_at.isoformat(), "lte": (until_at - MS).isoformat(), "format": "strict_date_optional_time"}

    def value(part):
        if isinstance(part, list):
            return [value(one) for one in part if not isinstance(one, str) or one not in CLAUSES]
        if part == {"%timefilter%": True}:
            return moments
        return {name: value(inner) for name, inner in part.items()} if isinstance(part, dict) else part

    made = value(body)
    assert "%" not in json.dumps(made)
    return made


def terms(aggs):
    """Give each grouping's stand-in for what lacks its field."""
    for name, agg in aggs.items():
        if "terms" in agg:
            yield name, agg["terms"].get("missing")
            yield from terms(agg["aggs"])


def known(name, value, missing):
    if name in missing and value == missing[name]:
        return None
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def flatten(rows, step):
    """Make a row of each item of a list."""
    ([field], [name]) = step["fields"], step["as"]
    return [row | {name: item} for row in rows for item in member(row, field.split("."))]


def formula(rows, step):
    """Set a field."""
    return [row | {step["as"]: expression(step["expr"], row)} for row in rows]


def member(value, path):
    for name in path:
        value = value[name]
    return value


def expression(text, datum):
    """Work out the arithmetic that a browser would."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Attribute):
            return value(node.value)[node.attr]
        if isinstance(node, ast.Name):
            assert node.id == "datum"
            return datum
        return node.value

    try:
        return value(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        return None


TRANSFORMS = {"flatten": flatten, "formula": formula}
