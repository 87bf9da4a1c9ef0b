"""DIRAC's jobs: each transition of what is known of one, and how long it ran."""

from datetime import timedelta

import pytest
from msgspec import structs

from skytally.core.documents import Heartbeat, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState, Write
from skytally.jobs import dirac_collector
from skytally.operation.timer import Deadline
from tests.support.dirac_lab import AT, HOUR, HOUR_MS, OTHER, OURS, Door, beat, job, settle, state
from tests.support.documents import WithoutJobs

QUARTER_MS = HOUR_MS / 4
ANY = "ANY"


def noted(documents, vm="vm-1"):
    return documents.get("heartbeat", f"1@{vm}@uvic", Heartbeat).noted


def quarters(documents, begin, end, vm="vm-1"):
    """Name the job every quarter of an hour."""
    for quarter in range(int(begin * 4), int(end * 4) + 1):
        beat(documents, "1", at=quarter / 4, vm=vm)


def test_only_what_is_new_or_silent_is_asked_about(documents):
    beat(documents, "1", "2")
    door = Door(state("Running"), state("Running", job_id=2))
    assert settle(documents, door, 0.1) == {"running": 0, "asked": 2, "final": 0, "unreadable": 0}
    assert (job(documents).site, noted(documents)) == (OURS, "running")
    for at in (0.5, 1, 1.5):
        beat(documents, "2", at=at)
    door.known[1] = state(ended=0.5)
    settle(documents, door, 1.5)
    beat(documents, "2", at=1.75)
    assert settle(documents, door, 2) == {"running": 1, "asked": 1, "final": 0, "unreadable": 0}
    assert (job(documents).status, job(documents, "2").status) == ("Done", "Running")


def test_what_runs_is_asked_about_once_an_hour_and_not_more(documents):
    beat(documents, "1", "2")
    door = Door(state("Running"), state("Running", job_id=2))
    for quarter in range(4 * 12):
        beat(documents, "1", "2", at=quarter / 4)
        settle(documents, door, quarter / 4 + 0.1)
    assert 2 * 9 <= len(door.asked) <= 2 * 12


def test_no_more_that_runs_is_asked_about_than_a_bounded_number_the_longest_unseen_first(documents, monkeypatch):
    monkeypatch.setattr(dirac_collector, "REFRESHED_PER_ROUND", 3)
    beat(documents, *map(str, range(1, 9)))
    door = Door(*(state("Running", job_id=n) for n in range(1, 9)))
    settle(documents, door, 0.1)
    door.calls, door.asked = 0, []
    for quarter in range(1, 8):
        beat(documents, *map(str, range(1, 9)), at=quarter / 4)
        settle(documents, door, quarter / 4 + 0.1)
    assert (door.calls, sorted(door.asked)) == (3, list(range(1, 9)))


@pytest.mark.parametrize(
    ("said", "status", "cloud"),
    [
        (state("Failed", ended=2.1), "Failed", "uvic"),
        (state("Killed", ended=2.1), "Killed", "uvic"),
        (state("Failed", ended=2.1, minor_status="Job stalled: pilot not running"), "Failed", "uvic"),
        (state("Killed", began=None, last_update_at=AT + 2.1 * HOUR), "Killed", "uvic"),
        (state("Running", moved=2.1, site=OTHER), "Running", "elsewhere"),
        (state("Done", moved=2.1, site=OTHER, ended=4), "Done", "elsewhere"),
    ],
)
def test_a_payload_that_never_pauses_shows_as_dirac_says_within_an_hour_and_then_as_a_zombie(
    documents, said, status, cloud
):
    door = Door(state("Running"))
    for quarter in range(4 * 5):
        beat(documents, "1", at=quarter / 4)
        door.known[1] = said if quarter / 4 > 2.1 else door.known[1]
        settle(documents, door, quarter / 4 + 0.1)
        if quarter / 4 > 3.3:
            assert (job(documents).status, job(documents).cloud) == (status, cloud)
    assert job(documents).doubt == "zombie payload"
    assert abs(job(documents).wall_ms - 2.1 * HOUR_MS) <= QUARTER_MS
    assert len(door.asked) < 2 * 5 + 4 * 3


def test_while_dirac_is_away_what_runs_is_shown_and_asked_about_later(documents):
    door = Door(state("Running"))
    quarters(documents, 0, 1)
    settle(documents, door, 1.1)
    quarters(documents, 1.25, 3)
    door.is_away = True
    with pytest.raises(Unavailable):
        settle(documents, door, 3.1)
    assert job(documents).seen_at == AT + 3 * HOUR


class TestToldLate:
    """Heartbeats that a vm could not send and sends again, when DIRAC has long told that the job is over."""

    def late(self, documents, begin, end, told, vm="vm-1"):
        for quarter in range(int(begin * 4), int(end * 4) + 1):
            beat(documents, "1", at=quarter / 4, vm=vm, told=told)

    def test_corrects_the_time_of_a_run_whose_end_dirac_does_not_tell_and_opens_nothing(self, documents):
        quarters(documents, 5, 6)
        door = Door(state("Done", moved=4, ended=2, last_update_at=AT + 8.1 * HOUR))
        settle(documents, door, 9)
        before = job(documents)
        assert abs(before.wall_ms - 1.25 * HOUR_MS) <= 1
        self.late(documents, 6.25, 8, told=10)
        assert settle(documents, door, 10.1)["final"] == 0
        made = job(documents)
        assert abs(made.wall_ms - 3.1 * HOUR_MS) <= QUARTER_MS
        assert (made.core_ms, made.runs != before.runs) == (made.wall_ms * made.cores, True)
        assert (made.status, made.final_at, made.doubt, noted(documents)) == ("Done", before.final_at, None, "over")

    def test_twice_counts_once(self, documents):
        self.test_corrects_the_time_of_a_run_whose_end_dirac_does_not_tell_and_opens_nothing(documents)
        before = job(documents)
        self.late(documents, 6.25, 8, told=11)
        settle(documents, Door(state("Done", moved=4, ended=2, last_update_at=AT + 8.1 * HOUR)), 11.1)
        assert job(documents) == before

    def test_changes_nothing_where_dirac_tells_the_end(self, documents):
        quarters(documents, 0, 1)
        door = Door(state(ended=2.1, heartbeat_at=AT + 2 * HOUR))
        settle(documents, door, 3)
        before = job(documents)
        self.late(documents, 1.25, 2, told=4)
        settle(documents, door, 4.1)
        assert (before.wall_ms, job(documents).wall_ms, job(documents).doubt) == (2.1 * HOUR_MS, 2.1 * HOUR_MS, None)

    def test_makes_an_end_that_dirac_tells_believable(self, documents):
        """Without any sign of life for hours DIRAC might only have given the job up."""
        quarters(documents, 0, 1)
        door = Door(state("Killed", ended=4.1, heartbeat_at=AT + 0.9 * HOUR))
        settle(documents, door, 5)
        assert job(documents).wall_ms < 1.5 * HOUR_MS
        self.late(documents, 1.25, 4, told=6)
        settle(documents, door, 6.1)
        assert job(documents).wall_ms == round(4.1 * HOUR_MS)

    def test_corrects_a_run_that_a_reschedule_ended_long_ago(self, documents):
        quarters(documents, 0, 1)
        door = Door(state("Running", began=None, moved=3.1, site=OTHER))
        settle(documents, door, 4)
        self.late(documents, 1.25, 3, told=5)
        settle(documents, door, 5.1)
        made = job(documents)
        assert (made.cloud, made.doubt, noted(documents)) == ("elsewhere", None, "over")
        assert abs(made.wall_ms - 3.1 * HOUR_MS) <= QUARTER_MS

    def test_of_a_run_on_another_vm_that_nobody_knew_of_counts_too(self, documents):
        quarters(documents, 5, 6, vm="vm-2")
        door = Door(state("Done", moved=4, ended=2.1, last_update_at=AT + 6.1 * HOUR))
        settle(documents, door, 8)
        self.late(documents, 0, 2, told=9, vm="vm-1")
        settle(documents, door, 9.1)
        assert (job(documents).vm, job(documents).doubt) == ("vm-2", None)
        assert abs(job(documents).wall_ms - (2.1 + 1.2) * HOUR_MS) <= QUARTER_MS

    def test_is_taken_days_later_when_nothing_more_was_asked(self, documents):
        quarters(documents, 0, 1)
        door = Door(JobState(job_id=1, status="Done", last_update_at=AT + 2.1 * HOUR, site=OURS))
        for at in (3, 30):
            settle(documents, door, at)
        assert noted(documents) == "settled"
        self.late(documents, 1.25, 2, told=48)
        settle(documents, door, 48.1)
        assert (noted(documents), job(documents).final_at) == ("settled", AT + 2.1 * HOUR)
        assert abs(job(documents).wall_ms - 2.1 * HOUR_MS) <= QUARTER_MS

    def test_of_what_dirac_has_forgotten_meanwhile_counts_and_is_no_zombie(self, documents):
        quarters(documents, 0, 1)
        for at in (3, 25.5):
            settle(documents, Door(), at)
        assert job(documents).status == "unknown_to_dirac"
        self.late(documents, 1.25, 4, told=30)
        settle(documents, Door(), 30.1)
        assert (job(documents).status, job(documents).doubt, job(documents).wall_ms) == (
            "unknown_to_dirac",
            None,
            4.25 * HOUR_MS,
        )

    def test_of_a_payload_that_outlived_its_job_is_a_zombie_and_does_not_count(self, documents):
        quarters(documents, 0, 1)
        door = Door(JobState(job_id=1, status="Killed", last_update_at=AT + 1.1 * HOUR, site=OURS))
        settle(documents, door, 3)
        self.late(documents, 1.25, 5, told=6)
        settle(documents, door, 6.1)
        assert (job(documents).doubt, job(documents).final_at) == ("zombie payload", AT + 1.1 * HOUR)
        assert abs(job(documents).wall_ms - 1.1 * HOUR_MS) <= QUARTER_MS

    def test_beside_other_jobs_does_not_change_the_cores(self, documents):
        documents.write([Write("usage", "l-2026-11", 1, usage("vm-1", "uvic", 8))]).result()
        quarters(documents, 0, 1)
        door = Door(JobState(job_id=1, status="Done", last_update_at=AT + 2.1 * HOUR, site=OURS))
        settle(documents, door, 3)
        beat(documents, "1", "2", "3", "4", at=2, told=4)
        settle(documents, door, 4.1)
        assert (job(documents).cores, job(documents).core_ms) == (8, 8 * job(documents).wall_ms)


def test_nothing_new_or_silent_asks_nothing(documents):
    beat(documents, "1")
    door = Door()
    settle(documents, door, 0.1)
    settle(documents, door, 0.9)
    assert door.calls == 1


@pytest.mark.parametrize("late", ["Matched", "Waiting", None])
def test_what_dirac_does_not_yet_know_to_run_runs(documents, late):
    beat(documents, "1")
    settle(documents, Door(*([state(late)] if late else [])), 0.1)
    quarters(documents, 0.25, 2)
    settle(documents, Door(), 2.1)
    assert (job(documents).status, job(documents).final_at) == ("Running", None)


def test_a_job_that_is_back_on_its_vm_after_a_deaf_hour_is_ours_where_its_site_was_known(documents):
    door = Door(state("Running"))
    beat(documents, "1")
    settle(documents, door, 0.1)
    door.known[1] = state("Running", moved=0.2)
    settle(documents, door, 1.5)
    quarters(documents, 2, 3)
    settle(documents, door, 3.1)
    assert (job(documents).cloud, job(documents).vm, job(documents).doubt) == ("uvic", "vm-1", None)


def test_what_is_final_is_watched_for_a_day_and_then_asked_no_more(documents):
    beat(documents, "1")
    door = Door(state(ended=0.5))
    assert [settle(documents, door, at)["asked"] for at in (2, 24, 24.6, 25)] == [1, 1, 1, 0]


@pytest.mark.parametrize("microseconds", [1, 499, 500, 999, 123_456, 999_999])
def test_what_is_over_is_put_aside_at_any_odd_time(documents, microseconds):
    """Stores cut times to milliseconds."""
    beat(documents, "1", at=microseconds / 3_600e6)
    settle(documents, Door(state(ended=0.5)), 2)
    assert noted(documents) == "over"


def test_a_final_job_that_is_asked_about_again_is_not_written_again(documents):
    beat(documents, "1")
    settle(documents, Door(state(ended=0.5)), 2)
    before = job(documents)
    settle(documents, Door(state(ended=0.5)), 3)
    assert job(documents) == before


@pytest.mark.parametrize(
    "told", [state("Running", heartbeat_at=AT), state("Stalled"), state("Matched"), state("Rescheduled")]
)
def test_what_dirac_does_not_call_final_is_asked_again(documents, told):
    beat(documents, "1")
    settle(documents, Door(told), 2)
    assert (job(documents).status, job(documents).final_at) == (told.status, None)
    assert settle(documents, Door(state("Done", ended=2)), 3)["final"] == 1


def test_running_silent_stalled_and_running_again_is_running(documents):
    beat(documents, "1")
    for at, told in ((2, "Running"), (3, "Stalled"), (4, "Running")):
        settle(documents, Door(state(told, heartbeat_at=AT + (at - 50 / 60) * HOUR)), at)
        assert (job(documents).status, job(documents).final_at, noted(documents)) == (told, None, "running")


def test_what_completed_is_over_after_a_day_or_once_dirac_says_more(documents):
    beat(documents, "1")
    beat(documents, "2")
    settle(documents, Door(state("Completed", ended=1), state("Completed", job_id=2, ended=1)), 2)
    assert job(documents).final_at is None
    settle(documents, Door(state("Completed", ended=1), state("Failed", job_id=2, ended=1)), 26)
    assert (job(documents).status, job(documents).final_at) == ("Completed", AT + HOUR)
    assert (job(documents, "2").status, job(documents, "2").wasted_core_ms > 0) == ("Failed", True)


def test_failed_with_the_words_of_a_reschedule_is_not_final(documents):
    beat(documents, "1")
    settle(documents, Door(state("Failed", ended=1, moved=1.5, site=ANY, minor_status="Job Rescheduled")), 2)
    assert (job(documents).final_at, job(documents).attempt, job(documents).cloud) == (None, 1, "uvic")


def test_failed_rescheduled_and_done_at_another_site_is_one_job_with_its_chain(documents):
    quarters(documents, 0, 1)
    door = Door(state("Failed", ended=1))
    settle(documents, door, 2)
    assert (job(documents).status, job(documents).final_at) == ("Failed", AT + HOUR)
    door.known[1] = state("Waiting", ended=1, moved=2.5, site=ANY)
    settle(documents, door, 3)
    assert (job(documents).status, job(documents).final_at, job(documents).error) == ("Waiting", None, None)
    door.known[1] = state("Running", ended=1, moved=2.5, site=OTHER)
    settle(documents, door, 4)
    assert (job(documents).cloud, job(documents).site, job(documents).vm) == ("elsewhere", OTHER, None)
    door.known[1] = state("Done", ended=1, moved=2.5, site=OTHER, last_update_at=AT + 6 * HOUR)
    settle(documents, door, 7)
    made = job(documents)
    assert (made.status, made.cloud, made.wall_ms, made.wasted_core_ms) == ("Done", "elsewhere", HOUR_MS, 0)
    assert (made.final_at, made.history) == (AT + 6 * HOUR, f"0: Failed at {OURS}")


def test_the_end_of_an_earlier_run_is_not_that_of_the_job(documents):
    """EndExecTime stays that of the first run that ended, whatever comes after it."""
    beat(documents, "1")
    settle(documents, Door(state("Done", ended=1, moved=2, site=OTHER, last_update_at=AT + 5 * HOUR)), 6)
    assert job(documents).final_at == AT + 5 * HOUR


def test_a_job_that_went_elsewhere_while_nobody_asked_is_known_to_be_there(documents):
    """StartExecTime and the site do not tell: the one stays the first run's, the other was never asked for."""
    quarters(documents, 0, 1)
    settle(documents, Door(state("Done", moved=1.2, ended=4, site=OTHER)), 5)
    made = job(documents)
    assert (made.cloud, made.status, made.final_at, made.history) == (
        "elsewhere",
        "Done",
        AT + 4 * HOUR,
        "0: Running at uvic",
    )
    assert abs(made.wall_ms - 1.1 * HOUR_MS) <= QUARTER_MS


def test_a_job_that_was_rescheduled_before_it_came_to_us_is_ours(documents):
    quarters(documents, 5, 6)
    settle(documents, Door(state("Done", began=0, moved=4, ended=6.1)), 8)
    made = job(documents)
    assert (made.cloud, made.vm, made.attempt, made.history) == ("uvic", "vm-1", 1, None)
    assert abs(made.wall_ms - 1.2 * HOUR_MS) <= QUARTER_MS


@pytest.mark.parametrize("vm", ["vm-1", "vm-2"])
def test_a_job_that_comes_back_to_us_is_ours_again_and_both_runs_count(documents, vm):
    quarters(documents, 0, 2)
    door = Door(state("Failed", ended=2))
    settle(documents, door, 3)
    door.known[1] = state("Running", ended=2, moved=4)
    quarters(documents, 5, 6, vm)
    settle(documents, door, 6.1)
    assert (job(documents).cloud, job(documents).vm, job(documents).final_at, job(documents).doubt) == (
        "uvic",
        vm,
        None,
        None,
    )
    door.known[1] = state("Done", ended=2, moved=4, last_update_at=AT + 6.2 * HOUR)
    settle(documents, door, 8)
    assert job(documents).status == "Done"
    assert abs(job(documents).wall_ms - (2 + 1.2) * HOUR_MS) <= QUARTER_MS


def test_a_job_back_on_its_vm_before_anybody_asked_is_ours(documents):
    quarters(documents, 0, 1)
    quarters(documents, 1.5, 3)
    settle(documents, Door(state("Done", ended=3.1, moved=1.1)), 5)
    made = job(documents)
    assert (made.cloud, made.vm, made.history) == ("uvic", "vm-1", "0: Running at uvic")
    assert abs(made.wall_ms - (1.1 + 1.6) * HOUR_MS) <= 2 * QUARTER_MS


def test_a_job_rescheduled_twice_keeps_both_steps(documents):
    quarters(documents, 0, 1)
    door = Door(state("Failed", ended=1))
    settle(documents, door, 2.5)
    door.known[1] = state("Failed", ended=1, moved=3, site=OTHER)
    settle(documents, door, 4)
    door.known[1] = state("Done", ended=1, moved=5, count=2, site="LCG.Third.org", last_update_at=AT + 9 * HOUR)
    settle(documents, door, 10)
    made = job(documents)
    assert (made.history, made.attempt, made.site) == (f"0: Failed at {OURS}; 1: Failed at {OTHER}", 2, "LCG.Third.org")
    assert (made.wall_ms, made.final_at) == (HOUR_MS, AT + 9 * HOUR)


@pytest.mark.parametrize("late", ["Done", "Killed", "Failed"])
def test_what_was_final_by_a_late_write_is_reopened_by_a_growing_counter(documents, late):
    beat(documents, "1")
    door = Door(state(late, ended=1))
    settle(documents, door, 2)
    door.known[1] = state("Waiting", ended=1, moved=3, site=ANY)
    settle(documents, door, 4)
    assert (job(documents).status, job(documents).final_at) == ("Waiting", None)


@pytest.mark.parametrize("said", ["Running", "Stalled", "Killed", "Failed"])
def test_what_is_final_stays_unless_it_was_rescheduled(documents, said):
    beat(documents, "1")
    settle(documents, Door(state("Done", ended=1)), 2)
    before = job(documents)
    settle(documents, Door(state(said, ended=1)), 3)
    assert job(documents) == before


def test_a_payload_that_runs_after_its_job_was_done_is_a_zombie_after_asking_once(documents):
    quarters(documents, 0, 1)
    door = Door(state("Done", ended=1))
    settle(documents, door, 2)
    wall_ms = job(documents).wall_ms
    beat(documents, "1", at=3)
    assert job(documents).doubt is None
    assert settle(documents, door, 3.1)["asked"] == 1
    assert (job(documents).status, job(documents).doubt, job(documents).wall_ms) == ("Done", "zombie payload", wall_ms)


def test_a_payload_that_was_never_silent_but_outlived_its_job_is_a_zombie_and_does_not_count(documents):
    quarters(documents, 0, 4)
    settle(documents, Door(state("Done", ended=1)), 6)
    assert (job(documents).doubt, job(documents).wall_ms) == ("zombie payload", HOUR_MS)


def test_an_old_vm_that_still_names_what_went_elsewhere_does_not_get_it_back(documents):
    quarters(documents, 0, 1)
    door = Door(state("Running"))
    settle(documents, door, 1.1)
    door.known[1] = state("Running", moved=1.5, site=OTHER)
    settle(documents, door, 3)
    beat(documents, "1", at=3.2)
    settle(documents, door, 3.3)
    assert (job(documents).cloud, job(documents).doubt, noted(documents)) == ("elsewhere", "zombie payload", "over")


def test_a_vm_that_names_on_what_dirac_took_elsewhere_keeps_only_what_it_ran(documents):
    beat(documents, "1")
    door = Door(state("Running"))
    settle(documents, door, 0.1)
    quarters(documents, 0.25, 5)
    door.known[1] = state("Done", moved=2, ended=5.5, site=OTHER)
    settle(documents, door, 7)
    assert (job(documents).cloud, job(documents).final_at, noted(documents)) == ("elsewhere", AT + 5.5 * HOUR, "over")
    assert abs(job(documents).wall_ms - 2 * HOUR_MS) <= QUARTER_MS


def test_a_job_that_dirac_rescheduled_while_it_was_away_and_that_is_back_is_two_runs(documents):
    quarters(documents, 0, 1)
    settle(documents, Door(state("Running")), 1.1)
    quarters(documents, 3, 4)
    door = Door(state("Running", ended=1.1, moved=1.5))
    settle(documents, door, 4.1)
    quarters(documents, 6, 7)
    door.known[1] = state("Done", ended=1.1, moved=1.5, last_update_at=AT + 7.1 * HOUR)
    settle(documents, door, 9)
    assert job(documents).history == f"0: Running at {OURS}"
    assert abs(job(documents).wall_ms - (1.1 + 4.1) * HOUR_MS) <= QUARTER_MS


def test_what_dirac_deleted_while_its_payload_runs_on_is_a_zombie(documents):
    beat(documents, "1")
    settle(documents, Door(state("Killed", ended=1)), 2)
    beat(documents, "1", at=3)
    settle(documents, Door(), 3.1)
    assert (job(documents).status, job(documents).doubt) == ("Killed", "zombie payload")


def test_of_two_vms_the_one_that_named_it_last_has_it(documents):
    beat(documents, "1", vm="vm-1")
    beat(documents, "1", vm="vm-2", at=0.5)
    settle(documents, Door(state("Running")), 3)
    assert job(documents).vm == "vm-2"


@pytest.mark.parametrize("told", [[], [state("Deleted")]])
def test_what_dirac_does_not_know_is_unknown_after_a_day(documents, told):
    quarters(documents, 0, 1)
    settle(documents, Door(*told), 5)
    assert (job(documents).status, job(documents).final_at) == ("Running", None)
    settle(documents, Door(*told), 24.9)
    assert job(documents).final_at is None
    settle(documents, Door(*told), 25)
    made = job(documents)
    assert (made.status, made.final_at, made.wall_ms) == ("unknown_to_dirac", AT + HOUR, 1.25 * HOUR_MS)
    assert settle(documents, Door(*told), 26)["asked"] == 0


def test_what_was_followed_elsewhere_and_then_forgotten_is_unknown_a_day_after_it_was_last_known(documents):
    beat(documents, "1")
    settle(documents, Door(state("Running", moved=1, site=OTHER)), 40)
    settle(documents, Door(), 50)
    assert (job(documents).status, job(documents).cloud) == ("Running", "elsewhere")
    settle(documents, Door(), 64)
    assert job(documents).status == "unknown_to_dirac"


def test_words_that_look_like_another_status_are_words(documents):
    beat(documents, "1")
    settle(documents, Door(state("Running", application_status="Executing basf2; step=2; Status=Done; Site=X")), 2)
    assert (job(documents).status, job(documents).application_status) == (
        "Running",
        "Executing basf2; step=2; Status=Done; Site=X",
    )


def test_a_job_that_failed_wastes_and_says_why(documents):
    beat(documents, "1")
    settle(
        documents,
        Door(state("Failed", ended=1, minor_status="Payload failed", application_status="exit 65 in /tmp/job_12")),
        3,
    )
    made = job(documents)
    assert (made.error, made.error_component, made.error_message) == ("Payload failed", "dirac", "exit <N> in <PATH>")
    assert made.error_raw == "Payload failed\nexit 65 in /tmp/job_12"
    assert made.wasted_core_ms == HOUR_MS


def test_a_dirac_that_is_away_changes_nothing(documents):
    beat(documents, "1")
    door = Door(state("Done", ended=1))
    door.is_away = True
    before = job(documents)
    with pytest.raises(Unavailable):
        settle(documents, door, 2)
    assert (job(documents), noted(documents)) == (before, "new")
    door.is_away = False
    assert settle(documents, door, 3)["final"] == 1


def test_a_heartbeat_is_closed_only_after_its_job_is_stored(documents):
    beat(documents, "1")
    door = Door(state("Done", ended=1))
    with pytest.raises(Unavailable):
        settle(WithoutJobs(documents), door, 2)
    assert (job(documents).final_at, noted(documents)) == (None, "new")
    assert settle(documents, door, 3)["final"] == 1
    assert noted(documents) == "over"


@pytest.mark.slow
def test_ten_thousand_silent_jobs_take_two_calls(documents):
    for start in range(0, 10_000, 5_000):
        beat(documents, *map(str, range(start + 1, start + 5_001)))
    door = Door(*(state(job_id=n, ended=1) for n in range(1, 10_001)))
    assert settle(documents, door, 2)["final"] == 10_000
    assert door.calls == 2


def test_a_round_that_has_no_time_left_leaves_jobs_to_the_next_and_none_is_always_the_last(documents):
    """Each call takes four seconds of ten, so a round makes three;
    nothing is ever final, so only the order lets each job have its turn.
    """
    beat(documents, *map(str, range(1, 13)))
    moment, asked = [AT + 2 * HOUR], []

    class Slow(Door):
        jobs_at_once = 2

        def states(self, job_ids):
            moment[0] += timedelta(seconds=4)
            asked.append(sorted(job_ids))
            return super().states(job_ids)

    door = Slow(*(state("Running", job_id=n) for n in range(1, 13)))
    told = dirac_collector.settle(door, documents, Deadline(lambda: moment[0], moment[0] + timedelta(seconds=10)))
    assert (told["asked"], told["left"], len(asked)) == (6, 6, 3)
    for _ in range(12):
        moment[0] += timedelta(minutes=15)
        dirac_collector.settle(door, documents, Deadline(lambda: moment[0], moment[0] + timedelta(seconds=10)))
    assert {job_id for some in asked for job_id in some} == set(range(1, 13))


def test_what_vms_name_for_long_does_not_look_forgotten(documents):
    beat(documents, "1")
    settle(documents, Door(), 0.1)
    quarters(documents, 0, 8)
    settle(documents, Door(), 8.1)
    assert (job(documents).seen_at, job(documents).wall_ms) == (AT + 8 * HOUR, 8 * HOUR_MS)


def test_a_job_that_was_never_written_is_made_of_what_its_vm_said(documents):
    beat(documents, "1")
    documents.forget("job", "changed_at", AT + HOUR)
    settle(documents, Door(state(ended=0.5)), 2)
    assert (job(documents).status, job(documents).cloud) == ("Done", "uvic")


class TestRunningTime:
    def test_is_dirac_s_where_it_ran_once_and_here(self, documents):
        quarters(documents, 0.25, 1)
        settle(documents, Door(state(ended=1.5, began=0.1)), 3)
        assert (job(documents).wall_ms, job(documents).final_at) == (1.4 * HOUR_MS, AT + 1.5 * HOUR)

    def test_is_of_the_payload_and_not_of_dirac_s_waiting_for_it(self, documents):
        """What stalled was given up hours after its vm died."""
        quarters(documents, 0, 2)
        settle(documents, Door(state("Failed", ended=5.25, minor_status="Job stalled: pilot not running")), 6)
        assert abs(job(documents).wall_ms - 2.1 * HOUR_MS) <= QUARTER_MS

    def test_of_what_was_killed_long_after_it_fell_silent_too(self, documents):
        quarters(documents, 0, 2)
        settle(documents, Door(state("Killed", ended=9, heartbeat_at=AT + 1.9 * HOUR)), 10)
        assert abs(job(documents).wall_ms - 2.2 * HOUR_MS) <= QUARTER_MS

    def test_goes_by_dirac_s_heartbeat_where_the_vm_s_were_lost(self, documents):
        beat(documents, "1")
        settle(documents, Door(state("Failed", ended=8, heartbeat_at=AT + 4 * HOUR, minor_status="Job stalled")), 9)
        assert job(documents).wall_ms == 4.25 * HOUR_MS

    def test_without_dirac_s_times_is_within_a_quarter_of_an_hour(self, documents):
        quarters(documents, 0.25, 2)
        settle(documents, Door(JobState(job_id=1, status="Done", last_update_at=AT + 2.2 * HOUR)), 4)
        assert abs(job(documents).wall_ms - 2.1 * HOUR_MS) <= QUARTER_MS

    def test_never_is_less_than_none(self, documents):
        quarters(documents, 1, 2)
        settle(documents, Door(state(began=3, ended=0.5)), 4)
        assert job(documents).wall_ms >= 0

    @pytest.mark.parametrize(
        ("vm_cores", "others", "cores"), [(8, 0, 8), (8, 7, 1), (8, 2, 2), (2, 7, 1), (None, 0, 1)]
    )
    def test_counts_the_vm_s_cores_shared_by_what_it_named_together(self, documents, vm_cores, others, cores):
        if vm_cores is not None:
            documents.write([Write("usage", "l-2026-11", 1, usage("vm-1", "uvic", vm_cores))]).result()
        documents.write([Write("usage", "m-2026-11", 1, usage("vm-1", "another", 64))]).result()
        beat(documents, "1", *map(str, range(2, 2 + others)))
        beat(documents, "1", at=0.25)
        settle(documents, Door(state("Failed", ended=1)), 3)
        assert (job(documents).cores, job(documents).core_ms, job(documents).multicore) == (
            cores,
            cores * HOUR_MS,
            cores > 1,
        )
        assert job(documents).wasted_core_ms == cores * HOUR_MS


def usage(vm, cloud, cores):
    blank = dict.fromkeys(Usage.__struct_fields__)
    zero = {name: 0 for name in blank if name.endswith(("_ms", "_bytes"))}
    flags = dict.fromkeys(("final", "estimated", "clock_ahead"), False)
    named = {"month": "2026-11", "boot_id": "b", "label": "l", "vm": vm, "cloud": cloud, "cores": cores}
    return Usage(**blank | zero | flags | named | {"boot_at": AT - HOUR, "last_sampled_at": AT + timedelta(minutes=1)})


def test_a_state_of_an_older_door_without_a_counter_is_taken_as_it_is(documents):
    beat(documents, "1")
    settle(documents, Door(structs.replace(state(ended=1), reschedule_count=None)), 2)
    assert (job(documents).status, job(documents).attempt) == ("Done", 0)
