"""What schedulers report: the last word is of the report that was made last,
each cloud's is its own, and a bad item costs itself.
"""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.accounting.reconciliation import scheduled_core_hours
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import Job, PlacedVm, Placement
from skytally.core.records import Caller
from skytally.jobs import placement_join, placements
from tests.support.builders import ANY_JSON
from tests.support.placements import job, refusing

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, ROUND, SECOND = timedelta(hours=1), timedelta(minutes=5), timedelta(seconds=1)
VMS = ("vm-1", "vm-2")


def scheduler(*clouds):
    return Caller(role="scheduler", issued=0, expires=2**40, clouds=clouds)


def life(name="vm-1", ended_at=None, **more):
    end = {} if ended_at is None else {"ended_at": ended_at.isoformat()}
    return {
        "vm": name,
        "cloud": "uvic",
        "cores": 4,
        "started_at": AT.isoformat(),
        "state": "gone" if end else "up",
        **end,
        **more,
    }


def run(batch_id="s#1.0#1", vm="vm-1", **more):
    return {"batch_id": batch_id, "vm": vm, "started_at": AT.isoformat(), "state": "running", **more}


def report(documents, *vms, now, listed_at=None, jobs=(), caller=None):
    body = {"vms": vms, "jobs": jobs, **({} if listed_at is None else {"listed_at": listed_at.isoformat()})}
    return placements.record(json.dumps(body).encode(), caller or scheduler(), documents, now)


def vm(documents, name="vm-1"):
    return next((one for _, one in documents.find("placed_vm", PlacedVm, {"vm": [name]})), None)


def runs(documents):
    return {(one.cloud, one.vm, one.state) for _, one in documents.find("placement", Placement, {})}


class TestOrder:
    """Rounds five minutes apart list vms, or tell their end, and come in any order, some twice."""

    ROUNDS = st.lists(
        st.fixed_dictionaries({name: st.sampled_from(["up", "gone", None]) for name in VMS}), min_size=1, max_size=6
    )

    def told(self, documents, rounds, order):
        """Let rounds arrive in an order;
        answer what is known at the end of vms, and of a job that ran on one of them late.
        """
        placement_join.store([job(1, host="vm-1", began=4), job(2, host="vm-2", began=0.1, lasted=0.1)], documents)
        for came, n in enumerate(order):
            listed_at = AT + (n + 1) * ROUND
            vms = [
                life(name, None if state == "up" else listed_at - ROUND / 2)
                for name, state in rounds[n].items()
                if state
            ]
            receipt = report(documents, *vms, listed_at=listed_at, now=AT + HOUR + came * SECOND)
            assert (receipt.rejected, receipt.accepted + receipt.stale) == ([], len(vms))
        found = {kind: dict(documents.find(index, kind, {})) for index, kind in (("placed_vm", PlacedVm), ("job", Job))}
        documents.close()
        return found

    @pytest.mark.slow
    @settings(max_examples=60)
    @given(rounds=ROUNDS, data=st.data())
    def test_any_order_of_reports_ends_as_the_order_in_which_they_were_made(self, tmp_path_factory, rounds, data):
        folder = tmp_path_factory.mktemp("order")
        order = data.draw(st.permutations(range(len(rounds))))
        again = data.draw(st.lists(st.integers(0, len(rounds) - 1), max_size=3))
        true = self.told(SqliteDocuments(folder / "true.sqlite"), rounds, range(len(rounds)))
        assert self.told(SqliteDocuments(folder / "d.sqlite"), rounds, [*order, *again]) == true
        last = {name: next((one[name] for one in reversed(rounds) if one[name]), None) for name in VMS}
        assert {one.vm: one.state for one in true[PlacedVm].values()} == {
            name: state for name, state in last.items() if state
        }

    def test_a_vm_that_is_listed_again_is_alive_again_and_counts_once(self, documents):
        """Its true life so far is an hour of four cores;
        ended after a quarter it would be a third too much of what vms say.
        """
        report(documents, life(), listed_at=AT + 3 * ROUND, now=AT + 3 * ROUND)
        report(documents, life(ended_at=AT + 3 * ROUND), listed_at=AT + 5 * ROUND, now=AT + 5 * ROUND)
        assert vm(documents).ended_at == AT + 3 * ROUND
        report(documents, life(), listed_at=AT + HOUR, now=AT + HOUR + SECOND)
        assert (vm(documents).ended_at, vm(documents).reported_at) == (None, AT + HOUR)
        assert scheduled_core_hours("2026-11", documents) == {"uvic": 4.0}

    def test_a_report_that_was_held_up_revives_nothing(self, documents):
        report(documents, life(ended_at=AT + ROUND), listed_at=AT + 3 * ROUND, now=AT + 3 * ROUND)
        assert report(documents, life(), listed_at=AT + ROUND, now=AT + HOUR).stale == 1
        assert vm(documents).ended_at == AT + ROUND

    def test_an_end_that_was_held_up_ends_nothing_that_is_listed_since(self, documents):
        report(documents, life(), listed_at=AT + 5 * ROUND, now=AT + 5 * ROUND)
        assert report(documents, life(ended_at=AT + ROUND), listed_at=AT + 3 * ROUND, now=AT + HOUR).stale == 1
        assert vm(documents).ended_at is None

    @pytest.mark.parametrize("listed_at", [None, AT + 26 * HOUR, AT + 3_000 * HOUR])
    def test_reports_that_do_not_say_when_they_were_made_count_in_the_order_in_which_they_come(
        self, documents, listed_at
    ):
        report(documents, life(), listed_at=listed_at, now=AT + ROUND)
        report(documents, life(ended_at=AT + ROUND), listed_at=listed_at, now=AT + 3 * ROUND)
        assert vm(documents).ended_at == AT + ROUND
        assert report(documents, life(), listed_at=listed_at, now=AT + HOUR).accepted == 1
        assert vm(documents).ended_at is None

    def test_of_what_was_said_at_once_the_end_counts_whichever_comes_first(self, documents):
        for name, states in (("vm-1", (None, AT)), ("vm-2", (AT, None))):
            for ended_at in states:
                report(documents, life(name, ended_at), listed_at=AT + ROUND, now=AT + ROUND)
            assert vm(documents, name).ended_at == AT

    def test_a_clock_a_little_ahead_still_tells_the_order_and_no_life_lasts_into_the_future(self, documents):
        ahead = 2 * HOUR
        report(documents, life(), listed_at=AT + ahead, now=AT + SECOND)
        report(documents, life(ended_at=AT), listed_at=AT + ROUND + ahead, now=AT + ROUND)
        report(documents, life(), listed_at=AT + ahead, now=AT + 3 * ROUND)
        assert (vm(documents).ended_at, vm(documents).reported_at) == (AT, AT + ROUND)

    def test_a_run_that_has_ended_never_runs_again(self, documents):
        report(documents, jobs=[run(ended_at=AT.isoformat(), state="completed")], listed_at=AT, now=AT)
        assert report(documents, jobs=[run()], listed_at=AT + HOUR, now=AT + HOUR).stale == 1


class TestClouds:
    """Two schedulers, each of one cloud, say something of the same batch job and the same vm."""

    MINE, THEIRS = {"cloud": "uvic"}, {"cloud": "evil"}

    @pytest.mark.parametrize("turns", [(0, 1), (1, 0)])
    def test_neither_overwrites_ends_or_hides_what_the_other_said(self, documents, turns):
        said = [
            (scheduler("uvic"), run(**self.MINE), life(**self.MINE)),
            (
                scheduler("evil"),
                run(**self.THEIRS, ended_at=AT.isoformat(), state="x"),
                life(**self.THEIRS, ended_at=AT),
            ),
        ]
        for turn in turns:
            caller, one, lived = said[turn]
            assert report(documents, lived, jobs=[one], caller=caller, now=AT + HOUR).accepted == 2
        assert runs(documents) == {("uvic", "vm-1", "running"), ("evil", "vm-1", "x")}
        assert {one.cloud: one.ended_at for _, one in documents.find("placed_vm", PlacedVm, {})} == {
            "uvic": None,
            "evil": AT,
        }

    def test_what_is_left_to_the_vm_is_kept_apart_by_who_says_it(self, documents):
        for caller, vm_name in (
            (scheduler("evil", "more"), "vm-2"),
            (scheduler("uvic"), "vm-1"),
            (scheduler(), "vm-3"),
        ):
            assert report(documents, jobs=[run(vm=vm_name)], caller=caller, now=AT + HOUR).accepted == 1
        assert {place[1] for place in runs(documents)} == {"vm-1", "vm-2", "vm-3"}
        assert report(documents, jobs=[run(state="again")], caller=scheduler("uvic"), now=AT + 2 * HOUR).accepted == 1
        assert ("unknown", "vm-1", "again") in runs(documents)

    def test_a_vm_that_another_cloud_lists_under_the_same_name_takes_no_job_from_its_own(self, documents):
        placement_join.store([job(1, "s#1.0#1", began=0)], documents)
        report(documents, life(**self.MINE), jobs=[run()], caller=scheduler("uvic"), now=AT + HOUR)
        report(
            documents,
            life(**self.THEIRS),
            jobs=[run("s#2.0#1", **self.THEIRS)],
            caller=scheduler("evil"),
            now=AT + HOUR,
        )
        assert documents.get("job", "panda/1", Job).cloud == "uvic"

    def test_a_placement_that_moved_to_another_vm_lets_go_of_the_jobs_of_the_first(self, documents):
        placement_join.store([job(1, None, "vm-1", began=0)], documents)
        report(documents, jobs=[run(**self.MINE)], now=AT + HOUR)
        assert documents.get("job", "panda/1", Job).cloud == "uvic"
        report(documents, jobs=[run(vm="vm-2", **self.MINE)], now=AT + 2 * HOUR)
        assert documents.get("job", "panda/1", Job).cloud == "unknown"


class TestItems:
    """Whatever an item is, its neighbours are kept as they would be without it."""

    NUMBERS = itertools.count()

    @pytest.mark.slow
    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_value_in_any_field_leaves_the_neighbours_alone(self, documents, data):
        name = f"n{next(self.NUMBERS)}"
        good = {
            "vms": [life(f"{name}-1"), life(f"{name}-2")],
            "jobs": [run(f"{name}-1"), run(f"{name}-2", cloud="uvic")],
        }
        key = data.draw(st.sampled_from(["vms", "jobs"]))
        odd = json.loads(json.dumps({"vms": life(f"{name}-3"), "jobs": run(f"{name}-3", ended_at=AT.isoformat())}[key]))
        field = data.draw(
            st.sampled_from(
                [*odd, "ended_at", "exit_code", "wall_seconds", "cpu_seconds", "slot", "site", "flavor", "x", None]
            )
        )
        body, value = json.dumps(good), data.draw(ANY_JSON)
        middle = value if field is None else json.dumps(odd | {field: "VALUE"}).replace('"VALUE"', value)
        first = json.dumps(good[key][0])
        receipt = placements.record(
            body.replace(first, f"{first}, {middle}").encode(), scheduler(), documents, AT + HOUR
        )
        at = {"vms": 1, "jobs": 3}[key]
        assert [one.index for one in receipt.rejected] in ([], [at])
        assert all(one.code in {"malformed", "malformed_time"} for one in receipt.rejected)
        assert receipt.accepted == 5 - len(receipt.rejected)
        kept = [
            key
            for index, kind in (("placed_vm", PlacedVm), ("placement", Placement))
            for key, _ in documents.find(index, kind, {})
        ]
        assert {f"{name}-{n}@" for n in (1, 2)} <= {found[: len(name) + 3] for found in kept}
        assert sum(found.startswith((f"{name}-1@", f"{name}-2@")) for found in kept) == 4

    @pytest.mark.parametrize("late", [25 * HOUR, 24 * HOUR + SECOND])
    @pytest.mark.parametrize("field", ["started_at", "ended_at"])
    def test_what_lies_in_the_future_is_refused(self, documents, field, late):
        told = {"ended_at": (AT + late).isoformat(), field: (AT + late).isoformat()}
        receipt = report(documents, life() | told, life("vm-2"), jobs=[run(**told), run("s#2.0#1")], now=AT)
        assert [(one.index, one.code) for one in receipt.rejected] == [(0, "malformed_time"), (2, "malformed_time")]
        assert receipt.accepted == 2

    def test_a_crash_costs_its_own_item(self, documents, monkeypatch, caplog):
        real = placements.number_of
        monkeypatch.setattr(placements, "number_of", lambda batch_id: real(batch_id) if batch_id != "bad" else 1 / 0)
        receipt = report(documents, life(), jobs=[run("bad"), run()], now=AT)
        assert (receipt.accepted, [(one.index, one.code) for one in receipt.rejected]) == (2, [(1, "internal")])
        assert receipt.rejected[0].message.startswith("jobs[0]: ")
        assert caplog.records[0].msg["incident"] in receipt.rejected[0].message

    def test_what_the_store_refuses_for_good_is_rejected(self, documents):
        refusing(documents, f"vm-2@uvic@{AT.timestamp():.0f}000")
        receipt = report(documents, life(), life("vm-2"), jobs=[run()], now=AT)
        assert (receipt.accepted, [(one.index, one.code) for one in receipt.rejected]) == (2, [(1, "rejected")])
        assert receipt.rejected[0].message.startswith("vms[1]: ")
        assert vm(documents).joined
