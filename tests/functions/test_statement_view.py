"""The statement view: a month beside the one before and what the scheduler saw, on each store."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.accounting import closing
from skytally.app import wiring
from skytally.core import clock
from skytally.core.documents import PlacedVm
from skytally.core.ports import Write
from tests.support import builders

EDGE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
HOUR = timedelta(hours=1)
SITE = """
[operator]
contact = "ops@example.org"
[clouds.uvic]
owner = "University of Victoria"
price_per_core_hour = 0.5
currency = "CAD"
"""


@pytest.fixture(params=builders.DOCUMENT_STORES)
def store(request, home, document_settings, monkeypatch):
    """Each document store in turn, four days after October."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    (home / "clouds.toml").write_text(SITE)
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    return wiring.documents()


@pytest.fixture
def report(store, client, bearer):
    def send(*samples, cloud="uvic"):
        token = bearer("reporter", clouds=(cloud,), issued=clock.now())
        assert client.post("usage-report", json={"samples": samples}, headers=token).json()["rejected"] == []

    return send


@pytest.fixture
def look(client, bearer):
    def ask(*clouds, status=200, **query):
        headers = (
            bearer("reader", clouds=clouds, issued=clock.now()) if clouds else bearer("reader", issued=clock.now())
        )
        answer = client.get("dashboard/data", params={"view": "statement", **query}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


@pytest.fixture
def october(report):
    """Ten hours of four cores in uvic with a score, eight on the last day; four of two in cern without."""
    one = builders.FakeVm("vm-1", boot_at=EDGE - 10 * HOUR, cores=4)
    report(
        one.sample(EDGE - 2 * HOUR, benchmark={"kernel": "db12", "score_hs23": 10.0}),
        one.sample(EDGE, EDGE - 2 * HOUR, month="2026-10", final=True),
    )
    two = builders.FakeVm("vm-2", boot_at=EDGE - 28 * HOUR, cores=2)
    report(two.sample(EDGE - 24 * HOUR, final=True), cloud="cern")


def placed(store, cloud, hours, cores, start=EDGE - 12 * HOUR):
    vm = PlacedVm(
        vm="vm-1",
        cloud=cloud,
        site=None,
        flavor=None,
        cores=cores,
        state=None,
        started_at=start,
        ended_at=start + hours * HOUR,
        reported_at=NOW,
        joined=True,
    )
    store.write([Write("placed_vm", f"vm-1@{cloud}@{start}", 1, vm)]).result()


def test_a_row_a_cloud_with_owner_contact_and_what_an_hs23_hour_costs(october, look):
    answer = look(month="2026-10")
    cern, uvic = answer["table"]
    columns = ("core_hours", "hs23_hours", "cost", "currency", "owner", "price_per_hs23_hour", "state", "closed_at")
    assert [uvic[name] for name in columns] == [
        *(40.0, 400.0, 20.0, "CAD", "University of Victoria", 0.05, "provisional", None)
    ]
    assert [cern[name] for name in columns] == [8.0, None, None, None, None, None, "provisional", None]
    assert {row["contact"] for row in answer["table"]} == {"ops@example.org"}
    totals = {"core_hours": 48.0, "hs23_hours": 400.0, "cost": None, "vm_count": 2, "efficiency": 0.5}
    assert answer["totals"].items() >= totals.items()
    assert look("uvic", month="2026-10")["totals"]["cost"] == 20.0
    assert (answer["from"], answer["until"], answer["state"]) == (
        "2026-10-01T00:00:00Z",
        "2026-11-01T00:00:00Z",
        "provisional",
    )


def test_the_curve_of_the_month_and_of_the_one_before(october, look):
    days = [
        ("2026-10-30T00:00:00Z", "2026-10-31T00:00:00Z", "cern", 8.0),
        ("2026-10-31T00:00:00Z", "2026-11-01T00:00:00Z", "uvic", 40.0),
    ]
    in_october, in_november = look(month="2026-10"), look()
    assert [tuple(day.values()) for day in in_october["series"]] == days
    assert (in_october["previous_series"], in_november["series"]) == ([], [])
    assert [tuple(day.values()) for day in in_november["previous_series"]] == days
    assert look(month="2026-10", part="series")["series"] == in_october["series"]
    assert look(month="2026-10", part="table")["series"] == []


def test_months_are_named_as_far_as_they_have_begun(store, look):
    for month, before, after in (("2026-10", "2026-09", "2026-11"), ("2026-11", "2026-10", None)):
        answer = look(month=month)
        assert (answer["month"], answer["previous_month"], answer["next_month"]) == (month, before, after)
    assert look(month="2026-13", status=400)["error"]["field"] == "month"


def test_a_closed_month_says_when_and_what_its_revision_changed(october, store, look, report):
    def sign(text):
        return "signature", "key"

    closing.close("2026-10", ["uvic"], store, wiring.site(), sign, NOW)
    (row,) = look("uvic", month="2026-10")["table"]
    assert [row[name] for name in ("state", "revision", "closed_at", "changes")] == [
        "final",
        1,
        "2026-11-05T00:00:00Z",
        None,
    ]
    late = builders.FakeVm("vm-late", boot_at=EDGE - 5 * HOUR, cores=2)
    report(late.sample(EDGE - HOUR, final=True))
    (row,) = look("uvic", month="2026-10")["table"]
    assert (row["core_hours"], row["unsettled_core_hours"], row["unsettled_vms"]) == (40.0, 8.0, 1)
    closing.close("2026-10", ["uvic"], store, wiring.site(), sign, NOW + HOUR)
    (row,) = look("uvic", month="2026-10")["table"]
    assert (row["core_hours"], row["revision"], row["closed_at"]) == (48.0, 2, "2026-11-05T01:00:00Z")
    assert (row["changes"]["core_hours"], row["changes"]["vm_count"]) == (8.0, 1)


def test_what_the_scheduler_saw_stands_beside_it(october, store, look):
    placed(store, "uvic", 11, 4)
    placed(store, "elsewhere", 1, 4)
    placed(store, "cern", 1, None)
    assert [tuple(row.values()) for row in look(month="2026-10")["comparison"]] == [
        ("cern", 8.0, None, None, None),
        ("elsewhere", None, 4.0, -4.0, -1.0),
        ("uvic", 40.0, 44.0, -4.0, -0.090909),
    ]
    assert [row["cloud"] for row in look("uvic", month="2026-10")["comparison"]] == ["uvic"]


def test_every_column_of_a_sum_is_defined(october, look):
    answer = look(month="2026-10")
    units = {one["name"]: one["unit"] for one in answer["definitions"]}
    assert units.keys() >= answer["totals"].keys()
    assert (units["core_hours"], units["coverage"], units["energy_kwh"], units["vm_count"]) == (
        "hours",
        "share",
        "kWh",
        "count",
    )
