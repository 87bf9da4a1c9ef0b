"""Which place breaks jobs: exact where it can be counted, and on simulated clouds as sure as it says."""

from math import exp

import pytest
from scipy.stats import nchypergeom_fisher

from skytally.alarms import failure_rate_test
from skytally.alarms.failure_rate_test import LEVEL, USUAL_ODDS, Cell, Comparison, Stratum, faulty
from tests.support.jobs_lab import HOURS_LONGER, STEPS_A_MONTH, STEPS_AN_HOUR, Fleet, Watch

CLOUDS = [f"cloud-{n}" for n in range(15)]


def compared(*cells):
    return Comparison([Cell(*cell) for cell in cells])


def task(name, jobs, failed, clouds=CLOUDS, kind="a"):
    return [(cloud, kind, name, jobs, failed) for cloud in clouds]


def chance(jobs, failed, other_jobs, other_failed):
    """Return the chance of so many failures or more, where the odds here are USUAL_ODDS of the others', by SciPy."""
    return law_by_scipy(jobs, failed, other_jobs, other_failed).sf(failed - 1)


def law_by_scipy(jobs, failed, other_jobs, other_failed):
    """Return Fisher's noncentral hypergeometric distribution of the failures here, their total fixed."""
    return nchypergeom_fisher(jobs + other_jobs, jobs, failed + other_failed, USUAL_ODDS)


@pytest.mark.parametrize("jobs", [1, 4, 60, 900])
@pytest.mark.parametrize(("others", "their_failed"), [(1, 0), (1, 1), (50, 3), (900, 899), (5_000, 70)])
def test_the_law_of_a_stratum_is_fisher_s_noncentral_hypergeometric(jobs, others, their_failed):
    failed = (jobs + 1) // 2
    law = dict(failure_rate_test._law(Stratum(jobs, failed, others, their_failed)))
    theirs = law_by_scipy(jobs, failed, others, their_failed)
    counts = sorted(law)
    assert (counts[0], counts[-1]) == theirs.support()
    assert [exp(law[n]) for n in counts] == pytest.approx(list(theirs.pmf(counts)), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("jobs", "failed", "others", "their_failed"), [(10, 9, 200, 20), (60, 20, 900, 60), (4, 4, 100, 2), (40, 12, 50, 3)]
)
def test_the_evidence_bounds_the_chance_and_not_by_far(monkeypatch, jobs, failed, others, their_failed):
    monkeypatch.setattr(failure_rate_test, "PRIOR_CORRELATION", 0)
    found = compared(("here", "a", "1", jobs, failed), ("there", "a", "1", others, their_failed)).evidence("here")
    exact = chance(jobs, failed, others, their_failed)
    assert exact <= exp(-found.nats) <= 30 * exact
    assert (found.jobs, found.failed) == (jobs, failed)
    assert found.expected == pytest.approx(jobs * their_failed / others)


def test_a_place_that_is_no_worse_has_none():
    assert compared(*task("1", 20, 4)).evidence("cloud-0").nats == 0
    assert Comparison([]).outliers() == {}
    assert compared(("here", "a", "1", 50, 50)).outliers() == {}


def test_a_bad_task_is_nobodys_fault():
    everywhere = compared(*task("bad", 40, 40), *task("good", 60, 3))
    assert everywhere.outliers() == {}
    mostly_here = compared(*task("bad", 10, 10), ("cloud-3", "a", "bad", 90, 90), *task("good", 60, 3))
    assert mostly_here.outliers() == {}
    only_here = compared(("cloud-3", "a", "bad", 500, 500), *task("good", 60, 3))
    assert only_here.outliers() == {}


def test_tasks_that_run_nowhere_else_tell_together():
    own = [("cloud-3", "a", f"own-{n}", 5, 5) for n in range(12)]
    elsewhere = [(cloud, "a", f"{cloud}-{n}", 5, 0) for cloud in CLOUDS for n in range(5)]
    assert list(compared(*own, *elsewhere).outliers()) == ["cloud-3"]
    other_kind = [(*cell[:1], "b", *cell[2:]) for cell in elsewhere]
    assert list(compared(*own, *other_kind).outliers()) == ["cloud-3"]


def test_jobs_without_a_task_are_compared_within_their_kind():
    usual = [(cloud, "dirac", None, 50, 5) for cloud in CLOUDS if cloud != "cloud-3"]
    assert list(compared(*usual, ("cloud-3", "dirac", None, 50, 40)).outliers()) == ["cloud-3"]
    assert compared(*usual, ("cloud-3", "dirac", None, 50, 9)).outliers() == {}


def test_two_faulty_clouds_do_not_hide_each_other():
    cells = [
        (cloud, "a", name, 10, 6 if cloud in {"cloud-1", "cloud-2"} else 1) for cloud in CLOUDS for name in "pqrstuvwxy"
    ]
    assert sorted(compared(*cells).outliers()) == ["cloud-1", "cloud-2"]


def test_a_cloud_that_is_found_is_no_measure_for_the_others_any_more():
    failed = {"cloud-0": 10, "cloud-1": 7}
    cells = [(cloud, "a", name, 10, failed.get(cloud, 1)) for cloud in CLOUDS[:4] for name in "pqrstuvwxy"]
    assert compared(*cells).evidence("cloud-1").nats < LEVEL
    assert list(compared(*cells).outliers()) == ["cloud-0", "cloud-1"]


def test_clumps_count_for_less():
    even = [(cloud, "a", name, 10, 2) for cloud in CLOUDS[1:] for name in "pqrstuvwxy"]
    clumped = [
        (cloud, "a", name, 10, 10 if (n + m) % 5 == 0 else 0)
        for n, cloud in enumerate(CLOUDS[1:])
        for m, name in enumerate("pqrstuvwxy")
    ]
    own = [("cloud-0", "a", name, 10, 5) for name in "pqrstuvwxy"]
    assert compared(*own, *clumped).evidence("cloud-0").nats < compared(*own, *even).evidence("cloud-0").nats / 3


def test_what_is_known_stays_on_less_and_a_longer_time_needs_the_last_hour_to_agree():
    bad = [(cloud, "a", "1", 40, 30 if cloud == "cloud-3" else 4) for cloud in CLOUDS]
    doubtful = [(cloud, "a", "1", 40, 14 if cloud == "cloud-3" else 4) for cloud in CLOUDS]
    well = task("1", 40, 4)
    assert list(faulty(compared(*bad), compared(*bad), ())) == ["cloud-3"]
    assert faulty(compared(*doubtful), compared(*doubtful), ()) == {}
    assert list(faulty(compared(*doubtful), compared(*doubtful), ["cloud-3"])) == ["cloud-3"]
    assert list(faulty(compared(*doubtful), compared(*bad), ())) == ["cloud-3"]
    assert faulty(compared(*well), compared(*bad), ["cloud-3"]) == {}


def found_within_an_hour(seed, fault, **world):
    """Say whether one of fifteen clouds is found whose good jobs fail with a chance,
    while nothing else makes every cloud fail.
    """
    fleet = Fleet(seed, outages=0, **world)
    for _ in range(HOURS_LONGER * STEPS_AN_HOUR):
        fleet.advance()
    fleet.faults, watch = {"cloud-3": fault}, Watch(fleet)
    for _ in range(STEPS_AN_HOUR):
        watch.step()
    return "cloud-3" in watch.raised


def false_alarms(months, seed, **world):
    """Count the alarms of so many months of clouds of which none is faulty."""
    raised = []
    for month in range(months):
        watch = Watch(Fleet(seed + month, **world))
        for _ in range(STEPS_A_MONTH):
            watch.step()
        raised += watch.raised
    return len(raised)


# ---- simulated months; their lines are counted above, and counting again takes four times as long as simulating ----


@pytest.mark.no_cover
def test_a_few_faulty_clouds_are_found():
    assert sum(found_within_an_hour(seed, 0.6) for seed in range(8)) == 8


@pytest.mark.slow
@pytest.mark.no_cover
def test_of_clouds_that_fail_half_of_their_jobs_95_in_a_hundred_are_found_within_an_hour():
    assert sum(found_within_an_hour(seed, 0.5) for seed in range(1_000, 1_100)) >= 95


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "world", [{}, {"clumps": 0.1, "bad_tasks": 0.06, "usual": 0.2, "odds_spread": 0.25}], ids=["usual", "rough"]
)
def test_fifteen_healthy_clouds_raise_at_most_one_false_alarm_a_month(world):
    assert false_alarms(1, 7_000, **world) <= 1


@pytest.mark.slow
@pytest.mark.no_cover
def test_an_alarm_of_a_faulty_cloud_does_not_flap():
    for seed in range(5):
        fleet = Fleet(seed)
        fleet.faults, watch = {"cloud-3": 0.5}, Watch(fleet)
        for _ in range(24 * STEPS_AN_HOUR):
            watch.step()
        assert watch.raised.count("cloud-3") == 1
