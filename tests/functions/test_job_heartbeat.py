"""job_heartbeat and dirac_collect over HTTP, on both document stores;
the collector's doors are tested on a real DiracX.
"""

from datetime import datetime, timedelta

import pytest

from skytally.app import wiring
from skytally.core.documents import Heartbeat


@pytest.fixture
def beat(document_store, client, bearer):
    def send(body, **who):
        return client.post(
            "job-heartbeat", json=body, headers=bearer("reporter", **{"vm": "vm-1", "clouds": ("uvic",)} | who)
        )

    return send


def test_jobs_show_at_once_and_the_same_again_changes_nothing(beat, client, reader):
    body = {
        "vm": "vm-1",
        "jobs": ["123", "x", "124"],
        "seen_at": "2026-11-24T00:00:00Z",
        "sources": {"processes": 9, "environ": 2},
    }
    for _ in range(2):
        answer = beat(body)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["accepted"], [one["index"] for one in answer.json()["rejected"]]) == (2, [1])
    table = client.get("dashboard/data?view=jobs&by=status", headers=reader).json()["table"]
    assert [(row["cloud"], row["status"], row["job_count"]) for row in table] == [("uvic", "Running", 2)]
    kept = wiring.documents().get("heartbeat", "123@vm-1@uvic", Heartbeat)
    assert kept.claimed_at == datetime.fromisoformat("2026-11-24T00:00:00Z")


def test_only_about_oneself(beat):
    body = {"vm": "vm-2", "jobs": ["1"]}
    assert (beat(body).status_code, beat(body).json()["error"]["code"]) == (403, "not_yours")
    assert beat(body, vm=None).json()["accepted"] == 1


def test_a_vm_without_jobs_says_so(beat):
    assert beat({"vm": "vm-1", "jobs": []}).json()["accepted"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "vm"),
        ({"vm": "vm-1"}, "jobs"),
        ({"vm": "", "jobs": []}, "vm"),
        ({"vm": "vm-1", "jobs": "1"}, "jobs"),
        ({"vm": "vm-1", "jobs": [], "sources": {"processes": -1}}, "sources"),
        ({"vm": "vm-1", "jobs": [], "sources": {"processes": 2**31}}, "sources"),
        ({"vm": "vm-1", "jobs": [], "sources": {"x" * 65: 1}}, "sources"),
        ({"vm": "vm-1", "jobs": [], "sources": {str(n): 1 for n in range(65)}}, "sources"),
        ({"vm": "vm-1", "jobs": [], "seen_at": "noon"}, "seen_at"),
        ({"vm": "vm-1", "jobs": [], "seen_at": "2026-11-24T00:00:00"}, "seen_at"),
        ({"vm": "vm-1", "jobs": [], "seen_at": "9999-12-31T23:59:59-14:00"}, "seen_at"),
    ],
)
def test_what_is_no_report_is_named(beat, body, field):
    answer = beat(body)
    code = "malformed_time" if field == "seen_at" else "malformed"
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert field in answer.json()["error"]["message"]


def test_a_clock_that_is_years_ahead_costs_no_heartbeat(beat, client, reader):
    answer = beat({"vm": "vm-1", "jobs": ["123"], "seen_at": "2099-01-01T00:00:00Z"})
    assert answer.json()["accepted"] == 1
    kept = wiring.documents().get("heartbeat", "123@vm-1@uvic", Heartbeat)
    assert kept.claimed_at.year == 2099
    assert abs(kept.last_seen_at - datetime.fromisoformat(answer.json()["server_time"])) < timedelta(seconds=1)
    assert len(client.get("dashboard/data?view=jobs", headers=reader).json()["table"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        "1e400",
        "9" * 5_000,
        "[" * 900 + "]" * 900,
        '"1\\u0000"',
        '"\\ud83d\\ude00"',
        "null",
        "true",
        '{"id": "1"}',
        '"' + "1" * 9_999 + '"',
    ],
)
def test_a_job_that_is_none_leaves_its_neighbours_alone(beat, client, bearer, wrong):
    who = bearer("reporter", vm="vm-1", clouds=("uvic",)) | {"Content-Type": "application/json"}
    body = '{"vm": "vm-1", "jobs": ["123", WRONG, "124"]}'.replace("WRONG", wrong)
    answer = client.post("job-heartbeat", content=body, headers=who)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["accepted"], [(one["index"], one["code"]) for one in answer.json()["rejected"]]) == (
        2,
        [(1, "malformed_job")],
    )


def test_without_a_door_the_collector_is_off(client):
    assert client.post("dirac-collect").json() == {"state": "off"}


def test_a_door_that_leads_nowhere_is_an_outage(client, beat, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("x")
    monkeypatch.setenv("SKYTALLY_DIRAC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SKYTALLY_DIRAC_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    beat({"vm": "vm-1", "jobs": ["1"]})
    assert (client.post("dirac-collect").status_code, client.post("dirac-collect").json()["error"]["code"]) == (
        503,
        "unavailable",
    )
