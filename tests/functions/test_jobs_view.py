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


COUNTS = ("job_count", "finished_count", "failed_count", "other_count", "failed_share")


def test_a_row_a_cloud_worst_first_with_what_runs_as_it_is_now(view):
    answer = view()
    assert rows(answer, "cloud", *COUNTS, "wall_hours", "cpu_hours", "wasted_core_hours") == [
        ("cern", 4, 0, 4, 0, 1, 4, 24, 32),
        ("uvic", 5, 3, 1, 1, 0.25, 5, 24, 8),
        ("unknown", 1, 1, 0, 0, 0, 1, 6, 0),
    ]
    assert answer["coverage"] == round(8 / 9, 6)
    counts = ("job_count", "finished_count", "failed_count", "cancelled_count", "closed_count", "failed_share")
    assert [tuple(point[name] for name in ("at", "cloud", *counts)) for point in answer["series"]] == [
        ("2026-11-25T11:00:00Z", "cern", 4, 0, 4, 0, 0, 1),
        ("2026-11-25T11:00:00Z", "unknown", 1, 1, 0, 0, 0, 0),
        ("2026-11-25T11:00:00Z", "uvic", 4, 3, 1, 0, 0, 0.25),
    ]
    assert {tuple(point[name] for name in ("core_hours", "cpu_hours", "efficiency")) for point in answer["series"]} == {
        (32, 24, 0.75),
        (8, 6, 0.75),
    }


def test_a_row_a_cloud_and_status(view):
    assert set(rows(view(by="status"), "cloud", "status", "job_count", "wasted_core_hours")) == {
        ("cern", "failed", 4, 32),
        ("unknown", "finished", 1, 0),
        ("uvic", "failed", 1, 8),
        ("uvic", "finished", 3, 0),
        ("uvic", "running", 1, 0),
    }


def test_every_status_has_an_outcome_and_what_was_killed_or_goes_on_is_no_failure(view):
    statuses = ("subfinished", "Done", "Completed", "Failed", "cancelled", "Killed", "closed", "unknown_to_dirac")
    fates = [job(60 + n, cloud="fates", status=status) for n, status in enumerate(statuses)]
    again = job(70, cloud="fates", status="Failed", final_at=None)
    wiring.documents().write([*fates, again, job(71, cloud="killed", status="cancelled")]).result()
    names = ("finished_count", "failed_count", "cancelled_count", "closed_count", "other_count", "failed_share")
    assert rows(view(cloud="fates"), "job_count", *names) == [(9, 3, 1, 2, 1, 2, 0.25)]
    assert rows(view(), "cloud", "failed_share")[-1] == ("killed", None)


@pytest.mark.parametrize(
    ("status", "count", "ended"),
    [("finished", 4, 4), ("failed", 5, 5), ("cancelled", 0, 0), ("closed", 1, 1), ("other", 3, 1), ("Failed", 1, 0)],
)
def test_a_status_or_an_outcome_is_a_filter(view, status, count, ended):
    fates = [job(72, status="closed"), job(73, status="Failed", final_at=None), job(74, status="unknown_to_dirac")]
    wiring.documents().write(fates).result()
    answer = view(status=status)
    assert answer["totals"]["job_count"] == count
    assert sum(point["job_count"] for point in answer["series"]) == ended
    assert len(view(status=status, by="job")["table"]) == count


def test_the_window_decides_and_what_is_over_shows_nothing_that_runs(view):
    past = view(until="2026-11-23T00:00:00Z")
    assert rows(past, "cloud", "job_count", "finished_count") == [("uvic", 1, 1)]
    assert sum(count for (count,) in rows(view(window="week"), "job_count")) == 11


def test_other_displays(view):
    assert rows(view(by="error", cloud="cern"), "error", "error_message", "job_count", "failed_count") == [
        ("pilot 1099", "stage-in failed", 4, 4)
    ]
    names = ("processing_type", "transformation", "job_count", "failed_share", "mean_max_pss_bytes")
    assert rows(view(by="kind"), *names) == [(None, None, 8, 0.571429, None), ("simul", "Sim_tf.py", 2, 0.5, 4e9)]
    assert rows(view(by="cores"), "multicore", "job_count", "failed_share") == [(False, 1, 1), (True, 9, 0.5)]
    assert rows(view(by="release"), "release", "job_count", "failed_count") == [(None, 8, 4), ("23.0", 2, 1)]
    wiring.documents().write([job(80, site="CERN-PROD"), job(81, site="CERN-PROD", **FAILED)]).result()
    sites = rows(view(by="site", cloud="uvic"), "cloud", "site", "failed_share")
    assert sites == [("uvic", "CERN-PROD", 0.5), ("uvic", None, 0.25)]


def test_errors_come_by_their_number_and_what_has_none_last(view):
    wiring.documents().write([job(90 + n, **FAILED | {"error": "pilot 1305"}) for n in range(2)]).result()
    assert rows(view(by="error"), "cloud", "error", "job_count") == [
        ("cern", "pilot 1099", 4),
        ("uvic", "pilot 1305", 2),
        ("uvic", "pilot 1099", 1),
        ("uvic", None, 3),
        ("unknown", None, 1),
    ]


def test_a_display_that_there_is_not_is_named(client, reader):
    answer = client.get("dashboard/data?view=jobs&by=moon", headers=reader)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "by")


def test_single_jobs_with_what_is_known_of_each_newest_first(view):
    wiring.documents().write([job(14, cloud="cern", final_at=NOW - timedelta(minutes=5), **FAILED)]).result()
    answer = view(by="job", cloud="cern", limit=2)
    assert (answer["row_count"], rows(answer, "job_id", "system", "error", "final_at", "wasted_core_hours")) == (
        5,
        [
            ("14", "panda", "pilot 1099", "2026-11-25T11:55:00Z", 8),
            ("10", "panda", "pilot 1099", "2026-11-25T11:00:00Z", 8),
        ],
    )
    assert rows(view(by="job", cloud="uvic"), "job_id", "final_at")[-1] == ("20", None)
    assert [row["status"] for row in view(by="job", error="pilot 1099")["table"]] == ["failed"] * 6


def test_a_job_says_where_to_read_more_of_it(view, monkeypatch):
    monkeypatch.setenv("SKYTALLY_PANDA_URL", "https://bigpanda.example.org/")
    wiring.close()
    log = "https://pilots.example.org/logs/1.out"
    known = {"error_raw": "pilot 1099: no route\nddm 200: late", "batch_id": "s#1.0#2", "joined_by": "batch_id"}
    wiring.documents().write(
        [
            job(6100000001, cloud="told", task_id="9", log_url=log, **FAILED | known),
            job(5, cloud="told", system="dirac", final_at=NOW - timedelta(hours=2)),
        ]
    ).result()
    first, second = view(by="job", cloud="told")["table"]
    assert [first[name] for name in ("error_raw", "batch_id", "cloud_known_by", "task_id")] == [
        *known.values(),
        "9",
    ]
    assert first["links"] == [
        {"title": "BigPanDA", "url": "https://bigpanda.example.org/job/6100000001/"},
        {"title": "log", "url": log},
    ]
    assert (second["links"], second["error_raw"], second["batch_id"]) == ([], None, None)


def test_no_password_of_a_monitors_address_is_shown(view, monkeypatch):
    monkeypatch.setenv("SKYTALLY_PANDA_URL", "https://robot:secret@bigpanda.example.org")
    wiring.close()
    assert {len(row["links"]) for row in view(by="job")["table"]} == {0}


def test_too_many_single_jobs_are_told_and_not_listed(view, monkeypatch):
    monkeypatch.setattr("skytally.dashboard.job_details.MOST_JOBS", 4)
    assert view(by="job", cloud="cern")["row_count"] == 4
    with pytest.raises(AssertionError, match="name a vm, an error or a shorter window"):
        view(by="job")


def test_jobs_whose_cloud_or_times_nobody_knows_are_counted(view):
    wiring.documents().write([job(40, doubt="ended before it began"), job(41, doubt="more CPU than cores")]).result()
    answer = view()
    assert answer["doubts"] == [{"kind": "unknown_cloud", "job_count": 1}, {"kind": "impossible_times", "job_count": 2}]
    assert answer["totals"]["job_count"] == sum(row["job_count"] for row in answer["table"])
    assert answer["choices"]["cloud"] == ["cern", "unknown", "uvic"]


def test_jobs_by_task_and_of_one_task(view):
    wiring.documents().write(
        [job(50, task_id="77", transformation="Reco_tf.py"), job(51, task_id="77", transformation="Reco_tf.py")]
    ).result()
    assert ("77", "Reco_tf.py", 2) in rows(view(by="task"), "task_id", "transformation", "finished_count")
    assert rows(view(task="77"), "cloud", "job_count") == [("uvic", 2)]


def buckets(answer):
    """Return what is in each bucket that something is in: begin, end, and counts by outcome."""
    lists = [list(bucket.values()) for bucket in answer["buckets"]]
    return [tuple(values) for values in lists if any(values[2:])]


@pytest.fixture
def spread(view):
    """Add jobs of a cloud whose values lie at the edges of buckets, and just below."""
    wall = [(100, 3_600_000 - 1), (101, 3_600_000), (102, 1), (103, 10**10), (104, 0)]
    pss = [(110, 2 * 1_024**3 - 1), (111, 2 * 1_024**3)]
    shares = [(120, 0), (121, 5), (122, 99), (123, 100), (124, 130)]
    jobs = [job(n, cloud="edges", core_ms_with_cpu=0, wall_ms=wall_ms) for n, wall_ms in wall]
    jobs += [job(n, cloud="memory", max_pss_bytes=most, work_folder_bytes=0) for n, most in pss]
    jobs += [job(n, cloud="cpu", cpu_ms=cpu, core_ms_with_cpu=100) for n, cpu in shares]
    jobs += [job(130, cloud="edges", **FAILED), job(131, cloud="edges", status="Killed"), job(132, status="closed")]
    wiring.documents().write(jobs).result()
    return view


def test_run_times_are_counted_in_round_buckets_by_outcome(spread):
    answer = spread(part="distribution", of="run_seconds", cloud="edges")
    assert (answer["unit"], answer["of"], answer["unknown_count"]) == ("seconds", "run_seconds", 1)
    assert buckets(answer) == [
        (0, 1, 1, 0, 0, 0),
        (2_700, 3_600, 1, 0, 0, 0),
        (3_600, 5_400, 1, 1, 1, 0),
        (1_209_600, None, 1, 0, 0, 0),
    ]
    assert 20 <= len(answer["buckets"]) <= 40
    assert answer["table"][0] == {
        "of": "run_seconds",
        "value_from": 0,
        "value_until": 1,
        "finished_count": 1,
        **dict.fromkeys(("failed_count", "cancelled_count", "closed_count"), 0),
    }


def test_memory_disk_and_efficiency_too(spread):
    gibibyte = 1_024**3
    assert buckets(spread(part="distribution", of="max_pss_bytes", cloud="memory")) == [
        (1.5 * gibibyte, 2 * gibibyte, 1, 0, 0, 0),
        (2 * gibibyte, 3 * gibibyte, 1, 0, 0, 0),
    ]
    assert buckets(spread(part="distribution", of="disk_bytes", cloud="memory"))[0][2] == 2
    assert buckets(spread(part="distribution", of="efficiency", cloud="cpu")) == [
        (0, 0.05, 1, 0, 0, 0),
        (0.05, 0.1, 1, 0, 0, 0),
        (0.95, 1, 1, 0, 0, 0),
        (1, None, 2, 0, 0, 0),
    ]


def test_a_distribution_is_a_table_too_and_filters_hold(spread, client, reader):
    query = "dashboard/data?view=jobs&part=distribution&of=efficiency&until=2026-11-25T12:00:00Z"
    text = client.get(f"{query}&cloud=cern&format=csv", headers=reader).text
    assert "efficiency,0.75,0.8,0,4,0,0" in text
    failed = spread(part="distribution", of="efficiency", status="failed")
    assert buckets(failed) == [(0.75, 0.8, 0, 6, 0, 0)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("view=jobs&part=distribution", "of"),
        ("view=jobs&part=distribution&of=moon", "of"),
        ("view=usage&part=distribution&of=efficiency", "part"),
    ],
)
def test_a_distribution_of_what_there_is_not_is_named(client, reader, query, field):
    answer = client.get(f"dashboard/data?{query}", headers=reader)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_a_distribution_of_a_cloud_that_nobody_knows_is_not_found(client, reader):
    query = "dashboard/data?view=jobs&part=distribution&of=efficiency&cloud=nowhere"
    assert client.get(query, headers=reader).status_code == 404
