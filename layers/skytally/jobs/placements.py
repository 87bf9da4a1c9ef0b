"""Placements: a batch scheduler's report of when its vms ran and on which vm each job ran.

Invariants:

* A bad item is rejected alone, and nothing is stored before every item was checked.
* A placement's key holds its cloud, so no scheduler replaces another cloud's placements.
* A placement is marked as joined only after every job that it concerns has its cloud. A report that was interrupted
  comes again and finds it unmarked. A report that repeats a marked placement moves no job, so every round may report
  all vms.

The newest report decides whether a vm runs: a vm that is listed again with the same start runs again, and its end is
withdrawn. `listed_at` is the time of a report, so a delayed report revives no vm that has ended since. Without it, or
if it is days ahead, the time of arrival counts: schedulers send one report after another. A job's run that has ended
never runs again.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Struct, structs

from skytally.core import batch, records
from skytally.core.documents import PlacedVm, Placement
from skytally.core.errors import Malformed, NotYours
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import MALFORMED_TIME, BatchJob, BatchVm, Caller, Placements, Receipt, Rejection
from skytally.core.timestamps import to_ms
from skytally.jobs import placement_join
from skytally.jobs.batch_id import host_of, number_of
from skytally.jobs.foreign_values import AHEAD

A = TypeVar("A")
B = TypeVar("B")
Place = PlacedVm | Placement
# Above the ms of any report: versions of vms, and of ended runs, begin here.
AFTER_ANY_MS = 10**14


class Item(Struct, frozen=True):
    """A placement with its index, key and version."""

    index: str
    key: str
    version: int
    place: Place

    def write(self, *, joined: bool) -> Write:
        """Return the write of the placement."""
        return Write(self.index, self.key, self.version, structs.replace(self.place, joined=joined))


class Report(Struct):
    """A report: its caller, its times and its rejections so far. Items are numbered through the vms, then the jobs."""

    caller: Caller
    now: datetime
    listed_at: datetime
    vm_count: int
    rejected: list[Rejection] = []

    def each(self, items: Mapping[int, A], work: Callable[[int, A], B]) -> dict[int, B]:
        """Return the result of work for each item; an item for which it fails is rejected alone."""
        results: dict[int, B] = {}
        for n, item in items.items():
            with batch.judging(n, self.rejected, self.where(n)):
                results[n] = work(n, item)
        return results

    def where(self, n: int) -> str:
        """Return an item's position in the report, such as `vms[0]: `."""
        return f"vms[{n}]: " if n < self.vm_count else f"jobs[{n - self.vm_count}]: "

    def vm(self, _: int, raw: msgspec.Raw) -> Item:
        """Return the item of a vm."""
        vm = records.parse(bytes(raw), BatchVm)
        self._check(vm.cloud, vm.started_at, vm.ended_at)
        place = PlacedVm(**structs.asdict(vm), reported_at=min(self.listed_at, self.now), joined=False)
        return Item("placed_vm", f"{place.vm}@{place.cloud}@{to_ms(place.started_at)}", self._order_of(place), place)

    def run(self, _: int, raw: msgspec.Raw) -> Item:
        """Return the item of a job's run on a vm."""
        job = records.parse(bytes(raw), BatchJob)
        self._check(job.cloud, job.started_at, job.ended_at)
        cloud = job.cloud or placement_join.UNKNOWN
        # Runs without a cloud get it from their vm; the key holds the clouds that the scheduler may report about.
        clouds = (
            json.dumps(sorted(self.caller.clouds)) if self.caller.clouds and cloud == placement_join.UNKNOWN else None
        )
        fields = structs.asdict(job) | {"vm": host_of(job.vm), "cloud": cloud, "clouds": clouds}
        place = Placement(**fields, batch_number=number_of(job.batch_id), reported_at=self.now, joined=False)
        version = to_ms(self.now) + (AFTER_ANY_MS if place.ended_at is not None else 0)
        return Item("placement", f"{place.batch_id}@{clouds or cloud}@{to_ms(place.started_at)}", version, place)

    def _check(self, cloud: str | None, started_at: datetime, ended_at: datetime | None) -> None:
        if cloud is not None and not self.caller.may_touch(cloud):
            raise NotYours("this scheduler's token does not name that cloud")
        if ended_at is not None and ended_at < started_at:
            raise Malformed("ended_at is before started_at", code=MALFORMED_TIME)
        if max(started_at, ended_at or started_at) > self.now + AHEAD:
            raise Malformed("started_at and ended_at may not lie in the future", code=MALFORMED_TIME)

    def _order_of(self, vm: PlacedVm) -> int:
        """Return a version by the report's time, to two milliseconds; of two reports at one time an end wins."""
        return AFTER_ANY_MS + to_ms(self.listed_at) // 2 * 2 + (vm.ended_at is not None)


def record(body: bytes, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Store a scheduler's report, then join the jobs that it concerns to their clouds.

    Raise Unavailable: then the report may be sent again.
    """
    placements = records.parse_report(body, Placements)
    listed_at = placements.listed_at or now
    listed_at = now if listed_at > now + AHEAD else listed_at
    report = Report(caller, now, listed_at, len(placements.vms))
    vms = report.each(dict(enumerate(placements.vms)), report.vm)
    runs = report.each(dict(enumerate(placements.jobs, len(placements.vms))), report.run)
    items = vms | _without_foreign(runs, vms.values(), report, documents)
    before = _stored(items, documents)
    unjoined = {n: item for n, item in items.items() if not _is_joined(item.place, before.get(n))}
    outcomes = documents.write([item.write(joined=n not in unjoined) for n, item in items.items()]).result()
    for n, outcome in zip(items, outcomes, strict=True):
        if outcome is Outcome.REJECTED:
            refusal = f"{report.where(n)}the document store refuses this for good"
            report.rejected.append(Rejection(n, "rejected", refusal))
    _join(unjoined, before, documents)
    rejected = sorted(report.rejected, key=lambda rejection: rejection.index)
    accepted, stale = outcomes.count(Outcome.STORED), outcomes.count(Outcome.STALE)
    return Receipt(accepted=accepted, stale=stale, rejected=rejected, server_time=now)


def _without_foreign(
    runs: dict[int, Item], vms: Iterable[Item], report: Report, documents: Documents
) -> dict[int, Item]:
    """Return the runs without those that name no cloud on vms of a cloud that the token does not name; reject these."""
    without_cloud = {
        n: run for n, item in runs.items() if isinstance(run := item.place, Placement) and run.clouds is not None
    }
    if not without_cloud:
        return runs
    listed = [vm for item in vms if isinstance(vm := item.place, PlacedVm)]
    vm_clouds = placement_join.clouds_of(list(without_cloud.values()), listed, documents)
    clouds = dict(zip(without_cloud, vm_clouds, strict=True))

    def not_foreign(n: int, item: Item) -> Item:
        if clouds.get(n, placement_join.UNKNOWN) != placement_join.UNKNOWN and not report.caller.may_touch(clouds[n]):
            raise NotYours("this scheduler's token does not name its vm's cloud")
        return item

    return report.each(runs, not_foreign)


def _stored(items: Mapping[int, Item], documents: Documents) -> dict[int, Place]:
    """Return the stored placements of the same keys."""
    vms, runs = (
        {n: item.key for n, item in items.items() if item.index == index} for index in ("placed_vm", "placement")
    )
    places: list[Place | None] = [*documents.get_many("placed_vm", list(vms.values()), PlacedVm)]
    places += documents.get_many("placement", list(runs.values()), Placement)
    return {n: place for n, place in zip([*vms, *runs], places, strict=True) if place is not None}


def _is_joined(place: Place, before: Place | None) -> bool:
    """Return whether jobs were already joined to the same placement; its start is in its key."""
    return (
        before is not None
        and before.joined
        and (place.vm, place.cloud, place.ended_at) == (before.vm, before.cloud, before.ended_at)
    )


def _join(unjoined: Mapping[int, Item], before: Mapping[int, Place], documents: Documents) -> None:
    """Join the jobs that new placements, or the ones stored before, concern; then mark the placements as joined."""
    if unjoined:
        vms = {item.place.vm for item in unjoined.values()} | {before[n].vm for n in unjoined if n in before}
        batch_ids = {run.batch_id for item in unjoined.values() if isinstance(run := item.place, Placement)}
        placement_join.join_again(batch_ids, vms, documents)
        documents.write([item.write(joined=True) for item in unjoined.values()]).result()
