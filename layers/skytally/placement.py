"""Placements: what a batch scheduler says of its vms' lives and of which vm each job ran on."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from skytally import join, records
from skytally.batch_id import host_of, number_of
from skytally.documents import PlacedVm, Placement
from skytally.errors import Malformed, NotYours, SkytallyError
from skytally.ports import Documents, Outcome, Write
from skytally.records import BatchJob, BatchVm, Caller, Placements, Receipt, Rejection

K = TypeVar("K", bound=Struct)
AFTER_ANY_MS = 10**14


class Kept(Struct):
    """What became of a report's items so far, numbered through its vms and then its jobs."""

    writes: list[Write]
    rejected: list[Rejection]


def record(body: bytes, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Keep what a scheduler reports, then bring the jobs that it concerns onto their clouds; raises Unavailable, and it may come again."""
    told = records.parse(body, Placements)
    kept = Kept([], [])
    _each(told.vms, 0, "vms", BatchVm, lambda vm: _vm_write(vm, caller, now), kept)
    _each(told.jobs, len(told.vms), "jobs", BatchJob, lambda job: _job_write(job, caller, now), kept)
    outcomes = documents.write(kept.writes).result()
    runs = [write.document for write in kept.writes if isinstance(write.document, Placement)]
    vms = {write.document.vm for write in kept.writes if isinstance(write.document, PlacedVm)}
    join.join_again({run.batch_id for run in runs}, vms | {run.vm for run in runs}, documents)
    stale = outcomes.count(Outcome.STALE)
    return Receipt(accepted=outcomes.count(Outcome.STORED), stale=stale, rejected=kept.rejected, server_time=now)


def _each(items: Sequence[msgspec.Raw], first: int, name: str, kind: type[K], write_of: Callable[[K], Write], kept: Kept) -> None:
    """Keep the good items; a bad one is named and leaves its neighbours alone."""
    for n, raw in enumerate(items):
        try:
            kept.writes.append(write_of(records.parse(bytes(raw), kind)))
        except SkytallyError as error:
            kept.rejected.append(Rejection(first + n, error.code, f"{name}[{n}]: {error.message}"))


def _vm_write(vm: BatchVm, caller: Caller, now: datetime) -> Write:
    _check(caller, vm.cloud, vm.started_at, vm.ended_at)
    document = PlacedVm(
        vm=vm.vm,
        cloud=vm.cloud,
        site=vm.site,
        flavor=vm.flavor,
        cores=vm.cores,
        state=vm.state,
        started_at=vm.started_at,
        ended_at=vm.ended_at,
        reported_at=now,
    )
    return Write("placed_vm", f"{vm.vm}@{vm.cloud}@{_ms(vm.started_at)}", _version(vm.ended_at, now), document)


def _job_write(job: BatchJob, caller: Caller, now: datetime) -> Write:
    _check(caller, job.cloud, job.started_at, job.ended_at)
    document = Placement(
        batch_id=job.batch_id,
        batch_number=number_of(job.batch_id),
        vm=host_of(job.vm),
        cloud=job.cloud or join.UNKNOWN,
        slot=job.slot,
        state=job.state,
        started_at=job.started_at,
        ended_at=job.ended_at,
        wall_seconds=job.wall_seconds,
        cpu_seconds=job.cpu_seconds,
        exit_code=job.exit_code,
        reported_at=now,
    )
    return Write("placement", f"{job.batch_id}@{_ms(job.started_at)}", _version(job.ended_at, now), document)


def _version(ended_at: datetime | None, now: datetime) -> int:
    """Let what has ended never run again: a report that was held up must not open it."""
    return _ms(now) + (AFTER_ANY_MS if ended_at is not None else 0)


def _check(caller: Caller, cloud: str | None, started_at: datetime, ended_at: datetime | None) -> None:
    if cloud is not None and not caller.may_touch(cloud):
        raise NotYours("this scheduler's token does not name that cloud")
    if ended_at is not None and ended_at < started_at:
        raise Malformed("ended_at is before started_at", code="malformed_time")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
