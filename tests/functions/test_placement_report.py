"""placement_report over HTTP: good items are kept, bad ones named, and jobs come onto their clouds."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.app import wiring
from skytally.core.documents import Job, PlacedVm, Placement
from skytally.core.ports import Write
from skytally.jobs import placement_join
from tests.support.builders import ANY_JSON

VM = {"vm": "vm-1", "cloud": "uvic", "started_at": "2026-11-24T00:00:00Z", "cores": 8}
JOB = {
    "batch_id": "sched#7.0#1795467074",
    "vm": "slot1_1@vm-1",
    "started_at": "2026-11-24T01:00:00Z",
    "state": "running",
}


@pytest.fixture
def report(client, scheduler):
    def send(headers=scheduler, **body):
        return client.post("placement-report", json=body, headers=headers)

    return send


def stored(kind, index):
    wiring.documents().refresh()
    return [one for _, one in wiring.documents().find(index, kind, {})]


def test_items_are_kept_each_for_itself(report):
    bad = [{**VM, "vm": ""}, "what", {**VM, "started_at": "2026-11-24"}, {**VM, "ended_at": "2026-11-23T00:00:00Z"}]
    answer = report(vms=[*bad, VM], jobs=[{**JOB, "state": None}, JOB, {"batch_id": "x"}])
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["accepted"], told["stale"]) == (2, 0)
    assert [one["index"] for one in told["rejected"]] == [0, 1, 2, 3, 5, 7]
    assert told["rejected"][4]["message"].startswith("jobs[0]: ")
    assert {one["code"] for one in told["rejected"]} == {"malformed", "malformed_time"}
    (vm,), (run,) = stored(PlacedVm, "placed_vm"), stored(Placement, "placement")
    assert (vm.vm, vm.cores, vm.ended_at) == ("vm-1", 8, None)
    assert (run.vm, run.batch_number, run.cloud) == ("vm-1", "7.0", "unknown")


def test_the_same_again_changes_nothing_and_what_ended_does_not_run_again(report):
    ended = {**JOB, "ended_at": "2026-11-24T02:00:00Z", "state": "completed", "exit_code": 0}
    assert report(jobs=[ended]).json()["accepted"] == 1
    late = report(jobs=[JOB]).json()
    assert (late["accepted"], late["stale"], late["rejected"]) == (0, 1, [])
    assert [run.state for run in stored(Placement, "placement")] == ["completed"]


def test_several_runs_of_a_job_are_several_placements(report):
    again = {**JOB, "vm": "vm-2", "started_at": "2026-11-24T03:00:00Z"}
    assert report(jobs=[JOB, again]).json()["accepted"] == 2
    assert sorted(run.vm for run in stored(Placement, "placement")) == ["vm-1", "vm-2"]


def test_who_may(report, bearer, reader, client):
    assert client.post("placement-report", json={}).status_code == 401
    assert report(headers=reader).status_code == 403
    limited = report(headers=bearer("scheduler", clouds=("cern",)), vms=[VM, {**VM, "cloud": "cern"}]).json()
    assert (limited["accepted"], [one["code"] for one in limited["rejected"]]) == (1, ["not_yours"])


def test_a_job_without_a_cloud_is_where_its_vm_is(report, bearer):
    """So a token for some clouds says nothing of a vm on another, whoever reported that."""
    limited = bearer("scheduler", clouds=("cern",))
    other = {**JOB, "batch_id": "sched#8.0#1"}
    report(vms=[VM, {**VM, "vm": "vm-2", "cloud": "cern"}])
    told = report(headers=limited, jobs=[JOB, {**JOB, "vm": "vm-2"}, {**other, "vm": "vm-3"}, "what"]).json()
    assert (told["accepted"], [(one["index"], one["code"]) for one in told["rejected"]]) == (
        2,
        [(0, "not_yours"), (3, "malformed")],
    )
    assert sorted(run.vm for run in stored(Placement, "placement")) == ["vm-2", "vm-3"]
    before = {**JOB, "started_at": "2026-11-20T00:00:00Z", "ended_at": "2026-11-20T01:00:00Z"}
    assert report(headers=limited, jobs=[before]).json()["accepted"] == 1, "the vm of that name lived later"


def test_bodies(client, scheduler):
    headers = scheduler | {"Content-Type": "application/json"}
    packed = gzip.compress(json.dumps({"vms": [VM]}).encode())
    assert (
        client.post("placement-report", content=packed, headers=headers | {"Content-Encoding": "gzip"}).json()[
            "accepted"
        ]
        == 1
    )
    assert client.post("placement-report", content=b"{", headers=headers).json()["error"]["code"] == "malformed"
    assert client.post("placement-report", content=b" " * (8 * 2**20 + 1), headers=headers).status_code == 413
    assert client.post("placement-report", json={"vms": "x"}, headers=scheduler).json()["error"]["field"] == "vms"


# What was accepted once, and made every later report and every round of panda_collect fail.
YEAR_1 = {
    "batch_id": "x#1.0#1",
    "vm": "bad",
    "cloud": "evil",
    "started_at": "0001-01-01T00:00:00+14:00",
    "state": "running",
}
YEAR_9999 = {
    "batch_id": "s#1.0#1",
    "vm": "vm-1",
    "cloud": "cloud-a",
    "started_at": "2026-11-29T09:00:00Z",
    "state": "ended",
}
YEAR_9999 |= {"ended_at": "9999-12-31T23:59:59-14:00"}


@pytest.mark.parametrize("bad", [YEAR_1, YEAR_9999], ids=["year 1", "year 9999"])
def test_a_time_that_no_calendar_holds_costs_its_item_and_later_reports_go_on(document_store, report, bad):
    vm = {**VM, **{name: bad[name] for name in ("vm", "cloud", "started_at", "ended_at") if name in bad}}
    answer = report(jobs=[bad], vms=[vm])
    assert (answer.status_code, answer.json()["accepted"]) == (200, 0)
    assert [(one["index"], one["code"]) for one in answer.json()["rejected"]] == [
        (0, "malformed_time"),
        (1, "malformed_time"),
    ]
    assert stored(PlacedVm, "placed_vm") == stored(Placement, "placement") == []
    again = report(jobs=[bad, {**JOB, "batch_id": bad["batch_id"], "vm": bad["vm"]}], vms=[VM]).json()
    assert (again["accepted"], [(one["index"], one["code"]) for one in again["rejected"]]) == (
        2,
        [(1, "malformed_time")],
    )


def test_names_of_any_length_and_script_are_kept_on_every_store(document_store, report):
    long = {**JOB, "batch_id": "\U0001f600" * 255, "vm": "\u4e91" * 255, "cloud": "\u00e9" * 255}
    assert report(jobs=[long], vms=[{**VM, "vm": long["vm"], "cloud": long["cloud"]}]).json()["accepted"] == 2
    assert report(jobs=[long], vms=[{**VM, "vm": long["vm"], "cloud": long["cloud"]}]).json()["accepted"] == 2
    assert [run.batch_id for run in stored(Placement, "placement")] == [long["batch_id"]]


@pytest.mark.parametrize("wrong", ["a\nb", "a\0b", "", "x" * 256, "\x1b[31m", 7, None, True, ["x"]])
@pytest.mark.parametrize("field", ["batch_id", "vm"])
def test_a_name_that_is_none_costs_its_item(report, field, wrong):
    told = report(jobs=[{**JOB, field: wrong}, JOB]).json()
    assert (told["accepted"], [one["index"] for one in told["rejected"]]) == (1, [0])


def test_the_moment_of_listing_has_a_zone(report):
    for wrong in ("noon", "2026-11-24T00:00:00", "9999-12-31T23:59:59Z"):
        error = report(vms=[VM], listed_at=wrong).json()["error"]
        assert (error["code"], error["field"]) == ("malformed_time", "listed_at")


def test_a_vm_that_is_listed_again_is_alive_again_on_every_store(document_store, report):
    ended = {**VM, "ended_at": "2026-11-24T00:10:00Z"}
    for listed_at, vm, ended_at in (
        ("00:05", VM, None),
        ("00:20", ended, "00:10"),
        ("00:25", VM, None),
        ("00:19", ended, None),
    ):
        report(vms=[vm], listed_at=f"2026-11-24T{listed_at}:00Z")
        (known,) = stored(PlacedVm, "placed_vm")
        assert (known.ended_at and f"{known.ended_at:%H:%M}") == ended_at


def test_a_job_that_changed_within_a_millisecond_is_joined_on_every_store(document_store, report):
    """Its version is made of what it was, and of what the store gives back: a rounded one would be older then."""
    documents, changed_at = wiring.documents(), datetime(2026, 11, 24, 2, 0, 0, 999_700, tzinfo=UTC)
    numbers = dict.fromkeys(("cores", "wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 0)
    names = {"system": "panda", "job_id": "1", "status": "running", "cloud": "unknown"}
    place = {"batch_id": JOB["batch_id"], "batch_number": "7.0", "host": "vm-1"}
    times = {"started_at": datetime(2026, 11, 24, 1, tzinfo=UTC), "changed_at": changed_at, "seen_at": changed_at}
    job = Job(**dict.fromkeys(Job.__struct_fields__) | numbers | names | place | times | {"multicore": False})
    documents.write([Write("job", placement_join.key_of(job), placement_join.version_of(job), job)]).result()
    documents.refresh()
    assert report(vms=[VM], jobs=[JOB]).json()["accepted"] == 2
    (kept,) = stored(Job, "job")
    assert kept.cloud == "uvic"
    assert placement_join.version_of(kept) == placement_join.version_of(job)


def test_two_clouds_say_what_they_like_of_one_batch_job_on_every_store(document_store, report, bearer):
    for cloud in ("uvic", "evil"):
        mine = {**JOB, "cloud": cloud, "state": cloud}
        assert (
            report(headers=bearer("scheduler", clouds=(cloud,)), jobs=[mine], vms=[{**VM, "cloud": cloud}]).json()[
                "accepted"
            ]
            == 2
        )
    assert {(run.cloud, run.state) for run in stored(Placement, "placement")} == {("uvic", "uvic"), ("evil", "evil")}


def test_what_one_cloud_invents_moves_no_job_of_another_on_every_store(document_store, report, bearer):
    """The job's own cloud lists the vm; the other knows its name, its host and its time."""
    began = datetime(2026, 11, 24, 2, tzinfo=UTC)
    known = {
        "batch_id": JOB["batch_id"],
        "batch_number": "7.0",
        "host": "vm-1",
        "started_at": began,
        "changed_at": began,
    }
    blank = dict.fromkeys(Job.__struct_fields__) | {
        "system": "panda",
        "job_id": "1",
        "status": "running",
        "cloud": "unknown",
    }
    numbers = dict.fromkeys(("cores", "wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 0)
    placement_join.store([Job(**blank | numbers | known | {"multicore": False, "seen_at": began})], wiring.documents())
    invented = {**JOB, "cloud": "evil", "started_at": "2026-11-20T00:00:00Z"}
    report(headers=bearer("scheduler", clouds=("uvic",)), vms=[VM], jobs=[JOB])
    report(headers=bearer("scheduler", clouds=("evil",)), jobs=[invented], vms=[{**VM, "cloud": "evil", "vm": "vm-2"}])
    assert [(job.cloud, job.vm) for job in stored(Job, "job")] == [("uvic", "vm-1")]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_any_field_leaves_the_neighbours_alone_on_every_store(document_store, client, scheduler, data):
    key = data.draw(st.sampled_from(["vms", "jobs"]))
    odd = {"vms": {**VM, "vm": "odd"}, "jobs": {**JOB, "batch_id": "odd#9.0#1", "ended_at": JOB["started_at"]}}[key]
    field = data.draw(
        st.sampled_from(sorted({*odd, "ended_at", "exit_code", "wall_seconds", "site", "flavor", "slot"}))
    )
    body = json.dumps({"vms": [VM], "jobs": [JOB], key: [{"vms": VM, "jobs": JOB}[key], odd | {field: "VALUE"}]})
    body = body.replace('"VALUE"', data.draw(ANY_JSON))
    answer = client.post("placement-report", content=body, headers=scheduler | {"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert [one["index"] for one in answer.json()["rejected"]] in ([], [{"vms": 1, "jobs": 2}[key]])
    assert answer.json()["accepted"] == 3 - len(answer.json()["rejected"])
    assert "vm-1" in {vm.vm for vm in stored(PlacedVm, "placed_vm")}
    assert JOB["batch_id"] in {run.batch_id for run in stored(Placement, "placement")}
