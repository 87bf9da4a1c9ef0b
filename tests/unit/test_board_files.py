"""The files for Kibana and Grafana, checked without either: everything that is named is there, and may be asked for."""

import itertools
import json
from collections import Counter

import pytest
import yaml

from skytally.accounting import measures
from skytally.accounting.measures import JOB_SUMS, JOBS
from skytally.boards.board import BOARDS, COLUMNS, placed
from skytally.core.errors import Malformed
from skytally.core.job_outcomes import OUTCOMES
from skytally.dashboard import jobs_view, usage_view
from tests.support.board_files import ALLOWED, PREFIX, index_of, kind_of, overlapping, run
from tests.support.board_lab import TRANSFORMATIONS, interpolated, lens_layer, refer, saved_objects

OLDEST = {"index-pattern": "8.0.0", "lens": "8.9.0", "dashboard": "8.9.0"}


@pytest.fixture(scope="module")
def objects():
    return saved_objects(run("kibana", "--prefix", PREFIX).stdout)


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grafana")
    assert (
        run(
            "grafana", "--prefix", PREFIX, "--out", str(folder), "--url", "https://search:9200", "--key-file", "/k"
        ).exit_code
        == 0
    )
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dashboards(provisioned):
    return [json.loads(text) for name, text in provisioned.items() if name.endswith(".json")]


def test_every_reference_leads_to_an_object(objects):
    assert Counter(kind for kind, _ in objects) == {
        "index-pattern": 3,
        "dashboard": 2,
        "lens": sum(len(board.panels) for board in BOARDS),
    }
    used = {(reference["type"], reference["id"]) for one in objects.values() for reference in one["references"]}
    assert used == {key for key in objects if key[0] != "dashboard"}
    for one in objects.values():
        assert one["typeMigrationVersion"] == OLDEST[one["type"]]
        assert one["coreMigrationVersion"] == "8.8.0"


def test_a_dashboard_of_kibana_shows_its_panels_side_by_side(objects):
    for (kind, name), one in objects.items():
        if kind != "dashboard":
            continue
        panels = json.loads(one["attributes"]["panelsJSON"])
        assert len(panels) == len(one["references"]) == len({panel["panelIndex"] for panel in panels})
        for panel in panels:
            lens = refer(objects, one, f"{panel['panelIndex']}:{panel['panelRefName']}")
            assert lens["id"].startswith(name)
            assert panel["type"] == lens["type"]
        places = [tuple(panel["gridData"][word] for word in "xywh") for panel in panels]
        assert overlapping(places) == []
        assert max(x + w for x, _, w, _ in places) == 48


def test_a_panel_of_kibana_names_only_columns_that_are_there(objects):
    for one in (one for (kind, _), one in objects.items() if kind == "lens"):
        name, layer = lens_layer(one)
        columns, order = layer["columns"], layer["columnOrder"]
        assert sorted(order) == sorted(columns)
        bucketed = [columns[column]["isBucketed"] for column in order]
        assert bucketed == sorted(bucketed, reverse=True)
        for column in columns.values():
            assert set(column.get("references", [])) <= set(columns)
            tree = column["params"].get("tinymathAst")
            assert tree is None or set(leaves(tree)) == set(column["references"])
        drawn = one["attributes"]["state"]["visualization"]
        shown = list(accessors(drawn))
        hidden = {reference for column in columns.values() for reference in column.get("references", [])}
        assert sorted(shown) == sorted(set(columns) - hidden)
        assert drawn.get("layerId", name) == name
        assert all(part["layerId"] == name for part in drawn.get("layers", []))


def leaves(tree):
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for part in tree["args"]:
            yield from leaves(part)


def accessors(drawn):
    """Name the columns that a drawing shows."""
    yield from (column["columnId"] for column in drawn.get("columns", []))
    yield from [drawn["metricAccessor"]] if "metricAccessor" in drawn else []
    for layer in drawn.get("layers", []):
        yield from (layer["xAccessor"], layer["splitAccessor"], *layer["accessors"])
    if "sorting" in drawn:
        assert drawn["sorting"]["columnId"] in {column["columnId"] for column in drawn["columns"]}


def test_a_formula_of_kibana_says_what_its_columns_do(objects):
    """People edit the text, and then Lens makes the columns anew from it."""
    for one in (one for (kind, _), one in objects.items() if kind == "lens"):
        columns = lens_layer(one)[1]["columns"]
        for column in columns.values():
            if column["operationType"] == "formula":
                arithmetic = columns[column["references"][0]]
                assert written(arithmetic["params"]["tinymathAst"], columns) == column["params"]["formula"]


def written(tree, columns):
    if isinstance(tree, str):
        column = columns[tree]
        return (
            "count()" if column["operationType"] == "count" else f"{column['operationType']}({column['sourceField']})"
        )
    if isinstance(tree, int):
        return str(tree)
    left, right = (written(part, columns) for part in tree["args"])
    if tree["name"] == "add":
        return f"{left} + {right}"
    return " / ".join(f"({part})" if " + " in part and " / " not in part else part for part in (left, right))


def test_every_field_is_in_its_index_and_allows_the_operation(objects, dashboards):
    for one in (one for (kind, _), one in objects.items() if kind == "lens"):
        name, layer = lens_layer(one)
        view_of = refer(objects, one, f"indexpattern-datasource-layer-{name}")["attributes"]
        index = index_of(view_of["title"])
        columns = list(layer["columns"].values())
        columns += [column["params"]["orderAgg"] for column in columns if "orderAgg" in column["params"]]
        for column in columns:
            if (field := column.get("sourceField", "___records___")) != "___records___":
                assert kind_of(index, field) in ALLOWED[column["operationType"]], (one["id"], field)
        assert kind_of(index, view_of.get("timeFieldName", "last_sampled_at")) == "date"
    for target, index in targets(dashboards):
        for asked in (*target["bucketAggs"], *target["metrics"]):
            if "field" in asked:
                assert kind_of(index, asked["field"]) in ALLOWED[asked["type"]], (target, asked)


def targets(dashboards):
    for panel in itertools.chain.from_iterable(dashboard["panels"] for dashboard in dashboards):
        for target in panel["targets"]:
            yield target, index_of(target["datasource"]["uid"])


def test_a_dashboard_of_grafana_shows_its_panels_side_by_side(dashboards):
    assert {len(dashboard["panels"]) for dashboard in dashboards} == {len(board.panels) for board in BOARDS}
    for dashboard in dashboards:
        places = [tuple(panel["gridPos"][word] for word in "xywh") for panel in dashboard["panels"]]
        assert overlapping(places) == []
        assert max(x + w for x, _, w, _ in places) == 24
        assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_a_question_of_grafana_refers_to_its_own_parts(dashboards, provisioned):
    sources = {
        source["uid"]: source for source in yaml.safe_load(provisioned[f"datasources/{PREFIX}.yaml"])["datasources"]
    }
    for target, _ in targets(dashboards):
        assert sources[target["datasource"]["uid"]]["jsonData"]["timeField"] == target["timeField"]
        numbers = [part["id"] for part in (*target["bucketAggs"], *target["metrics"])]
        assert len(set(numbers)) == len(numbers)
        plain = {metric["id"] for metric in target["metrics"] if metric["type"] != "bucket_script"}
        for metric in target["metrics"]:
            variables = {variable["name"] for variable in metric.get("pipelineVariables", [])}
            assert {variable["pipelineAgg"] for variable in metric.get("pipelineVariables", [])} <= plain
            assert all(f"params.{name}" in metric["settings"]["script"] for name in variables)
        for group in target["bucketAggs"]:
            # The number of a count is no name of an aggregation.
            counts = {metric["id"] for metric in target["metrics"] if metric["type"] == "count"}
            assert group["settings"].get("orderBy", "_key") in (plain - counts) | {"_key", "_count"}


def test_no_key_is_written_only_where_it_lies(provisioned):
    sources = yaml.safe_load(provisioned[f"datasources/{PREFIX}.yaml"])["datasources"]
    assert [source["secureJsonData"]["httpHeaderValue1"] for source in sources] == ["ApiKey $__file{/k}"] * 3
    assert {source["jsonData"]["index"] for source in sources} == {
        f"{PREFIX}-interval",
        f"{PREFIX}-job",
        f"{PREFIX}-usage",
    }
    provider = yaml.safe_load(provisioned[f"dashboards/{PREFIX}.yaml"])["providers"][0]
    assert provider["options"]["path"] == f"/etc/grafana/provisioning/dashboards/{PREFIX}"


GRAFANA = ("grafana", "--prefix", PREFIX, "--out")


@pytest.mark.parametrize(
    "words", [("--url", "https://search:9200", "--engine", "opensearch"), ("--url", "opensearch+https://search:9200")]
)
def test_opensearchs_data_source_asks_the_same_questions(tmp_path, dashboards, words):
    """It names its index otherwise, and has no API keys."""
    run(*GRAFANA, str(tmp_path), *words, "--key-file", "/k")
    sources = yaml.safe_load((tmp_path / "datasources" / f"{PREFIX}.yaml").read_text())["datasources"]
    assert {source["type"] for source in sources} == {"grafana-opensearch-datasource"}
    assert {source["url"] for source in sources} == {"https://search:9200"}
    assert [source["jsonData"]["database"] for source in sources] == [source["uid"] for source in sources]
    assert all({"flavor", "version", "timeField"} < set(source["jsonData"]) for source in sources)
    assert [source["secureJsonData"]["httpHeaderValue1"] for source in sources] == ["Bearer $__file{/k}"] * 3
    theirs = json.dumps(dashboards).replace('"type": "elasticsearch"', '"type": "grafana-opensearch-datasource"')
    boards = {board["uid"]: board for board in json.loads(theirs)}
    written = [json.loads(path.read_text()) for path in (tmp_path / "dashboards" / PREFIX).iterdir()]
    assert {board["uid"]: board for board in written} == boards


@pytest.mark.parametrize("engine", ["elasticsearch", "opensearch"])
def test_a_users_password_stays_in_its_file(tmp_path, engine):
    run(
        *GRAFANA,
        str(tmp_path),
        "--url",
        "https://search:9200",
        "--engine",
        engine,
        "--key-file",
        "/k",
        "--user",
        "gr$fana",
    )
    for source in yaml.safe_load((tmp_path / "datasources" / f"{PREFIX}.yaml").read_text())["datasources"]:
        assert (source["basicAuth"], interpolated(source["basicAuthUser"])) == (True, "gr$fana")
        assert source["secureJsonData"] == {"basicAuthPassword": "$__file{/k}"}


def test_each_series_of_a_matrix_has_its_own_name(dashboards):
    """Grafana 10 and 11 named every series `Jobs`."""
    matrices = 0
    for panel in itertools.chain.from_iterable(dashboard["panels"] for dashboard in dashboards):
        steps = panel["transformations"]
        if "groupingToMatrix" not in [step["id"] for step in steps]:
            continue
        matrices += 1
        [target] = panel["targets"]
        row, column = (group["field"] for group in target["bucketAggs"])
        rows = [{row: "uvic", column: status, "Count": number} for number, status in enumerate(("failed", "finished"))]
        for step in steps:
            rows = TRANSFORMATIONS[step["id"]](rows, step["options"])
        assert rows == [{"": "uvic", "failed": 0, "finished": 1}]
    assert matrices


def test_a_dollar_sign_comes_through_grafanas_provisioning(tmp_path):
    url, folder = "https://search:9200/$HOME/${x}/$$", "/srv/$grafana"
    run("grafana", "--prefix", PREFIX, "--out", str(tmp_path), "--url", url, "--folder", folder, "--key-file", "/k")
    sources = yaml.safe_load((tmp_path / "datasources" / f"{PREFIX}.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((tmp_path / "dashboards" / f"{PREFIX}.yaml").read_text())["providers"]
    assert {interpolated(source["url"]) for source in sources} == {url}
    assert interpolated(provider["options"]["path"]) == f"{folder}/dashboards/{PREFIX}"
    assert {interpolated(source["secureJsonData"]["httpHeaderValue1"]) for source in sources} == {"ApiKey $__file{/k}"}


def test_a_long_prefix_has_ids_that_grafana_takes(tmp_path):
    prefix = "x" * 100
    run("grafana", "--prefix", prefix, "--out", str(tmp_path), "--url", "https://search:9200")
    sources = yaml.safe_load((tmp_path / "datasources" / f"{prefix}.yaml").read_text())["datasources"]
    boards = [json.loads(path.read_text()) for path in (tmp_path / "dashboards" / prefix).iterdir()]
    ids = {one["uid"] for one in (*sources, *boards)}
    assert len(ids) == 5
    assert {len(one) for one in ids} == {40}
    assert {
        target["datasource"]["uid"] for board in boards for panel in board["panels"] for target in panel["targets"]
    } < ids


def test_the_same_again_is_the_same_bytes(tmp_path, provisioned):
    for name in ("a", "b"):
        assert run("kibana", "--prefix", PREFIX, "--out", str(tmp_path / name)).exit_code == 0
    assert (
        (tmp_path / "a").read_bytes()
        == (tmp_path / "b").read_bytes()
        == run("kibana", "--prefix", PREFIX).stdout.encode()
    )
    run("grafana", "--prefix", PREFIX, "--out", str(tmp_path / "g"), "--url", "https://search:9200", "--key-file", "/k")
    assert {name: (tmp_path / "g" / name).read_text() for name in provisioned} == provisioned


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("kibana", "--prefix", "Upper"), "lower-case"),
        (("grafana", "--out", "{out}", "--url", "https://search:9200", "--prefix", "x" * 101), "--prefix must be"),
        (("grafana", "--out", "{out}", "--url", "sqlite:///x"), "--url must be"),
        (("grafana", "--out", "{out}", "--url", "https://user:word@search:9200"), "without a password"),
        (("grafana", "--out", "{out}", "--url", "https://search:9200", "--key-file", "/k$x"), "--key-file must be"),
        (("grafana", "--out", "{out}", "--url", "https://search:9200", "--key-file", "/k}}x"), "--key-file must be"),
        (("grafana", "--out", "{out}", "--url", "opensearch+sqlite:///x"), "--url must be"),
        (("grafana", "--out", "{out}", "--url", "https://search:9200", "--user", "grafana"), "--user needs --key-file"),
        (("kibana", "--out", "/dev/null/x"), "name another --out"),
    ],
)
def test_a_mistake_is_told_with_what_to_do(tmp_path, words, advice):
    with pytest.raises(Malformed, match=advice):
        run(*(word.format(out=tmp_path) for word in words))
    assert list(tmp_path.iterdir()) == []


def test_panels_fill_their_lines():
    for board in BOARDS:
        lines = {}
        for panel, _, y in placed(board):
            lines.setdefault(y, []).append(panel)
        for panels in lines.values():
            assert sum(panel.width for panel in panels) == COLUMNS
            assert len({panel.height for panel in panels}) == 1


def test_what_is_summed_over_steps_adds_up():
    """A number in Grafana is the sum over the steps of a window, so a ratio or how many vms there are cannot be one."""
    for board in BOARDS:
        for panel in board.panels:
            assert panel.chart != "number" or all(not one.over and one.distinct is None for one in panel.measures)


SUMS = {"count": 4, "wall_ms": 7_200_000, "core_ms": 57_600_000, "cpu_ms": 14_400_000, "core_ms_with_cpu": 28_800_000}
SUMS |= {
    "wasted_core_ms": 3_600_000,
    "max_pss_bytes": 30,
    "count:max_pss_bytes": 3,
    "work_folder_bytes": 0,
    "count:work_folder_bytes": 0,
}
SUMS |= {"finished_count": 1, "failed_count": 2, "cancelled_count": 0, "closed_count": 0, "other_count": 1}
SUMS |= {"input_bytes": 8, "count:input_bytes": 2, "output_bytes": 5, "count:output_bytes": 1}


def test_measures_are_what_their_names_say():
    assert {one.name: one.value(SUMS) for one in JOBS} == {
        "job_count": 4,
        "finished_count": 1,
        "failed_count": 2,
        "cancelled_count": 0,
        "closed_count": 0,
        "other_count": 1,
        "failed_share": 0.666667,
        "wall_hours": 2,
        "core_hours": 16,
        "cpu_hours": 4,
        "efficiency": 0.5,
        "wasted_core_hours": 1,
        "mean_wall_hours": 0.5,
        "mean_max_pss_bytes": 10,
        "mean_work_folder_bytes": None,
        "mean_input_bytes": 4,
        "mean_output_bytes": 5,
    }
    used = {
        "wall_ms": 3_600_000,
        "core_ms": 28_800_000,
        "user_ms": 7_200_000,
        "nice_ms": 3_600_000,
        "system_ms": 3_600_000,
    }
    assert (measures.CPU_HOURS.value(used), measures.EFFICIENCY.value(used)) == (4, 0.5)


def test_measures_need_no_other_sums_than_the_page_asks_for():
    asked = {*jobs_view.SPENT, *jobs_view.MEANS, *(f"count:{name}" for name in jobs_view.MEANS)}
    assert set(JOB_SUMS) == asked | {f"{outcome}_count" for outcome in OUTCOMES}
    usage = {one for board in BOARDS for panel in board.panels if panel.index != "job" for one in panel.measures}
    assert {term for one in usage for term in (*one.sums, *one.over)} <= set(usage_view.USAGE_SUMS)
