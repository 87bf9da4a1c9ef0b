"""The stand-in for BigPanDA answers as the real monitor was recorded to,
so that what is tested against it holds there.
"""

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import urllib3

from localstack.bigpanda import bigpanda

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
NOW = datetime(2026, 11, 24, 4, 51, 16)
QUERIES = {
    "batchid": {"batchid": "csv2a.heprc.uvic.ca#1235.0#1795488674", "fields": "pandaid,batchid"},
    "comma": {"computingsite": "CA-IAAS-T3,OTHER"},
    "datefrom": {
        "date_from": "2026-11-24T04:21:14",
        "date_to": "2026-11-24T04:41:14",
        "fields": "pandaid,modificationtime",
    },
    "empty": {"computingsite": "NOBODY"},
    "endtimerange": {"endtimerange": "2026-11-24T04:00:00|2026-11-24T05:00:00", "fields": "pandaid,endtime"},
    "limit": {"limit": "2", "fields": "pandaid,modificationtime"},
    "pipe": {
        "computingsite": "CA-IAAS-T3|OTHER",
        "jobstatus": "finished",
        "fields": "pandaid,jobstatus,computingsite,batchid",
    },
    "task": {"jeditaskid": "38000001", "fields": "pandaid,maxvmem,maxpss"},
    "err_empty": {"computingsite": ""},
    "err_hours": {"hours": "abc"},
}


@pytest.fixture
def monitor():
    with bigpanda() as (monitor, base):
        monitor.rows = json.loads((RECORDED / "bigpanda_jobs_full.json").read_text())["jobs"]
        monitor.now = lambda: NOW
        monitor.base = base
        yield monitor


def ask(monitor, accept="application/json", **query):
    answer = urllib3.request(
        "GET",
        f"{monitor.base}/jobs/?json&{urlencode(query, quote_via=quote)}",
        headers={"Accept": accept},
        retries=False,
    )
    return answer.status, answer.json() if answer.status in {200, 400} else None


def found(monitor, **query):
    status, told = ask(monitor, **query)
    assert status == 200
    return [row["pandaid"] % 10 for row in told["jobs"]]


@pytest.mark.parametrize("name", QUERIES)
def test_recorded_answers(monitor, name):
    recorded = json.loads((RECORDED / "bigpanda" / f"bigpanda_{name}.json").read_text())
    status, told = ask(monitor, outputs="jobs", **QUERIES[name])
    assert (status, told) == (400 if "error" in recorded else 200, recorded)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"computingsite": "ca-*"}, [6, 5, 4, 3, 2, 1]),
        ({"computingsite": "!CA-IAAS-T3"}, []),
        ({"computingsite": "CA-'IAAS'-T3#"}, [6, 5, 4, 3, 2, 1]),
        ({"computingsite": "CA+IAAS-T3"}, []),
        ({"jobstatus": "failed,closed"}, [4, 2]),
        ({"date_from": "2026-11-24T04:46:00"}, [6, 5, 4, 3]),
        ({"date_from": "2026-11-24T04:46:00", "date_to": "2026-11-24T04:46:30"}, [3]),
        (
            {"date_from": "2026-11-24T04:46:00", "date_to": "2026-11-24T04:46:30", "jobstatus": "running|cancelled"},
            [5, 3],
        ),
        ({"batchid": "csv2a.heprc.uvic.ca"}, []),
    ],
)
def test_operators(monitor, query, numbers):
    assert found(monitor, **query) == numbers


def test_the_archive_is_asked_by_status_change_and_only_far_back(monitor):
    for row in monitor.rows:
        row |= {"modificationtime": "2026-11-20T04:00:00", "statechangetime": "2026-11-20T04:00:00"}
    monitor.rows[-1]["statechangetime"] = "2026-11-22T04:00:00"
    ended = {"jobstatus": "finished|failed", "date_to": "2026-11-24T04:00:00"}
    assert found(monitor, date_from="2026-11-21T05:00:00", **ended) == []
    assert found(monitor, date_from="2026-11-21T04:00:00", **ended) == [1]
    assert found(monitor, date_from="2026-11-20T04:00:00", **ended) == [2, 1]
    assert found(monitor, date_from="2026-11-20T04:00:00", **ended | {"jobstatus": "finished,failed"}) == []
    assert (
        found(monitor, statechangetimerange="2026-11-19T00:00:00|2026-11-24T00:00:00", jobstatus="finished|failed")
        == []
    )


def test_a_zone_a_sorting_and_a_page_fail_as_there(monitor):
    assert ask(monitor, date_from="2026-11-24T04:00:00Z", date_to="2026-11-24T05:00:00Z")[0] == 500
    assert ask(monitor, sortby="endtime")[0] == 500
    assert urllib3.request("GET", f"{monitor.base}/jobs/", retries=False, redirect=False).status == 302


def test_the_same_question_is_answered_from_a_cache(monitor):
    assert found(monitor, timestamp="1") == [6, 5, 4, 3, 2, 1]
    monitor.rows = []
    assert (len(found(monitor, timestamp="1")), found(monitor, timestamp="2")) == (6, [])
