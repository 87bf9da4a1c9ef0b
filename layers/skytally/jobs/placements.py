"""Placements: what a batch scheduler says of its vms' lives and of which vm each job ran on.

Invariants: an item that cannot be kept is rejected by itself, and nothing is stored before every item was judged. A
place belongs to its cloud, by its key, so no scheduler replaces what another cloud's has said. A place is marked as
joined only after every job that it concerns was brought onto its cloud. A report that died before that comes again and
finds it unmarked; one that repeats what is marked moves no job, so that all vms can be reported in every round.

The last word on a vm's life is that of the report that was made last: a vm that is listed again with the same start is
alive again, and its end is withdrawn. `listed_at` says when a report was made, so that one that was held up on its way
revives nothing that has ended since. A report that does not say so, or says so by a clock that is days ahead, counts as
made when it came: schedulers send one report after another. A run of a job that has ended never runs again.
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
# Above the ms of any report: here begin the versions of vms' lives, and of the ends of runs.
AFTER_ANY_MS = 10**14


class Item(Struct, frozen=True):
    """A place as it is to be kept."""

    index: str
    key: str
    version: int
    place: Place

    def write(self, *, joined: bool) -> Write:
        """Return the write that keeps it."""
        return Write(self.index, self.key, self.version, structs.replace(self.place, joined=joined))


class Report(Struct):
    """Whose report it is, when it came and was made,
    and what was rejected so far, numbered through its vms and then its jobs.
    """

    caller: Caller
    now: datetime
    listed_at: datetime
    vm_count: int
    rejected: list[Rejection] = []

    def each(self, items: Mapping[int, A], work: Callable[[int, A], B]) -> dict[int, B]:
        """Do work for each item; one that fails is rejected and leaves its neighbours alone."""
        done: dict[int, B] = {}
        for n, item in items.items():
            try:
                done[n] = work(n, item)
            except Exception as error:  # noqa: BLE001  one item's fault is its own
                self.rejected.append(batch.rejection(n, error, self.where(n)))
        return done

    def where(self, n: int) -> str:
        """Return how users write an item's place in the report."""
        return f"vms[{n}]: " if n < self.vm_count else f"jobs[{n - self.vm_count}]: "

    def vm(self, _: int, raw: msgspec.Raw) -> Item:
        """Return a vm's life."""
        vm = records.parse(bytes(raw), BatchVm)
        self._check(vm.cloud, vm.started_at, vm.ended_at)
        place = PlacedVm(**structs.asdict(vm), reported_at=min(self.listed_at, self.now), joined=False)
        return Item("placed_vm", f"{place.vm}@{place.cloud}@{to_ms(place.started_at)}", self._order_of(place), place)

    def run(self, _: int, raw: msgspec.Raw) -> Item:
        """Return a job's run on a vm."""
        job = records.parse(bytes(raw), BatchJob)
        self._check(job.cloud, job.started_at, job.ended_at)
        cloud = job.cloud or placement_join.UNKNOWN
        # What schedulers leave to the vms is kept apart by the clouds of which they may speak.
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
        """Return a version in the order in which reports were made,
        to two milliseconds; of two made at once an end wins.
        """
        return AFTER_ANY_MS + to_ms(self.listed_at) // 2 * 2 + (vm.ended_at is not None)


def record(body: bytes, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Keep what a scheduler reports, then bring the jobs that it concerns onto their clouds;
    raises Unavailable, and it may come again.
    """
    placements = records.parse_report(body, Placements)
    listed_at = placements.listed_at or now
    listed_at = now if listed_at > now + AHEAD else listed_at
    report = Report(caller, now, listed_at, len(placements.vms))
    vms = report.each(dict(enumerate(placements.vms)), report.vm)
    runs = report.each(dict(enumerate(placements.jobs, len(placements.vms))), report.run)
    items = vms | _without_foreign(runs, vms.values(), report, documents)
    before = _stored(items, documents)
    fresh = {n: item for n, item in items.items() if not _is_joined(item.place, before.get(n))}
    outcomes = dict(
        zip(
            items,
            documents.write([item.write(joined=n not in fresh) for n, item in items.items()]).result(),
            strict=True,
        )
    )
    refused = [n for n, outcome in outcomes.items() if outcome is Outcome.REJECTED]
    report.rejected += [
        Rejection(n, "rejected", f"{report.where(n)}the document store refuses this for good") for n in refused
    ]
    _join(fresh, before, documents)
    rejected, counts = sorted(report.rejected, key=lambda one: one.index), list(outcomes.values())
    return Receipt(
        accepted=counts.count(Outcome.STORED), stale=counts.count(Outcome.STALE), rejected=rejected, server_time=now
    )


def _without_foreign(
    runs: dict[int, Item], vms: Iterable[Item], report: Report, documents: Documents
) -> dict[int, Item]:
    """Leave out, and reject, runs that name no cloud on vms of a cloud that the token does not name."""
    silent = {n: run for n, item in runs.items() if isinstance(run := item.place, Placement) and run.clouds is not None}
    if not silent:
        return runs
    listed = [vm for item in vms if isinstance(vm := item.place, PlacedVm)]
    clouds = dict(zip(silent, placement_join.clouds_of(list(silent.values()), listed, documents), strict=True))

    def not_foreign(n: int, item: Item) -> Item:
        if clouds.get(n, placement_join.UNKNOWN) != placement_join.UNKNOWN and not report.caller.may_touch(clouds[n]):
            raise NotYours("this scheduler's token does not name its vm's cloud")
        return item

    return report.each(runs, not_foreign)


def _stored(items: Mapping[int, Item], documents: Documents) -> dict[int, Place]:
    """Return what is stored of the same places."""
    vms, runs = (
        {n: item.key for n, item in items.items() if item.index == index} for index in ("placed_vm", "placement")
    )
    places: list[Place | None] = [*documents.get_many("placed_vm", list(vms.values()), PlacedVm)]
    places += documents.get_many("placement", list(runs.values()), Placement)
    return {n: place for n, place in zip([*vms, *runs], places, strict=True) if place is not None}


def _is_joined(place: Place, before: Place | None) -> bool:
    """Check whether jobs were joined to this very place before; its start is in its key."""
    return (
        before is not None
        and before.joined
        and (place.vm, place.cloud, place.ended_at) == (before.vm, before.cloud, before.ended_at)
    )


def _join(fresh: Mapping[int, Item], before: Mapping[int, Place], documents: Documents) -> None:
    """Bring the jobs onto their clouds that new places concern,
    and those that what was there concerned; then mark the places.
    """
    if fresh:
        vms = {item.place.vm for item in fresh.values()} | {before[n].vm for n in fresh if n in before}
        placement_join.join_again(
            {run.batch_id for item in fresh.values() if isinstance(run := item.place, Placement)}, vms, documents
        )
        documents.write([item.write(joined=True) for item in fresh.values()]).result()
