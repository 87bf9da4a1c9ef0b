"""A month at APEL: sent, sent again, restated and sent again, its tables say what the statement says."""

import random
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytally.accounting import apel_format, apel_records, apel_source
from skytally.accounting.apel_source import Source
from skytally.core.site_data import Site, parse
from tests.support.apel_server import ApelServer, RefusedError

MONTH, EDGE = "2026-10", datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
SITE = parse("""
[clouds.uvic]
apel_site = "CA-VICTORIA"
[clouds.CERN]
apel_site = "CERN-PROD"
[clouds.lost]
owner = "nobody told its site"
[apel]
virtual_organisations = { atlas-vms = "atlas", uvic = "belle" }
""")


def boot(number=1, cloud="uvic", wall=3_600.0, cores=8, **fields):
    """Describe a boot of October that ended at the month's edge."""
    usual = {
        "document": f"vm-{number}",
        "vm": f"vm-{number}",
        "boot_id": str(uuid.UUID(int=number)),
        "boot_at": (EDGE - timedelta(seconds=wall)).isoformat(),
        "cloud": cloud,
        "group": None,
        "cores": cores,
        "wall_seconds": wall,
        "core_seconds": wall * cores,
        "cpu_seconds": wall * cores / 2,
        "suspended_seconds": 0.0,
        "network_received_bytes": 0,
        "network_sent_bytes": 0,
        "memory_bytes": None,
        "disk_bytes": None,
        "hs23_per_core": 10.0,
        "last_sampled_at": EDGE.isoformat(),
        "final": False,
    }
    return usual | fields


def source(boots, others=(), site=SITE, now=NOW):
    """Make a closed month of boots; `others` are the boots of its other revisions."""
    clouds = [{"cloud": cloud, "state": "final"} for cloud in {one["cloud"] for one in boots}]
    statement = {"month": MONTH, "clouds": clouds, "boots": boots}
    return Source(statement, others, None, site, now, closed_only=True)


def send(server, boots, others=(), **more):
    """Send a month as records, or else as summaries if so told,
    and let the server add it up; return what was left out.
    """
    as_summaries = more.pop("as_summaries", False)
    month = source(boots, others, **more)
    kind = apel_format.CLOUD_SUMMARY if as_summaries else apel_format.CLOUD
    records = (apel_records.cloud_summaries if as_summaries else apel_records.cloud_records)(month)
    for part in apel_format.parts(records):
        text = apel_format.message(kind, part)
        apel_format.check(text, NOW)
        server.load(text)
    server.now += timedelta(days=1)
    if not as_summaries:
        server.summarise()
    return month.left_out


def stated(
    boots,
    organisation=lambda one: {"atlas-vms": "atlas"}.get(one["group"], "belle" if one["cloud"] == "uvic" else "None"),
):
    """Add up what the statement says, in seconds, by cloud and virtual organisation."""
    found = {}
    for one in boots:
        total = found.setdefault((one["cloud"], organisation(one)), dict.fromkeys(("wall", "cpu", "core", "hs23"), 0))
        total["wall"] += one["wall_seconds"]
        total["cpu"] += one["cpu_seconds"]
        total["core"] += one["core_seconds"]
        total["hs23"] += one["core_seconds"] * (one["hs23_per_core"] or 0)
    return found


def assert_told(server, boots):
    """Compare the server's tables with the statement, per cloud and virtual organisation: to the second."""
    told, wanted = server.totals(("CloudComputeService", "VO")), stated(boots)
    nothing = dict.fromkeys(("wall", "cpu", "core", "hs23"), 0)
    wanted = {key: wanted.get(key, nothing) for key in told.keys() | wanted.keys()}
    assert told.keys() == wanted.keys()
    for key, total in told.items():
        assert abs(total.wall - wanted[key]["wall"]) <= 1
        assert abs(total.cpu - wanted[key]["cpu"]) <= 1
        # A second of a vm is a second of each of its cores.
        assert float(total.core) == pytest.approx(wanted[key]["core"], abs=8 * 4)
        assert float(total.hs23) == pytest.approx(wanted[key]["hs23"], abs=8 * 4 * 20)
    assert {(row["Month"], row["Year"]) for row in server.cloud_summaries.values()} <= {(10, 2026)}


BOOTS = st.lists(
    st.builds(
        lambda number, cloud, group, ms, cores, busy, hs23: boot(
            number,
            cloud,
            ms / 1_000,
            cores,
            group=group,
            cpu_seconds=round(ms * cores * busy) / 1_000,
            hs23_per_core=hs23,
        ),
        number=st.integers(1, 40),
        cloud=st.sampled_from(["uvic", "CERN"]),
        group=st.sampled_from([None, "atlas-vms"]),
        ms=st.integers(1, 31 * 86_400_000),
        cores=st.sampled_from([1, 8]),
        busy=st.floats(0, 1),
        hs23=st.sampled_from([None, 9.125, 17.5]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda one: one["boot_id"],
)


@pytest.mark.slow
@pytest.mark.parametrize("as_summaries", [False, True])
@settings(max_examples=40)
@given(data=st.data())
def test_what_is_sent_twice_restated_and_sent_again_is_the_statement(as_summaries, data):
    server, first = ApelServer(), data.draw(BOOTS)
    send(server, first, as_summaries=as_summaries)
    send(server, first, as_summaries=as_summaries)
    assert_told(server, first)
    late = [one for one in data.draw(BOOTS) if one["boot_id"] not in {each["boot_id"] for each in first}]
    factors = data.draw(st.lists(st.sampled_from([1, 1.2, None]), min_size=len(first), max_size=len(first)))
    priced = [
        one["hs23_per_core"] and factor and round(one["hs23_per_core"] * factor, 3)
        for one, factor in zip(first, factors, strict=True)
    ]
    second = [one | {"hs23_per_core": hs23} for one, hs23 in zip(first, priced, strict=True)] + late
    send(server, second, first, as_summaries=as_summaries)
    assert_told(server, second)
    send(server, first + late, first + second, as_summaries=as_summaries)
    assert_told(server, first + late)


def test_the_whole_month_is_told_to_the_second_however_many_vms_it_has():
    boots = [boot(number, wall=1_000.4, cpu_seconds=3.3) for number in range(1, 1_001)]
    server = ApelServer()
    send(server, boots)
    (total,) = server.totals().values()
    assert (total.wall, total.cpu, total.vms) == (1_000_400, 3_300, 1_000)


def test_summaries_are_what_the_summariser_makes_of_the_records():
    boots = [
        boot(1, memory_bytes=8 * 10**9),
        boot(2, wall=7_200.0),
        boot(3, cores=4),
        boot(4, hs23_per_core=None),
        boot(5, group="atlas-vms"),
        boot(6, cloud="CERN"),
        boot(7, core_seconds=3_600.0 * 5.25),
    ]
    by_records, by_summaries = ApelServer(), ApelServer()
    send(by_records, boots)
    send(by_summaries, boots, as_summaries=True)
    assert by_records.cloud_summaries.keys() == by_summaries.cloud_summaries.keys()
    assert by_records.totals() == by_summaries.totals()


def test_the_month_of_a_record_is_the_month_of_its_usage():
    server = ApelServer()
    over_the_edge = boot(wall=276 * 3_600.0, cores=4, boot_at="2026-10-20T12:00:00Z")
    send(server, [over_the_edge])
    ((key, row),) = server.cloud_records.items()
    assert key[1:] == (10, 2026)
    assert row["EndTime"] == row["RecordCreateTime"] == EDGE - timedelta(seconds=1)
    assert [total.wall for total in server.totals().values()] == [276 * 3_600]


def test_a_vm_that_ran_all_the_month_fits_into_it():
    server = ApelServer()
    assert send(server, [boot(wall=31 * 86_400.0, boot_at="2026-07-01T00:00:00Z")]) == []
    assert [total.wall for total in server.totals().values()] == [31 * 86_400]


@pytest.mark.parametrize("final", [True, False])
def test_a_running_vm_has_the_status_of_one_that_is_over(final):
    server = ApelServer()
    running = boot(wall=3_600.0, last_sampled_at="2026-10-20T12:00:00Z", boot_at="2026-10-20T11:00:00Z", final=final)
    send(server, [running])
    send(server, [boot(wall=3_600.0 * 300, boot_at="2026-10-19T12:00:00Z")], [running])
    assert {row["Status"] for row in server.cloud_records.values()} == {"completed"}
    assert [total.wall for total in server.totals().values()] == [3_600 * 300]


def test_a_group_that_a_revision_drops_is_sent_as_zeros():
    first, second = boot(hs23_per_core=10.0), boot(hs23_per_core=11.0)
    for as_summaries in (False, True):
        server, careless = ApelServer(), ApelServer()
        for one in (server, careless):
            send(one, [first], as_summaries=as_summaries)
        send(server, [second], [first], as_summaries=as_summaries)
        send(careless, [second], as_summaries=as_summaries)
        assert sum(total.hs23 for total in server.totals().values()) == 3_600 * 8 * 11
        assert sum(total.hs23 for total in careless.totals().values()) == 3_600 * 8 * 21


def test_a_summary_s_benchmark_is_never_null_and_what_is_not_known_of_a_vm_is_left_out():
    records = apel_records.cloud_summaries(
        source([boot(1, hs23_per_core=None), boot(2, cores=4, memory_bytes=16 * 10**9, disk_bytes=1)])
    )
    by_cores = {record["CpuCount"]: record for record in records}
    assert (by_cores[8.0]["BenchmarkType"], by_cores[8.0]["Benchmark"]) == ("HEPscore23", 0.0)
    assert (by_cores[8.0]["Memory"], by_cores[8.0]["Disk"]) == (None, None)
    assert (by_cores[4.0]["Memory"], by_cores[4.0]["Disk"]) == (16_000, None)
    texts = [
        apel_format.message(apel_format.CLOUD, [record])
        for record in apel_records.cloud_records(source([boot(1), boot(2, disk_bytes=1, memory_bytes=0)]))
    ]
    assert not any(name in text for text in texts for name in ("Memory", "Disk"))
    with pytest.raises(RefusedError, match="Benchmark"):
        ApelServer().load(apel_format.message(apel_format.CLOUD_SUMMARY, [by_cores[8.0] | {"Benchmark": None}]))


def test_a_vm_without_a_score_is_not_credited_with_the_others_mean():
    server = ApelServer()
    send(server, [boot(1, hs23_per_core=20.0), boot(2, hs23_per_core=None)])
    assert [total.hs23 for total in server.totals().values()] == [Decimal(3_600 * 8 * 20)]


CANNOT_BE_SENT = {
    "no core time": ({"core_seconds": 0.0, "cpu_seconds": 0.0}, "it has no core time"),
    "no wall time": ({"wall_seconds": 0.0}, "it has core time and no wall time"),
    "too many cores": ({"core_seconds": 4e13}, "CpuCount is absurd"),
    "too much cpu": ({"cpu_seconds": 9e6}, "CpuDuration is more than the cores can give"),
    "longer than a month": ({"wall_seconds": 4e6, "core_seconds": 4e6}, "WallDuration is longer than the vm ran"),
    "an absurd benchmark": ({"hs23_per_core": 1e12}, "Benchmark is"),
}


@pytest.mark.parametrize("name", CANNOT_BE_SENT)
def test_what_cannot_be_sent_is_left_out_by_name_and_the_rest_goes(name):
    fields, words = CANNOT_BE_SENT[name]
    server = ApelServer()
    (left_out,) = send(server, [boot(1), boot(2, **fields), boot(3, cloud="CERN")])
    assert (left_out.cloud, left_out.vm, left_out.count) == ("uvic", "vm-2", 1)
    assert words in left_out.reason
    assert {row["MachineName"] for row in server.cloud_records.values()} == {"vm-1", "vm-3"}


def test_a_boot_that_spent_no_time_in_the_month_is_told_as_nothing():
    server = ApelServer()
    assert send(server, [boot(wall=0.0, cores=4)]) == []
    assert [(total.wall, total.vms) for total in server.totals().values()] == [(0, 1)]


@pytest.mark.parametrize("name", ["none", "NULL", "", " ", "Zürich", " CERN", "a\nb", "a%%b"])
def test_a_site_name_that_apel_cannot_take_costs_its_cloud_alone(name):
    text = f'[clouds.uvic]\napel_site = "CA-VICTORIA"\n\n[clouds.CERN]\nowner = "CERN"\napel_site = {name!r}\n'.replace(
        "'", '"'
    )
    server = ApelServer()
    (left_out,) = send(server, [boot(1), boot(2, cloud="CERN"), boot(3, cloud="CERN")], site=parse(text))
    assert (left_out.cloud, left_out.vm, left_out.count) == ("CERN", None, 2)
    assert "line 6, clouds.CERN.apel_site" in left_out.reason
    assert {row["SiteName"] for row in server.cloud_records.values()} == {"CA-VICTORIA"}


def test_a_cloud_without_a_site_name_is_not_sent_under_its_own():
    server = ApelServer()
    left_out = send(server, [boot(1), boot(2, cloud="lost"), boot(3, cloud="not-in-the-site-data")])
    assert [(one.cloud, "apel_site" in one.reason) for one in left_out] == [
        ("lost", True),
        ("not-in-the-site-data", True),
    ]
    assert {row["SiteName"] for row in server.cloud_records.values()} == {"CA-VICTORIA"}


def test_records_carry_the_organisation_of_their_group_or_else_of_their_cloud():
    server = ApelServer()
    send(server, [boot(1), boot(2, group="atlas-vms"), boot(3, cloud="CERN", group="atlas-vms"), boot(4, cloud="CERN")])
    assert {row["MachineName"]: row["VO"] for row in server.cloud_records.values()} == {
        "vm-1": "belle",
        "vm-2": "atlas",
        "vm-3": "atlas",
        "vm-4": "None",
    }


@pytest.mark.parametrize("name", ["/atlas/Role=production", "none", "bélle", "a;b"])
def test_an_organisation_that_would_arrive_as_another_costs_its_vms_alone(name):
    site = Site(clouds=SITE.clouds, apel=type(SITE.apel)(virtual_organisations={"group": name}))
    server = ApelServer()
    (left_out,) = send(server, [boot(1), boot(2, group="group")], site=site)
    assert (left_out.cloud, left_out.vm, left_out.count) == ("uvic", None, 1)
    assert "virtual_organisations.group" in left_out.reason
    assert {row["MachineName"] for row in server.cloud_records.values()} == {"vm-1"}


def test_clouds_that_the_server_takes_for_one_are_one_group():
    site = parse('[clouds.Uvic]\napel_site = "CA"\n[clouds.uvic]\napel_site = "ca"\n')
    server = ApelServer()
    send(server, [boot(1), boot(2, cloud="Uvic")], site=site, as_summaries=True)
    assert [row["WallDuration"] for row in server.cloud_summaries.values()] == [7_200]


def test_no_order_of_the_boots_changes_what_is_told():
    boots = [boot(number, wall=100.4 * number, hs23_per_core=number % 3 or None) for number in range(1, 30)]
    records = apel_records.cloud_records(source(boots))
    random.Random(1).shuffle(boots)
    assert apel_records.cloud_records(source(boots)) == records


def test_what_was_left_out_is_one_bounded_line_of_ascii_that_begins_with_its_number():
    few = [
        apel_source.LeftOut("cern", None, "no apel_site", 7),
        apel_source.LeftOut("uvic", "vm-ü\n", "no core time", 1),
    ]
    assert apel_source.summary(few) == "8; cern: no apel_site; uvic/vm-\\xfc\\n: no core time"
    many = [apel_source.LeftOut("uvic", f"vm-{n}", "no core time", 1) for n in range(10_000)]
    line = apel_source.summary(many)
    assert line.startswith("10000; uvic/vm-0: no core time; ")
    assert line.endswith(" more")
    assert (len(line) < 1_100, line.isascii()) == (True, True)


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_rounded_neighbours_add_up(values):
    rounded = apel_format.whole_numbers(values)
    assert all(number >= 0 for number in rounded)
    assert abs(sum(rounded) - sum(values)) <= 0.5 + 1e-6
    for first in range(len(values)):
        assert abs(sum(rounded[first:]) - sum(values[first:])) <= 1 + 1e-6
