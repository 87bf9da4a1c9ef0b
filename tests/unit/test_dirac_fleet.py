"""Two days of a fleet: 100 vms, 1 600 jobs, and every way in which reports get lost and jobs go wrong.

A vm keeps what the server did not answer to, and tells it again in order, as `vm.py jobs` does; only what a vm takes to
its grave is lost. The pretended DIRAC keeps its times as the real server does: StartExecTime is the first run's for
ever, EndExecTime that of the first run that ended, a watchdog calls every half hour, and what is not heard of for 195
minutes is failed at that moment.
"""

import functools
import random
from datetime import timedelta

import pytest
from msgspec import Struct, field

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import Job
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState
from skytally.jobs import dirac_collector, heartbeats
from tests.support import builders, dirac_lab
from tests.support.dirac_lab import AT, CALLER, HOUR, MINUTE, OTHER, OURS, Door

VMS, JOBS = 100, 1_600
ROUND, CALL = 15 * MINUTE, 30 * MINUTE
DIRAC_AWAY, ALL_DEAF = (20 * HOUR, 23 * HOUR), (9 * HOUR, 9.5 * HOUR)
DEAF_FOR, DYING = 2 * HOUR, 14


class Run(Struct):
    """One run, on a vm of ours or on none; which of its ends DIRAC's times tell, and until when its vm names it."""

    vm: str | None
    began: object
    ended: object
    tells_begin: bool = False
    tells_end: bool = False
    named_until: object = None
    heard: list = field(default_factory=list)
    unsent: list = field(default_factory=list)

    def names_at(self, moment):
        return self.vm is not None and self.began <= moment < (self.named_until or self.ended)


class Life:
    """What really happens to one job, and what DIRAC says of it at any time."""

    def __init__(self, chance, number, dies_at):
        self.chance, self.number, self.runs, self.events = chance, number, [], []
        self.dies_at, self.count, self.told_end, self.is_forgotten = dies_at, 0, None, False
        self.fate = chance.choices([one[0] for one in FATES], [one[1] for one in FATES])[0]
        began = AT + chance.uniform(0, 24) * HOUR
        self.run(self.vm(began), began)
        if self.last.ended > dies_at.get(self.last.vm, self.last.ended):
            self.fate, self.last.ended = "lost_with_its_vm", dies_at[self.last.vm]
        getattr(self, self.fate)()

    def vm(self, at=None):
        """Choose one that lives, at least at this moment."""
        while True:
            vm = f"vm-{self.chance.randrange(VMS)}"
            if vm not in self.dies_at or (at is not None and at < self.dies_at[vm]):
                return vm

    @property
    def last(self):
        return self.runs[-1]

    def run(self, vm, began, site=OURS):
        self.runs.append(Run(vm, began, began + self.chance.uniform(0.3, 8) * HOUR, tells_begin=not self.runs))
        first = {} if len(self.runs) > 1 else {"started_at": began}
        self.tell(began, status="Running", minor_status="Application", site=site, reschedule_count=self.count, **first)

    def tell(self, at, **change):
        self.events.append((at, {"last_update_at": at, **change}))

    def end(self, status, at=None, minor="as it may"):
        at = at or self.last.ended
        if self.told_end is None:
            self.told_end, self.last.tells_end = at, at == self.last.ended
        self.tell(at, status=status, minor_status=minor, ended_at=self.told_end)

    def reschedule(self, at, **change):
        self.count += 1
        again = {"site": "ANY", "rescheduled_at": at, "reschedule_count": self.count, "minor_status": "Job Rescheduled"}
        self.tell(at, **again | change)

    def elsewhere(self, at, status):
        self.run(None, at, OTHER)
        self.end(status)

    def done(self):
        self.end("Done")

    def failed(self):
        self.end("Failed")

    def killed(self):
        self.end("Killed")

    def lost_with_its_vm(self):
        self.tell(self.last.ended + 75 * MINUTE, status="Stalled")
        self.end("Failed", self.last.ended + 195 * MINUTE, "Job stalled: pilot not running")

    def stalled_for_a_while(self):
        self.last.ended = max(self.last.ended, self.last.began + 4 * HOUR)
        self.tell(self.last.began + 2 * HOUR, status="Stalled")
        self.tell(self.last.began + 3 * HOUR, status="Running")
        self.end("Done")

    def failed_then_done_elsewhere(self):
        self.end("Failed")
        self.reschedule(self.last.ended + self.chance.uniform(0.05, 3) * HOUR)
        self.elsewhere(self.events[-1][0] + self.chance.uniform(0.1, 2) * HOUR, self.chance.choice(["Done", "Failed"]))

    def evicted_then_done_elsewhere(self):
        self.reschedule(self.last.ended + self.chance.uniform(1, 20) * MINUTE, status="Waiting")
        self.elsewhere(self.events[-1][0] + self.chance.uniform(0.1, 2) * HOUR, "Done")

    def failed_then_back_here(self):
        self.end("Failed")
        self.reschedule(self.last.ended + self.chance.uniform(0.05, 1) * HOUR)
        same = self.vm() if self.last.vm in self.dies_at else self.last.vm
        self.run(self.chance.choice([same, self.vm()]), self.events[-1][0] + self.chance.uniform(1, 3) * HOUR)
        self.end("Done")

    def twice_rescheduled(self):
        self.failed_then_back_here()
        del self.events[-1]
        self.end("Failed")
        self.reschedule(self.last.ended + self.chance.uniform(0.05, 1) * HOUR)
        self.elsewhere(self.events[-1][0] + HOUR, "Done")

    def outlived_by_its_payload(self):
        self.end("Done")
        self.last.named_until = self.last.ended + self.chance.uniform(1, 4) * HOUR

    def forgotten(self):
        self.is_forgotten = True

    def said(self, now):
        """Return what DIRAC says at a moment, or None where it knows nothing any more."""
        if self.is_forgotten and now >= self.last.ended:
            return None
        known = {"job_id": self.number}
        for at, change in self.events:
            if at <= now:
                known |= change
        called = [run.began + (min(now, run.ended) - run.began) // CALL * CALL for run in self.runs if run.began <= now]
        return JobState(**known, heartbeat_at=max(called, default=None)) if "status" in known else None

    @property
    def was_rescheduled_twice_unseen(self):
        """Say whether DIRAC was away from before its first reschedule until after its second,
        so that nobody knows of the run between.
        """
        moved = [at - AT for at, change in self.events if "rescheduled_at" in change]
        return len(moved) > 1 and all(DIRAC_AWAY[0] - HOUR <= one < DIRAC_AWAY[1] for one in moved)

    @property
    def here(self):
        return [run for run in self.runs if run.vm is not None]

    @property
    def wall(self):
        return sum((run.ended - run.began for run in self.here), timedelta())

    @property
    def silence(self):
        """Return for how long a vm named this job before it died and was not heard:
        what nobody can know any more, else nothing.
        """
        return sum((max(timedelta(), run.ended - run.unsent[0]) for run in self.here if run.unsent), timedelta())


FATES = [
    ("done", 40),
    ("failed", 12),
    ("killed", 6),
    ("lost_with_its_vm", 8),
    ("stalled_for_a_while", 5),
    ("failed_then_done_elsewhere", 8),
    ("evicted_then_done_elsewhere", 6),
    ("failed_then_back_here", 6),
    ("twice_rescheduled", 3),
    ("outlived_by_its_payload", 3),
    ("forgotten", 3),
]


class Dirac(Door):
    """DIRAC over the fleet's days, away for some hours of them."""

    def __init__(self, lives):
        super().__init__()
        self.lives, self.now = {life.number: life for life in lives}, AT

    def states(self, job_ids):
        self.calls += 1
        if DIRAC_AWAY[0] <= self.now - AT < DIRAC_AWAY[1]:
            raise Unavailable("away")
        said = ((job_id, self.lives[job_id].said(self.now)) for job_id in job_ids)
        return {job_id: state for job_id, state in said if state is not None}


class Fleet:
    """The vms, each with its own phase, and its own two hours in which the server is not there;
    some die, half of these in such hours.
    """

    def __init__(self, chance):
        self.chance, self.lives = chance, []
        self.phase = {f"vm-{n}": chance.uniform(0, 15) * MINUTE for n in range(VMS)}
        self.deaf_at = {vm: AT + chance.uniform(0, 34) * HOUR for vm in self.phase}
        self.dies_at = {vm: AT + chance.uniform(2, 34) * HOUR for vm in list(self.phase)[:DYING]}
        self.dies_at |= {vm: self.deaf_at[vm] + chance.uniform(0, 2) * HOUR for vm in list(self.phase)[: DYING // 2]}
        self.unsent = {vm: [] for vm in self.phase}

    def report(self, quarter_at, documents):
        named = {vm: [] for vm in self.phase}
        for life in self.lives:
            for run in life.here:
                if run.names_at(quarter_at + self.phase[run.vm]):
                    named[run.vm].append((life, run))
        for vm, jobs in named.items():
            at = quarter_at + self.phase[vm]
            if at < self.dies_at.get(vm, at + ROUND):
                self.unsent[vm].append((at, jobs))
                for _, run in jobs:
                    run.unsent.append(at)
                while self.unsent[vm] and self.is_answered(self.unsent[vm][0], vm, at, documents):
                    for _, run in self.unsent[vm].pop(0)[1]:
                        run.heard.append(run.unsent.pop(0))

    def is_answered(self, told, vm, at, documents):
        """Tell it, unless the way is cut; the answer may be lost even so."""
        if (
            timedelta() <= at - self.deaf_at[vm] < DEAF_FOR
            or ALL_DEAF[0] <= at - AT < ALL_DEAF[1]
            or self.chance.random() < 0.03
        ):
            return False
        seen_at, jobs = told
        if jobs:
            report = builders.heartbeat(*(str(life.number) for life, _ in jobs), vm=vm, seen_at=seen_at)
            heartbeats.record(report, CALLER, documents, at)
        return self.chance.random() > 0.01


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Give a function that lives through the days, in the first test that calls it, where `no_cover` holds."""
    return functools.cache(lambda: live(tmp_path_factory.mktemp("fleet")))


def live(folder):
    """Live through the days; return the lives, what is known of each job in the end, and how often DIRAC was asked."""
    chance = random.Random(20261125)
    fleet = Fleet(chance)
    fleet.lives = lives = [Life(chance, number, fleet.dies_at) for number in range(1, JOBS + 1)]
    door = Dirac(lives)
    documents = SqliteDocuments(folder / "d.sqlite")
    for quarter in range(4 * 84):
        fleet.report(AT + quarter * ROUND, documents)
        door.now = AT + (quarter + 1) * ROUND
        if quarter < 4 * 48 or quarter % 4 == 0:
            try:
                dirac_collector.settle(door, documents, dirac_lab.unhurried(lambda: door.now))
            except Unavailable:
                continue
    known = {int(one.job_id): one for _, one in documents.find("job", Job, {"system": ["dirac"]})}
    documents.close()
    assert all(life.silence for life in lives if life.number not in known), (
        "only what died unheard with its vm may be unknown"
    )
    return [life for life in lives if life.number in known], known, door


# All these lines are counted in other tests; counting them in here takes longer than the days do.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover, pytest.mark.timeout(900)]


def test_nearly_every_job_was_ever_named(days):
    lives, _, _ = days()
    assert len(lives) > 0.98 * JOBS


def test_every_final_state_is_dirac_s(days):
    lives, known, door = days()
    wrong = []
    for life in lives:
        one, said = known[life.number], life.said(door.now)
        expected = "unknown_to_dirac" if said is None else said.status
        if one.status != expected or one.final_at is None:
            wrong.append((life.fate, one, said))
    assert wrong == []


def test_every_job_is_where_it_ran_last_with_its_chain(days):
    lives, known, _ = days()
    for life in lives:
        one = known[life.number]
        if not life.silence and not life.was_rescheduled_twice_unseen:
            assert (one.cloud == "elsewhere") == (life.last.vm is None), (life.fate, one)
            assert len((one.history or "").split("; ")) == max(1, life.count), (life.fate, one)
            assert one.vm == life.last.vm


def test_running_time_on_our_clouds_is_right_to_a_quarter_of_an_hour(days):
    """Always where the vm lived to tell what it had named;
    what a vm took to its grave costs no more than the time for which it is so.
    """
    lives, known, _ = days()
    off = {life: abs(timedelta(milliseconds=known[life.number].wall_ms) - life.wall) for life in lives}
    excused = [life for life in lives if life.silence]
    wrong = [life for life in lives if off[life] > ROUND + life.silence]
    far = sum(off[life] > ROUND for life in excused)
    print(
        f"{len(lives)} jobs; {len(excused)} died unheard with their vm, {far} of these more than a quarter of an hour "
        "off"
    )
    assert [(life.fate, off[life], life.silence, known[life.number]) for life in wrong] == []
    assert len(excused) < 0.02 * JOBS


def test_zombies_are_told_of_and_nothing_else_is(days):
    lives, known, _ = days()
    for life in lives:
        if known[life.number].doubt is not None:
            assert life.fate == "outlived_by_its_payload"


def test_dirac_is_asked_once_a_round(days):
    _, _, door = days()
    assert door.calls <= 4 * 48 + 36
