"""The jobs view: every job once, in its window, by whatever tells clouds from work."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.app import wiring
from skytally.core.documents import Job
from skytally.core.ports import Write
from tests.support.builders import DOCUMENT_STORES

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR_MS = 3_600_000


USUAL = {
    "system": "panda",
    "status": "finished",
    "cloud": "uvic",
    "final_at": NOW - timedelta(hours=1),
    "cores": 8,
    "multicore": True,
}
SPENT = {
    "wall_ms": HOUR_MS,
    "cpu_ms": 6 * HOUR_MS,
    "core_ms": 8 * HOUR_MS,
    "core_ms_with_cpu": 8 * HOUR_MS,
    "wasted_core_ms": 0,
}
STAGE_IN = {"error": "pilot 1099", "error_component": "pilot", "error_message": "stage-in failed"}
FAILED = {"status": "failed", "wasted_core_ms": 8 * HOUR_MS, **STAGE_IN}
RUNNING = {"status": "running", "final_at": None, "cpu_ms": 0}
KIND = {"processing_type": "simul", "transformation": "Sim_tf.py", "release": "23.0", "max_pss_bytes": 4_000_000_000}


def job(number, **fields):
    """Describe a finished job of an hour on eight cores."""
    blank = dict.fromkeys(Job.__struct_fields__) | {"job_id": str(number), "changed_at": NOW, "seen_at": NOW}
    return Write("job", f"panda/{number}", 1, Job(**blank | USUAL | SPENT | fields))


@pytest.fixture(params=DOCUMENT_STORES)
def view(request, home, document_settings, monkeypatch, client, reader):
    """Fill each store in turn, and answer how it is looked at."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    jobs = [job(n) for n in range(3)] + [job(n, cloud="cern", **FAILED) for n in range(10, 14)] + [job(20, **RUNNING)]
    jobs += [
        job(30, final_at=NOW - timedelta(days=3)),
        job(31, cloud="unknown", **KIND),
        job(32, multicore=False, **KIND, **FAILED),
    ]
    wiring.documents().write(jobs).result()

    def look(**query):
        answer = client.get(
            "dashboard/data", params={"view": "jobs", "until": "2026-11-25T12:00:00Z", **query}, headers=reader
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    return look


def rows(answer, *names):
    return [tuple(row[name] for name in names) for row in answer["table"]]


def test_a_row_a_cloud_and_status_with_what_runs_as_it_is_now(view):
    answer = view()
    assert rows(answer, "cloud", "status", "job_count", "wall_hours", "cpu_hours", "wasted_core_hours") == [
        ("cern", "failed", 4, 4, 24, 32),
        ("unknown", "finished", 1, 1, 6, 0),
        ("uvic", "failed", 1, 1, 6, 8),
        ("uvic", "finished", 3, 3, 18, 0),
        ("uvic", "running", 1, 1, 0, 0),
    ]
    assert answer["coverage"] == round(8 / 9, 6)
    assert [(point["at"], point["cloud"], point["job_count"]) for point in answer["series"]] == [
        ("2026-11-25T11:00:00Z", "cern", 4),
        ("2026-11-25T11:00:00Z", "unknown", 1),
        ("2026-11-25T11:00:00Z", "uvic", 4),
    ]


def test_the_window_decides_and_what_is_over_shows_nothing_that_runs(view):
    past = view(until="2026-11-23T00:00:00Z")
    assert rows(past, "cloud", "status", "job_count") == [("uvic", "finished", 1)]
    assert sum(count for (count,) in rows(view(window="week"), "job_count")) == 11


def test_other_displays(view):
    assert rows(view(by="error", cloud="cern"), "error", "error_message", "job_count") == [
        ("pilot 1099", "stage-in failed", 4)
    ]
    kinds = rows(view(by="kind"), "processing_type", "transformation", "status", "job_count", "mean_max_pss_bytes")
    assert ("simul", "Sim_tf.py", "finished", 1, 4e9) in kinds
    assert (None, None, "finished", 3, None) in kinds
    assert rows(view(by="cores"), "multicore", "status", "job_count")[0] == (False, "failed", 1)
    assert rows(view(by="release"), "release", "status", "job_count")[-1] == ("23.0", "finished", 1)


def test_a_display_that_there_is_not_is_named(client, reader):
    answer = client.get("dashboard/data?view=jobs&by=moon", headers=reader)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "by")


def test_single_jobs_with_what_is_known_of_each_newest_first(view):
    answer = view(by="job", cloud="cern", sort="final_at-down", limit=2)
    assert (answer["row_count"], rows(answer, "job_id", "system", "error", "final_at", "wasted_core_hours")) == (
        4,
        [(str(n), "panda", "pilot 1099", "2026-11-25T11:00:00Z", 8) for n in (10, 11)],
    )
    assert rows(view(by="job", cloud="uvic", sort="job_id-up"), "job_id", "status", "final_at")[-1] == (
        "32",
        "failed",
        "2026-11-25T11:00:00Z",
    )
    assert [row["status"] for row in view(by="job", error="pilot 1099")["table"]] == ["failed"] * 5


def test_too_many_single_jobs_are_told_and_not_listed(view, monkeypatch):
    monkeypatch.setattr("skytally.dashboard.jobs_view.MOST_JOBS", 4)
    assert view(by="job", cloud="cern")["row_count"] == 4
    with pytest.raises(AssertionError, match="name a vm, an error or a shorter window"):
        view(by="job")


def test_jobs_whose_cloud_or_times_nobody_knows_are_counted(view):
    wiring.documents().write([job(40, doubt="ended before it began"), job(41, doubt="more CPU than cores")]).result()
    answer = view()
    assert answer["doubts"] == [{"kind": "unknown_cloud", "job_count": 1}, {"kind": "impossible_times", "job_count": 2}]
    assert answer["totals"]["job_count"] == sum(row["job_count"] for row in answer["table"])
    assert answer["choices"]["cloud"] == ["cern", "unknown", "uvic"]


def test_jobs_by_task(view):
    wiring.documents().write(
        [job(50, task_id="77", transformation="Reco_tf.py"), job(51, task_id="77", transformation="Reco_tf.py")]
    ).result()
    assert ("77", "Reco_tf.py", "finished", 2) in rows(
        view(by="task"), "task_id", "transformation", "status", "job_count"
    )
