"""What befalls a vm in its life, played out against the real vm.py:
totals come out right, and no second is counted twice.
"""

import fcntl
import itertools
import json
import multiprocessing
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import agent_lab
from tests.support.agent_lab import Lab, at, serve


@pytest.fixture
def lab(tmp_path):
    one = Lab(tmp_path)
    with serve(one.office) as base:
        one.base = base
        yield one


def hourly(lab, hours, busy=0.5):
    for _ in range(hours):
        lab.world.run(3600, busy)
        assert lab.do("report") == 0


def agrees(lab, seconds=2.0, names=("wall_seconds", "core_seconds", "user_seconds", "idle_seconds")):
    """Hold the office's books to the truth, month by month."""
    for name in names:
        booked, true = lab.booked(name), lab.true(name)
        for month, value in true.items():
            assert booked.get(month, 0) == pytest.approx(value, abs=seconds * lab.world.cores), (name, month)
    assert lab.office.overlaps() == []


def test_the_first_sample_starts_at_the_boot_itself(lab):
    lab.world.run(100)
    assert lab.do("report") == 0
    (sample,) = lab.office.samples
    assert sample["previous"] == {
        "sampled_at": sample["boot_at"],
        "uptime_seconds": 0,
        "counters": dict.fromkeys(sample["counters"], 0),
    }
    assert at(sample["boot_at"]) == pytest.approx(lab.world.booted_at, abs=2)
    assert set(sample["month_start"].values()) == {0}
    assert sample["month"] == "2026-11"
    assert sample["counters"]["core_seconds"] == pytest.approx(400)
    assert sample["final"] is False


def test_samples_have_exactly_the_fields_of_the_contract(lab):
    lab.world.run(100)
    assert lab.do("report") == 0
    assert set(lab.office.samples[0]) == {
        "vm", "boot_id", "boot_at", "sampled_at", "uptime_seconds", "final", "month", "counters", "month_start",
        "previous", "cores", "most_cores", "memory_bytes", "disk_bytes", "cpu_model", "agent_version",
        "benchmark", "clock_offset_seconds", "estimated",
    }  # fmt: skip
    assert set(lab.office.samples[0]["counters"]) == {
        "wall_seconds", "core_seconds", "user_seconds", "nice_seconds", "system_seconds", "idle_seconds",
        "iowait_seconds", "steal_seconds", "suspended_seconds", "network_received_bytes", "network_sent_bytes",
    }  # fmt: skip


def test_each_sample_continues_the_one_before(lab):
    hourly(lab, 5)
    for before, after in zip(lab.office.samples, lab.office.samples[1:], strict=False):
        assert after["previous"] == {name: before[name] for name in ("sampled_at", "uptime_seconds", "counters")}
        assert after["boot_at"] == before["boot_at"]
    agrees(lab)


def test_a_month_ends_at_its_edge_when_the_agent_wakes_for_it(tmp_path):
    lab = Lab(tmp_path, "2026-11-30T20:30:00")
    lab.direct = True
    hourly(lab, 3, busy=0.2)
    lab.world.run_until("2026-12-01T00:00:00", busy=0.2)
    lab.world.run(1)
    wake(lab)
    assert len(lab.office.samples) == 3
    lab.world.run_until("2026-12-01T00:30:00", busy=0.9)
    assert lab.do("report") == 0
    hourly(lab, 2, busy=0.9)
    closing = next(s for s in lab.office.samples if s["month"] != s["sampled_at"][:7])
    assert closing["sampled_at"] == "2026-12-01T00:00:00Z"
    assert closing["month"] == "2026-11"
    assert not any(s["estimated"] for s in lab.office.samples)
    assert max(abs(s["clock_offset_seconds"]) for s in lab.office.samples) < 2
    agrees(lab)


def wake(lab):
    """Do what `run` does at a month's edge: measure, send later."""
    assert lab.agent().do(lab.options(), lab.agent().measure) == 0


def test_two_days_of_lost_reports_around_the_edge_leave_both_months_right(tmp_path):
    lab = Lab(tmp_path, "2026-11-28T20:00:00")
    lab.direct = True
    hourly(lab, 3)
    lab.office.away = True
    while lab.world.now < at("2026-12-02T23:00:00"):
        lab.world.run(1800)
        if month_turned(lab, 1800):
            lab.world.run_until(agent_lab.next_month_at(lab.world.now - 1800))
            wake(lab)
        lab.world.run(1800)
        assert lab.do("report") == 5
    lab.office.away = False
    assert lab.do("report") == 0
    agrees(lab)
    assert {s["month"] for s in lab.office.samples} == {"2026-11", "2026-12"}


def month_turned(lab, seconds):
    return agent_lab.month_of(lab.world.now) != agent_lab.month_of(lab.world.now - seconds)


def test_an_edge_that_was_slept_through_is_interpolated_and_flagged(tmp_path):
    lab = Lab(tmp_path, "2026-11-30T12:00:00")
    lab.direct = True
    hourly(lab, 2)
    lab.world.run(600)
    lab.world.suspend(86400)
    assert lab.do("report") == 0
    closing, after = lab.office.samples[-2:]
    assert closing["sampled_at"] == "2026-12-01T00:00:00Z"
    assert closing["estimated"] is True
    assert after["estimated"] is True
    assert after["counters"]["suspended_seconds"] == pytest.approx(86400, abs=1)
    assert sum(lab.booked().values()) == pytest.approx(lab.world.wall, abs=0.1)
    share = (at("2026-12-01T00:00:00") - at("2026-11-30T14:00:00")) / 87000
    assert lab.booked()["2026-12"] == pytest.approx(600 * (1 - share), abs=1)
    hourly(lab, 1)
    assert lab.office.samples[-1]["estimated"] is True
    assert lab.office.overlaps() == []


def test_a_silent_month_then_one_report(tmp_path):
    lab = Lab(tmp_path, "2026-09-20T00:00:00")
    lab.direct = True
    hourly(lab, 1)
    lab.world.run_until("2026-11-10T00:00:00")
    assert lab.do("report") == 0
    agrees(lab, 5)
    assert [s["month"] for s in lab.office.samples] == ["2026-09", "2026-09", "2026-10", "2026-11"]


def test_leap_day_and_new_year(tmp_path):
    lab = Lab(tmp_path, "2027-12-31T22:00:00")
    lab.direct = True
    hourly(lab, 1)
    lab.world.run_until("2028-02-29T23:59:00")
    assert lab.do("report") == 0
    lab.world.run_until("2028-03-01T00:00:30")
    assert lab.do("report") == 0
    agrees(lab, 5)
    assert set(lab.booked()) == {"2027-12", "2028-01", "2028-02", "2028-03"}


@pytest.mark.parametrize("off", [30, 7200])
def test_reboots_within_the_hour_and_across_the_edge(tmp_path, off):
    lab = Lab(tmp_path, "2026-11-30T22:10:00")
    lab.direct = True
    hourly(lab, 1)
    lab.world.run_until(at("2026-12-01T00:00:00") - off / 2)
    assert lab.do("stop") == 0
    assert lab.office.samples[-1]["final"] is True
    lab.world.boot(off)
    hourly(lab, 2)
    assert lab.office.samples[-2]["previous"]["uptime_seconds"] == 0
    agrees(lab)


def test_a_last_sample_that_was_not_delivered_comes_with_the_next_boot(lab):
    hourly(lab, 1)
    lab.world.run(1200)
    lab.office.away = True
    assert lab.do("stop") == 5
    lab.world.boot(60)
    lab.office.away = False
    lab.world.run(30)
    assert lab.do("report") == 0
    final, first = lab.office.samples[-2:]
    assert final["final"] is True
    assert final["boot_id"] != first["boot_id"]
    agrees(lab)


@pytest.mark.parametrize("step", [-3 * 3600, 3 * 3600, -1_700_000_000])
def test_clock_steps_change_nothing(lab, step):
    hourly(lab, 2)
    lab.world.clock_error = step
    lab.world.publish()
    hourly(lab, 2)
    assert len({s["boot_at"] for s in lab.office.samples}) == 1
    assert [at(s["sampled_at"]) for s in lab.office.samples] == pytest.approx(
        [lab.world.now - 3600 * n for n in (3, 2, 1, 0)], abs=2
    )
    assert lab.office.samples[-1]["clock_offset_seconds"] == pytest.approx(-step, abs=2)
    agrees(lab)


@pytest.mark.parametrize("error", [-9 * 3600, 9 * 3600, -1_700_000_000])
def test_a_clock_that_is_wrong_from_the_start_is_corrected_before_the_first_sample(tmp_path, error):
    lab = Lab(tmp_path, "2026-11-30T20:00:00")
    lab.world.clock_error = error
    with serve(lab.office) as lab.base:
        hourly(lab, 2)
        assert at(lab.office.samples[0]["boot_at"]) == pytest.approx(lab.world.booted_at, abs=2)
        hourly(lab, 4)
    agrees(lab, 5)


@pytest.mark.parametrize("error", [-9 * 3600, 9 * 3600, -1_700_000_000])
def test_nothing_is_dated_until_the_server_has_said_what_time_it_is(tmp_path, error):
    lab = Lab(tmp_path, "2026-11-30T20:00:00")
    for _ in range(6):
        lab.world.run(3600)
        lab.world.clock_error = error * random.Random(error).random()
        assert lab.do("report") == 5
    with serve(lab.office) as lab.base:
        hourly(lab, 1)
    assert len(lab.office.samples) == 8
    agrees(lab, 5)


def test_without_a_date_header_the_receipts_time_corrects_what_was_refused_for_a_wrong_clock(lab):
    lab.world.clock_error = 10 * 86400
    real = lab.office.answer

    def dateless(*request):
        status, headers, answer = real(*request)
        return status, {**headers, "Date": ""}, answer

    lab.office.answer = dateless
    lab.world.run(60)
    assert lab.do("report") == 0
    (sample,) = lab.office.samples
    assert sample["month"] == "2026-11"
    assert sample["previous"]["uptime_seconds"] == 0
    assert at(sample["boot_at"]) == pytest.approx(lab.world.booted_at, abs=2)
    hourly(lab, 1)
    agrees(lab)


def test_a_vm_paused_by_its_hypervisor_catches_up_with_the_servers_time(lab):
    hourly(lab, 2)
    lab.world.pause(2 * 86400)
    hourly(lab, 3)
    assert at(lab.office.samples[-1]["sampled_at"]) == pytest.approx(lab.world.now, abs=2)
    agrees(lab)


def test_a_server_time_that_jitters_is_smoothed(lab):
    hourly(lab, 1)
    for error in (2, -2) * 4:
        lab.office.clock_error = error
        hourly(lab, 1)
    offsets = [s["clock_offset_seconds"] for s in lab.office.samples[2:]]
    assert max(offsets) - min(offsets) < 1.5
    agrees(lab)


def test_hot_plugged_cores_are_integrated(lab):
    hourly(lab, 1)
    lab.world.run(1800)
    lab.world.cores = 8
    lab.world.run(1800)
    assert lab.do("report") == 0
    lab.world.cores = 2
    hourly(lab, 1)
    assert lab.office.samples[-1]["counters"]["core_seconds"] == pytest.approx(4 * 5400 + 8 * 1800 + 2 * 3600, abs=1)
    agrees(lab)


def test_counters_that_run_backwards_or_wild_never_do_so_in_an_account(lab):
    hourly(lab, 1)
    lab.world.used["iowait_seconds"] -= 50
    lab.world.used["steal_seconds"] = 184467440737.0
    lab.world.run(10)
    assert lab.do("report") == 0
    before, after = (s["counters"] for s in lab.office.samples[-2:])
    assert after["iowait_seconds"] == before["iowait_seconds"]
    assert after["steal_seconds"] == before["steal_seconds"]
    lab.world.used["steal_seconds"] = 5.0
    hourly(lab, 2)
    assert lab.office.samples[-1]["counters"]["steal_seconds"] == 5.0


def test_network_counters_survive_interfaces_that_come_go_and_reset(lab):
    lab.world.network["eth0"] = [1000, 500]
    lab.world.publish()
    assert lab.do("report") == 0
    lab.world.network = {"eth0": [100, 50], "veth1": [7, 3], "lo": [5, 5]}
    lab.world.publish()
    lab.world.run(0.001)
    assert lab.do("report") == 0
    del lab.world.network["veth1"]
    lab.world.run(0.001)
    assert lab.do("report") == 0
    last = lab.office.samples[-1]["counters"]
    assert last["network_received_bytes"] == pytest.approx(1107, abs=3)
    assert last["network_sent_bytes"] == pytest.approx(553, abs=3)


def test_an_outage_is_made_up_for_in_one_request_oldest_first(lab):
    hourly(lab, 1)
    lab.office.away = True
    for _ in range(3):
        lab.world.run(3600)
        assert lab.do("report") == 5
    lab.office.away = False
    before = len(lab.office.requests)
    hourly(lab, 1)
    assert len(lab.office.requests) == before + 1
    assert [s["uptime_seconds"] for s in lab.office.samples] == sorted(s["uptime_seconds"] for s in lab.office.samples)
    assert len(lab.office.samples) == 5
    assert lab.kept["pending"] == []
    agrees(lab)


def test_a_lost_reply_leads_to_the_same_samples_again(lab):
    hourly(lab, 1)
    lab.office.script.append(
        lambda office, *request: (office.script.clear(), office.answer("POST", *request), (0, {}, b""))[-1]
    )
    lab.world.run(3600)
    assert lab.do("report") == 0
    hourly(lab, 1)
    doubled = [s for s in lab.office.samples if s["uptime_seconds"] == lab.office.samples[1]["uptime_seconds"]]
    assert len(doubled) == 2
    assert doubled[0] == doubled[1]
    agrees(lab)


def test_the_spool_is_bounded_and_keeps_what_ends_a_month_or_a_boot(tmp_path):
    lab = Lab(tmp_path, "2026-10-31T20:00:00")
    lab.direct = True
    hourly(lab, 1)
    lab.office.away = True
    real, lab.constants = lab.constants, lambda: {**real(), "SPOOL_SAMPLES": 10}
    for _ in range(30):
        lab.world.run(3600)
        assert lab.do("report") == 5
    assert len(lab.kept["pending"]) == 10
    lab.office.away = False
    hourly(lab, 1)
    agrees(lab, 5)
    assert any(s["month"] == "2026-10" and s["sampled_at"] == "2026-11-01T00:00:00Z" for s in lab.office.samples)


def test_a_refused_sample_is_put_apart_and_said_and_the_others_count(lab, capfd):
    hourly(lab, 1)
    lab.office.away = True
    lab.world.run(3600)
    assert lab.do("report") == 5
    lab.office.away = False
    first = {"index": 0, "code": "malformed", "message": "no good"}
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(1, 0, [first])).encode()))
    lab.world.run(3600)
    assert lab.do("report") == 0
    assert "no good (malformed)" in capfd.readouterr().err
    assert (lab.kept["pending"], len(lab.kept["refused"])) == ([], 1)
    newest = {"index": 0, "code": "not_yours", "message": "another vm's"}
    lab.office.script.append(lambda office, *_: (200, {}, json.dumps(office.receipt(0, 0, [newest])).encode()))
    lab.world.run(3600)
    assert lab.do("report") == 3


def test_a_fresh_token_replaces_the_stored_one(lab):
    lab.office.fresh_token = "t1"
    hourly(lab, 1)
    lab.office.token, lab.office.fresh_token = "t1", None
    hourly(lab, 1)
    assert (lab.state / "state.json").stat().st_mode & 0o777 == 0o600
    (lab.folder / "token").write_text("t2\n")
    lab.office.token = "t2"
    hourly(lab, 1)


def test_a_lost_state_directory_costs_nothing_while_the_boot_lasts(lab):
    hourly(lab, 2)
    (lab.state / "state.json").unlink()
    hourly(lab, 1)
    assert lab.office.samples[-1]["previous"]["uptime_seconds"] == lab.office.samples[-2]["uptime_seconds"]
    agrees(lab)


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"{}", b'{"format": "0.0"}', b"\xff\xfe"])
def test_a_damaged_state_is_recovered_from_the_other_copy(lab, damage):
    hourly(lab, 2)
    (lab.state / "state.json").write_bytes(damage)
    hourly(lab, 1)
    next(lab.run_dir.iterdir()).write_bytes(damage)
    hourly(lab, 1)
    agrees(lab)


def test_with_both_copies_lost_there_is_a_hole_but_no_overlap_and_the_total_holds(lab):
    hourly(lab, 2)
    (lab.state / "state.json").unlink()
    next(lab.run_dir.iterdir()).write_bytes(b"torn")
    hourly(lab, 2)
    assert lab.office.samples[2]["previous"] is None
    assert lab.office.samples[3]["previous"]["uptime_seconds"] == lab.office.samples[2]["uptime_seconds"]
    agrees(lab)


def test_a_state_lost_in_a_boot_of_an_earlier_month_gives_an_estimate_and_leaves_closed_months_alone(tmp_path):
    lab = Lab(tmp_path, "2026-10-30T00:00:00")
    lab.direct = True
    hourly(lab, 1)
    for _ in range(9):
        lab.world.run(6 * 3600)
        assert lab.do("report") == 0
    october = dict(lab.office.usage[lab.world.boot_id, "2026-10"])
    (lab.state / "state.json").unlink()
    next(lab.run_dir.iterdir()).write_bytes(b"torn")
    hourly(lab, 1)
    assert lab.office.samples[-1]["estimated"] is True
    assert lab.office.usage[lab.world.boot_id, "2026-10"] == october
    agrees(lab, 60)


def test_a_state_torn_by_the_crash_that_ended_the_last_boot_is_a_first_sample(lab):
    hourly(lab, 1)
    (lab.state / "state.json").write_bytes(b"torn")
    lab.world.boot(60)
    hourly(lab, 1)
    assert lab.office.samples[-1]["previous"]["uptime_seconds"] == 0
    agrees(lab)


def test_a_full_disk_costs_a_warning_and_no_report(lab, capfd):
    hourly(lab, 1)
    (lab.state / "state.json.new").mkdir()
    hourly(lab, 3)
    assert "not kept" in capfd.readouterr().err
    (lab.state / "state.json.new").rmdir()
    hourly(lab, 1)
    assert len(lab.office.samples) == 5
    for before, after in itertools.pairwise(lab.office.samples):
        assert after["previous"]["uptime_seconds"] == before["uptime_seconds"]
    agrees(lab)


def test_nowhere_to_keep_a_state_still_reports_without_overlaps(lab):
    hourly(lab, 1)
    (lab.state / "state.json.new").mkdir()
    (next(lab.run_dir.iterdir()).with_suffix(".json.new")).mkdir()
    hourly(lab, 3)
    agrees(lab)


def test_a_memory_snapshot_restored_is_an_anomaly_without_negative_numbers(lab):
    hourly(lab, 5)
    world = lab.world
    saved = (world.uptime, world.wall, dict(world.used))
    hourly(lab, 3)
    world.uptime, world.wall, world.used = saved[0], saved[1], saved[2]
    world.clock_error -= 3 * 3600
    world.publish()
    hourly(lab, 5)
    assert all(v >= 0 for s in lab.office.samples for v in s["counters"].values())
    assert any(s["previous"] is None for s in lab.office.samples)
    assert len({s["boot_id"] for s in lab.office.samples}) == 1


def test_a_cloned_image_keeps_nothing_of_its_original(lab, capfd):
    hourly(lab, 1)
    lab.office.away = True
    lab.world.run(60)
    assert lab.do("report") == 5
    lab.office.away = False
    (lab.folder / "machine").write_text("99999999-2222-3333-4444-555555555555\n")
    lab.world.boot(60)
    lab.world.run(60)
    assert lab.do("report", "--token-file", "") == 3
    assert "another machine's" in capfd.readouterr().err
    assert lab.kept["token"] is None
    assert [s["boot_id"] for s in lab.kept["pending"]] == [lab.world.boot_id]


def test_a_rebooted_machine_keeps_its_token(lab):
    hourly(lab, 1)
    lab.world.boot(60)
    lab.world.run(60)
    assert lab.do("report", "--token-file", "") == 0


def report_in_a_process(lab, barrier):
    barrier.wait()
    lab.do("report")


def test_two_agents_at_once_make_one_chain(lab):
    hourly(lab, 1)
    lab.world.run(60)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    agents = [context.Process(target=report_in_a_process, args=(lab, barrier)) for _ in range(4)]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    assert [agent.exitcode for agent in agents] == [0] * 4
    hourly(lab, 1)
    agrees(lab)


def test_an_agent_waits_for_the_one_before(lab):
    lab.state.mkdir()
    folder = os.open(lab.state, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        waiting = multiprocessing.get_context("fork").Process(target=lab.do, args=("report",))
        waiting.start()
        waiting.join(1)
        assert waiting.is_alive()
        assert lab.office.samples == []
        fcntl.flock(folder, fcntl.LOCK_UN)
        waiting.join(20)
        assert waiting.exitcode == 0
    finally:
        os.close(folder)
    assert len(lab.office.samples) == 1


def test_a_clock_corrected_back_over_the_edge_does_not_open_the_old_month_again(tmp_path):
    lab = Lab(tmp_path, "2026-11-30T22:00:00")
    lab.direct = True
    hourly(lab, 1)
    lab.world.run_until(at("2026-12-01T00:00:00") + 0.3)
    assert lab.do("report") == 0
    lab.office.clock_error = -4
    lab.world.run(0.2)
    assert lab.do("report") == 0
    lab.world.run(0.2)
    assert lab.do("report") == 0
    assert [s["month"] for s in lab.office.samples[-2:]] == ["2026-12", "2026-12"]
    assert lab.office.overlaps() == []


def test_run_boots_reports_hourly_measures_at_the_edge_and_ends_with_a_last_sample(tmp_path):
    lab = Lab(tmp_path, "2026-11-30T22:30:00")
    lab.world.run(10)
    with serve(lab.office) as lab.base:
        agent, options = lab.agent(), lab.options("run", "--jobs", "yes")
        sleep, deadline = agent.clock.sleep, at("2026-12-01T02:10:00")

        def until_the_deadline(seconds):
            if lab.world.now > deadline:
                raise SystemExit(0)
            sleep(seconds)

        agent.clock.sleep = until_the_deadline
        with pytest.raises(SystemExit):
            agent.run(options)
    closing = [s for s in lab.office.samples if s["month"] != s["sampled_at"][:7]]
    assert [s["sampled_at"] for s in closing] == ["2026-12-01T00:00:00Z"]
    assert not any(s["estimated"] for s in lab.office.samples)
    assert lab.office.samples[-1]["final"] is True
    assert 5 <= len(lab.office.samples) <= 8
    assert 14 <= len(lab.office.heartbeats) <= 17
    assert max(lab.slept) <= 61
    agrees(lab)


def test_what_run_could_not_tell_of_jobs_it_tells_before_it_stops(tmp_path):
    lab = Lab(tmp_path, "2026-11-25T10:00:00")
    lab.world.run(10)
    with serve(lab.office) as lab.base:
        agent, options = lab.agent(), lab.options("run", "--jobs", "yes")
        sleep, away_at, deadline = agent.clock.sleep, at("2026-11-25T10:20:00"), at("2026-11-25T12:10:00")

        def until_the_deadline(seconds):
            lab.office.away = away_at < lab.world.now < deadline
            if lab.world.now >= deadline:
                raise SystemExit(0)
            sleep(seconds)

        agent.clock.sleep = until_the_deadline
        with pytest.raises(SystemExit):
            agent.run(options)
    seen = [at(beat["seen_at"]) for beat in lab.office.heartbeats]
    assert seen == sorted(seen)
    assert seen[0] < away_at
    assert seen[-1] == pytest.approx(lab.world.now, abs=3)
    assert max(later - earlier for earlier, later in itertools.pairwise(seen)) < 930


def test_nothing_is_sent_by_many_vms_in_the_same_second(tmp_path):
    agent = Lab(tmp_path).agent()
    shifts = {int(agent.digest(str(n).encode())[:8], 16) % 3600 for n in range(1000)}
    assert len(shifts) > 800


class Oracle:
    """The month split by another way: every point measured, and straight lines in time between them."""

    def __init__(self, world):
        self.world = world
        self.points = {}

    def note(self):
        world = self.world
        points = self.points.setdefault(world.boot_id, [(world.booted_at, 0.0, 0.0)])
        points.append((world.now, world.wall, world.used["user_seconds"]))

    def value(self, points, moment, column):
        if moment <= points[0][0]:
            return 0.0
        for a, b in itertools.pairwise(points):
            if a[0] <= moment <= b[0]:
                return a[column] + (b[column] - a[column]) * ((moment - a[0]) / (b[0] - a[0]) if b[0] > a[0] else 1)
        return points[-1][column]

    def months(self, column):
        totals = {}
        for points in self.points.values():
            start = points[0][0]
            while start <= points[-1][0]:
                end = agent_lab.next_month_at(start)
                month = agent_lab.month_of(start)
                used = self.value(points, end, column) - self.value(points, start, column)
                totals[month] = totals.get(month, 0) + used
                start = end
        return totals


class Life:
    """A vm to which things happen; each takes an amount (0 … 1000) and how busy the cores are."""

    def __init__(self, folder, start):
        self.lab = Lab(folder, "2026-11-28T12:00:00")
        self.lab.direct = True
        self.world, self.office = self.lab.world, self.lab.office
        self.world.now = self.world.booted_at = self.world.now + start
        self.oracle = Oracle(self.world)
        self.hour(0, 0.5)

    def report(self, verb="report"):
        self.oracle.note()
        assert self.lab.do(verb) in (0, 5)

    def hour(self, _amount, busy):
        self.world.run(3600, busy)
        self.report()

    def silence(self, amount, busy):
        self.world.run(3600 * (amount % 50), busy)
        self.report()

    def suspend(self, amount, busy):
        self.world.run(amount, busy)
        self.world.suspend(amount * 200)
        self.report()

    def reboot(self, amount, busy):
        self.world.run(amount, busy)
        self.report("stop")
        self.world.clock_error = 0  # a boot that nobody tells the time is dated by its own clock
        self.world.boot(amount * 100)
        self.world.run(5)
        self.report()

    def crash(self, amount, _busy):
        self.world.clock_error = 0
        self.world.boot(amount)
        self.world.run(5)
        self.report()

    def clock_step(self, amount, _busy):
        if any(sample["boot_id"] == self.world.boot_id for sample in self.office.samples):
            self.world.clock_error = (amount - 500) * 100_000
            self.world.publish()
        self.report()

    def outage(self, _amount, _busy):
        self.office.away = not self.office.away

    def month_edge(self, _amount, busy):
        self.world.run_until(agent_lab.next_month_at(self.world.now), busy)
        self.world.run(0.5, busy)
        self.report()

    def end(self):
        self.office.away = False
        self.hour(0, 0.5)


EVENTS = ("hour", "silence", "suspend", "reboot", "crash", "clock_step", "outage", "month_edge")


@settings(max_examples=80, deadline=None)
@given(
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1000), st.floats(0, 1)), min_size=3, max_size=14),
    start=st.integers(0, 86400 * 3),
)
def test_the_month_split_equals_an_oracle_whatever_happens(tmp_path_factory, events, start):
    life = Life(tmp_path_factory.mktemp("life"), start)
    for kind, amount, busy in events:
        getattr(life, kind)(amount, busy)
    life.end()
    for name, column in (("wall_seconds", 1), ("user_seconds", 2)):
        booked, expected = life.lab.booked(name), life.oracle.months(column)
        for month in set(booked) | set(expected):
            assert booked.get(month, 0) == pytest.approx(expected.get(month, 0), abs=3 * life.world.cores), (
                name,
                month,
            )
    assert life.office.overlaps() == []
    intervals = sum(one["wall_seconds"] for one in life.office.intervals.values())
    assert intervals == pytest.approx(sum(life.lab.booked().values()), abs=0.5)
