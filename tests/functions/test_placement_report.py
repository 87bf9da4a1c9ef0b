"""placement_report over HTTP: good items are kept, bad ones named, and jobs come onto their clouds."""

import gzip
import json

import pytest

from skytally import wiring
from skytally.documents import PlacedVm, Placement

VM = {"vm": "vm-1", "cloud": "uvic", "started_at": "2026-11-24T00:00:00Z", "cores": 8}
JOB = {"batch_id": "sched#7.0#1795467074", "vm": "slot1_1@vm-1", "started_at": "2026-11-24T01:00:00Z", "state": "running"}


@pytest.fixture
def report(client, scheduler):
    def send(headers=scheduler, **body):
        return client.post("placement_report", json=body, headers=headers)

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
    assert client.post("placement_report", json={}).status_code == 401
    assert report(headers=reader).status_code == 403
    limited = report(headers=bearer("scheduler", clouds=("cern",)), vms=[VM, {**VM, "cloud": "cern"}]).json()
    assert (limited["accepted"], [one["code"] for one in limited["rejected"]]) == (1, ["not_yours"])


def test_a_job_without_a_cloud_is_where_its_vm_is(report, bearer):
    """So a token for some clouds says nothing of a vm on another, whoever reported that."""
    limited = bearer("scheduler", clouds=("cern",))
    other = {**JOB, "batch_id": "sched#8.0#1"}
    report(vms=[VM, {**VM, "vm": "vm-2", "cloud": "cern"}])
    told = report(headers=limited, jobs=[JOB, {**JOB, "vm": "vm-2"}, {**other, "vm": "vm-3"}, "what"]).json()
    assert (told["accepted"], [(one["index"], one["code"]) for one in told["rejected"]]) == (2, [(0, "not_yours"), (3, "malformed")])
    assert sorted(run.vm for run in stored(Placement, "placement")) == ["vm-2", "vm-3"]
    before = {**JOB, "started_at": "2026-11-20T00:00:00Z", "ended_at": "2026-11-20T01:00:00Z"}
    assert report(headers=limited, jobs=[before]).json()["accepted"] == 1, "the vm of that name lived later"


def test_bodies(client, scheduler):
    headers = scheduler | {"Content-Type": "application/json"}
    packed = gzip.compress(json.dumps({"vms": [VM]}).encode())
    assert client.post("placement_report", content=packed, headers=headers | {"Content-Encoding": "gzip"}).json()["accepted"] == 1
    assert client.post("placement_report", content=b"{", headers=headers).json()["error"]["code"] == "malformed"
    assert client.post("placement_report", content=b" " * (8 * 2**20 + 1), headers=headers).status_code == 413
    assert client.post("placement_report", json={"vms": "x"}, headers=scheduler).json()["error"]["field"] == "vms"
