"""The dashboard's data and files over HTTP: ranges, parts, order, intervals, CSV, doubts, and what browsers keep."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from skytally.app import wiring
from skytally.core.records import iso
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLOUD = "uvic"


@pytest.fixture
def look(request, document_settings, client, bearer, monkeypatch):
    """Let twelve vms report two hours of an hour each,
    on SQLite unless a test says otherwise, and answer how they are looked at.
    """
    for setting, value in document_settings(getattr(request, "param", "sqlite")).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    issued = NOW - timedelta(minutes=1)
    for n in range(1, 13):
        vm = builders.FakeVm(f"vm-{n}", boot_at=NOW - timedelta(hours=2), cores=n)
        samples = [
            vm.sample(NOW - timedelta(hours=1)),
            vm.sample(NOW, NOW - timedelta(hours=1), estimated=n == 1, clock_offset_seconds=31.0 * n),
        ]
        token = bearer("reporter", clouds=(CLOUD,), site="Victoria", group="belle" if n > 6 else None, issued=issued)
        assert client.post("usage-report", json={"samples": samples}, headers=token).json()["rejected"] == []

    def ask(path="dashboard/data", status=200, headers=None, **query):
        answer = client.get(path, params=query, headers=bearer("reader", issued=issued) | (headers or {}))
        assert answer.status_code == status, answer.text
        return answer

    return ask


def names(answer):
    return [row["vm"] for row in answer.json()["table"]]


def test_the_order_and_a_part_of_the_rows_and_the_totals_of_all(look):
    answer = look(by="vm", sort="vm-up", limit=3, offset=8)
    assert names(answer) == ["vm-9", "vm-10", "vm-11"]
    assert (answer.json()["row_count"], answer.json()["totals"]["core_hours"], answer.json()["totals"]["vm_count"]) == (
        12,
        156.0,
        12,
    )
    assert names(look(by="vm", sort="core_hours-down", limit=2)) == ["vm-12", "vm-11"]
    assert look(by="vm", sort="moon-up", status=400).json()["error"]["field"] == "sort"


def test_the_table_and_the_plot_may_be_asked_for_apart(look):
    whole, table, series = look(), look(part="table"), look(part="series")
    assert (table.json()["table"], table.json()["series"]) == (whole.json()["table"], [])
    assert (series.json()["series"], series.json()["table"]) == (whole.json()["series"], [])
    assert sum(point["core_hours"] for point in series.json()["series"]) == whole.json()["totals"]["core_hours"]


def test_a_free_range_cuts_what_lies_on_its_edges(look):
    answer = look(by="vm", vm="vm-4", **{"from": "2026-11-25T10:30:00Z", "until": "2026-11-25T11:15:00Z"}).json()
    assert [(row["vm"], row["core_hours"]) for row in answer["table"]] == [("vm-4", 3.0)]
    assert (answer["from"], answer["until"], answer["step_seconds"]) == (
        "2026-11-25T10:30:00Z",
        "2026-11-25T11:15:00Z",
        300,
    )


@pytest.mark.parametrize("look", builders.DOCUMENT_STORES, indirect=True)
def test_the_longest_range_there_is_holds_what_is_known(look):
    answer = look(**{"from": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}).json()
    assert (answer["totals"]["core_hours"], answer["totals"]["vm_count"], answer["coverage"]) == (156.0, 12, 1.0)
    assert sum(point["core_hours"] for point in answer["series"]) == 156.0


@pytest.mark.parametrize("look", builders.DOCUMENT_STORES, indirect=True)
def test_a_vms_intervals_are_those_of_every_sum(look):
    answer = look(by="interval", vm="vm-4", **{"from": "2026-11-25T10:30:00Z"}).json()
    assert [(row["from"], row["until"], row["core_hours"], row["cpu_hours"]) for row in answer["table"]] == [
        ("2026-11-25T11:00:00Z", "2026-11-25T12:00:00Z", 4.0, 2.0),
        ("2026-11-25T10:30:00Z", "2026-11-25T11:00:00Z", 2.0, 1.0),
    ]
    assert answer["totals"]["core_hours"] == 6.0
    assert look(by="interval", status=400).json()["error"]["field"] == "vm"


def test_a_vm_whose_name_begins_like_another_boot_keeps_its_intervals_apart(look, client, bearer):
    other = builders.FakeVm(f"vm-4-{NOW - timedelta(hours=2):%Y%m%dT%H%M%SZ}", boot_at=NOW - timedelta(hours=2))
    token = bearer("reporter", clouds=(CLOUD,), issued=NOW - timedelta(minutes=1))
    client.post("usage-report", json={"samples": [other.sample(NOW)]}, headers=token)
    assert {row["vm"] for row in look(by="interval", vm="vm-4").json()["table"]} == {"vm-4"}


def test_a_reader_of_another_cloud_sees_nothing_of_it_in_any_form(look, bearer):
    other = bearer("reader", clouds=("cern",), issued=NOW - timedelta(minutes=1))
    for query in ({"by": "vm"}, {"by": "interval", "vm": "vm-4"}, {"view": "jobs", "by": "job"}):
        answer = look(headers=other, **query).json()
        assert (answer["table"], answer["series"], answer["doubts"], answer["row_count"]) == ([], [], [], 0)
        assert not any(answer["choices"].values())
    assert look(headers=other, cloud=CLOUD, status=403).json()["error"]["code"] == "not_yours"


@pytest.mark.parametrize("view", ["usage", "jobs", "secrets", "health"])
def test_a_cloud_that_nobody_knows_is_named_with_those_that_are_known(look, view):
    for more in ({}, {"part": "series"}, {"format": "csv"}):
        error = look(status=404, cloud="nosuch", view=view, **more).json()["error"]
        assert (error["code"], error["message"]) == ("unknown", "there is no cloud 'nosuch': known are uvic")
        look(cloud=CLOUD, view=view, **more)
        look(cloud="unknown", view=view, **more)


def test_metrics_of_a_cloud_that_nobody_knows_are_refused(look):
    assert look("dashboard/metrics", status=404, cloud="nosuch").json()["error"]["code"] == "unknown"
    assert "skytally" in look("dashboard/metrics", cloud=CLOUD).text


def test_a_reader_is_told_of_its_own_clouds_alone(look, bearer):
    limited = bearer("reader", clouds=(CLOUD, "nosuch"), issued=NOW - timedelta(minutes=1))
    assert look(status=404, headers=limited, cloud="nosuch").json()["error"]["message"].endswith("known are uvic")


def test_csv_holds_the_same_rows(look):
    query = {"by": "vm", "group": "belle", "sort": "cpu_hours-down"}
    table, text = look(**query).json()["table"], look(format="csv", **query)
    assert text.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(text.text)))
    assert [line["vm"] for line in lines] == [f"vm-{n}" for n in range(12, 6, -1)]
    for line, row in zip(lines, table, strict=True):
        named = {
            "coverage": "coverage_share",
            "efficiency": "efficiency_share",
            "last_sampled_at": "last_sampled_at_utc",
        }
        expected = {named.get(name, name): "" if value is None else str(value) for name, value in row.items()}
        assert line == expected | {"last_sampled_at_utc": "2026-11-25 12:00:00"}
    assert look(format="xml", status=400).json()["error"]["field"] == "format"


@pytest.mark.parametrize("look", builders.DOCUMENT_STORES, indirect=True)
def test_it_tells_what_the_numbers_do_not_know(look):
    answer = look(until="2026-11-25T15:00:00Z").json()
    doubts = {one["kind"]: one for one in answer["doubts"]}
    assert doubts.keys() == {"clock_offset", "estimated_edge", "no_hs23"}
    assert (doubts["clock_offset"]["vm_count"], len(doubts["clock_offset"]["vms"])) == (12, 12)
    assert doubts["estimated_edge"]["vms"] == [{"cloud": CLOUD, "vm": "vm-1", "value": True}]
    assert (answer["totals"]["scored_core_hours"], answer["totals"]["hs23_hours"]) == (0, None)
    assert answer["choices"] == {"cloud": [CLOUD], "site": ["Victoria"], "group": ["belle"], "flavor": []}


@pytest.mark.parametrize("look", builders.DOCUMENT_STORES, indirect=True)
def test_a_vm_back_from_a_memory_snapshot_is_not_silent_and_what_it_lacks_is_not_covered(look, client, bearer):
    vm = builders.FakeVm("vm-back", boot_at=NOW - timedelta(hours=6))
    before = vm.sample(NOW - timedelta(hours=3))
    after = vm.sample(NOW - timedelta(hours=4)) | {"sampled_at": builders.stamp(NOW), "previous": None}
    token = bearer("reporter", clouds=(CLOUD,), issued=NOW - timedelta(minutes=1))
    told = client.post("usage-report", json={"samples": [before, after]}, headers=token).json()
    assert (told["accepted"], told["stale"]) == (1, 1)
    (row,) = look(by="vm", vm="vm-back").json()["table"]
    assert (row["silent_vms"], row["last_sampled_at"], row["wall_hours"], row["coverage"]) == (0, iso(NOW), 3.0, 0.5)


@pytest.mark.parametrize(("seconds", "coverage"), [(10, 1.0), (59, 1.0), (-10, 1.0), (600, 0.857143)])
def test_coverage_of_a_vm_whose_clocks_differ_is_that_of_the_statement(look, client, bearer, reader, seconds, coverage):
    vm = builders.FakeVm("vm-btime", boot_at=NOW - timedelta(hours=1))
    sample = vm.sample(NOW) | {"boot_at": builders.stamp(NOW - timedelta(hours=1, seconds=seconds))}
    token = bearer("reporter", clouds=("other",), issued=NOW - timedelta(minutes=1))
    assert client.post("usage-report", json={"samples": [sample]}, headers=token).json()["accepted"] == 1
    headers = bearer("reader", issued=NOW - timedelta(minutes=1))
    (stated,) = client.get("statement", params={"month": f"{NOW:%Y-%m}", "cloud": "other"}, headers=headers).json()[
        "clouds"
    ]
    (row,) = look(by="vm", vm="vm-btime").json()["table"]
    assert (row["coverage"], stated["coverage"]) == (coverage, coverage)


def test_silent_vms_are_named_with_when_they_were_last_heard_of(look, monkeypatch):
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW + timedelta(hours=2))
    assert (look().json()["totals"]["silent_vms"], "silent" in str(look().json()["doubts"])) == (0, False)
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW + timedelta(hours=2, seconds=1))
    silent = next(one for one in look().json()["doubts"] if one["kind"] == "silent")
    assert (silent["vm_count"], silent["vms"][0]) == (
        12,
        {"cloud": CLOUD, "vm": "vm-1", "value": "2026-11-25T12:00:00Z"},
    )


def test_a_browser_keeps_the_pages_files_until_they_change(look):
    first = look("dashboard/plot.min.js")
    kept = {"If-None-Match": first.headers["etag"]}
    again = look("dashboard/plot.min.js", status=304, headers=kept)
    assert (again.content, again.headers["etag"], again.headers["cache-control"]) == (
        b"",
        first.headers["etag"],
        "no-cache",
    )
    assert "content-security-policy" in again.headers
    assert look("dashboard/page.js", headers=kept).content


def test_what_is_sent_packed_is_the_same(look):
    for path in ("dashboard/page.css", "dashboard/data"):
        plain, packed = (
            look(path, headers={"Accept-Encoding": coding}, by="vm") for coding in ("gzip; q=0, br", "br, gzip;q=0.5")
        )
        assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
        assert (packed.content, "Accept-Encoding" in packed.headers["vary"]) == (plain.content, True)
        assert int(packed.headers["content-length"]) < len(plain.content) / 2


def test_what_crosses_a_steps_edge_counts_on_both_sides_by_its_parts(look, client, bearer):
    """Three cores from 08:20: an interval across one edge, one across two, and what the window's start cuts."""
    begin = NOW - timedelta(hours=3, minutes=40)
    vm, last, samples = builders.FakeVm("odd", boot_at=begin, cores=3), begin, []
    for minutes in (60, 150, 220):
        samples.append(vm.sample(begin + timedelta(minutes=minutes), last))
        last = begin + timedelta(minutes=minutes)
    token = bearer("reporter", clouds=("cern",), issued=NOW - timedelta(minutes=1))
    assert client.post("usage-report", json={"samples": samples}, headers=token).json()["rejected"] == []
    whole = look(cloud="cern").json()["series"]
    assert [(point["at"][11:16], point["core_hours"]) for point in whole] == [
        ("08:00", 2.0),
        ("09:00", 3.0),
        ("10:00", 3.0),
        ("11:00", 3.0),
    ]
    cut = look(cloud="cern", **{"from": "2026-11-25T08:50:00Z", "until": "2026-11-25T20:00:00Z"}).json()["series"]
    assert [(point["at"][11:16], round(point["core_hours"], 6)) for point in cut][:2] == [
        ("08:50", 0.5),
        ("09:00", 3.0),
    ]
