"""Prometheus's text: valid by Prometheus's own parser, true, and for readers only."""

from datetime import UTC, datetime, timedelta

import lab
import pytest
from lab import DOCUMENT_STORES
from prometheus_client.parser import text_string_to_metric_families

from skytally import preflight, wiring
from skytally.documents import Alarm, Cursor, Tally
from skytally.ports import Write
from skytally.tally import ITEMS, KEPT_EVERY, REQUESTS

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
HOSTILE = 'a\\"b\nc{d="e"} 🦉'


def parsed(text):
    """Answer each sample by its name and labels; every family has its help and its type, and comes once."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type in {"gauge", "counter"} for family in families)
    found = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    assert len(found) == sum(len(family.samples) for family in families)
    return found


@pytest.fixture(params=DOCUMENT_STORES)
def scraped(request, home, document_settings, monkeypatch, client, reader, at):
    """Answer what Prometheus reads, on each store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    at(NOW)

    def scrape(headers=reader):
        answer = client.get("dashboard/metrics", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return parsed(answer.text)

    return scrape


def write(index, key, document):
    wiring.documents().write([Write(index, key, 1, document)]).result()


def test_rounds_cursors_alarms_and_the_verdict(scraped, client, bearer):
    before = scraped()
    assert before["skytally_alarms_open", ("cloud", ""), ("kind", "faulty_cloud")] == 0
    assert not [key for key in before if key[0].startswith(("skytally_round", "skytally_preflight"))]
    client.post("alarm-raise")
    preflight.keep(preflight.Verdict(NOW, ()), wiring.objects())
    write("cursor", HOSTILE, Cursor(stands_at=NOW - timedelta(hours=1), asked_at=NOW, error="away"))
    times = {"raised_at": NOW, "seen_at": NOW, "resolved_at": None}
    told = {"message": "…", "state": "raised", "told": "raised", **times}
    for n in range(3):
        write("alarm", f"silent_vm:{n}", Alarm(kind="silent_vm", subject=str(n), cloud=HOSTILE if n else "cern", **told))
    found = scraped()
    assert found["skytally_round_succeeded_timestamp_seconds", ("timer", "alarm_raise")] == NOW.timestamp()
    assert found["skytally_round_failed", ("timer", "alarm_raise")] == 0
    assert found["skytally_round_duration_seconds", ("timer", "alarm_raise")] == 0
    assert found["skytally_cursor_timestamp_seconds", ("source", HOSTILE)] == NOW.timestamp() - 3_600
    assert found["skytally_cursor_failed", ("source", HOSTILE)] == 1
    assert found["skytally_alarms_open", ("cloud", HOSTILE), ("kind", "silent_vm")] == 2
    assert found["skytally_alarms_open", ("cloud", "cern"), ("kind", "silent_vm")] == 1
    assert found["skytally_preflight_safe",] == 1
    assert found["skytally_preflight_timestamp_seconds",] == NOW.timestamp()
    limited = scraped(bearer("reader", clouds=("cern",)))
    assert ("skytally_alarms_open", ("cloud", HOSTILE), ("kind", "silent_vm")) not in limited
    assert limited["skytally_alarms_open", ("cloud", "cern"), ("kind", "silent_vm")] == 1


def test_reports_by_what_they_got_and_their_items(scraped, client, bearer, at):
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=3))
    caller = bearer("reporter", clouds=("uvic",))
    later, earlier = vm.sample(NOW), vm.sample(NOW - timedelta(hours=1))
    bodies = ({"samples": [later, {}]}, {"samples": [earlier]}, {"nothing": 1})
    statuses = [client.post("usage-report", json=body, headers=caller).status_code for body in bodies]
    assert statuses == [200, 200, 400]
    assert client.post("usage-report", json=bodies[0]).status_code == 401
    client.post("job-heartbeat", json={"vm": "vm-1", "jobs": ["5", "x"]}, headers=caller)
    at(NOW + KEPT_EVERY)
    assert client.post("usage-report", json={"samples": [later]}, headers=caller).status_code == 200
    wiring.close()
    found = scraped()
    outcomes = {
        outcome: found["skytally_report_requests_total", ("function", "usage_report"), ("outcome", outcome)] for outcome in REQUESTS
    }
    assert outcomes == {"answered": 3, "refused": 2, "unavailable": 0, "crashed": 0}
    items = {outcome: found["skytally_report_items_total", ("function", "usage_report"), ("outcome", outcome)] for outcome in ITEMS}
    assert items == {"accepted": 2, "stale": 1, "rejected": 1}
    assert found["skytally_report_items_total", ("function", "job_heartbeat"), ("outcome", "rejected")] == 1


def test_counts_of_many_processes_add_up_and_begin_anew_at_midnight(scraped):
    blank = dict.fromkeys(("refused", "unavailable", "crashed", "stale", "rejected"), 0)
    for n, hour_at in enumerate((NOW.replace(minute=0), NOW.replace(hour=0, minute=0), NOW.replace(day=24, hour=23, minute=0))):
        tally = Tally(function="usage_report", hour_at=hour_at, counted_at=hour_at, answered=10**n, accepted=2 * 10**n, **blank)
        write("tally", f"usage_report-{n}", tally)
    found = scraped()
    assert found["skytally_report_requests_total", ("function", "usage_report"), ("outcome", "answered")] == 11
    assert found["skytally_report_items_total", ("function", "usage_report"), ("outcome", "accepted")] == 22
    assert found["skytally_report_requests_total", ("function", "placement_report"), ("outcome", "refused")] == 0


def test_only_readers_read_it(client, scheduler, monkeypatch):
    assert client.get("dashboard/metrics").status_code == 401
    assert client.get("dashboard/metrics", headers=scheduler).status_code == 403
    monkeypatch.setenv("SKYTALLY_OPEN_DASHBOARD", "true")
    wiring.close()
    assert client.get("dashboard/metrics").status_code == 200
