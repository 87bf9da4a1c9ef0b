"""A month's jobs at APEL, and the clouds that anybody may ask about, on a store of their own."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.accounting import apel_format, apel_jobs, cloud_names
from skytally.accounting.apel_source import Source
from skytally.core.documents import Job
from skytally.core.errors import Conflict, NotFound
from skytally.core.ports import Write
from skytally.core.site_data import Cloud, Site, parse
from skytally.operation import retention
from tests.support.apel_server import ApelServer

MONTH, END = "2026-10", datetime(2026, 10, 20, 12, tzinfo=UTC)
NOW = datetime(2026, 11, 5, tzinfo=UTC)
SITE = parse('[clouds.uvic]\napel_site = "CA"\n[clouds.UVic]\napel_site = "CA"\n[clouds.cern]\napel_site = "CERN"\n')


def keep(documents, number, cloud, **fields):
    """Keep a job of an hour on two cores."""
    times = dict.fromkeys(("started_at", "final_at", "changed_at", "seen_at"), END)
    spent = {
        "cores": 2,
        "wall_ms": 3_600_000,
        "cpu_ms": 3_600_000,
        "core_ms": 7_200_000,
        "core_ms_with_cpu": 0,
        "wasted_core_ms": 0,
    }
    usual = {"system": "panda", "job_id": str(number), "status": "finished", "cloud": cloud, "multicore": True}
    job = Job(**dict.fromkeys(Job.__struct_fields__) | usual | times | spent | fields)
    documents.write([Write("job", f"panda/{number}", 1, job)]).result()


def told(documents, **more):
    """Return the rows of a month's jobs at the server, and what was left out."""
    boots = [
        {"cloud": cloud, "vm": "vm", "core_seconds": 10.0, "hs23_per_core": 12.0} for cloud in ("uvic", "UVic", "cern")
    ]
    source = Source({"month": MONTH, "clouds": [], "boots": boots}, [], documents, SITE, NOW, closed_only=False)
    server = ApelServer()
    server.load(apel_format.message(apel_format.JOB_SUMMARY, apel_jobs.job_summaries(source, more.get("clouds", ()))))
    return sorted(
        (row["SubmitHost"].lower(), row["NumberOfJobs"], row["NormalisedWallDuration"])
        for row in server.job_summaries.values()
    ), [(one.cloud, one.count) for one in source.left_out]


def test_jobs_of_clouds_that_the_server_takes_for_one_are_one_row(documents):
    for number, cloud in enumerate(("uvic", "UVic", "cern")):
        keep(documents, number, cloud)
    assert told(documents) == ([("cern", 1, 43_200), ("uvic", 2, 86_400)], [])


def test_absurd_jobs_are_left_out_and_the_rest_goes(documents):
    keep(documents, 1, "uvic")
    keep(documents, 2, "cern", cores=0)
    keep(documents, 3, "nowhere")
    assert told(documents) == ([("uvic", 1, 43_200)], [("cern", 1), ("nowhere", 1)])


def test_only_a_month_of_which_no_job_can_be_forgotten_is_told(documents):
    keep(documents, 1, "uvic")
    start = datetime(2026, 10, 1, tzinfo=UTC)
    for before in (start - apel_jobs.CHANGED_BEFORE_END, start - timedelta(days=300)):
        retention.forget(documents, 1, before + timedelta(days=1))
        assert told(documents)[0] == [("uvic", 1, 43_200)]
    retention.forget(documents, 1, start + timedelta(days=1))
    with pytest.raises(Conflict, match="2026-10-01T00:00:00Z"):
        told(documents)


def test_a_cloud_is_known_by_the_site_data_or_by_its_vms_or_jobs(documents):
    keep(documents, 1, "jobs-only")
    cloud_names.check(["uvic", "jobs-only", "unknown", "elsewhere"], documents, SITE)
    with pytest.raises(NotFound, match=r"no cloud 'typo': known are UVic, cern, jobs-only, uvic$"):
        cloud_names.check(["uvic", "typo"], documents, SITE)
    with pytest.raises(NotFound, match=r"no cloud 'typo': known are cern$"):
        cloud_names.check(["typo"], documents, SITE, ("cern", "typo"))
    with pytest.raises(NotFound, match="none is known yet"):
        cloud_names.check(["typo"], documents, Site(), ("typo",))
    many = Site(clouds={f"cloud-{number:04}": Cloud() for number in range(1_000)})
    with pytest.raises(NotFound, match=r"cloud-0049 and 951 more$") as refusal:
        cloud_names.check(["x" * 100_000], documents, many)
    assert len(refusal.value.message) < 1_000
