"""The statement for machines: APEL's messages and the jobs of a month, from the same documents as the page, on every store."""

import csv
import io
from datetime import UTC, datetime, timedelta

import lab
import pytest

from skytally import apel, wiring
from skytally.documents import Job
from skytally.ports import Write

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR_MS = 3_600_000
SITE = """
[clouds.uvic]
apel_site = "CA-VICTORIA"
[apel]
virtual_organisations = { panda = "atlas" }
[calibration]
kernels = { zbs = 2.0 }
"""
BENCHMARK = {"kernel": "zbs", "kernel_version": "1", "score_wall": 5.0, "score_cpu": 6.0, "copies": 8}


def job(number, **fields):
    """Describe a job of an hour on eight cores, six of which computed."""
    blank = dict.fromkeys(Job.__struct_fields__) | {"job_id": str(number), "changed_at": NOW, "seen_at": NOW, "started_at": NOW}
    usual = {"system": "panda", "status": "finished", "cloud": "uvic", "vm": "vm-1", "final_at": NOW - timedelta(days=1), "cores": 8}
    spent = {"wall_ms": HOUR_MS, "cpu_ms": 6 * HOUR_MS, "core_ms": 8 * HOUR_MS, "core_ms_with_cpu": 8 * HOUR_MS, "wasted_core_ms": 0}
    return Write("job", f"panda/{number}", 1, Job(**blank | usual | spent | {"multicore": True} | fields))


@pytest.fixture(params=lab.DOCUMENT_STORES)
def ask(request, home, document_settings, monkeypatch, client, bearer, reader):
    """Report of two vms on one cloud and one on another that nobody measured, and answer how to ask for their month."""
    (home / "clouds.toml").write_text(SITE)
    for setting, value in ({"SKYTALLY_CLOUDS": str(home / "clouds.toml")} | document_settings(request.param)).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.web.clock", lambda: NOW)
    old = lab.FakeVm("vm-1", boot_at=datetime(2026, 10, 20, tzinfo=UTC))
    new = lab.FakeVm("vm-ü", boot_at=NOW - timedelta(hours=10), cores=4)
    other = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=2), cores=2)
    for cloud, sample in (
        ("uvic", old.sample(NOW, benchmark=BENCHMARK)),
        ("uvic", new.sample(NOW, final=True)),
        ("cern", other.sample(NOW)),
    ):
        answer = client.post("usage_report", json={"samples": [sample]}, headers=bearer("reporter", clouds=(cloud,), issued=NOW))
        assert answer.json()["accepted"] == 1, answer.text
    caller = bearer("reader", issued=NOW)

    def get(form, headers=caller, **query):
        return client.get("statement", params={"month": "2026-11", "format": form, **query}, headers=headers)

    return get


def records(text):
    """Read a message that our own check has passed."""
    apel.check(text, NOW)
    header, _, rest = text.partition("\n")
    return header, [dict(line.split(": ", 1) for line in record.strip().splitlines()) for record in rest.split("%%") if record.strip()]


def test_a_record_for_each_boot_counts_from_the_month_s_start(ask):
    answer = ask("apel-cloud")
    assert answer.headers["content-type"] == "text/plain; charset=us-ascii"
    header, told = records(answer.text)
    assert header == "APEL-cloud-message: v0.4"
    by_name = {(record["CloudComputeService"], record["MachineName"]): record for record in told}
    old, new, other = by_name["uvic", "vm-1"], by_name["uvic", "vm-\\xfc"], by_name["cern", "vm-1"]
    wall = int((NOW - datetime(2026, 11, 1, tzinfo=UTC)).total_seconds())
    assert old == {
        "RecordCreateTime": str(int(NOW.timestamp())),
        "VMUUID": old["VMUUID"],
        "SiteName": "CA-VICTORIA",
        "CloudComputeService": "uvic",
        "MachineName": "vm-1",
        "Status": "started",
        "StartTime": str(int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())),
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
    assert (new["Status"], new["EndTime"], new["WallDuration"], new["CpuCount"]) == ("completed", str(int(NOW.timestamp())), "36000", "4")
    assert "Benchmark" not in new
    assert other["SiteName"] == "cern"
    assert len({record["VMUUID"] for record in told}) == 3
    assert records(ask("apel-cloud").text)[1] == told


def test_the_summary_of_a_cloud_is_the_statement_s(ask):
    _, told = records(ask("apel-cloud-summary").text)
    rows = {row["cloud"]: row for row in ask("json").json()["clouds"]}
    assert [record["CloudComputeService"] for record in told] == ["cern", "uvic"]
    for record in told:
        row = rows[record["CloudComputeService"]]
        assert int(record["WallDuration"]) == row["wall_hours"] * 3_600
        assert int(record["CpuDuration"]) == row["cpu_hours"] * 3_600
        assert float(record["CpuCount"]) * int(record["WallDuration"]) == pytest.approx(row["core_hours"] * 3_600, rel=1e-3)
        assert int(record["NumberOfVMs"]) == row["boot_count"]
        assert "Status" not in record


def test_jobs_are_told_by_cloud_experiment_and_cores_normalised_by_their_vm(ask):
    jobs = [job(1), job(2, status="failed"), job(3, cores=1, cpu_ms=HOUR_MS), job(4, system="dirac", vm="of no sample")]
    jobs += [job(5, final_at=datetime(2026, 10, 31, 23, tzinfo=UTC)), job(6, started_at=None, wall_ms=0, cpu_ms=0, core_ms=0)]
    jobs += [job(7, cloud="unknown", vm=None), job(8, cloud="elsewhere"), job(9, final_at=None, status="running")]
    wiring.documents().write(jobs).result()
    header, told = records(ask("apel-job-summary").text)
    assert header == "APEL-normalised-summary-message: v0.4"
    names = ("Site", "SubmitHost", "VO", "Processors", "NumberOfJobs", "WallDuration", "CpuDuration")
    names += ("NormalisedWallDuration", "NormalisedCpuDuration")
    assert [tuple(record.get(name) for name in names) for record in told] == [
        ("CA-VICTORIA", "uvic", None, "8", "1", "3600", "21600", "{HEPscore23: 36000}", "{HEPscore23: 216000}"),
        ("CA-VICTORIA", "uvic", "atlas", "1", "1", "3600", "3600", "{HEPscore23: 36000}", "{HEPscore23: 36000}"),
        ("CA-VICTORIA", "uvic", "atlas", "8", "2", "7200", "43200", "{HEPscore23: 72000}", "{HEPscore23: 432000}"),
    ]


def test_jobs_on_a_cloud_without_hs23_are_not_told_as_nothing(ask):
    wiring.documents().write([job(1), job(2, cloud="cern")]).result()
    refused = ask("apel-job-summary")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "hs23_unknown")
    assert "cern" in refused.json()["error"]["message"]
    assert len(records(ask("apel-job-summary", cloud="uvic").text)[1]) == 1


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
    assert (rows[0]["wall_seconds"], rows[0]["cpu_seconds"], rows[0]["final_at"]) == ("3600.0", "21600.0", "2026-11-23T18:21:00Z")
    assert (rows[-1]["cpu_seconds"], rows[-1]["error_message"]) == ("", "'=cmd()")
    theirs = ask("csv", bearer("reader", clouds=("cern",), issued=NOW), detail="jobs")
    assert theirs.text.splitlines() == [",".join(rows[0])]
    assert ask("json", detail="jobs").status_code == 400


def test_a_month_of_many_vms_is_several_messages(ask, client, bearer):
    vms = [lab.FakeVm(f"many-{n}", boot_at=NOW - timedelta(hours=1)) for n in range(1_200)]
    headers = bearer("reporter", clouds=("uvic",), issued=NOW)
    assert client.post("usage_report", json={"samples": [vm.sample(NOW) for vm in vms]}, headers=headers).json()["accepted"] == 1_200
    whole = ask("apel-cloud")
    assert (whole.status_code, whole.json()["error"]["field"]) == (400, "part")
    told = [records(ask("apel-cloud", part=part).text)[1] for part in (1, 2)]
    assert [len(part) for part in told] == [1_000, 203]
    assert len({record["VMUUID"] for part in told for record in part}) == 1_203
