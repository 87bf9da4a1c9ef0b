"""The usage view: rows and points by what tells vms apart, and what silent vms cost, on each store."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.app import wiring
from skytally.core import clock
from skytally.core.documents import Alarm
from skytally.core.ports import Write
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MORNING = {"from": "2026-11-25T06:00:00Z", "until": "2026-11-25T12:00:00Z"}
LAST_HOUR = {"from": "2026-11-25T11:00:00Z", "until": "2026-11-25T12:00:00Z"}


@pytest.fixture(params=builders.DOCUMENT_STORES)
def store(request, home, document_settings, monkeypatch):
    """Each document store in turn, at noon."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    return wiring.documents()


@pytest.fixture
def report(store, client, bearer):
    def send(*samples, cloud="uvic", **labels):
        token = bearer("reporter", clouds=(cloud,), issued=clock.now() - MINUTE, **labels)
        assert client.post("usage-report", json={"samples": samples}, headers=token).json()["rejected"] == []

    return send


@pytest.fixture
def look(client, bearer):
    def ask(**query):
        answer = client.get("dashboard/data", params=query, headers=bearer("reader", issued=clock.now() - MINUTE))
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.fixture
def fleet(report):
    """Two hours of eight cores in Victoria, and an hour of four in Montreal that fell silent at seven."""
    one = builders.FakeVm("vm-1", boot_at=NOW - 2 * HOUR, cores=8)
    score = {"kernel": "db12", "score_hs23": 10.0}
    samples = (
        one.sample(NOW - HOUR),
        one.sample(NOW, NOW - HOUR, benchmark=score, cpu_model="EPYC", agent_version="1.2"),
    )
    report(*samples, site="Victoria", group="belle", flavor="m8")
    two = builders.FakeVm("vm-2", boot_at=NOW - 6 * HOUR, cores=4, busy=0.25)
    report(two.sample(NOW - 5 * HOUR), site="Montreal", flavor="m4")


ROWS = {
    "site": [("uvic", "Montreal", 4.0, 0.25, 1), ("uvic", "Victoria", 16.0, 0.5, 0)],
    "group": [("uvic", None, 4.0, 0.25, 1), ("uvic", "belle", 16.0, 0.5, 0)],
    "flavor": [("uvic", "m4", 4.0, 0.25, 1), ("uvic", "m8", 16.0, 0.5, 0)],
}


@pytest.mark.parametrize("by", ROWS)
def test_rows_and_points_of_what_tells_vms_apart(fleet, look, by):
    answer = look(by=by, **MORNING)
    columns = ("cloud", by, "core_hours", "efficiency", "silent_vms")
    assert [tuple(row[name] for name in columns) for row in answer["table"]] == ROWS[by]
    points = [point for point in answer["series"] if point["core_hours"]]
    sums = {point[by]: 0.0 for point in points}
    for point in points:
        sums[point[by]] += point["core_hours"]
    assert sums == {row[1]: row[2] for row in ROWS[by]}
    assert answer["choices"][by] == sorted({row[1] for row in ROWS[by]} - {None})
    (row,) = look(**{by: answer["choices"][by][0]}, **MORNING)["table"]
    assert row["core_hours"] == next(row[2] for row in ROWS[by] if row[1] == answer["choices"][by][0])


def test_points_have_efficiency_hs23_hours_and_vms_by_state(fleet, look):
    points = look(part="series", **MORNING)["series"]
    columns = ("core_hours", "efficiency", "hs23_hours", "vm_count", "silent_vms")
    by_hour = {}
    for point in points:
        by_hour.setdefault(point["at"][11:13], []).append(tuple(point[name] for name in columns))
    assert len(by_hour["06"]) == 1
    assert {hour: some[-1] for hour, some in by_hour.items()} == {
        "06": (4.0, 0.25, None, 1, 0),
        "09": (0.0, None, None, 0, 1),
        "10": (8.0, 0.5, 80.0, 1, 1),
        "11": (8.0, 0.5, 80.0, 1, 1),
    }


def test_hs23_hours_are_left_out_where_they_would_take_long(fleet, look, monkeypatch):
    monkeypatch.setattr("skytally.dashboard.usage_series.MOST_SUMS", 11)
    assert {point["hs23_hours"] for point in look(part="series", **MORNING)["series"]} == {None}


def test_a_vm_is_described_by_its_newest_boot_and_its_alarms(store, fleet, look):
    times = {"raised_at": NOW, "seen_at": NOW, "resolved_at": None}
    one = Alarm(
        kind="clock_offset", subject="x", cloud="uvic", vm="vm-1", message="", state="raised", told=None, **times
    )
    store.write([Write("alarm", "clock_offset:x", 1, one)]).result()
    first, second = look(by="vm", **MORNING)["table"]
    names = ("vm", "flavor", "cores", "cpu_model", "agent_version", "benchmark_score", "boot_count", "open_alarms")
    assert [first[name] for name in names] == ["vm-1", "m8", 8, "EPYC", "1.2", 10.0, 1, 1]
    assert [second[name] for name in names] == ["vm-2", "m4", 4, None, None, None, 1, 0]


def test_silent_vms_lower_the_coverage_within_a_window_and_behind_their_last_report(fleet, look):
    morning, hour = look(by="vm", **MORNING), look(by="vm", **LAST_HOUR)
    assert [(row["vm"], row["coverage"]) for row in morning["table"]] == [("vm-1", 1.0), ("vm-2", 0.166667)]
    assert (morning["coverage"], hour["coverage"]) == (0.375, 0.5)
    assert [(row["vm"], row["coverage"], row["silent_vms"], row["core_hours"]) for row in hour["table"]] == [
        ("vm-1", 1.0, 0, 8.0),
        ("vm-2", 0.0, 1, 0.0),
    ]
    silent = next(row for row in hour["doubts"] if row["kind"] == "silent")
    assert silent["vms"] == [{"cloud": "uvic", "vm": "vm-2", "value": "2026-11-25T07:00:00Z"}]


@pytest.mark.parametrize(("minutes", "coverage", "silent"), [(120, 1.0, 0), (121, 0.331492, 1)])
def test_a_vm_lowers_the_coverage_of_a_window_that_ends_now_once_it_is_silent(
    report, look, monkeypatch, minutes, coverage, silent
):
    report(builders.FakeVm("vm-2", boot_at=NOW - 6 * HOUR).sample(NOW - 5 * HOUR))
    now = NOW - 5 * HOUR + timedelta(minutes=minutes)
    monkeypatch.setattr("skytally.core.clock.now", lambda: now)
    answer = look(**{"from": "2026-11-25T06:00:00Z"})
    assert (answer["coverage"], answer["totals"]["silent_vms"]) == (coverage, silent)


def test_a_vm_that_said_that_it_ends_or_booted_again_is_not_expected(report, look):
    report(builders.FakeVm("vm-1", boot_at=NOW - 6 * HOUR).sample(NOW - 5 * HOUR, final=True))
    report(builders.FakeVm("vm-2", boot_at=NOW - 6 * HOUR).sample(NOW - 5 * HOUR))
    again = builders.FakeVm("vm-2", boot_at=NOW - 4 * HOUR)
    report(again.sample(NOW - 3 * HOUR), again.sample(NOW, NOW - 3 * HOUR))
    answer = look(**MORNING)
    assert (answer["coverage"], answer["totals"]["silent_vms"]) == (1.0, 0)


def test_a_vm_that_came_again_with_another_flavor_is_not_silent_in_a_view_of_the_old_one(report, look):
    report(builders.FakeVm("vm-2", boot_at=NOW - 6 * HOUR).sample(NOW - 5 * HOUR), flavor="old")
    again = builders.FakeVm("vm-2", boot_at=NOW - 4 * HOUR)
    report(again.sample(NOW - 3 * HOUR), again.sample(NOW, NOW - 3 * HOUR), flavor="new")
    for flavor in ({}, {"flavor": "old"}, {"flavor": "new"}):
        answer = look(**MORNING, **flavor)
        assert (answer["coverage"], answer["totals"]["silent_vms"]) == (1.0, 0), flavor


def test_a_silence_of_a_week_is_an_end(report, look, monkeypatch):
    report(builders.FakeVm("vm-2", boot_at=NOW - 6 * HOUR).sample(NOW - 5 * HOUR))
    for days, rows in ((6, 1), (7, 0)):
        now = NOW + timedelta(days=days)
        monkeypatch.setattr("skytally.core.clock.now", lambda now=now: now)
        assert look(window="hour")["row_count"] == rows


def test_a_statement_counts_a_silent_vm_until_its_last_report(fleet, client, bearer):
    reader = bearer("reader", issued=NOW - MINUTE)
    (row,) = client.get("statement", params={"month": "2026-11"}, headers=reader).json()["clouds"]
    assert (row["coverage"], row["silent_vms"]) == (1.0, 1)
