"""What Kibana and Grafana do with a board: read its files, ask the search engine, work out what is shown.

It knows nothing of what writes them.
"""

import ast
import json
import operator
import re
from datetime import UTC, datetime, timedelta

MISSING = "__missing__"
MS = timedelta(milliseconds=1)
TINYMATH = {"add": operator.add, "divide": operator.truediv}
LENS_SUMS = {"sum": "sum", "average": "avg", "unique_count": "cardinality"}
GRAFANA_SUMS = {"sum", "avg", "cardinality"}
GRAFANA_TITLES = {
    "count": "Count",
    "sum": "Sum",
    "avg": "Average",
    "cardinality": "Unique Count",
    "bucket_script": "Bucket Script",
}
INDEX_SETTINGS = {"elasticsearch": "index", "grafana-opensearch-datasource": "database"}
SIGNS = {ast.Add: operator.add, ast.Div: operator.truediv}


def saved_objects(text):
    """Read an NDJSON as an import does: objects by type and id."""
    objects = [json.loads(line) for line in text.splitlines()]
    assert len({(one["type"], one["id"]) for one in objects}) == len(objects)
    return {(one["type"], one["id"]): one for one in objects}


def refer(objects, one, name):
    """Follow a reference by its name."""
    found = [reference for reference in one["references"] if reference["name"] == name]
    assert len(found) == 1, (one["id"], name)
    return objects[found[0]["type"], found[0]["id"]]


def lens_layer(one):
    [(name, layer)] = one["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].items()
    return name, layer


class Lens:
    """One Lens panel of a file."""

    def __init__(self, objects, one):
        name, layer = lens_layer(one)
        self.view = refer(objects, one, f"indexpattern-datasource-layer-{name}")["attributes"]
        self.state = one["attributes"]["state"]
        self.columns = {column: layer["columns"][column] for column in layer["columnOrder"]}

    def shown(self, client, from_at, until_at):
        """Return the rows that are shown for a window, as dictionaries by column; empty steps are left out."""
        groups = [name for name, column in self.columns.items() if column["isBucketed"]]
        filters = [*self._window(from_at, until_at), *kuery(self.state["query"])]
        body = {"query": {"bool": {"filter": filters}}, "aggs": self._aggs(groups)}
        answer = client.perform(
            "POST", f"/{self.view['title']}/_search", body={"size": 0, "track_total_hits": True, **body}
        )
        whole = {**answer.get("aggregations", {}), "doc_count": answer["hits"]["total"]["value"]}
        return [self._worked_out(row, bucket) for row, bucket in flat(whole, groups, self._key) if bucket["doc_count"]]

    def _window(self, from_at, until_at):
        if "timeFieldName" not in self.view:
            return []
        moments = {
            "gte": from_at.isoformat(),
            "lte": (until_at - MS).isoformat(),
            "format": "strict_date_optional_time",
        }
        return [{"range": {self.view["timeFieldName"]: moments}}]

    def _aggs(self, groups):
        if not groups:
            return {name: agg for name, column in self.columns.items() if (agg := lens_sum(column))}
        name, *inner = groups
        column = self.columns[name]
        if column["operationType"] == "date_histogram":
            assert column["sourceField"] == self.view["timeFieldName"]
            asked = {
                "field": column["sourceField"],
                "calendar_interval": column["params"]["interval"],
                "time_zone": "UTC",
            }
            return {name: {"date_histogram": asked, "aggs": self._aggs(inner)}}
        return {name: self._terms(column, self._aggs(inner))}

    @staticmethod
    def _terms(column, inner):
        assert column["operationType"] == "terms"
        params = column["params"]
        asked = {"field": column["sourceField"], "size": params["size"]} | (
            {"missing": MISSING} if params["missingBucket"] else {}
        )
        if params["orderBy"]["type"] == "alphabetical":
            return {"terms": asked | {"order": {"_key": params["orderDirection"]}}, "aggs": inner}
        assert params["orderBy"] == {"type": "custom"}
        first = lens_sum(params["orderAgg"])
        order = {"rank" if first else "_count": params["orderDirection"]}
        return {"terms": asked | {"order": order}, "aggs": inner | ({"rank": first} if first else {})}

    def _key(self, name, bucket):
        kind = self.columns[name]["dataType"]
        if kind == "date":
            return datetime.fromtimestamp(bucket["key"] / 1_000, UTC)
        return None if bucket["key"] == MISSING else bool(bucket["key"]) if kind == "boolean" else bucket["key"]

    def _worked_out(self, row, bucket):
        row = dict(row)
        for name, column in self.columns.items():
            if column["operationType"] == "math":
                row[name] = tinymath(column["params"]["tinymathAst"], row)
            elif column["operationType"] == "formula":
                row[name] = row[column["references"][0]]
            elif not column["isBucketed"]:
                row[name] = bucket[name]["value"] if lens_sum(column) else bucket["doc_count"]
        return row


def lens_sum(column):
    """Write the aggregation of a column, where it needs one."""
    operation = column["operationType"]
    if operation == "count":
        assert column["sourceField"] == "___records___"
    return {LENS_SUMS[operation]: {"field": column["sourceField"]}} if operation in LENS_SUMS else None


def tinymath(tree, row):
    if isinstance(tree, str):
        return row[tree]
    if isinstance(tree, int | float):
        return tree
    left, right = (tinymath(part, row) for part in tree["args"])
    try:
        return TINYMATH[tree["name"]](left, right)
    except (ZeroDivisionError, TypeError):
        return None


def kuery(query):
    """Translate the only form that is used."""
    assert query["language"] == "kuery"
    if not query["query"]:
        return []
    field, star = query["query"].split(": ")
    assert star == "*"
    return [{"exists": {"field": field}}]


def flat(whole, groups, key_of):
    """Bring nested buckets into rows of their keys."""
    if not groups:
        yield {}, whole
        return
    name, *inner = groups
    for bucket in whole[name]["buckets"]:
        for row, last in flat(bucket, inner, key_of):
            yield {name: key_of(name, bucket), **row}, last


class GrafanaPanel:
    """One panel of a dashboard's file, with its data source."""

    def __init__(self, sources, panel):
        [self.target] = panel["targets"]
        self.panel = panel
        self.source = sources[self.target["datasource"]["uid"]]
        self.groups = {group["id"]: group for group in self.target["bucketAggs"]}
        self.metrics = {metric["id"]: metric for metric in self.target["metrics"]}

    def shown(self, client, from_at, until_at):
        """Return a table's or a bar chart's rows by column,
        or a row for each value of each series: its labels, `at` and `value`.
        """
        filters = [self._window(from_at, until_at)]
        if self.target["query"]:
            filters.append({"query_string": {"query": self.target["query"], "analyze_wildcard": True}})
        body = {"query": {"bool": {"filter": filters}}, "aggs": self._aggs(list(self.groups))}
        name = self.source["jsonData"][INDEX_SETTINGS[self.source["type"]]]
        whole = client.perform("POST", f"/{name}/_search", body={"size": 0, **body})["aggregations"]
        rows = [
            self._row(row, bucket) for row, bucket in flat(whole, list(self.groups), self._key) if bucket["doc_count"]
        ]
        if any(group["type"] == "date_histogram" for group in self.groups.values()):
            [value] = [number for number, metric in self.metrics.items() if not metric["hide"]]
            return [
                {self.groups[name].get("field"): row[name] for name in self.groups} | {"value": row[value]}
                for row in rows
            ]
        for transformation in self.panel["transformations"]:
            rows = TRANSFORMATIONS[transformation["id"]](self._titled(rows), transformation["options"])
        return rows

    def _window(self, from_at, until_at):
        if "timeFrom" in self.panel:
            from_at, until_at = datetime(1990, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=9_000)
        assert self.source["jsonData"]["timeField"] == self.target["timeField"]
        moments = [round(moment.timestamp() * 1_000) for moment in (from_at, until_at - MS)]
        return {"range": {self.target["timeField"]: {"gte": moments[0], "lte": moments[1], "format": "epoch_millis"}}}

    def _aggs(self, groups):
        if not groups:
            sums = {number: metric for number, metric in self.metrics.items() if metric["type"] in GRAFANA_SUMS}
            return {number: {metric["type"]: {"field": metric["field"]}} for number, metric in sums.items()}
        name, *inner = groups
        group = self.groups[name]
        inside = self._aggs(inner)
        if group["type"] == "date_histogram":
            assert group["settings"]["interval"] == "auto"
            return {
                name: {
                    "date_histogram": {"field": group["field"], "fixed_interval": self.panel["interval"]},
                    "aggs": inside,
                }
            }
        assert group["type"] == "terms"
        settings, order = group["settings"], group["settings"]["orderBy"]
        if order in self.metrics:
            metric = self.metrics[order]
            inside = inside | (
                {} if metric["type"] == "count" else {order: {metric["type"]: {"field": metric["field"]}}}
            )
            order = "_count" if metric["type"] == "count" else order
        asked = {"field": group["field"], "size": int(settings["size"]), "order": {order: settings["order"]}}
        return {
            name: {"terms": asked | {word: settings[word] for word in ("missing",) if word in settings}, "aggs": inside}
        }

    def _key(self, name, bucket):
        group = self.groups[name]
        if group["type"] == "date_histogram":
            return datetime.fromtimestamp(bucket["key"] / 1_000, UTC)
        if bucket["key"] == group["settings"].get("missing"):
            return None
        return {"true": True, "false": False}.get(bucket.get("key_as_string"), bucket["key"])

    def _row(self, keys, bucket):
        row = dict(keys)
        for number, metric in self.metrics.items():
            if metric["type"] == "count":
                row[number] = bucket["doc_count"]
            elif metric["type"] in GRAFANA_SUMS:
                row[number] = bucket[number]["value"]
        for number, metric in self.metrics.items():
            if metric["type"] == "bucket_script":
                params = {variable["name"]: row[variable["pipelineAgg"]] for variable in metric["pipelineVariables"]}
                row[number] = script(metric["settings"]["script"], params)
        return row

    def _titled(self, rows):
        """Name columns as a table does, which shows hidden ones too."""
        titles = {name: group["field"] for name, group in self.groups.items()} | {
            name: self._title(name) for name in self.metrics
        }
        assert len(set(titles.values())) == len(titles)
        return [{titles.get(name, name): value for name, value in row.items()} for row in rows]

    def _title(self, number):
        metric = self.metrics[number]
        if sum(other["type"] == metric["type"] for other in self.metrics.values()) == 1:
            return GRAFANA_TITLES[metric["type"]]
        if metric["type"] == "bucket_script":
            return metric["settings"]["script"]
        return f"{GRAFANA_TITLES[metric['type']]} {metric['field']}"


def script(text, params):
    """Work out a script's arithmetic as Painless would in floating point; the server of the tests has no Painless."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return SIGNS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Attribute):
            assert node.value.id == "params"
            return params[node.attr]
        return float(node.value)

    try:
        return value(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        return None


class Renamed(str):
    """A column's new name, which Grafana 10 and 11 carry along with its values."""

    __slots__ = ()


def organize(rows, options):
    """Leave out, order and rename columns."""
    place, renamed = options["indexByName"], {name: Renamed(new) for name, new in options["renameByName"].items()}
    kept = [[name for name in row if not options["excludeByName"].get(name)] for row in rows]
    assert all(name in place for names in kept for name in names)
    ordered = [sorted(names, key=place.__getitem__) for names in kept]
    return [{renamed.get(name, name): row[name] for name in names} for row, names in zip(rows, ordered, strict=True)]


def grouping_to_matrix(rows, options):
    """Make a column of each value of a dimension; all have the name of the values' column where that was renamed."""
    made = {}
    for row in rows:
        [value] = [name for name in row if name == options["valueField"]]
        series = value if isinstance(value, Renamed) else row[options["columnField"]]
        made.setdefault(row[options["rowField"]], {})[series] = row[value]
    return [{"": name, **columns} for name, columns in made.items()]


def interpolated(value):
    """Read a value of a provisioning file as Grafana does where no variable is set;
    what `$__file` names stays unread.
    """
    return "$".join(re.sub(r"\$(?!__file\{)(\w+|\{\w*\})", "", part) for part in value.split("$$"))


TRANSFORMATIONS = {"organize": organize, "groupingToMatrix": grouping_to_matrix}
