"""The overview: whether anything is broken and where, each number against what was sent, on each store."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from skytally.app import wiring
from skytally.core import clock
from skytally.core.documents import Alarm, Anomaly, Cursor, Job, Round
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write
from skytally.core.timestamps import to_ms
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

SPENT = dict.fromkeys(("wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 3_600_000)


@pytest.fixture(params=builders.DOCUMENT_STORES)
def store(request, home, document_settings, monkeypatch):
    """Each document store in turn, at noon."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    return wiring.documents()


@pytest.fixture
def look(store, client, bearer):
    def ask(*clouds, **query):
        headers = (
            bearer("reader", clouds=clouds, issued=clock.now() - MINUTE)
            if clouds
            else bearer("reader", issued=clock.now() - MINUTE)
        )
        answer = client.get("dashboard/data", params={"view": "overview", **query}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.fixture
def report(client, bearer):
    def send(cloud, *samples):
        token = bearer("reporter", clouds=(cloud,), issued=clock.now() - MINUTE)
        answer = client.post("usage-report", json={"samples": samples}, headers=token).json()
        assert answer["rejected"] == []

    return send


@pytest.fixture
def fleet(report):
    """Vms that report, fell silent, ended, came again, and were given up."""

    def boot(name, booted, cores=4):
        return builders.FakeVm(name, boot_at=NOW - booted, cores=cores)

    one, nine = boot("vm-1", 2 * HOUR), boot("vm-9", 2 * HOUR, cores=8)
    report("uvic", one.sample(NOW - HOUR), one.sample(NOW, NOW - HOUR))
    report("uvic", boot("vm-2", 5 * HOUR).sample(NOW - 3 * HOUR))
    report("uvic", boot("vm-3", 5 * HOUR).sample(NOW - 3 * HOUR, final=True))
    report("uvic", boot("vm-4", 9 * HOUR).sample(NOW - 4 * HOUR), boot("vm-4", HOUR, cores=2).sample(NOW))
    report("uvic", boot("vm-5", timedelta(days=9)).sample(NOW - timedelta(days=8)))
    report("cern", nine.sample(NOW - HOUR), nine.sample(NOW, NOW - HOUR))


def keep(store, *writes):
    """Keep documents, or fail where the store refuses one."""
    assert set(store.write(writes).result()) <= {Outcome.STORED}


def jobs(store, cloud, *statuses, ended=30 * MINUTE, **fields):
    """Keep jobs that ended so long ago."""
    blank = dict.fromkeys(Job.__struct_fields__) | {"changed_at": NOW, "seen_at": NOW, "cores": 1, "multicore": False}
    for n, status in enumerate(statuses):
        number = f"{cloud}-{ended}-{fields.get('error')}-{n}"
        named = {"system": "panda", "job_id": number, "cloud": cloud, "status": status, "final_at": NOW - ended}
        keep(store, Write("job", f"panda/{number}", 1, Job(**blank | SPENT | named | fields)))


def alarm(kind, subject, cloud, **fields):
    times = {"raised_at": NOW - HOUR, "seen_at": NOW, "resolved_at": None}
    blank = {"message": f"{subject}!", "state": "raised", "told": "raised"}
    return Write(
        "alarm", f"{kind}:{subject}", 1, Alarm(kind=kind, subject=subject, cloud=cloud, **blank | times | fields)
    )


def test_a_time_to_come_makes_no_vm_silent(store, fleet, look):
    now, to_come = look(), look(until="2026-11-27T12:00:00Z")
    assert (to_come["until"], to_come["table"]) == (now["until"], now["table"])


def test_of_a_time_gone_by_vms_are_not_known_and_sums_are(store, fleet, look):
    answer = look(until="2026-11-25T09:00:00Z")
    uvic = next(row for row in answer["table"] if row["cloud"] == "uvic")
    assert (uvic["reporting_vms"], uvic["silent_vms"], uvic["booting_vms"]) == (None, None, None)
    assert (answer["totals"]["reporting_vms"], uvic["core_hours"]) == (None, 8.0)


def test_a_row_a_cloud_of_the_last_hour_worst_first(store, fleet, look):
    jobs(store, "uvic", "finished", "Done", "subfinished", "cancelled")
    jobs(store, "uvic", "failed", error="pilot 1099", error_message="stage-in")
    jobs(store, "uvic", "failed", "Failed", error="trans 65", error_message="segfault")
    jobs(store, "uvic", "failed", "failed", "failed", ended=2 * HOUR, error="pilot 1305")
    jobs(store, "cern", "finished", "finished")
    answer = look()
    uvic, cern = answer["table"]
    assert uvic == {
        "cloud": "uvic",
        "reporting_vms": 2,
        "silent_vms": 1,
        "booting_vms": 0,
        "core_hours": 6.0,
        "cpu_hours": 3.0,
        "efficiency": 0.5,
        "job_count": 7,
        "finished_count": 3,
        "failed_count": 3,
        "failed_share": 0.5,
        "commonest_error": "trans 65",
        "commonest_error_message": "segfault",
        "commonest_error_count": 2,
        "open_alarms": 0,
    }
    shown = ("cloud", "reporting_vms", "core_hours", "job_count", "failed_share", "commonest_error")
    assert [cern[name] for name in shown] == ["cern", 1, 8.0, 2, 0.0, None]
    expected = {"reporting_vms": 3, "silent_vms": 1, "core_hours": 14.0, "job_count": 9, "failed_count": 3}
    assert answer["totals"].items() >= (expected | {"failed_share": 0.375, "open_alarms": 0}).items()
    assert (answer["from"], answer["until"], answer["step_seconds"]) == (
        "2026-11-25T11:00:00Z",
        "2026-11-25T12:00:00Z",
        3600,
    )


def test_the_curve_is_of_the_last_day_by_hour(store, look):
    jobs(store, "uvic", "finished", "failed", "failed", "closed", ended=5 * HOUR)
    jobs(store, "uvic", "finished", ended=23 * HOUR)
    jobs(store, "uvic", "failed", ended=25 * HOUR)
    points = look()["series"]
    assert [tuple(point.values()) for point in points] == [
        ("2026-11-24T13:00:00Z", "2026-11-24T14:00:00Z", "uvic", 1, 0, 0.0),
        ("2026-11-25T07:00:00Z", "2026-11-25T08:00:00Z", "uvic", 1, 2, 0.666667),
    ]
    assert look(part="series")["series"] == points


def test_open_alarms_come_first_and_lead_to_their_evidence(store, fleet, look):
    jobs(store, "uvic", "failed", error="trans 65")
    keep(
        store,
        alarm("faulty_cloud", "cern", "cern", error="pilot 1099"),
        alarm("silent_vm", "vm-2", "uvic", state="resolved", resolved_at=NOW),
        alarm("stale_timer", "secret_sweep", None, raised_at=NOW - 2 * HOUR),
    )
    answer = look()
    assert [(row["cloud"], row["open_alarms"]) for row in answer["table"]] == [("cern", 1), ("uvic", 0)]
    assert [(one["kind"], one["subject"], one["message"]) for one in answer["alarms"]] == [
        ("faulty_cloud", "cern", "cern!"),
        ("stale_timer", "secret_sweep", "secret_sweep!"),
    ]
    assert answer["alarms"][0]["evidence"] == {
        "view": "jobs",
        "by": "job",
        "status": "failed",
        "error": "pilot 1099",
        "cloud": "cern",
        "from": "2026-11-25T05:00:00Z",
        "until": "2026-11-25T12:00:00Z",
    }
    assert (answer["totals"]["open_alarms"], answer["open_alarms"]) == (2, 2)


def test_every_view_counts_the_open_alarms_of_the_readers_clouds(store, fleet, look):
    keep(store, alarm("faulty_cloud", "cern", "cern"), alarm("stale_timer", "secret_sweep", None))
    for view in ("overview", "usage", "jobs", "secrets", "health"):
        assert (look(view=view)["open_alarms"], look("cern", view=view)["open_alarms"]) == (2, 1)
        assert look("uvic", view=view, part="series")["open_alarms"] == 0
        assert look(view=view, cloud="uvic")["open_alarms"] == 2


def test_a_reader_sees_the_clouds_of_its_token(store, fleet, look):
    jobs(store, "uvic", "failed")
    answer = look("cern")
    assert [row["cloud"] for row in answer["table"]] == ["cern"]
    assert (answer["series"], answer["choices"], answer["totals"]["job_count"]) == ([], {"cloud": ["cern"]}, 0)


def test_timers_and_sources_that_fail_or_are_late(store, look):
    def round_(name, ago, error=None):
        at = NOW - ago
        return Write("round", name, 1, Round(name=name, started_at=at, finished_at=at, succeeded_at=at, error=error))

    def cursor(name, ago, error=None):
        return Write("cursor", name, 1, Cursor(stands_at=NOW - ago, asked_at=NOW, error=error))

    rounds = [round_("alarm_raise", 2 * HOUR), round_("documents_forget", 2 * HOUR)]
    rounds.append(round_("secret_sweep", MINUTE, "the object store is away"))
    cursors = [cursor("panda/a", 30 * MINUTE), cursor("panda/b", 2 * HOUR), cursor("panda/c", MINUTE, "403")]
    keep(store, *rounds, *cursors)
    answer = look()
    assert [(row["subject"], row["state"], row["period_seconds"]) for row in answer["late"]] == [
        ("alarm_raise", "well", 300),
        ("secret_sweep", "failing", 300),
        ("panda/b", "well", None),
        ("panda/c", "failing", None),
    ]
    counted = {"failing_timers": 1, "timers_never_run": 0, "failing_sources": 1, "unreadable_things": 0}
    assert answer["totals"].items() >= counted.items()


def test_vms_whose_secret_waits_or_was_just_taken_are_booting(store, look, client, bearer, report, monkeypatch):
    now = datetime.now(UTC).replace(microsecond=0)  # The preflight compares our clock with the object store's.
    monkeypatch.setattr("skytally.core.clock.now", lambda: now)
    scheduler = bearer("scheduler", issued=clock.now() - MINUTE)

    def deposit(vm):
        body = {"vm": vm, "cloud": "uvic", "payload": base64.b64encode(b"x").decode()}
        return client.post("secret-deposit", json=body, headers=scheduler).json()["token"]

    def take(token):
        assert client.post("secret-claim", data=builders.claim_form(token, builders.public_key())).status_code == 200

    deposit("vm-waits")
    take(deposit("vm-took"))
    assert [(row["cloud"], row["booting_vms"]) for row in look()["table"]] == [("uvic", 2)]
    report("uvic", builders.FakeVm("vm-took", boot_at=now - MINUTE).sample(now))
    assert [row["booting_vms"] for row in look()["table"]] == [1]
    monkeypatch.setattr("skytally.dashboard.overview.MOST_SECRETS", 1)
    assert [row["booting_vms"] for row in look()["table"]] == [None]


def test_an_object_store_that_is_away_costs_its_own_number(store, fleet, look, monkeypatch):
    def away(*_):
        raise Unavailable("the object store is away")

    monkeypatch.setattr(type(wiring.objects()), "list", away)
    assert [(row["cloud"], row["reporting_vms"], row["booting_vms"]) for row in look()["table"]] == [
        ("uvic", 2, None),
        ("cern", 1, None),
    ]


def test_a_vm_that_lives_over_the_months_end_reports_and_one_from_a_snapshot_too(store, report, look, monkeypatch):
    now = datetime(2026, 12, 1, 4, tzinfo=UTC)
    edge = datetime(2026, 12, 1, tzinfo=UTC)
    monkeypatch.setattr("skytally.core.clock.now", lambda: now)
    vm = builders.FakeVm("vm-1", boot_at=edge - 5 * HOUR)
    report("uvic", vm.sample(edge, month="2026-11"), vm.sample(now, edge))
    report("uvic", builders.FakeVm("vm-back", boot_at=edge - 5 * HOUR).sample(edge, month="2026-11"))
    assert [(row["reporting_vms"], row["silent_vms"]) for row in look()["table"]] == [(1, 1)]
    label = f"vm-back-{edge - 5 * HOUR:%Y%m%dT%H%M%SZ}@uvic"
    back = Anomaly(label=label, vm="vm-back", cloud="uvic", month="2026-11", at=now, uptime_ms=1, known_uptime_ms=2)
    keep(store, Write("anomaly", f"{label}-2026-11", to_ms(now), back))
    assert [(row["reporting_vms"], row["silent_vms"]) for row in look()["table"]] == [(2, 0)]


def test_health_tells_what_is_off_and_every_time_that_an_alarm_was_open(store, client, report, look, round_at):
    vm = builders.FakeVm("vm-3", boot_at=NOW - 9 * HOUR)
    report("uvic", vm.sample(NOW - 8 * HOUR))
    for hours in (-5, -1):
        assert round_at(NOW + hours * HOUR)["raised"] == 1
        report("uvic", vm.sample(NOW + hours * HOUR))
        assert round_at(NOW + hours * HOUR + 10 * MINUTE)["resolved"] == 1
    round_at(NOW)
    answer = look(view="health")
    history = [row for row in answer["history"] if row["kind"] == "silent_vm"]
    assert [(row["raised_at"], row["resolved_at"], row["open_seconds"]) for row in history] == [
        ("2026-11-25T11:00:00Z", "2026-11-25T11:10:00Z", 600.0),
        ("2026-11-25T07:00:00Z", "2026-11-25T07:10:00Z", 600.0),
    ]
    assert history[0]["evidence"]["vm"] == "vm-3"
    timers = {
        row["subject"]: (row["state"], row["period_seconds"]) for row in answer["table"] if row["kind"] == "timer"
    }
    assert timers == {
        "alarm_raise": ("well", 300),
        "dirac_collect": ("off", 900),
        "documents_forget": (None, 3600),
        "panda_collect": ("off", 1200),
        "secret_sweep": (None, 300),
    }
    assert answer["totals"]["timers_never_run"] == 2
