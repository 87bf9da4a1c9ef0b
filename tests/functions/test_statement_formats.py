"""The statement for machines: APEL's messages and the jobs of a month,
from the same documents as the page, on every store.
"""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from skytally.accounting import apel_format
from skytally.app import wiring
from skytally.core.documents import Job, Usage
from skytally.core.ports import Write
from skytally.operation import retention
from tests.support import builders
from tests.support.apel_server import ApelServer

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR_MS = 3_600_000
SITE = """
[clouds.uvic]
apel_site = "CA-VICTORIA"
[clouds.desy]
apel_site = "DESY-HH"
[clouds.cern]
owner = "a cloud that APEL does not know"
[apel]
virtual_organisations = { panda = "atlas", desy = "belle" }
[calibration]
kernels = { zbs = 2.0 }
"""
LEFT_OUT = "X-Skytally-Left-Out"
NO_SITE = "cern: the site data name no apel_site for it"
BENCHMARK = {"kernel": "zbs", "kernel_version": "1", "score_wall": 5.0, "score_cpu": 6.0, "copies": 8}


def job(number, **fields):
    """Describe a job of an hour on eight cores, six of which computed."""
    blank = dict.fromkeys(Job.__struct_fields__) | {
        "job_id": str(number),
        "changed_at": NOW,
        "seen_at": NOW,
        "started_at": NOW,
    }
    usual = {
        "system": "panda",
        "status": "finished",
        "cloud": "uvic",
        "vm": "vm-1",
        "final_at": NOW - timedelta(days=1),
        "cores": 8,
    }
    spent = {
        "wall_ms": HOUR_MS,
        "cpu_ms": 6 * HOUR_MS,
        "core_ms": 8 * HOUR_MS,
        "core_ms_with_cpu": 8 * HOUR_MS,
        "wasted_core_ms": 0,
    }
    return Write("job", f"panda/{number}", 1, Job(**blank | usual | spent | {"multicore": True} | fields))


@pytest.fixture(params=builders.DOCUMENT_STORES)
def ask(request, home, document_settings, monkeypatch, client, bearer, reader):
    """Report of two vms on one cloud and of one on each of two that nobody measured;
    answers how to ask for their month.
    """
    (home / "clouds.toml").write_text(SITE)
    for setting, value in ({"SKYTALLY_CLOUDS": str(home / "clouds.toml")} | document_settings(request.param)).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    old = builders.FakeVm("vm-1", boot_at=datetime(2026, 10, 20, tzinfo=UTC))
    new = builders.FakeVm("vm-ü", boot_at=NOW - timedelta(hours=10), cores=4)
    other = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=2), cores=2)
    unscored = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=5), cores=2)
    for cloud, sample in (
        ("uvic", old.sample(NOW, benchmark=BENCHMARK)),
        ("uvic", new.sample(NOW, final=True)),
        ("cern", other.sample(NOW)),
        ("desy", unscored.sample(NOW)),
    ):
        answer = client.post(
            "usage-report", json={"samples": [sample]}, headers=bearer("reporter", clouds=(cloud,), issued=NOW)
        )
        assert answer.json()["accepted"] == 1, answer.text
    caller = bearer("reader", issued=NOW)

    def get(form, headers=caller, **query):
        return client.get("statement", params={"month": "2026-11", "format": form, **query}, headers=headers)

    return get


def records(text):
    """Read a message that our own check has passed."""
    apel_format.check(text, NOW)
    header, _, rest = text.partition("\n")
    return header, [
        dict(line.split(": ", 1) for line in record.strip().splitlines())
        for record in rest.split("%%")
        if record.strip()
    ]


def test_a_record_for_each_boot_counts_from_the_month_s_start(ask):
    answer = ask("apel-cloud")
    assert answer.headers["content-type"] == "text/plain; charset=us-ascii"
    header, told = records(answer.text)
    assert header == "APEL-cloud-message: v0.4"
    by_name = {(record["CloudComputeService"], record["MachineName"]): record for record in told}
    assert by_name.keys() == {("uvic", "vm-1"), ("uvic", "vm-\\xfc"), ("desy", "vm-1")}
    old, new, unscored = by_name["uvic", "vm-1"], by_name["uvic", "vm-\\xfc"], by_name["desy", "vm-1"]
    wall = int((NOW - datetime(2026, 11, 1, tzinfo=UTC)).total_seconds())
    assert old == {
        "RecordCreateTime": str(int(NOW.timestamp())),
        "VMUUID": old["VMUUID"],
        "SiteName": "CA-VICTORIA",
        "CloudComputeService": "uvic",
        "MachineName": "vm-1",
        "Status": "completed",
        "StartTime": str(int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())),
        "EndTime": str(int(NOW.timestamp())),
        "SuspendDuration": "0",
        "WallDuration": str(wall),
        "CpuDuration": str(wall * 4),
        "CpuCount": "8",
        "NetworkInbound": "0",
        "NetworkOutbound": "0",
        "BenchmarkType": "HEPscore23",
        "Benchmark": "10",
        "CloudType": "skytally",
    }
    assert (new["Status"], new["EndTime"], new["WallDuration"], new["CpuCount"]) == (
        "completed",
        str(int(NOW.timestamp())),
        "36000",
        "4",
    )
    assert (unscored["FQAN"], unscored["BenchmarkType"], unscored["Benchmark"]) == ("belle", "HEPscore23", "0")
    assert len({record["VMUUID"] for record in told}) == 3
    assert records(ask("apel-cloud").text)[1] == told


def test_a_cloud_that_has_no_site_at_apel_is_left_out_by_name_and_the_rest_goes(ask):
    for form in ("apel-cloud", "apel-cloud-summary"):
        assert ask(form).headers[LEFT_OUT] == f"1; {NO_SITE}"
        assert LEFT_OUT not in ask(form, cloud="uvic").headers
        alone = ask(form, cloud="cern")
        assert (alone.status_code, records(alone.text)[1], alone.headers[LEFT_OUT]) == (200, [], f"1; {NO_SITE}")
    assert LEFT_OUT not in ask("json").headers


def test_summaries_add_up_to_the_statement_of_their_cloud(ask):
    _, told = records(ask("apel-cloud-summary").text)
    rows = {row["cloud"]: row for row in ask("json").json()["clouds"]}
    assert sorted((record["CloudComputeService"], record["CpuCount"], record["Benchmark"]) for record in told) == [
        ("desy", "2", "0"),
        ("uvic", "4", "0"),
        ("uvic", "8", "10"),
    ]
    assert {record["Status"] for record in told} == {"completed"}
    assert {record.get("VO") for record in told if record["CloudComputeService"] == "desy"} == {"belle"}
    for cloud in ("uvic", "desy"):
        groups = [record for record in told if record["CloudComputeService"] == cloud]
        assert sum(int(record["WallDuration"]) for record in groups) == rows[cloud]["wall_hours"] * 3_600
        assert sum(int(record["CpuDuration"]) for record in groups) == rows[cloud]["cpu_hours"] * 3_600
        core = [int(record["WallDuration"]) * float(record["CpuCount"]) for record in groups]
        assert sum(core) == rows[cloud]["core_hours"] * 3_600
        hs23 = sum(seconds * float(record["Benchmark"]) for seconds, record in zip(core, groups, strict=True))
        assert hs23 == (rows[cloud]["hs23_hours"] or 0) * 3_600
        assert sum(int(record["NumberOfVMs"]) for record in groups) == rows[cloud]["boot_count"]


def test_the_closing_sample_of_a_month_counts_in_that_month(ask, client, bearer):
    edge = datetime(2026, 11, 1, tzinfo=UTC)
    vm = builders.FakeVm("edge", boot_at=edge - timedelta(hours=276), cores=4)
    sample = vm.sample(edge, month="2026-10", month_start=builders.counters(0, 4))
    answer = client.post(
        "usage-report", json={"samples": [sample]}, headers=bearer("reporter", clouds=("uvic",), issued=NOW)
    )
    assert answer.json()["accepted"] == 1, answer.text
    _, (record,) = records(ask("apel-cloud", month="2026-10").text)
    last_second = int(edge.timestamp()) - 1
    assert (record["EndTime"], record["RecordCreateTime"]) == (str(last_second), str(last_second))
    server = ApelServer()
    server.load(ask("apel-cloud", month="2026-10").text)
    server.summarise()
    assert [(key[3:], total.wall) for key, total in server.totals().items()] == [((2026, 10), 276 * 3_600)]


def test_a_vm_without_core_time_is_left_out_by_name_and_the_rest_goes(ask, client, bearer):
    body = {"samples": [builders.FakeVm("idle", boot_at=NOW - timedelta(hours=1)).sample(NOW)]}
    assert (
        client.post("usage-report", json=body, headers=bearer("reporter", clouds=("uvic",), issued=NOW)).json()[
            "accepted"
        ]
        == 1
    )
    documents = wiring.documents()
    documents.refresh()
    ((key, usage),) = documents.find("usage", Usage, {"vm": ["idle"]})
    # Reports are refused that say this, but it may lie there since they were not.
    idle = structs.replace(usage, core_ms=0, user_ms=0, nice_ms=0, system_ms=0, idle_ms=0)
    documents.write([Write("usage", key, usage.uptime_ms, idle)]).result()
    for form in ("apel-cloud", "apel-cloud-summary"):
        told = ask(form, cloud="uvic")
        assert told.headers[LEFT_OUT] == "1; uvic/idle: it has no core time"
        assert len(records(told.text)[1]) == 2


def test_jobs_are_told_by_cloud_experiment_and_cores_normalised_by_their_vm(ask):
    jobs = [job(1), job(2, status="failed"), job(3, cores=1, cpu_ms=HOUR_MS), job(4, system="dirac", vm="of no sample")]
    jobs += [
        job(5, final_at=datetime(2026, 10, 31, 23, tzinfo=UTC)),
        job(6, started_at=None, wall_ms=0, cpu_ms=0, core_ms=0),
    ]
    jobs += [job(7, cloud="unknown", vm=None), job(8, cloud="elsewhere"), job(9, final_at=None, status="running")]
    wiring.documents().write(jobs).result()
    answer = ask("apel-job-summary")
    assert answer.headers[LEFT_OUT] == "1; unknown: nobody knows which cloud these jobs ran on"
    header, told = records(answer.text)
    assert header == "APEL-normalised-summary-message: v0.4"
    names = ("Site", "SubmitHost", "VO", "Processors", "NumberOfJobs", "WallDuration", "CpuDuration")
    names += ("NormalisedWallDuration", "NormalisedCpuDuration")
    assert sorted(tuple(record.get(name, "") for name in names) for record in told) == [
        ("CA-VICTORIA", "uvic", "", "8", "1", "3600", "21600", "{HEPscore23: 36000}", "{HEPscore23: 216000}"),
        ("CA-VICTORIA", "uvic", "atlas", "1", "1", "3600", "3600", "{HEPscore23: 36000}", "{HEPscore23: 36000}"),
        ("CA-VICTORIA", "uvic", "atlas", "8", "2", "7200", "43200", "{HEPscore23: 72000}", "{HEPscore23: 432000}"),
    ]


def test_jobs_of_two_systems_that_are_one_organisation_s_are_one_row(ask, home):
    (home / "clouds.toml").write_text(SITE.replace('panda = "atlas"', 'panda = "atlas", dirac = "atlas"'))
    wiring.close()
    wiring.documents().write([job(1), job(2, system="dirac")]).result()
    server = ApelServer()
    server.load(ask("apel-job-summary").text)
    assert [row["NumberOfJobs"] for row in server.job_summaries.values()] == [2]


def test_jobs_on_a_cloud_without_hs23_are_left_out_by_name_and_the_rest_goes(ask):
    wiring.documents().write([job(1), job(2, cloud="desy"), job(3, cloud="desy"), job(4, cloud="cern")]).result()
    answer = ask("apel-job-summary")
    assert [record["SubmitHost"] for record in records(answer.text)[1]] == ["uvic"]
    assert answer.headers[LEFT_OUT].startswith(f"3; {NO_SITE}; desy: its HS23 is not known")
    assert LEFT_OUT not in ask("apel-job-summary", cloud="uvic").headers


def test_a_month_whose_jobs_are_partly_forgotten_is_not_told(ask):
    wiring.documents().write([job(1), job(2, changed_at=datetime(2026, 11, 2, tzinfo=UTC))]).result()
    assert "NumberOfJobs: 2\n" in ask("apel-job-summary").text
    retention.forget(wiring.documents(), 3_000, NOW)
    assert "NumberOfJobs: 2\n" in ask("apel-job-summary").text
    assert retention.forget(wiring.documents(), 20, NOW)["job"] == 1
    refused = ask("apel-job-summary")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "forgotten")
    assert retention.forget(wiring.documents(), 3_000, NOW) == {}
    assert ask("apel-job-summary").status_code == 409
    assert ask("apel-cloud").status_code == 200


def test_several_clouds_may_be_asked_for_and_one_that_nobody_knows_is_named_with_those_that_are_known(ask, bearer):
    assert {row["cloud"] for row in ask("json", cloud=["uvic", "cern"]).json()["clouds"]} == {"cern", "uvic"}
    assert {record["CloudComputeService"] for record in records(ask("apel-cloud", cloud=["uvic", "desy"]).text)[1]} == {
        "desy",
        "uvic",
    }
    wiring.documents().write([job(1, cloud="jobs-only"), job(2, cloud="unknown")]).result()
    assert len(ask("csv", detail="jobs", cloud="jobs-only").text.splitlines()) == 2
    for form, more in (
        ("json", {}),
        ("csv", {}),
        ("apel-cloud", {}),
        ("csv", {"detail": "jobs"}),
        ("json", {"detail": "signed"}),
    ):
        unknown = ask(form, cloud="nosuch", **more)
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown")
        assert unknown.json()["error"]["message"] == "there is no cloud 'nosuch': known are cern, desy, jobs-only, uvic"
    assert ask("json", cloud=["uvic", "nosuch"]).status_code == 404
    assert ask("json", cloud="uvic", month="2026-01").json()["clouds"] == []
    limited = bearer("reader", clouds=("uvic", "nosuch"), issued=NOW)
    assert (
        ask("json", limited, cloud="nosuch").json()["error"]["message"] == "there is no cloud 'nosuch': known are uvic"
    )
    assert ask("json", limited, cloud=["uvic", "cern"]).status_code == 403
    assert ask("json", month=["2026-11", "2026-10"]).status_code == 400
    assert ask("json", cloud=["uvic", "cern"], detail="signed").status_code == 400


def test_csv_is_a_file_and_its_name_and_rows_say_the_month(ask):
    for detail, name in ((None, "clouds"), ("boots", "boots"), ("jobs", "jobs")):
        answer = ask("csv", **({"detail": detail} if detail else {}))
        assert answer.headers["content-disposition"] == f'attachment; filename="statement-2026-11-{name}.csv"'
        if detail != "jobs":
            rows = list(csv.DictReader(io.StringIO(answer.text)))
            assert (next(iter(rows[0])), {row["month"] for row in rows}) == ("month", {"2026-11"})
    assert "content-disposition" not in ask("json").headers


def test_every_job_of_the_month_is_a_row(ask, bearer):
    late = datetime(2026, 11, 30, 23, 59, 59, 999_000, tzinfo=UTC)
    jobs = [job(n, final_at=NOW - timedelta(minutes=n)) for n in range(1, 2_500)]
    jobs += [job(5_000, cloud="unknown", cpu_ms=0, core_ms_with_cpu=0, error_message="=cmd()", final_at=late)]
    jobs += [job(5_001, final_at=late + timedelta(milliseconds=1)), job(5_002, final_at=None)]
    wiring.documents().write(jobs).result()
    answer = ask("csv", detail="jobs")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["job_id"] for row in rows] == [str(n) for n in range(2_499, 0, -1)] + ["5000"]
    assert (rows[0]["wall_seconds"], rows[0]["cpu_seconds"], rows[0]["final_at_utc"]) == (
        "3600.0",
        "21600.0",
        "2026-11-23 18:21:00",
    )
    assert (rows[-1]["cpu_seconds"], rows[-1]["error_message"]) == ("", "'=cmd()")
    theirs = ask("csv", bearer("reader", clouds=("cern",), issued=NOW), detail="jobs")
    assert theirs.text.splitlines() == [",".join(rows[0])]
    assert ask("json", detail="jobs").status_code == 400


def test_a_month_of_many_vms_is_several_messages(ask, client, bearer):
    vms = [builders.FakeVm(f"many-{n}", boot_at=NOW - timedelta(hours=1)) for n in range(1_200)]
    headers = bearer("reporter", clouds=("uvic",), issued=NOW)
    assert (
        client.post("usage-report", json={"samples": [vm.sample(NOW) for vm in vms]}, headers=headers).json()[
            "accepted"
        ]
        == 1_200
    )
    whole = ask("apel-cloud")
    assert (whole.status_code, whole.json()["error"]["field"]) == (400, "part")
    told = [records(ask("apel-cloud", part=part).text)[1] for part in (1, 2)]
    assert [len(part) for part in told] == [1_000, 203]
    assert len({record["VMUUID"] for part in told for record in part}) == 1_203
    assert ask("apel-cloud", part=2).headers[LEFT_OUT] == f"1; {NO_SITE}"
