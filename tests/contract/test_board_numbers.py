"""The boards' files, asked of real search engines as their readers would: the page's and the statement's numbers."""

import contextlib
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
import tenacity
import yaml
from click.testing import CliRunner

from skytally.accounting.closing import statement
from skytally.accounting.statement_rows import hours, ratio
from skytally.adapters.documents_search import connect
from skytally.adapters.documents_search.templates import alias, mappings
from skytally.app.wiring import open_documents
from skytally.boards.board import BOARDS
from skytally.cli import cli
from skytally.core.config import Config
from skytally.core.documents import Job
from skytally.core.errors import Unavailable
from skytally.core.ports import Query, Write
from skytally.core.site_data import Site
from skytally.dashboard import jobs_view
from skytally.dashboard import usage_view as view_rules
from skytally.dashboard.time_range import Window
from skytally.dashboard.usage_view import interval_sums, usage_view
from skytally.dashboard.window_boots import window_boots
from tests.support import dashboards_lab
from tests.support.board_lab import GrafanaPanel, Lens, refer, saved_objects
from tests.support.documents import done, interval, usage

pytestmark = pytest.mark.servers
HOUR = timedelta(hours=1)
FROM = datetime(2026, 11, 24, tzinfo=UTC)
UNTIL = FROM + 24 * HOUR
NOW = UNTIL + 3 * HOUR
SHOWN = Window(FROM, UNTIL, HOUR)
EDGE = FROM - timedelta(days=10)
CLOUDS = ("uvic", 'a "quoted" one', "cern-🦉", "unknown")
PANELS = {f"{board.name}/{panel.name}": panel for board in BOARDS for panel in board.panels}


def fleet(chance):
    """Make the hours of vms of three days, in parts that cross no hour, and their months."""
    for n in range(24):
        cloud, cores = CLOUDS[n % 3], chance.choice([1, 2, 8])
        place = {"site": chance.choice(["west", "east", None]), "group": chance.choice(["atlas", None])}
        for hour in range(-24, 48):
            at, parts = FROM + hour * HOUR, chance.choice([[3_600], [1_800, 1_800], [600, 3_000], []])
            for seconds in parts:
                wall_ms = seconds * 1_000
                sums = {name: chance.randrange(wall_ms * cores // 3) for name in ("user_ms", "nice_ms", "system_ms")}
                end = at + timedelta(seconds=seconds)
                yield interval(
                    f"b{n}",
                    at,
                    end,
                    wall_ms * cores,
                    cloud,
                    f"vm-{n % 20}",
                    wall_ms=wall_ms,
                    cores=cores,
                    **place,
                    **sums,
                )
                at = end
        for month in ("2026-09", "2026-10", "2026-11")[n % 3 :]:
            yield month_of(chance, f"b{n}-{month}", month, cloud, f"vm-{n % 20}")


def month_of(chance, key, month, cloud, vm):
    write = usage(key, month, cloud)
    numbers = {name: chance.randrange(10**9) for name in ("wall_ms", "core_ms", "user_ms", "nice_ms", "system_ms")}
    times = {
        "boot_at": datetime(2026, 9, 1, tzinfo=UTC),
        "last_sampled_at": datetime(2026, int(month[5:]), 20, tzinfo=UTC),
    }
    document = type(write.document)(
        **{name: getattr(write.document, name) for name in write.document.__struct_fields__}
        | numbers
        | times
        | {"vm": vm}
    )
    return Write("usage", key, 1, document)


def jobs(chance):
    """Make jobs that ended in three days, some that go on, and all of what is known of some only."""
    for n in range(600):
        wall_ms, cores = chance.randrange(10 * 3_600_000), chance.choice([1, 8])
        status = chance.choice(["finished", "finished", "failed", "cancelled", "running"])
        failed, known = status == "failed", chance.random() < 0.8
        some = {
            "system": chance.choice(["panda", "dirac"]),
            "job_id": str(n),
            "status": status,
            "cloud": chance.choice(CLOUDS),
        }
        some |= {
            "vm": chance.choice(["v1", "v2", None]),
            "queue": chance.choice(["Q1", "Q2", None]),
            "multicore": cores > 1,
            "cores": cores,
        }
        some |= {
            "final_at": None if status == "running" else FROM + chance.uniform(-24, 48) * HOUR,
            "changed_at": NOW,
            "seen_at": NOW,
        }
        some |= {"wall_ms": wall_ms, "core_ms": wall_ms * cores, "wasted_core_ms": wall_ms * cores if failed else 0}
        some |= {"cpu_ms": wall_ms // 2 if known else 0, "core_ms_with_cpu": wall_ms * cores if known else 0}
        some |= {
            "processing_type": chance.choice(["simul", "evgen", None]),
            "release": chance.choice(["23.0", "24.0", None]),
        }
        some |= {name: chance.choice([2 ** chance.randrange(33), None]) for name in jobs_view.MEANS}
        if failed:
            some |= {
                "error": chance.choice(["pilot 1099", "exe 65"]),
                "error_category": chance.choice(["data", None]),
                "error_message": "lost 🦉",
            }
        yield Write("job", f"{some['system']}/{n}", 1, Job(**dict.fromkeys(Job.__struct_fields__) | some))


class Shown:
    """A filled store, and both boards' files for it."""

    def __init__(self, documents, prefix, folder):
        self.documents, self.client = documents, documents.client
        self.objects, self.prefix = saved_objects(run("kibana", "--prefix", prefix)), prefix
        self.grafana = Grafana(prefix, folder, "http://search:9200")

    def lens(self, board, panel):
        dashboard = self.objects["dashboard", f"{self.prefix}-{board}"]
        [place] = [one for one in json.loads(dashboard["attributes"]["panelsJSON"]) if one["panelIndex"] == panel]
        return Lens(self.objects, refer(self.objects, dashboard, f"{panel}:{place['panelRefName']}"))


class Grafana:
    """Both boards' provisioning files."""

    def __init__(self, prefix, folder, url):
        run("grafana", "--prefix", prefix, "--out", str(folder), "--url", url)
        sources = yaml.safe_load((folder / "datasources" / f"{prefix}.yaml").read_text())["datasources"]
        self.sources = {source["uid"]: source for source in sources}
        self.boards = {path.stem: json.loads(path.read_text()) for path in (folder / "dashboards" / prefix).iterdir()}

    def panel(self, board, title):
        [panel] = [one for one in self.boards[board]["panels"] if one["title"] == title]
        return GrafanaPanel(self.sources, panel)


def run(*words):
    done = CliRunner().invoke(cli, ["dashboards", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def batched(writes, size=500):
    return (writes[start : start + size] for start in range(0, len(writes), size))


# As callers do: a new node that makes indices on a busy machine may take longer than one bulk may.
patiently = tenacity.retry(
    retry=tenacity.retry_if_exception_type(Unavailable), stop=tenacity.stop_after_delay(90), reraise=True
)


@pytest.fixture(scope="module")
def shown(running, tmp_path_factory):
    settings = {**running["elasticsearch"].settings, "SKYTALLY_DOCUMENTS_PREFIX": "boards"}
    with contextlib.closing(open_documents(Config.from_env(settings))) as documents:
        documents.install(datetime.now(UTC))
        chance = random.Random(3)
        writes = [
            *fleet(chance),
            *jobs(chance),
            interval("edge", EDGE - HOUR / 2, EDGE + HOUR / 2, 8 * 3_600_000),
        ]
        for batch in batched(writes):
            patiently(done)(documents, *batch)
        patiently(documents.refresh)()
        yield Shown(documents, "boards", tmp_path_factory.mktemp("boards"))


class OpenSearch:
    """An OpenSearch with the same documents, and the files for it."""

    def __init__(self, url, prefix, folder):
        self.client, self.prefix = connect([url], "", ""), prefix
        self.objects = saved_objects(run("opensearch", "--prefix", prefix))
        self.grafana = Grafana(prefix, folder, "opensearch+http://search:9200")
        [node] = self.client.perform("GET", "/_nodes/plugins")["nodes"].values()
        self.scripts = {"lang-painless", "lang-expression"} <= {module["name"] for module in node["modules"]}

    def fill(self, client):
        """Take the boards' documents from Elasticsearch."""
        for index in {panel.index for panel in PANELS.values()}:
            name = alias(self.prefix, index)
            self.client.perform("PUT", f"/{name}", body={"mappings": mappings(index)})
            found = client.perform("POST", f"/{name}/_search", body={"size": 10_000, "track_total_hits": True})["hits"]
            assert found["total"]["value"] == len(found["hits"]) > 10
            lines = [line for hit in found["hits"] for line in ({"index": {"_id": hit["_id"]}}, hit["_source"])]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            assert not self.client.perform("POST", f"/{name}/_bulk", {"refresh": True}, text.encode())["errors"]

    def shown(self, board, panel, from_at, until_at, objects=None):
        objects = objects or self.objects
        [dashboard] = [one for key, one in objects.items() if key[0] == "dashboard" and key[1].endswith(f"-{board}")]
        [place] = [one for one in json.loads(dashboard["attributes"]["panelsJSON"]) if one["panelIndex"] == panel]
        drawn = dashboards_lab.panel(refer(objects, dashboard, place["panelRefName"]))
        return drawn.shown(self.search, self.scripts, from_at, until_at)

    def search(self, index, body):
        return self.client.perform("POST", f"/{index}/_search", body=body)


@contextlib.contextmanager
def filled(url, shown, folder):
    made = OpenSearch(url, shown.prefix, folder)
    made.fill(shown.client)
    yield made
    for index in {panel.index for panel in PANELS.values()}:
        made.client.perform("DELETE", f"/{alias(shown.prefix, index)}")
    made.client.close()


@pytest.fixture(scope="module")
def opensearch(running, shown, tmp_path_factory):
    with filled(running["opensearch"].url, shown, tmp_path_factory.mktemp("boards")) as made:
        yield made


@pytest.fixture(scope="module")
def with_scripts(running, shown, tmp_path_factory):
    """OpenSearch 3 runs scripts; its 2.19 of these tests has none, so that the tests compute what they would."""
    with filled(running["opensearch-3"].url, shown, tmp_path_factory.mktemp("boards")) as made:
        assert made.scripts
        yield made


def truth(panel, documents):
    """Return our own table of a panel: a row for each group, and each hour where it is drawn along time."""
    if panel.index == "usage":
        months = ("2026-09", "2026-10", "2026-11")
        return [
            {"month": month, **row}
            for month in months
            for row in statement(month, [], documents, Site(), NOW)["clouds"]
        ]
    if panel.timed:
        return list(hourly(panel, documents))
    if panel.index == "interval":
        return used(panel, documents)
    if panel.by in jobs_view.DISPLAYS.values():
        by = next(name for name, dimensions in jobs_view.DISPLAYS.items() if dimensions == panel.by)
        rows = jobs_view.jobs_view(SHOWN, {}, by, documents, "", NOW)["table"]
    else:
        query = Query(index="job", moment="final_at", from_at=FROM, until_at=UNTIL, by=panel.by, sums=SUMS)
        rows = [jobs_view._measures(key, group) for key, group in jobs_view._merged(panel.by, documents.table(query))]
    return [row for row in rows if panel.known is None or row[panel.known] is not None]


OUTCOMES = ("finished_count", "failed_count")
SUMS = (*jobs_view.SPENT, *OUTCOMES, *jobs_view.MEANS, *(f"count:{name}" for name in jobs_view.MEANS))


def page_table(window, by, documents):
    documents.refresh()
    boots, rows = window_boots(window, {}, documents, Site(), NOW), interval_sums(window, {}, by, documents)
    return usage_view(window, {}, by, boots, rows, documents, NOW)["table"]


def used(panel, documents):
    for by, dimensions in view_rules.DIMENSIONS.items():
        if panel.by == dimensions:
            return [row for row in page_table(SHOWN, by, documents) if row["wall_hours"]]
    by = (*panel.by, *(name for name in ("cloud", "vm", "label") if name not in panel.by))
    groups = {}
    for row in documents.table(
        Query(index="interval", from_at=FROM, until_at=UNTIL, by=by, sums=view_rules.USAGE_SUMS)
    ):
        groups.setdefault(tuple(row[name] for name in panel.by), []).append(view_rules._received(row, {}))
    return [dict(zip(panel.by, key, strict=True)) | view_rules._measures(rows, []) for key, rows in groups.items()]


def hourly(panel, documents):
    moment = {"moment": "final_at"} if panel.index == "job" else {}
    sums = view_rules.USAGE_SUMS if panel.index == "interval" else (*jobs_view.SPENT, *OUTCOMES)
    for row in documents.series(
        Query(index=panel.index, from_at=FROM, until_at=UNTIL, by=panel.by, sums=sums, **moment), HOUR
    ):
        cpu_ms = row["cpu_ms"] if panel.index == "job" else row["user_ms"] + row["nice_ms"] + row["system_ms"]
        measures = {
            "core_hours": hours(row["core_ms"]),
            "job_count": row.get("count"),
            "wasted_core_hours": hours(row.get("wasted_core_ms", 0)),
            "failed_share": ratio(row.get("failed_count", 0), sum(row.get(name, 0) for name in OUTCOMES)),
        }
        yield {
            **row,
            **measures,
            "efficiency": ratio(cpu_ms, row["core_ms_with_cpu" if panel.index == "job" else "core_ms"]),
        }


def by_group(rows, dimensions, measures):
    """Bring rows into an order-free form; our ratios have six digits."""
    made = {tuple(row[name] for name in dimensions): [row[name] for name in measures] for row in rows}
    assert len(made) == len(rows)
    return {
        key: [value if value is None else pytest.approx(value, rel=1e-9, abs=5.1e-7) for value in values]
        for key, values in made.items()
    }


@pytest.mark.parametrize("name", PANELS)
def test_kibana_shows_what_our_own_table_has(shown, name):
    panel, board = PANELS[name], name.split("/")[0]
    rows = shown.lens(board, panel.name).shown(shown.client, FROM, UNTIL)
    names = [measure.name for measure in panel.measures]
    along = ("time", "at") if panel.timed else ()
    expected = by_group(truth(panel, shown.documents), (*panel.by, *along[1:]), names)
    assert len(expected) > 1 or not panel.by
    assert {
        tuple(row[name] for name in (*panel.by, *along[:1])): [row[name] for name in names] for row in rows
    } == expected


@pytest.mark.parametrize("name", PANELS)
def test_grafana_shows_what_our_own_table_has(shown, name):
    panel, board = PANELS[name], name.split("/")[0]
    rows = shown.grafana.panel(board, panel.title).shown(shown.client, FROM, UNTIL)
    assert_grafana_shows(panel, rows, truth(panel, shown.documents))


@pytest.mark.parametrize("name", PANELS)
def test_grafana_shows_what_our_own_table_has_on_opensearch(shown, opensearch, name):
    panel, board = PANELS[name], name.split("/")[0]
    rows = opensearch.grafana.panel(board, panel.title).shown(opensearch.client, FROM, UNTIL)
    assert_grafana_shows(panel, rows, truth(panel, shown.documents))


def assert_grafana_shows(panel, rows, expected):
    names = [measure.name for measure in panel.measures]
    if panel.chart == "number":
        assert sum(row["value"] for row in rows) == pytest.approx(expected[0][names[0]])
    elif panel.timed:
        found = {(*(row[name] for name in panel.by), row[panel.moment]): [row["value"]] for row in rows}
        assert found == by_group(expected, (*panel.by, "at"), names)
    elif panel.chart == "bars":
        across = {row[""]: {name: value for name, value in row.items() if name} for row in rows}
        row, column = panel.by
        assert {(a, b): [value] for a, columns in across.items() for b, value in columns.items()} == by_group(
            expected, (row, column), names
        )
    else:
        titles = [*(name.replace("_", " ") for name in panel.by), *(measure.title for measure in panel.measures)]
        assert all(list(row) == titles for row in rows)
        values = {tuple(list(row.values())[: len(panel.by)]): list(row.values())[len(panel.by) :] for row in rows}
        assert values == by_group(expected, panel.by, names)


@pytest.mark.parametrize("name", PANELS)
def test_opensearch_dashboards_shows_what_our_own_table_has(shown, opensearch, name):
    assert_dashboards_shows(shown, opensearch, name)


@pytest.mark.parametrize("name", PANELS)
def test_opensearch_dashboards_shows_what_our_own_table_has_by_scripts(shown, with_scripts, name):
    assert_dashboards_shows(shown, with_scripts, name)


def assert_dashboards_shows(shown, opensearch, name):
    panel, board = PANELS[name], name.split("/")[0]
    rows = opensearch.shown(board, panel.name, FROM, UNTIL)
    names = [measure.name for measure in panel.measures]
    along = ("time", "at") if panel.timed else ()
    expected = by_group(truth(panel, shown.documents), (*panel.by, *along[1:]), names)
    assert len(expected) > 1 or not panel.by
    assert {
        tuple(row[name] for name in (*panel.by, *along[:1])): [row[name] for name in names] for row in rows
    } == expected


@pytest.mark.parametrize("apart", [HOUR / 30, HOUR, *(timedelta(days=days) for days in (1, 32, 366, 8_000))])
def test_a_number_of_opensearch_dashboards_is_of_the_whole_window(opensearch, apart):
    """TSVB shows the last bucket, so both documents must be in one, at the turn of a year and a century too."""
    turn, prefix = datetime(2100, 1, 1, tzinfo=UTC), "turns"
    name = alias(prefix, "interval")
    opensearch.client.perform("PUT", f"/{name}", body={"mappings": mappings("interval")})
    try:
        for at in (turn - apart / 2, turn + apart / 2):
            opensearch.client.perform(
                "POST", f"/{name}/_doc", {"refresh": True}, {"from_at": at.isoformat(), "core_ms": 3_600_000}
            )
        objects = saved_objects(run("opensearch", "--prefix", prefix))
        [row] = opensearch.shown("accounting", "core-hours", turn - apart, turn + apart, objects)
        assert row["core_hours"] == 2
    finally:
        opensearch.client.perform("DELETE", f"/{name}")


@pytest.mark.parametrize(("begin", "theirs", "ours"), [(EDGE - HOUR, 8, 4), (EDGE, 0, 4)])
def test_an_interval_over_an_edge_counts_where_it_began_as_its_panel_says(shown, begin, theirs, ours):
    panel = PANELS["accounting/core-hours"]
    assert "whole in the hour in which it began" in panel.note
    [row] = shown.lens("accounting", panel.name).shown(shown.client, begin, begin + HOUR) or [{"core_hours": 0}]
    steps = shown.grafana.panel("accounting", panel.title).shown(shown.client, begin, begin + HOUR)
    window = Window(begin, begin + HOUR, HOUR)
    page = page_table(window, "cloud", shown.documents)
    assert (row["core_hours"], sum(step["value"] for step in steps)) == (theirs, theirs)
    assert [one["core_hours"] for one in page if one["wall_hours"]] == [ours]


RANKED = [name for name, panel in PANELS.items() if panel.chart == "table" and panel.by[0] != "month"]


@pytest.mark.parametrize("name", RANKED)
def test_the_largest_groups_come_first(shown, name):
    """What is beyond the number of groups that are told apart is the smallest."""
    panel, board = PANELS[name], name.split("/")[0]
    first, title = panel.measures[0].name, panel.measures[0].title
    for rows, group, value in (
        (shown.lens(board, panel.name).shown(shown.client, FROM, UNTIL), panel.by[0], first),
        (
            shown.grafana.panel(board, panel.title).shown(shown.client, FROM, UNTIL),
            panel.by[0].replace("_", " "),
            title,
        ),
    ):
        assert_ranked(rows, group, value)


@pytest.mark.parametrize("name", RANKED)
def test_the_largest_groups_come_first_on_opensearch(opensearch, name):
    panel, board = PANELS[name], name.split("/")[0]
    assert_ranked(opensearch.shown(board, panel.name, FROM, UNTIL), panel.by[0], panel.measures[0].name)


def assert_ranked(rows, group, value):
    totals = {}
    for row in rows:
        totals[row[group]] = totals.get(row[group], 0) + row[value]
    assert list(totals.values()) == sorted(totals.values(), reverse=True)
