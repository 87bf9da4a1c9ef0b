"""The join: every form of batch id, time before name, and the same end whichever comes first."""

import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import Job, PlacedVm, Placement, Unreadable
from skytally.core.errors import Unavailable
from skytally.core.ports import Write
from skytally.core.records import Caller
from skytally.jobs import placement_join, placements
from skytally.jobs.batch_id import number_of
from tests.support.placements import AT, HOUR, job, refusing

SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)
FULL = "sched.test@#1237.0#1795609831"


def run(batch_id=FULL, vm="vm-1", cloud="uvic", began=0.0, lasted=1.0):
    ended_at = None if lasted is None else AT + (began + lasted) * HOUR
    blank = dict.fromkeys(Placement.__struct_fields__) | {"state": "completed", "reported_at": AT, "joined": False}
    times = {"started_at": AT + began * HOUR, "ended_at": ended_at}
    return Placement(
        **blank | times | {"batch_id": batch_id, "batch_number": number_of(batch_id), "vm": vm, "cloud": cloud}
    )


def vm(name="vm-1", cloud="uvic", began=-1.0, lasted=None):
    blank = dict.fromkeys(PlacedVm.__struct_fields__) | {"reported_at": AT, "joined": False}
    return PlacedVm(
        **blank
        | {
            "vm": name,
            "cloud": cloud,
            "started_at": AT + began * HOUR,
            "ended_at": None if lasted is None else AT + (began + lasted) * HOUR,
        }
    )


def known(*found):
    runs, vms = (
        [one for one in found if isinstance(one, Placement)],
        [one for one in found if isinstance(one, PlacedVm)],
    )
    return placement_join.PlacementIndex(
        by_batch_id=placement_join._grouped(runs, "batch_id"),
        by_number=placement_join._grouped(runs, "batch_number"),
        by_vm=placement_join._grouped(runs, "vm"),
        vms=placement_join._grouped(vms, "vm"),
    )


@pytest.mark.parametrize(
    ("one", "found", "cloud", "joined_by"),
    [
        (job(batch_id=FULL), [run()], "uvic", "batch_id"),
        (job(batch_id=FULL, host="elsewhere"), [run(), run("other#1237.0#1", "elsewhere", "cern")], "uvic", "batch_id"),
        (job(batch_id=None), [run()], "uvic", "host"),
        (job(batch_id=None), [vm()], "uvic", "host"),
        (job(batch_id=None, host=None), [run(), vm()], "unknown", None),
        (job(batch_id="1237.0"), [run(), run("other#1237.0#7", "vm-2", "cern")], "uvic", "batch_id"),
        (job(batch_id="1237"), [run(), run("other#1237.0#7", "vm-2", "cern")], "uvic", "batch_id"),
        (job(batch_id="1237.0", host=None), [run(), run("other#1237.0#7", "vm-2", "cern")], "unknown", None),
        (job(batch_id="1237.0", host=None), [run(began=-9), run("other#1237.0#7", "vm-2", "cern")], "cern", "batch_id"),
        (job(batch_id="slurm-9"), [run("slurm-9")], "uvic", "batch_id"),
        (job(batch_id=FULL), [run(cloud="unknown"), vm(cloud="cern")], "cern", "batch_id"),
        (job(batch_id=FULL), [run(cloud="unknown", vm="vm-2"), vm("vm-1", "cern")], "cern", "host"),
        (
            job(batch_id=FULL, host="vm-2"),
            [run(vm="vm-1", lasted=0.2), run(vm="vm-2", cloud="cern", began=0.3)],
            "cern",
            "batch_id",
        ),
        (job(batch_id=FULL, host=None, began=2), [run(), run(vm="vm-2", cloud="cern", began=2)], "cern", "batch_id"),
        (job(began=0), [vm(cloud="uvic", began=-5, lasted=6), vm(cloud="cern", began=2)], "uvic", "host"),
        (job(began=2), [vm(cloud="uvic", began=-5, lasted=6), vm(cloud="cern", began=2)], "cern", "host"),
        (job(began=5), [vm(cloud="uvic", began=-5, lasted=6)], "unknown", None),
        (
            job(began=1, lasted=0.5),
            [vm(cloud="uvic", began=-5, lasted=6.02), vm(cloud="cern", began=1)],
            "cern",
            "host",
        ),
    ],
)
def test_where_a_job_ran(one, found, cloud, joined_by):
    made = placement_join.joined(one, known(*found))
    assert (made.cloud, made.joined_by) == (cloud, joined_by)
    assert placement_join.joined(made, known(*found)) == made


OPEN = {"began": -5, "lasted": None}


@pytest.mark.parametrize(
    ("one", "found", "cloud", "vm_name"),
    [
        (job(batch_id=FULL), [run(), run(vm="vm-2", cloud="evil", **OPEN)], "uvic", "vm-1"),
        (job(batch_id=FULL, host=None), [run(), run(vm="vm-2", cloud="evil", began=-9)], "uvic", "vm-1"),
        (job(batch_id=FULL, host=None), [run(), vm(), run(vm="vm-2", cloud="evil", **OPEN)], "uvic", "vm-1"),
        (
            job(batch_id=FULL, host=None, lasted=3),
            [run(lasted=3), run(vm="vm-2", cloud="evil", lasted=1)],
            "uvic",
            "vm-1",
        ),
        (job(batch_id=FULL, lasted=3), [run(lasted=3), run(cloud="evil", lasted=1)], "uvic", "vm-1"),
        (job(batch_id=FULL), [run(), vm(), run(cloud="evil", **OPEN)], "uvic", "vm-1"),
        (job(batch_id=FULL), [run(cloud="unknown"), vm(), run(cloud="evil", **OPEN)], "uvic", "vm-1"),
        (job(batch_id=FULL), [run(), vm(), run(vm="vm-2", cloud="evil", **OPEN), vm("vm-2", "evil")], "uvic", "vm-1"),
        (job(batch_id=FULL), [run(vm="vm-8"), vm(), run(vm="vm-2", cloud="evil")], "uvic", "vm-1"),
        (job(batch_id=FULL), [run(), run(vm="vm-2", cloud="evil", **OPEN), vm("vm-2", "evil")], "uvic", "vm-1"),
        (
            job(batch_id=FULL, host=None),
            [run(), run(vm="vm-2", cloud="evil", began=-9), vm("vm-2", "evil")],
            "uvic",
            "vm-1",
        ),
        (job(), [vm(), run("other", cloud="evil", **OPEN)], "uvic", "vm-1"),
        (job(), [vm(), run("other", vm="vm-1", cloud="unknown"), run("mine", cloud="evil")], "uvic", "vm-1"),
        (job(batch_id="1237.0"), [run(), vm(), run("x#1237.0#9", cloud="evil", **OPEN)], "uvic", "vm-1"),
        (job(batch_id="1237.0"), [run(), run("x#1237.0#9", "vm-2", "evil", **OPEN)], "uvic", "vm-1"),
    ],
)
def test_what_another_cloud_s_scheduler_invents_moves_no_job(one, found, cloud, vm_name):
    for known_now in (known(*found), known(*reversed(found))):
        made = placement_join.joined(one, known_now)
        assert (made.cloud, made.vm) == (cloud, vm_name)


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (job(batch_id=FULL), [run(), run(cloud="evil")]),
        (job(batch_id=FULL), [run(), run(cloud="evil", began=-0.1, lasted=1.2)]),
        (job(batch_id=FULL), [run(lasted=0.9), run(cloud="evil", **OPEN)]),
        (job(batch_id=FULL, host=None), [run(), run(vm="vm-2", cloud="evil", began=0.01)]),
        (job(batch_id=FULL), [run(), vm(), run(cloud="evil"), vm(cloud="evil")]),
        (job(batch_id="1237.0", host=None), [run(), vm(), run("x#1237.0#9", "vm-2", "evil"), vm("vm-2", "evil")]),
        (job(), [vm(), vm(cloud="evil", began=-0.01)]),
    ],
)
def test_what_two_clouds_claim_alike_is_nobody_s_and_never_a_liar_s(one, found):
    for known_now in (known(*found), known(*reversed(found))):
        made = placement_join.joined(one, known_now)
        assert (made.cloud, made.vm, made.joined_by) == ("unknown", None, None)


def test_a_silent_placement_is_on_a_cloud_of_which_its_scheduler_may_speak():
    told = structs.replace(run(cloud="unknown"), clouds='["uvic"]')
    listed = vm(), vm(cloud="evil")
    assert placement_join.joined(job(batch_id=FULL), known(told, *listed)).cloud == "uvic"
    assert placement_join.joined(job(batch_id=FULL), known(run(cloud="unknown"), *listed)).cloud == "unknown"
    assert placement_join.joined(job(batch_id=FULL, host=None), known(told, vm(cloud="evil"))).cloud == "unknown"


@pytest.mark.parametrize("found", [[run()], [vm()], []])
def test_a_job_that_has_its_cloud_is_joined_to_itself_until_a_placement_says_otherwise(found):
    once = placement_join.joined(job(batch_id=FULL), known(*found))
    assert placement_join.joined(once, known(*found)) is once
    moved = placement_join.joined(once, known(run(vm="vm-7", cloud="cern")))
    assert (moved.cloud, moved.vm, moved.joined_by) == ("cern", "vm-7", "batch_id")


def test_a_join_never_outlives_a_newer_state():
    assert (
        placement_join.version_of(structs.replace(job(), joined_by="batch_id"))
        == placement_join.version_of(job())
        < placement_join.version_of(job(lasted=1.1))
    )


@pytest.mark.parametrize("year", [2027, 2099])
def test_what_an_impossible_time_stamp_froze_gives_way(tmp_path, year):
    """So it was kept, and a join moved it, before anything else came."""
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    frozen = structs.replace(job(batch_id=FULL), changed_at=datetime(year, 12, 31, 23, tzinfo=UTC), status="running")
    frozen_at = round(frozen.changed_at.timestamp() * 1_000)
    documents.write([Write("job", placement_join.key_of(frozen), frozen_at, frozen)]).result()
    report(documents, run())
    assert documents.get("job", "panda/1", Job).cloud == "uvic"
    placement_join.store([job(batch_id=FULL)], documents)
    assert documents.get("job", "panda/1", Job) == structs.replace(
        job(batch_id=FULL), cloud="uvic", vm="vm-1", joined_by="batch_id"
    )
    documents.close()


def test_a_stored_job_that_cannot_be_joined_is_noted_and_stops_no_other(tmp_path):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    placement_join.store([job(1, FULL), job(2, FULL), job(3)], documents)
    with closing(sqlite3.connect(tmp_path / "d.sqlite")) as file, file:
        file.execute("UPDATE job SET changed_at = NULL, started_at = NULL WHERE job_id = '2'")
    report(documents, run())
    found = {one.job_id: one.cloud for _, one in documents.find("job", Job, {}) if one.job_id != "2"}
    assert found == {"1": "uvic", "3": "uvic"}
    assert [(one.kind, one.source, one.key_text) for _, one in documents.find("unreadable", Unreadable, {})] == [
        ("document", "job", "panda/2")
    ]
    documents.close()


def report(documents, *found, at=AT, **more):
    """Send what a scheduler would."""
    names = {
        PlacedVm: ("vm", "cloud", "started_at", "ended_at"),
        Placement: ("batch_id", "vm", "started_at", "ended_at", "state", "cloud"),
    }
    told = {
        kind: [{name: getattr(one, name) for name in names[kind]} for one in found if isinstance(one, kind)]
        for kind in names
    }
    vms, jobs = (
        told[PlacedVm],
        [{name: value for name, value in job.items() if value != "unknown"} for job in told[Placement]],
    )
    body = msgspec.json.encode({"vms": vms, "jobs": jobs, **more})
    receipt = placements.record(body, SCHEDULER, documents, at)
    assert receipt.rejected == []


STORY = [
    (job(1, FULL),),
    (job(2, "1238.0", "vm-2"),),
    (job(3, None, "vm-3"), job(4, "#", "vm-9")),
    (run(cloud="unknown"),),
    (vm("vm-1", "uvic"), vm("vm-3", "cern", lasted=9)),
    (run("sched#1238.0#5", "vm-2", "desy"),),
    (vm("vm-2", "uvic", began=-7, lasted=1),),
    (job(1, FULL, lasted=1.5),),
    (job(5, "1239", None), job(6, None, "vm-6", began=3)),
    (run("sched#1239.0#5", "vm-5", "desy"),),
    (run("other#1239.0#5", "vm-7", "cern"),),
    (vm("vm-6", "desy"),),
    (vm("vm-6", "desy", lasted=2),),
    (job(7, FULL, "vm-1"), job(8, None, "vm-8", began=3), job(9, "sched#9.0#1", "vm-9")),
    (run(vm="vm-2", cloud="evil", began=-5, lasted=None),),
    (run("sched#9.0#1", "vm-9", "uvic"), vm("vm-8", "uvic")),
    (run("sched#9.0#1", "vm-9", "evil"),),
    (vm("vm-8", "evil"),),
    (job(10, "sched#10.0#1", None), job(11, "sched#11.0#1", "vm-13")),
    (
        run("sched#10.0#1", "vm-11", "uvic"),
        run("sched#10.0#1", "vm-12", "evil"),
        run("sched#11.0#1", "vm-13", "unknown"),
    ),
    (vm("vm-11", "uvic"),),
    (vm("vm-13", "desy"),),
]
END = {"panda/1": ("uvic", 1.5), "panda/2": ("desy", 1), "panda/3": ("cern", 1), "panda/4": ("unknown", 1)}
# What two schedds claim is nobody's, and a vm that has ended before is not where a job ran: better known than joined
# wrongly.
END |= {"panda/5": ("unknown", 1), "panda/6": ("unknown", 4)}
# Who invents a placement moves nothing, and what two clouds claim alike is nobody's.
END |= {
    "panda/7": ("uvic", 1),
    "panda/8": ("unknown", 4),
    "panda/9": ("unknown", 1),
    "panda/10": ("uvic", 1),
    "panda/11": ("desy", 1),
}


def tell(documents, chapter):
    if isinstance(chapter[0], Job):
        placement_join.store(chapter, documents)
    else:
        report(documents, *chapter)


def ends(documents):
    return {
        key: (one.cloud, (one.final_at - AT) / HOUR) for key, one in documents.find("job", Job, {"system": ["panda"]})
    }


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(order=st.permutations(range(len(STORY))), again=st.lists(st.integers(0, len(STORY) - 1), max_size=4))
def test_any_order_with_repetition_ends_the_same(tmp_path_factory, order, again):
    documents = SqliteDocuments(tmp_path_factory.mktemp("story") / "d.sqlite")
    for n in [*order, *again]:
        tell(documents, STORY[n])
    assert ends(documents) == END
    documents.close()


MUTANTS = {
    "reports that leave earlier jobs where they are": ("join_again", lambda *_: None),
    "a better join that a worse one cannot replace": (
        "version_of",
        lambda job: 4 * VERSION_OF(job) + RANKS[job.joined_by],
    ),
}
VERSION_OF, RANKS = placement_join.version_of, {None: 0, "host": 1, "batch_id": 2}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_order_matters_to_a_mutant(tmp_path, monkeypatch, mutant):
    monkeypatch.setattr(placement_join, *MUTANTS[mutant])
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    for chapter in STORY:
        with suppress(Unavailable):
            tell(documents, chapter)
    assert ends(documents) != END
    documents.close()


def test_a_job_that_the_store_refuses_for_good_stops_no_report_and_no_other_job(tmp_path):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    placement_join.store([job(1, FULL), job(2, FULL)], documents)
    refusing(documents, "panda/2")
    report(documents, run())
    assert {one.job_id: one.cloud for _, one in documents.find("job", Job, {})} == {"1": "uvic", "2": "unknown"}
    assert [one.key_text for _, one in documents.find("unreadable", Unreadable, {})] == ["panda/2"]
    assert [one.job_id for one in placement_join.store([job(2, FULL), job(3, FULL)], documents)] == ["2"]
    assert documents.get("job", "panda/3", Job).cloud == "uvic"
    documents.close()


def late(documents, *happening):
    """Let something happen between the first look at placements and the write of jobs that follows."""
    write, happened = documents.write, []

    def later(writes):
        if not happened and writes and writes[0].index == "job":
            happened.append(True)
            for chapter in happening:
                tell(documents, chapter)
        return write(writes)

    documents.write = later


def test_a_placement_between_the_collector_s_look_and_its_write_is_seen(tmp_path):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    late(documents, (run(),))
    placement_join.store([job(1, FULL)], documents)
    assert ends(documents)["panda/1"][0] == "uvic"
    documents.close()


def test_a_report_between_another_report_s_look_and_its_write_is_seen(tmp_path):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    placement_join.store([job(1, FULL)], documents)
    late(documents, (run(vm="vm-1", cloud="cern"),))
    report(documents, vm("vm-1", "uvic"))
    assert ends(documents)["panda/1"][0] == "cern"
    documents.close()


def test_a_report_that_died_before_the_join_comes_again(tmp_path, monkeypatch):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    placement_join.store([job(1, FULL)], documents)
    with monkeypatch.context() as dying:
        dying.setattr(placement_join, "join_again", _dies)
        with pytest.raises(Unavailable):
            report(documents, run(), vm())
    assert ends(documents)["panda/1"][0] == "unknown"
    report(documents, run(), vm())
    assert ends(documents)["panda/1"][0] == "uvic"
    documents.close()


def test_a_report_that_repeats_itself_looks_at_no_job(tmp_path, monkeypatch):
    documents = SqliteDocuments(tmp_path / "d.sqlite")
    report(documents, run(), vm())
    monkeypatch.setattr(placement_join, "join_again", _dies)
    report(documents, run(), vm())
    with pytest.raises(Unavailable):
        report(documents, vm(lasted=3))
    documents.close()


def _dies(*_):
    raise Unavailable("the store is away")
