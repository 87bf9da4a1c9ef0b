"""The file for OpenSearch Dashboards, checked without it: everything that is named is there, and may be asked for."""

import json
import re
from collections import Counter

import pytest

from skytally.boards.board import ALL_TIME, BOARDS
from skytally.core.errors import Malformed
from tests.support.board_files import ALLOWED, index_of, kind_of, overlapping, run
from tests.support.board_lab import refer, saved_objects

PREFIX = "t-1"
NEWEST = {"index-pattern": "7.6.0", "visualization": "7.10.0", "dashboard": "7.9.3"}
# Required words, then others, of vis_type_timeseries/common/vis_schema.ts; those with whole numbers are among INTEGERS.
PANEL = "axis_formatter axis_position axis_scale id index_pattern interval series show_grid show_legend type"
PANEL_MORE = "drop_last_bucket filter legend_position time_field time_range_mode tooltip_mode"
SERIES = "axis_position chart_type color formatter id metrics split_mode stacked"
SERIES_MORE = (
    "fill label line_width point_size separate_axis split_color_mode terms_direction terms_field terms_order_by "
    "terms_size"
)
METRIC, METRIC_MORE = "id type", "field script variables"
INTEGERS = {"drop_last_bucket", "separate_axis", "show_grid", "show_legend"}
NUMBERS = {"fill", "line_width", "point_size"}
# vis_type_vega/public/data_model/vega_validation.ts
BLOCKED = {
    "window",
    "document",
    "global",
    "globalThis",
    "top",
    "parent",
    "frames",
    "self",
    "constructor",
    "view",
    "prototype",
}
SUMS = {"sum", "avg", "cardinality"}


@pytest.fixture(scope="module")
def objects():
    return saved_objects(run("opensearch", "--prefix", PREFIX).stdout)


def drawn(objects, kind):
    """Return the parameters of all visualizations of a kind, by their ids."""
    states = {
        name: json.loads(one["attributes"]["visState"]) for (of, name), one in objects.items() if of == "visualization"
    }
    assert {state["type"] for state in states.values()} == {"metrics", "vega"}
    return {name: state["params"] for name, state in states.items() if state["type"] == kind}


def test_every_reference_leads_to_an_object(objects):
    panels = sum(len(board.panels) for board in BOARDS)
    assert Counter(kind for kind, _ in objects) == {"index-pattern": 3, "dashboard": 2, "visualization": panels}
    used = [(reference["type"], reference["id"]) for one in objects.values() for reference in one["references"]]
    assert sorted(used) == sorted(key for key in objects if key[0] == "visualization")


def test_versions_are_those_that_are_known(objects):
    for one in objects.values():
        assert one["migrationVersion"] == {one["type"]: NEWEST[one["type"]]}
        assert not {"coreMigrationVersion", "typeMigrationVersion"} & set(one)


def test_attributes_are_those_of_strict_mappings(objects):
    """Of visualizations/server/saved_objects/visualization.ts and dashboard/server/saved_objects/dashboard.ts."""
    visualization = {"title", "description", "visState", "uiStateJSON", "kibanaSavedObjectMeta", "version"}
    dashboard = {"title", "description", "panelsJSON", "optionsJSON", "kibanaSavedObjectMeta", "version"}
    known = {"visualization": visualization, "dashboard": dashboard | {"timeRestore", "timeFrom", "timeTo"}}
    for one in objects.values():
        if one["type"] in known:
            assert set(one["attributes"]) == known[one["type"]]
            assert one["attributes"]["description"] or one["type"] == "dashboard"


def test_an_index_pattern_has_fields_that_can_be_parsed(objects):
    """TSVB answers 500 otherwise."""
    patterns = {name: one["attributes"] for (kind, name), one in objects.items() if kind == "index-pattern"}
    assert [json.loads(pattern["fields"]) for pattern in patterns.values()] == [[], [], []]
    for name, pattern in patterns.items():
        assert pattern["title"] == name
        assert kind_of(index_of(name), pattern.get("timeFieldName", "last_sampled_at")) == "date"


def test_a_dashboard_shows_its_panels_side_by_side(objects):
    for (kind, name), one in objects.items():
        if kind != "dashboard":
            continue
        panels = json.loads(one["attributes"]["panelsJSON"])
        assert [panel["panelRefName"] for panel in panels] == [f"panel_{number}" for number in range(len(panels))]
        assert all(
            refer(objects, one, panel["panelRefName"])["id"] == f"{name}-{panel['panelIndex']}" for panel in panels
        )
        assert all(tuple(map(int, panel["version"].split("."))) >= (7, 3) for panel in panels)
        places = [tuple(panel["gridData"][word] for word in "xywh") for panel in panels]
        assert overlapping(places) == []
        assert max(x + w for x, _, w, _ in places) == 48


def test_a_tsvb_panel_has_only_words_that_are_known(objects):
    for params in drawn(objects, "metrics").values():
        assert_words(params, PANEL, PANEL_MORE)
        for series in params["series"]:
            assert_words(series, SERIES, SERIES_MORE)
            for metric in series["metrics"]:
                assert_words(metric, METRIC, METRIC_MORE)


def assert_words(thing, required, others):
    assert set(required.split()) <= set(thing) <= {*required.split(), *others.split()}
    for name, value in thing.items():
        kinds = int if name in INTEGERS else int | float if name in NUMBERS else str | list | dict
        assert isinstance(value, kinds), name


def test_a_tsvb_series_ends_in_its_measure_and_refers_to_its_own_parts(objects):
    for params in drawn(objects, "metrics").values():
        for series in params["series"]:
            *before, last = series["metrics"]
            assert last["id"] == series["id"]
            plain = {metric["id"]: metric["type"] for metric in before}
            assert set(plain.values()) <= {*SUMS, "count"}
            assert len(plain) == len(before)
            if last["type"] == "calculation":
                assert {variable["field"] for variable in last["variables"]} <= set(plain)
                used = set(re.findall(r"params\.(\w+)", last["script"]))
                assert used == {variable["name"] for variable in last["variables"]}
            if series["split_mode"] == "terms":
                assert {**plain, "_count": "sum", "_key": "sum"}[series["terms_order_by"]] == "sum"


def test_every_field_of_tsvb_is_in_its_index_and_allows_the_operation(objects):
    for name, params in drawn(objects, "metrics").items():
        index = index_of(params["index_pattern"])
        assert ("index-pattern", params["index_pattern"]) in objects
        assert kind_of(index, params["time_field"]) == "date"
        assert index not in ALL_TIME, "TSVB always keeps to the window"
        for series in params["series"]:
            if series["split_mode"] == "terms":
                assert kind_of(index, series["terms_field"]) in ALLOWED["terms"]
            for metric in series["metrics"]:
                assert metric["type"] not in SUMS or kind_of(index, metric["field"]) in ALLOWED[metric["type"]], (
                    name,
                    metric,
                )


def test_every_field_of_vega_is_in_its_index_and_allows_the_operation(objects):
    for name, spec in specs(objects):
        url = spec["data"][0]["url"]
        index = index_of(url["index"])
        for part in url["body"]["query"]["bool"]["filter"][1:]:
            assert [kind_of(index, field) for field in part.get("range", {})] in ([], ["date"])
            assert kind_of(index, part.get("exists", {"field": "cloud"})["field"]) in {"keyword", "long", "double"}
        for operation, field in asked(url["body"]["aggs"]):
            assert kind_of(index, field) in ALLOWED[operation], (name, field)


def specs(objects):
    for name, params in drawn(objects, "vega").items():
        yield name, json.loads(params["spec"])


def asked(aggs):
    """Name each aggregation with its field; an order names one of its own level."""
    for agg in aggs.values():
        [(kind, settings)] = [(kind, settings) for kind, settings in agg.items() if kind != "aggs"]
        yield kind, settings["field"]
        for order in settings.get("order", {}):
            assert order in {"_key", "_count"} or "sum" in agg["aggs"][order]
        yield from asked(agg.get("aggs", {}))


def test_what_vega_draws_is_in_its_rows(objects):
    for name, spec in specs(objects):
        data = {one["name"]: one for one in spec["data"]}
        made = {step["as"] for step in data["rows"]["transform"] if step["type"] == "formula"} | {
            "begin",
            "end",
            "line",
        }
        text = json.dumps([spec["marks"], spec.get("scales", [])])
        assert set(re.findall(r'"data": "(\w+)"', text)) | {one.get("source", "rows") for one in data.values()} <= set(
            data
        )
        if "columns" in data:
            columns = [column["name"] for column in data["columns"]["values"]]
            assert set(columns) == made - {"begin", "end", "line"}
            assert len(spec["marks"]) == len(columns) + 2
            made |= set(data["columns"]["values"][0])
            [sorting] = [signal["value"] for signal in spec["signals"] if signal["name"] == "sorting"]
            assert sorting["name"] in columns
        assert set(re.findall(r"datum\.(\w+)", text)) <= made, name


def test_no_expression_of_vega_names_what_newer_versions_refuse(objects):
    for _, spec in specs(objects):
        signals = {signal["name"] for signal in spec.get("signals", [])}
        expressions = [
            value for key, value in leaves(spec) if key in {"expr", "update", "signal"} and isinstance(value, str)
        ]
        assert expressions
        assert not BLOCKED & signals
        assert not BLOCKED & {
            word for text in expressions for word in re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'", "", text))
        }


def leaves(part):
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        yield key, value
        yield from leaves(value)


def test_the_window_and_the_filters_of_a_dashboard_hold_for_all_but_months(objects):
    for name, spec in specs(objects):
        query = spec["data"][0]["url"]["body"]["query"]["bool"]
        for clause, parts in query.items():
            assert parts[0] == f"%dashboard_context-{clause}_clause%"
        windows = [part for part in query["filter"][1:] if "range" in part]
        assert len(windows) == (not name.endswith("-months"))


def test_the_same_again_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert run("opensearch", "--prefix", PREFIX, "--out", str(tmp_path / name)).exit_code == 0
    text = run("opensearch", "--prefix", PREFIX).stdout.encode()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == text


def test_a_file_that_cannot_be_written_is_told_with_what_to_do():
    with pytest.raises(Malformed, match="name another --out"):
        run("opensearch", "--out", "/dev/null/x")
