"""Bodies that are accepted, with every field that the description knows; and what is kept of their items."""

import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.properties.deployment import HOUR, LABELS, MINUTE, NOW, A, Site
from tests.properties.world import batch_id, benchmark, claim_body, deposit_body, job_id, revocation_body
from tests.support import builders


class Kind(NamedTuple):
    """A list whose items are judged one by one: the field that names an item, and the indices that keep it by that."""

    list_name: str
    field: str
    indices: tuple[str, ...]


# In the order in which items are numbered.
LISTS = {
    "usage_report": (Kind("samples", "boot_id", ("usage", "benchmark")),),
    "placement_report": (Kind("vms", "vm", ("placed_vm",)), Kind("jobs", "batch_id", ("placement",))),
    "job_heartbeat": (Kind("jobs", "job_id", ("heartbeat",)),),
}


def samples(_: Site, sender: str, n: int) -> Any:
    """Write a report of two boots."""
    return {"samples": [sample("vm-1" if sender == "a vm" else "vm-2", 2 * n + k) for k in (0, 1)]}


def sample(vm: str, n: int) -> dict[str, Any]:
    """Write a sample that has every field, of a boot of its own."""
    life = builders.FakeVm(vm, boot_at=NOW - 3 * HOUR - n * MINUTE)
    life.boot_id = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"sent/{n}"))
    cpu_model = {"cpu_model": "AMD EPYC 7763"}
    seldom = {"nice_seconds": 1.0, "iowait_seconds": 2.0, "steal_seconds": 3.0, "suspended_seconds": 4.0}
    traffic = {"network_received_bytes": 10**9, "network_sent_bytes": 10**8}
    measured = {"steal_fraction": 0.01, "duration_seconds": 9.5, "interpreter": "CPython 3.11", **cpu_model}
    made = {
        **life.sample(NOW - 5 * MINUTE, NOW - HOUR),
        "final": False,
        "estimated": False,
        "clock_offset_seconds": 0.3,
        "cloud": A,
        **LABELS,
        "memory_bytes": 2**34,
        "disk_bytes": 10**11,
        "agent_version": "1",
        "most_cores": 8,
        **cpu_model,
        "benchmark": benchmark(15.0) | measured | {"measured_at": builders.stamp(life.boot_at)},
    }
    made["counters"] |= seldom | traffic
    for before in (made["month_start"], made["previous"]["counters"]):
        before.update(dict.fromkeys(seldom | traffic, 0))
    return made


def placements(_: Site, sender: str, n: int) -> Any:
    """Write a report of two vms and two jobs."""
    times = {"cloud": A, "started_at": builders.stamp(NOW - 2 * HOUR), "ended_at": builders.stamp(NOW - HOUR)}
    vm = {"site": "victoria", "flavor": "c8", "cores": 8, "state": "gone", **times}
    spent = {"wall_seconds": 3_600.0, "cpu_seconds": 1_800.0, "exit_code": 0}
    run = {"vm": "vm-1", "slot": "slot1", "state": "completed", **spent, **times}
    return {
        "listed_at": builders.stamp(NOW - MINUTE),
        "vms": [{"vm": f"placed-{2 * n + k:05}", **vm} for k in (0, 1)],
        "jobs": [{"batch_id": batch_id(A, 100 + 2 * n + k), **run} for k in (0, 1)],
    }


def heartbeat(_: Site, sender: str, n: int) -> Any:
    """Write a heartbeat of two jobs."""
    jobs = [job_id(A, 100 + 2 * n + k) for k in (0, 1)]
    return {"vm": "vm-1", "jobs": jobs, "seen_at": builders.stamp(NOW - HOUR), "sources": {"processes": 3}}


def deposit(_: Site, sender: str, n: int) -> Any:
    """Write a deposit for one vm."""
    return deposit_body(A, vm=f"left-{n:05}", sources=["192.0.2.0/24"], hostname="vm.example.org")


def claim(site: Site, sender: str, n: int) -> Any:
    """Write the claim of one vm of a batch."""
    return claim_body(site, A, "batch", of_batch=f"batch-{n % 3 + 1}")


def revocation(site: Site, sender: str, n: int) -> Any:
    """Write the revocation of a secret that waits."""
    return revocation_body(site, A, ("waiting", "withdrawing", "coming")[n % 3])


# The nth body of a sender has no item in common with any other, and no name of one is the beginning of another's.
BODIES: dict[str, Callable[[Site, str, int], Any]] = {
    "usage_report": samples,
    "placement_report": placements,
    "job_heartbeat": heartbeat,
    "secret_deposit": deposit,
    "secret_claim": claim,
    "secret_revoke": revocation,
}
