"""DIRAC's jobs: each transition, and a fleet of days whose end is DIRAC's own."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally import dirac, heartbeat
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.documents import Heartbeat, Job
from skytally.errors import Unavailable
from skytally.ports import JobState
from skytally.records import Caller, HeartbeatReport

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, QUARTER = timedelta(hours=1), timedelta(minutes=15)
CALLER = Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))


class Door:
    """A DIRAC that says what a test tells it, and counts how often it is asked."""

    def __init__(self, *states):
        self.known = {state.job_id: state for state in states}
        self.calls, self.is_away = 0, False

    def states(self, job_ids):
        self.calls += 1
        if self.is_away:
            raise Unavailable("away")
        return {job_id: self.known[job_id] for job_id in job_ids if job_id in self.known}


@pytest.fixture
def documents(tmp_path):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    yield documents
    documents.close()


def beat(documents, *job_ids, at=0.0, vm="vm-1", caller=CALLER):
    return heartbeat.record(HeartbeatReport(vm=vm, jobs=job_ids), caller, documents, AT + at * HOUR)


def settle(documents, door, at):
    return dirac.settle(door, documents, AT + at * HOUR)


def job(documents, job_id="1"):
    return documents.get("job", f"dirac/{job_id}", Job)


def state(status="Done", job_id=1, ended=None, began=0.0, site="LCG.Victoria.ca", count=0, **more):
    times = {"started_at": AT + began * HOUR, "ended_at": None if ended is None else AT + ended * HOUR}
    return JobState(
        job_id=job_id, status=status, site=site, reschedule_count=count, last_update_at=AT + (ended or 0) * HOUR, **times | more
    )


def test_a_job_shows_as_soon_as_a_vm_names_it(documents):
    assert beat(documents, "1", "2").accepted == 2
    assert (job(documents).status, job(documents).cloud, job(documents).vm, job(documents).final_at) == ("Running", "uvic", "vm-1", None)


def test_ids_that_are_none_are_refused_by_themselves(documents):
    wrong = ["0", "-1", "007", "12 34", "9" * 20, "../1", 5, None, ["1"], ""]
    told = beat(documents, *wrong, "77")
    assert (told.accepted, [one.index for one in told.rejected]) == (1, list(range(len(wrong))))
    assert job(documents, "77") is not None


def test_the_last_time_seen_never_goes_back(documents):
    beat(documents, "1", at=2)
    assert beat(documents, "1", at=1).stale == 1
    kept = documents.get("heartbeat", "1@vm-1@uvic", Heartbeat)
    assert (kept.first_seen_at, kept.last_seen_at) == (AT + 2 * HOUR, AT + 2 * HOUR)


def test_only_what_is_silent_is_asked_about(documents):
    beat(documents, "1")
    beat(documents, "2", at=1.5)
    door = Door(state(ended=0.5), state(job_id=2))
    assert settle(documents, door, 2) == {"running": 1, "asked": 1, "settled": 1}
    assert (job(documents).status, job(documents, "2").status) == ("Done", "Running")
    assert settle(documents, door, 2.1) == {"running": 1, "asked": 0, "settled": 0}


def test_running_time_is_dirac_s_where_it_ran_once_and_here(documents):
    for at in (0.2, 0.45, 0.7):
        beat(documents, "1", at=at)
    settle(documents, Door(state(ended=1.5, began=0.1)), 2)
    assert job(documents).wall_ms == 1.4 * 3_600_000
    assert job(documents).final_at == AT + 1.5 * HOUR


def test_a_job_that_failed_wastes_and_says_why(documents):
    beat(documents, "1")
    settle(documents, Door(state("Failed", ended=1, minor_status="Payload failed", application_status="exit 65 in /tmp/job_12")), 3)
    made = job(documents)
    assert (made.error, made.error_component, made.error_message) == ("Payload failed", "dirac", "exit <N> in <PATH>")
    assert made.wasted_core_ms == 3_600_000


@pytest.mark.parametrize(
    "told", [state("Running", heartbeat_at=AT), state("Stalled"), state("Matched"), state("Completed", ended=1), state("Rescheduled")]
)
def test_what_dirac_does_not_call_final_is_asked_again(documents, told):
    beat(documents, "1")
    assert settle(documents, Door(told), 2)["settled"] == 0
    assert (job(documents).status, job(documents).final_at) == (told.status, None)
    assert settle(documents, Door(state("Done", ended=2)), 3)["settled"] == 1


def test_what_completed_is_over_after_a_day(documents):
    beat(documents, "1")
    assert settle(documents, Door(state("Completed", ended=1)), 26.1)["settled"] == 1


def test_failed_with_the_words_of_a_reschedule_is_not_final(documents):
    beat(documents, "1")
    settle(documents, Door(state("Failed", ended=1, minor_status="Job Rescheduled", count=1, site="ANY")), 2)
    assert (job(documents).final_at, job(documents).attempt) == (None, 1)


def test_failed_rescheduled_and_done_at_another_site(documents):
    beat(documents, "1")
    door = Door(state("Failed", ended=1))
    settle(documents, door, 2)
    assert (job(documents).status, job(documents).final_at) == ("Failed", AT + HOUR)
    door.known[1] = state("Running", site="ANY", count=1)
    settle(documents, door, 3)
    assert (job(documents).status, job(documents).final_at) == ("Running", None)
    door.known[1] = state("Running", site="LCG.Other.org", began=3, count=1)
    settle(documents, door, 4)
    assert (job(documents).cloud, job(documents).site) == ("elsewhere", "LCG.Other.org")
    door.known[1] = state("Done", site="LCG.Other.org", began=3, ended=6, count=1)
    settle(documents, door, 7)
    made = job(documents)
    assert (made.status, made.cloud, made.vm, made.wall_ms) == ("Done", "elsewhere", None, 0)
    assert made.history == "0: Failed at LCG.Victoria.ca; 1: Running at ANY"
    assert settle(documents, door, 8)["asked"] == 0


def test_done_by_a_late_write_and_then_rescheduled_is_reopened(documents):
    beat(documents, "1")
    door = Door(state("Failed", ended=1))
    settle(documents, door, 2)
    door.known[1] = state("Waiting", site="ANY", count=1)
    settle(documents, door, 3)
    assert job(documents).final_at is None


def test_a_job_that_comes_back_to_us_is_ours_again(documents):
    beat(documents, "1")
    settle(documents, Door(state("Killed", ended=1)), 2)
    beat(documents, "1", at=3, vm="vm-2")
    settle(documents, Door(state("Running", count=1, began=3)), 3.5)
    assert (job(documents).cloud, job(documents).vm, job(documents).final_at, job(documents).doubt) == ("uvic", "vm-2", None, None)


def test_a_payload_that_runs_after_its_job_was_done_is_a_zombie(documents):
    beat(documents, "1")
    door = Door(state("Done", ended=1))
    settle(documents, door, 2)
    beat(documents, "1", at=3)
    assert settle(documents, door, 3.1)["asked"] == 1
    assert (job(documents).status, job(documents).doubt) == ("Done", "zombie payload")
    assert settle(documents, door, 3.2)["asked"] == 0


def test_of_two_vms_the_one_that_named_it_last_has_it(documents):
    beat(documents, "1", vm="vm-1")
    beat(documents, "1", vm="vm-2", at=0.5)
    settle(documents, Door(state("Running")), 3)
    assert job(documents).vm == "vm-2"
    assert len(list(documents.find("heartbeat", Heartbeat, {"job_id": ["1"]}))) == 2


@pytest.mark.parametrize("told", [[], [state("Deleted")]])
def test_what_dirac_does_not_know_any_more(documents, told):
    beat(documents, "1")
    settle(documents, Door(*told), 5)
    assert (job(documents).status, job(documents).final_at) == ("Running", None)
    settle(documents, Door(*told), 25)
    assert (job(documents).status, job(documents).final_at) == ("unknown_to_dirac", AT)


def test_words_that_look_like_another_status_are_words(documents):
    beat(documents, "1")
    settle(documents, Door(state("Running", application_status="Executing basf2; step=2; Status=Done; Site=X")), 2)
    assert (job(documents).status, job(documents).application_status) == ("Running", "Executing basf2; step=2; Status=Done; Site=X")


def test_a_dirac_that_is_away_changes_nothing(documents):
    beat(documents, "1")
    door = Door(state("Done", ended=1))
    door.is_away = True
    before = job(documents)
    with pytest.raises(Unavailable):
        settle(documents, door, 2)
    assert job(documents) == before
    door.is_away = False
    assert settle(documents, door, 3)["settled"] == 1


def test_ten_thousand_silent_jobs_take_few_calls(documents):
    for start in range(0, 10_000, 5_000):
        beat(documents, *map(str, range(start + 1, start + 5_001)))
    door = Door(*(state(job_id=n, ended=1) for n in range(1, 10_001)))
    assert settle(documents, door, 2)["settled"] == 10_000
    assert door.calls == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(order=st.permutations(range(6)))
def test_rounds_that_end_out_of_order_never_put_the_older_over_the_newer(tmp_path_factory, order):
    documents = SqliteDocuments(tmp_path_factory.mktemp("late") / "d.sqlite")
    beat(documents, "1")
    told = [(2 + n, Door(state("Running" if n < 4 else "Done", ended=None if n < 4 else 5))) for n in range(6)]
    for n in order:
        settle(documents, told[n][1], told[n][0])
    assert job(documents).status == "Done"
    documents.close()


class Life:
    """One job of the simulated fleet: where and when it really ran, and what DIRAC says of it over time."""

    def __init__(self, chance, number, vm):
        self.number, self.vm = number, vm
        self.began = AT + timedelta(seconds=chance.randrange(30 * 3_600))
        self.ended = self.began + timedelta(seconds=chance.randrange(1_800, 10 * 3_600))
        self.fate = chance.choice(("Done", "Done", "Done", "Done", "Failed", "Killed", "Stalled", "elsewhere"))

    def said(self, now):
        if now < self.ended:
            return self._state("Running")
        if self.fate == "Stalled":
            failed_at = self.ended + timedelta(minutes=195)
            return self._state("Failed", ended_at=failed_at, minor_status="Job stalled") if now >= failed_at else self._state("Stalled")
        if self.fate == "elsewhere":
            return self._elsewhere(now)
        return self._state(self.fate, ended_at=self.ended)

    def _elsewhere(self, now):
        again, over = self.ended + HOUR, self.ended + 5 * HOUR
        if now < again:
            return self._state("Failed", ended_at=self.ended, minor_status="Job Rescheduled", reschedule_count=1, site="ANY")
        done = {"ended_at": over} if now >= over else {}
        return self._state("Done" if done else "Running", started_at=again, reschedule_count=1, site="LCG.Other.org", **done)

    def _state(self, status, **more):
        usual = {"site": "LCG.Ours.ca", "reschedule_count": 0, "started_at": self.began, "last_update_at": more.get("ended_at", self.began)}
        return JobState(job_id=self.number, status=status, **usual | more)


class Dirac(Door):
    """DIRAC over the fleet's days, away for three hours of them."""

    def __init__(self, lives):
        super().__init__()
        self.lives, self.now = {life.number: life for life in lives}, AT

    def states(self, job_ids):
        self.calls += 1
        if AT + 20 * HOUR <= self.now < AT + 23 * HOUR:
            raise Unavailable("away")
        return {job_id: self.lives[job_id].said(self.now) for job_id in job_ids}


@pytest.mark.slow
def test_a_fleet_of_two_days_ends_as_dirac_says(documents):
    """300 vms, 5 000 jobs: heartbeats lost in bursts, DIRAC away, jobs killed, failing, stalled, rescheduled to other sites."""
    chance = random.Random(3)
    lives = [Life(chance, number, f"vm-{number % 300}") for number in range(1, 5_001)]
    door = Dirac(lives)
    deaf = {f"vm-{n}": AT + timedelta(hours=chance.randrange(40)) for n in range(300)}
    for quarter in range(4 * 60):
        door.now = AT + quarter * QUARTER
        names = {}
        for life in lives:
            is_deaf = deaf[life.vm] <= door.now < deaf[life.vm] + 2 * HOUR
            if life.began <= door.now < life.ended and not is_deaf and chance.random() > 0.05:
                names.setdefault(life.vm, []).append(str(life.number))
        for vm, ids in names.items():
            heartbeat.record(HeartbeatReport(vm=vm, jobs=tuple(ids)), CALLER, documents, door.now)
        try:
            dirac.settle(door, documents, door.now)
        except Unavailable:
            continue
    found = {int(one.job_id): one for _, one in documents.find("job", Job, {"system": ["dirac"]})}
    named = [life for life in lives if life.number in found]
    assert len(named) > 4_900
    for life in named:
        one, last = found[life.number], life.said(door.now)
        assert (one.status, one.final_at is not None) == (last.status, True), (life.fate, one)
        assert (one.cloud == "elsewhere") == (life.fate == "elsewhere"), one
        if life.fate in {"Done", "Failed", "Killed"}:
            assert abs(one.wall_ms / 1_000 - (life.ended - life.began).total_seconds()) <= 900, one
    assert door.calls <= 4 * 60
