"""Prometheus's text: valid by Prometheus's own parser, true, and for readers only."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from skytally.app import wiring
from skytally.core.documents import Alarm, Cursor, Round, Tally
from skytally.core.ports import Write
from skytally.deployment.catalog import FUNCTIONS, longest_gap_seconds
from skytally.operation.report_counters import ITEMS, KEPT_EVERY, REQUESTS
from skytally.secrets import preflight
from tests.support import builders
from tests.support.builders import DOCUMENT_STORES

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
SUCCEEDED, PERIOD = "skytally_round_succeeded_timestamp_seconds", "skytally_timer_period_seconds"
ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "infra" / "prometheus" / "skytally.rules.yaml"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("CI") != "true",
    reason="promtool is not installed: see localstack/provide.py",
)
HOSTILE = 'a\\"b\nc{d="e"} 🦉'


def parsed(text):
    """Return each sample by its name and labels; every family has its help and its type, and comes once."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type in {"gauge", "counter"} for family in families)
    found = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    assert len(found) == sum(len(family.samples) for family in families)
    return found


@pytest.fixture(params=DOCUMENT_STORES)
def scraped(request, home, document_settings, monkeypatch, client, reader, at):
    """Return what Prometheus reads, on each store in turn."""
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


def promtool(*words, text=""):
    return subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, timeout=60, check=False)


def write(index, key, document):
    wiring.documents().write([Write(index, key, 1, document)]).result()


def test_rounds_cursors_alarms_and_the_verdict(scraped, client, bearer):
    before = scraped()
    assert before["skytally_alarms_open", ("cloud", ""), ("kind", "faulty_cloud")] == 0
    assert {key[0] for key in before if "_round_" in key[0] or "_preflight_" in key[0]} == {SUCCEEDED}
    client.post("alarm-raise")
    preflight.keep(preflight.Verdict(NOW, ()), wiring.objects())
    write("cursor", HOSTILE, Cursor(stands_at=NOW - timedelta(hours=1), asked_at=NOW, error="away"))
    times = {"raised_at": NOW, "seen_at": NOW, "resolved_at": None}
    told = {"message": "…", "state": "raised", "told": "raised", **times}
    for n in range(3):
        write(
            "alarm", f"silent_vm:{n}", Alarm(kind="silent_vm", subject=str(n), cloud=HOSTILE if n else "cern", **told)
        )
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
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=3))
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
        outcome: found["skytally_report_requests_total", ("function", "usage_report"), ("outcome", outcome)]
        for outcome in REQUESTS
    }
    assert outcomes == {"answered": 3, "refused": 2, "unavailable": 0, "crashed": 0}
    items = {
        outcome: found["skytally_report_items_total", ("function", "usage_report"), ("outcome", outcome)]
        for outcome in ITEMS
    }
    assert items == {"accepted": 2, "stale": 1, "rejected": 1}
    assert found["skytally_report_items_total", ("function", "job_heartbeat"), ("outcome", "rejected")] == 1


def test_counts_of_many_processes_add_up_and_begin_anew_at_midnight(scraped):
    blank = dict.fromkeys(("refused", "unavailable", "crashed", "stale", "rejected"), 0)
    for n, hour_at in enumerate(
        (NOW.replace(minute=0), NOW.replace(hour=0, minute=0), NOW.replace(day=24, hour=23, minute=0))
    ):
        tally = Tally(
            function="usage_report", hour_at=hour_at, counted_at=hour_at, answered=10**n, accepted=2 * 10**n, **blank
        )
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


def timers(found, name):
    """Return a family's values by timer."""
    return {dict(labels)["timer"]: value for (family, *labels), value in found.items() if family == name}


def write_round(name, started_at, succeeded_at):
    write(
        "round",
        name,
        Round(name=name, started_at=started_at, finished_at=started_at, succeeded_at=succeeded_at, error=None),
    )


def test_each_timer_has_its_period_and_its_last_success_or_0(scraped, monkeypatch):
    monkeypatch.setenv("SKYTALLY_PANDA_URL", "https://bigpanda.example.org")
    monkeypatch.setenv("SKYTALLY_DIRAC_URL", "https://diracx.example.org")
    wiring.close()
    write_round("alarm_raise", NOW, NOW - timedelta(hours=5))
    write_round("secret_sweep", NOW, None)
    found = scraped()
    periods = {
        "alarm_raise": 300,
        "secret_sweep": 300,
        "dirac_collect": 900,
        "panda_collect": 1_200,
        "documents_forget": 3_600,
    }
    assert timers(found, PERIOD) == periods
    assert timers(found, SUCCEEDED) == dict.fromkeys(periods, 0) | {"alarm_raise": NOW.timestamp() - 5 * 3_600}
    assert set(periods) == {function.name for function in FUNCTIONS if function.schedule}


def test_a_timer_that_is_off_has_no_period_unless_it_did_a_round_within_a_week(scraped):
    assert set(timers(scraped(), PERIOD)) == {"alarm_raise", "secret_sweep", "documents_forget"}
    write_round("panda_collect", NOW - timedelta(days=6), NOW - timedelta(days=6))
    write_round("dirac_collect", NOW - timedelta(days=7), NOW - timedelta(days=7))
    found = scraped()
    assert set(timers(found, PERIOD)) == {"alarm_raise", "secret_sweep", "documents_forget", "panda_collect"}
    assert set(timers(found, SUCCEEDED)) == set(timers(found, PERIOD))


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("*/5 * * * *", 300),
        ("*/25 * * * *", 1_500),
        ("17 * * * *", 3_600),
        ("17 3 * * *", 86_400),
        ("17 3 * * 0", 604_800),
        ("0 8-18 * * 1-5", 62 * 3_600),
    ],
)
def test_a_period_is_the_longest_gap_of_a_schedule(schedule, seconds):
    assert longest_gap_seconds(schedule) == seconds


@needs_promtool
def test_prometheus_own_linter_has_nothing_to_say(client, reader, at):
    at(NOW)
    client.post("alarm-raise")
    preflight.keep(preflight.Verdict(NOW, ()), wiring.objects())
    write("cursor", HOSTILE, Cursor(stands_at=NOW, asked_at=NOW, error="away"))
    text = client.get("dashboard/metrics", headers=reader).text
    linted = promtool("check", "metrics", text=text)
    assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")


@needs_promtool
@pytest.mark.parametrize(
    ("succeeded_hours", "period_hours", "silent_at_hours", "raised_at_hours"),
    [(1, 24, (2, 25, 72), (74, 100)), (10, 1, (11, 13), (14, 20)), (0, 1, (1, 3), (4, 20))],
    ids=["daily", "hourly", "never succeeded"],
)
def test_the_rule_raises_a_timer_after_three_of_its_own_periods(
    tmp_path, succeeded_hours, period_hours, silent_at_hours, raised_at_hours
):
    """Moments are hours after 1970, where promtool's clock begins."""
    labels = '{timer="documents_forget",job="skytally"}'
    series = {f"{SUCCEEDED}{labels}": succeeded_hours * 3_600, f"{PERIOD}{labels}": period_hours * 3_600}
    raised = {
        "exp_labels": {"timer": "documents_forget", "job": "skytally", "severity": "warning"},
        "exp_annotations": {"summary": "documents_forget has had no successful round in three of its periods"},
    }
    expected = {hours: [] for hours in silent_at_hours} | {hours: [raised] for hours in raised_at_hours}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value}x{101 * 60}"} for name, value in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{hours}h", "alertname": "SkytallyTimerFails", "exp_alerts": alerts}
            for hours, alerts in expected.items()
        ],
    }
    path = tmp_path / "test.json"
    path.write_text(json.dumps({"rule_files": [str(RULES)], "tests": [test]}))
    tested = promtool("test", "rules", str(path))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_the_rule_file_is_the_documented_rule():
    checked = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (rule,) = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert f"`{rule['expr']}`" in (ROOT / "docs/alarms.md").read_text()
