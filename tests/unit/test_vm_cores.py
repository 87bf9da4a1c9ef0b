"""Core time of a vm whose history is not known:
the state was lost, or vm.py began late, and cores came or went meanwhile.
"""

import os
from datetime import UTC, datetime

import msgspec
import pytest

from skytally.accounting import samples
from skytally.core.records import Caller, Sample
from tests.support.agent_lab import Lab, interpreters, serve

HERTZ = os.sysconf("SC_CLK_TCK")
HOUR = 3600


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path, "2026-11-20T00:00:00")
    one.direct = True
    return one


def live(lab, *phases):
    """Let a vm live through (hours, cores)."""
    for hours, lab.world.cores in phases:
        lab.world.run(hours * HOUR, busy=0.3)


def lose(lab):
    """Lose the state, in both copies."""
    (lab.state / "state.json").unlink()
    next(lab.run_dir.iterdir()).write_bytes(b"torn")


def report(lab):
    assert lab.do("report") == 0
    accepted_by_the_server(lab)
    return lab.office.samples[-1]


def accepted_by_the_server(lab):
    """Hold the newest sample to the server's own rules, where the server knows nothing of the boot but this sample."""
    (sample,) = samples.parse(msgspec.json.encode({"samples": lab.office.samples[-1:]}))
    assert isinstance(sample, Sample), sample
    now = datetime.fromtimestamp(lab.world.now, UTC)
    samples.check(sample, Caller(role="reporter", expires=0, issued=0, clouds=("c",), vm="vm-1"), now)
    samples.check_cores(sample, max(sample.cores, sample.most_cores))


# ---- by written /proc/stat ----


def stat(ticks_seconds, cores):
    """Write what a kernel shows whose cores were online for so long together,
    a tenth of it each in iowait and steal.
    """
    user, idle, tenth = (round(ticks_seconds * share * HERTZ) for share in (0.3, 0.5, 0.1))
    lines = "".join(f"cpu{number} 1 0 1 1 0 0 0 0 0 0\n" for number in range(cores))
    return f"cpu  {user} 0 0 {idle} {tenth} 0 0 {tenth} {user} 0\n{lines}intr 1 2 3\n"


@pytest.mark.parametrize(
    ("ticks_hours", "cores", "wall_hours", "core_hours", "most_cores", "estimated"),
    [
        (56, 8, 22, 56, 8, True),  # 2, and 8 for the last two hours
        (164, 2, 22, 164, 8, True),  # 8, and 2 for the last two hours
        (88, 4, 22, 88, 4, False),
        (87.5, 4, 22, 87.5, 4, False),  # some ticks are lost
        (88.5, 4, 22, 88, 4, False),  # steal that is counted twice
        (20, 1, 22, 20, 1, True),
        (0, 4, 22, 88, 4, False),  # a kernel that counts none
        (
            22_000,
            1,
            22,
            22_000,
            980,
            True,
        ),  # a thousand cores; with the server's tolerance of the wall time they are 980
    ],
)
def test_core_time_of_an_unknown_history_is_what_the_ticks_say(
    lab, ticks_hours, cores, wall_hours, core_hours, most_cores, estimated
):
    lab.world.run(wall_hours * HOUR)
    (lab.folder / "proc/stat").write_text(stat(ticks_hours * HOUR, cores))
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx(core_hours * HOUR, abs=1)
    assert (sample["cores"], sample["most_cores"], sample["estimated"]) == (cores, most_cores, estimated)


def test_an_underflowed_counter_is_in_no_core_time(lab):
    lab.world.run(22 * HOUR)
    lab.world.used["steal_seconds"] = 184467440737.0
    lab.world.publish()
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx(88 * HOUR)
    assert sample["counters"]["steal_seconds"] == 0


def test_the_first_minute_of_a_boot_counts_its_cores(lab):
    lab.world.run(30)
    (lab.folder / "proc/stat").write_text(stat(110, 4))  # the cores came up one after the other
    sample = report(lab)
    assert (sample["counters"]["core_seconds"], sample["estimated"], sample["most_cores"]) == (
        pytest.approx(110, abs=1),
        False,
        4,
    )


# ---- whole lives ----

LIVES = {
    "cores came": [(20, 2), (2, 8)],
    "cores went": [(20, 8), (2, 2)],
    "steady": [(20, 4), (2, 4)],
    "came and went": [(6, 2), (10, 16), (6, 4)],
}


@pytest.mark.parametrize("phases", LIVES.values(), ids=list(LIVES))
def test_vm_py_that_begins_late_credits_what_was_there(lab, phases):
    live(lab, *phases)
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx(
        sum(hours * cores for hours, cores in phases) * HOUR, abs=2
    )
    assert sample["estimated"] == (len({cores for _, cores in phases}) > 1)
    assert sample["previous"]["uptime_seconds"] == 0


@pytest.mark.parametrize("phases", LIVES.values(), ids=list(LIVES))
def test_a_lost_state_credits_what_was_there(lab, phases):
    live(lab, phases[0])
    report(lab)
    live(lab, *phases[1:])
    lose(lab)
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx(
        sum(hours * cores for hours, cores in phases) * HOUR, abs=2
    )
    assert sample["previous"] is None


def test_a_state_that_is_lost_twice_adds_nothing_up_twice(lab):
    live(lab, (10, 2))
    report(lab)
    live(lab, (1, 8))
    lose(lab)
    report(lab)
    live(lab, (5, 8), (1, 4))
    report(lab)
    lose(lab)
    live(lab, (3, 2))
    report(lab)
    live(lab, (1, 2))
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx((20 + 48 + 4 + 8) * HOUR, abs=2)
    assert sample["estimated"] is True
    assert lab.office.overlaps() == []


def test_a_day_of_suspension_is_no_core_time_when_the_state_is_lost(lab):
    live(lab, (10, 2))
    lab.world.suspend(24 * HOUR)
    live(lab, (2, 8))
    sample = report(lab)
    assert sample["counters"]["core_seconds"] == pytest.approx(36 * HOUR, abs=2)
    assert sample["counters"]["suspended_seconds"] == pytest.approx(24 * HOUR, abs=2)


def test_the_month_of_a_lost_state_is_credited_no_more_cores_than_there_are(tmp_path):
    lab = Lab(tmp_path, "2026-10-30T00:00:00")
    lab.direct = True
    live(lab, (48, 8))
    report(lab)
    live(lab, (24, 2))
    lose(lab)
    report(lab)
    assert lab.booked("core_seconds")["2026-11"] == pytest.approx(48 * HOUR, abs=60)
    assert lab.office.usage[lab.world.boot_id, "2026-11"]["estimated"] is True
    live(lab, (24, 2))
    report(lab)
    assert lab.booked("core_seconds")["2026-11"] == pytest.approx(96 * HOUR, abs=60)


def test_a_month_after_the_estimated_one_is_no_estimate(lab):
    live(lab, (20, 2), (2, 8))
    report(lab)
    lab.world.run_until("2026-12-01T00:00:00")
    report(lab)
    lab.world.run(HOUR)
    assert report(lab)["estimated"] is False
    assert [s["estimated"] for s in lab.office.samples if s["month"] == "2026-11"] == [True, True]
    assert lab.booked("core_seconds")["2026-12"] == pytest.approx(8 * HOUR, abs=8)


@pytest.mark.parametrize("python", interpreters())
def test_cores_that_came_before_the_first_report_under_every_interpreter(python, tmp_path):
    lab = Lab(tmp_path, "2026-11-20T00:00:00")
    live(lab, (20, 2), (2, 8))
    with serve(lab.office) as lab.base:
        done = lab.spawn(python, "report")
    assert (done.returncode, done.stderr) == (0, "")
    (sample,) = lab.office.samples
    assert sample["counters"]["core_seconds"] == pytest.approx(201_600, abs=2)
    assert (sample["most_cores"], sample["estimated"]) == (8, True)
    accepted_by_the_server(lab)
