"""job_heartbeat and dirac_collect over HTTP, on both document stores; the collector's doors are tested on a real DiracX."""

from datetime import datetime

import pytest
from lab import DOCUMENT_STORES

from skytally import wiring
from skytally.documents import Heartbeat


@pytest.fixture(params=DOCUMENT_STORES)
def store(request, home, document_settings, monkeypatch):
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()


@pytest.fixture
def beat(store, client, bearer):
    def send(body, **who):
        return client.post("job_heartbeat", json=body, headers=bearer("reporter", **{"vm": "vm-1", "clouds": ("uvic",)} | who))

    return send


def test_jobs_show_at_once_and_the_same_again_changes_nothing(beat, client, reader):
    body = {"vm": "vm-1", "jobs": ["123", "x", "124"], "seen_at": "2026-11-24T00:00:00Z", "sources": {"processes": 9, "environ": 2}}
    for _ in range(2):
        answer = beat(body)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["accepted"], [one["index"] for one in answer.json()["rejected"]]) == (2, [1])
    table = client.get("dashboard/data?view=jobs", headers=reader).json()["table"]
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
    "body", [{}, {"vm": "vm-1"}, {"vm": "", "jobs": []}, {"vm": "vm-1", "jobs": "1"}, {"vm": "vm-1", "jobs": [], "seen_at": "noon"}]
)
def test_what_is_no_report_is_named(beat, body):
    answer = beat(body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed")


def test_without_a_door_the_collector_is_off(client):
    assert client.post("dirac_collect").json() == {"state": "off"}


def test_a_door_that_leads_nowhere_is_an_outage(client, beat, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("x")
    monkeypatch.setenv("SKYTALLY_DIRAC_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SKYTALLY_DIRAC_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    beat({"vm": "vm-1", "jobs": ["1"]})
    assert (client.post("dirac_collect").status_code, client.post("dirac_collect").json()["error"]["code"]) == (503, "unavailable")
