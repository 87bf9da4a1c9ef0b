"""Placements: what a batch scheduler says of its vms' lives and of which vm each job ran on.

Invariant: a place is marked as joined only after every job that it concerns was brought onto its cloud. A report that died before that
comes again and finds it unmarked; one that repeats what is marked moves no job, so that all vms can be reported in every round.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct, structs

from skytally import join, records
from skytally.batch_id import host_of, number_of
from skytally.documents import PlacedVm, Placement
from skytally.errors import Malformed, NotYours, SkytallyError
from skytally.ports import Documents, Outcome, Write
from skytally.records import BatchJob, BatchVm, Caller, Placements, Receipt, Rejection

K = TypeVar("K", bound=Struct)
P = TypeVar("P", PlacedVm, Placement)
AFTER_ANY_MS = 10**14


class Report(Struct):
    """Whose report it is, and what became of its items so far, numbered through its vms and then its jobs."""

    caller: Caller
    documents: Documents
    now: datetime
    accepted: int = 0
    stale: int = 0
    rejected: list[Rejection] = []

    def good(self, name: str, items: Sequence[msgspec.Raw], first: int, kind: type[K], made_of: Callable[[K], P]) -> dict[int, P]:
        """Answer the good items by number; a bad one is named and leaves its neighbours alone."""
        good: dict[int, P] = {}
        for n, raw in enumerate(items):
            try:
                good[first + n] = made_of(records.parse(bytes(raw), kind))
            except SkytallyError as error:
                self.rejected.append(Rejection(first + n, error.code, f"{name}[{n}]: {error.message}"))
        return good

    def keep(self, index: str, kind: type[P], places: Sequence[P]) -> list[P]:
        """Keep places; answers those to which jobs are still to be joined."""
        writes = [_write(index, place) for place in places]
        known = self.documents.get_many(index, [write.key for write in writes], kind)
        told = [structs.replace(place, joined=_is_joined(place, before)) for place, before in zip(places, known, strict=True)]
        outcomes = self.documents.write([_write(index, place) for place in told]).result()
        self.accepted += outcomes.count(Outcome.STORED)
        self.stale += outcomes.count(Outcome.STALE)
        return [place for place in told if not place.joined]

    def mark(self, index: str, places: Iterable[P]) -> None:
        """Write down that jobs are joined to these places."""
        self.documents.write([_write(index, structs.replace(place, joined=True)) for place in places]).result()


def record(body: bytes, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Keep what a scheduler reports, then bring the jobs that it concerns onto their clouds; raises Unavailable, and it may come again."""
    told, report = records.parse(body, Placements), Report(caller, documents, now)
    vms = report.good("vms", told.vms, 0, BatchVm, lambda vm: _vm(vm, caller, now))
    new_vms = report.keep("placed_vm", PlacedVm, list(vms.values()))
    runs = report.good("jobs", told.jobs, len(told.vms), BatchJob, lambda job: _run(job, caller, now))
    _refuse_foreign(runs, len(told.vms), report)
    new_runs = report.keep("placement", Placement, list(runs.values()))
    if new_vms or new_runs:
        vms_of_all = {vm.vm for vm in new_vms} | {run.vm for run in new_runs}
        join.join_again({run.batch_id for run in new_runs}, vms_of_all, documents)
        report.mark("placed_vm", new_vms)
        report.mark("placement", new_runs)
    rejected = sorted(report.rejected, key=lambda one: one.index)
    return Receipt(accepted=report.accepted, stale=report.stale, rejected=rejected, server_time=now)


def _refuse_foreign(runs: dict[int, Placement], first: int, report: Report) -> None:
    """Refuse runs that name no cloud, on vms of a cloud that the token does not name."""
    silent = {n: run for n, run in runs.items() if run.cloud == join.UNKNOWN} if report.caller.clouds else {}
    for n, cloud in zip(silent, join.clouds_of(list(silent.values()), report.documents), strict=True):
        if cloud != join.UNKNOWN and not report.caller.may_touch(cloud):
            del runs[n]
            report.rejected.append(Rejection(n, NotYours.code, f"jobs[{n - first}]: this scheduler's token does not name its vm's cloud"))


def _vm(vm: BatchVm, caller: Caller, now: datetime) -> PlacedVm:
    _check(caller, vm.cloud, vm.started_at, vm.ended_at)
    return PlacedVm(**structs.asdict(vm), reported_at=now, joined=False)


def _run(job: BatchJob, caller: Caller, now: datetime) -> Placement:
    _check(caller, job.cloud, job.started_at, job.ended_at)
    told = structs.asdict(job) | {"vm": host_of(job.vm), "cloud": job.cloud or join.UNKNOWN}
    return Placement(**told, batch_number=number_of(job.batch_id), reported_at=now, joined=False)


def _check(caller: Caller, cloud: str | None, started_at: datetime, ended_at: datetime | None) -> None:
    if cloud is not None and not caller.may_touch(cloud):
        raise NotYours("this scheduler's token does not name that cloud")
    if ended_at is not None and ended_at < started_at:
        raise Malformed("ended_at is before started_at", code="malformed_time")


def _is_joined(place: P, before: P | None) -> bool:
    """Say whether jobs were joined to this very place before; its start is in its key."""
    return before is not None and before.joined and (place.vm, place.cloud, place.ended_at) == (before.vm, before.cloud, before.ended_at)


def _write(index: str, place: PlacedVm | Placement) -> Write:
    """Make a write of which what has ended never runs again: a report that was held up must not open it."""
    version = _ms(place.reported_at) + (AFTER_ANY_MS if place.ended_at is not None else 0)
    name = f"{place.vm}@{place.cloud}" if isinstance(place, PlacedVm) else place.batch_id
    return Write(index, f"{name}@{_ms(place.started_at)}", version, place)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000)
