"""The join: the cloud that a job ran on, by placements, whichever of the two is stored first.

Tried in this order:

1. the placements of the job's batch id, or of its bare `cluster.proc` where time and host agree with one of them;
2. for the job's host, placements there at that time, and vms of that name that ran then.

Otherwise the cloud stays `unknown`.

A scheduler reports about its own clouds, but may claim any job. Several claims on one job are filtered in steps: claims
on the job's host, then at its time, then on a vm that the claimed cloud listed at that time, then those that share most
of its time. If the remaining claims name different clouds the job stays `unknown`: a claim moves another cloud's job
only if it fits the job better. A placement without a cloud has its vm's, if its scheduler may report about that cloud.

Three false claims are not recognised: one on a job that its own scheduler does not report; one with the right host and
time and a listed vm, which leaves the job `unknown`; and one on a bare `cluster.proc` of a job without a host, which
does too.

Invariant: every writer reads again after its write, so the last one sees everything. A collector writes jobs, a report
writes placements. Then both read what is stored, write the jobs whose cloud has changed, and repeat until none has.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec import Struct, structs

from skytally.core import batch
from skytally.core.documents import Document, Job, PlacedVm, Placement
from skytally.core.errors import Unavailable
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import LATEST_MOMENT
from skytally.core.timestamps import to_ms
from skytally.core.unreadable import Notes
from skytally.jobs.batch_id import is_bare, number_of
from skytally.jobs.foreign_values import AHEAD

D = TypeVar("D", bound=Document)
P = TypeVar("P", PlacedVm, Placement)
T = TypeVar("T")
UNKNOWN = "unknown"
# The schedd, the vm and PanDA have clocks of their own.
TOLERANCE = timedelta(minutes=10)
FOREVER = LATEST_MOMENT
# Above the ms of any year: versions begin here, so that they replace versions from impossible time stamps.
FIRST_VERSION = 3 * 10**14
PAGE = 1_000
MAX_READS = 5
Period = tuple[datetime, datetime | None]


class PlacementIndex(Struct, frozen=True):
    """Placements by batch id, by number and by vm, and vms by name: the ways in which a job may match one."""

    by_batch_id: dict[str, list[Placement]]
    by_number: dict[str, list[Placement]]
    by_vm: dict[str, list[Placement]]
    vms: dict[str, list[PlacedVm]]


class Claim(Struct, frozen=True):
    """A vm of a cloud where a job may have run, and when; `is_listed` if that cloud listed the vm at the job's time."""

    vm: str
    cloud: str
    span: Period
    is_listed: bool


def joined(job: Job, placements: PlacementIndex) -> Job:
    """Return the job with its cloud and vm by the placements; the same object if it has them."""
    for joined_by, claims_of in (("batch_id", _by_batch), ("host", _by_host)):
        best = _best(claims_of(job, placements), _life(job), job.host)
        if best is not None:
            return _placed(job, best.cloud, best.vm, joined_by)
    return _placed(job, UNKNOWN, None, None)


def _placed(job: Job, cloud: str, vm: str | None, joined_by: str | None) -> Job:
    if (job.cloud, job.vm, job.joined_by) == (cloud, vm, joined_by):
        return job
    return structs.replace(job, cloud=cloud, vm=vm, joined_by=joined_by)


def _by_batch(job: Job, placements: PlacementIndex) -> list[Claim]:
    """Return the claims of the job's own placements; a bare number may be another schedd's, so it must fit one vm."""
    if job.batch_id is not None and not is_bare(job.batch_id):
        return [
            claim
            for run in placements.by_batch_id.get(job.batch_id, [])
            if (claim := _claim(run, job, placements)).cloud != UNKNOWN
        ]
    claims = [
        _claim(run, job, placements) for run in _overlapping(job, placements.by_number.get(job.batch_number or "", []))
    ]
    on_host = [claim for claim in claims if job.host in (None, claim.vm)]
    is_clear = len({claim.vm for claim in on_host}) == 1 and all(claim.cloud != UNKNOWN for claim in on_host)
    return on_host if is_clear else []


def _by_host(job: Job, placements: PlacementIndex) -> list[Claim]:
    """Return the claims on the job's host at its time, by placements of any job and by lists of vms."""
    host = job.host
    if host is None:
        return []
    runs = [_claim(run, job, placements) for run in _overlapping(job, placements.by_vm.get(host, []))]
    lives = [
        Claim(host, vm.cloud, (vm.started_at, vm.ended_at), True)
        for vm in _overlapping(job, placements.vms.get(host, []))
    ]
    return [claim for claim in (*runs, *lives) if claim.cloud != UNKNOWN]


def _claim(run: Placement, job: Job, placements: PlacementIndex) -> Claim:
    cloud = run.cloud if run.cloud != UNKNOWN else _cloud_of(run, placements.vms.get(run.vm, []))
    is_listed = any(vm.cloud == cloud for vm in _overlapping(job, placements.vms.get(run.vm, [])))
    return Claim(run.vm, cloud, (run.started_at, run.ended_at), is_listed)


def _cloud_of(run: Placement, vms: Iterable[PlacedVm]) -> str:
    """Return the cloud of the vm of a placement without a cloud, among those that its scheduler may report about."""
    period, clouds = (run.started_at, run.ended_at), None if run.clouds is None else json.loads(run.clouds)
    lives = [vm for vm in vms if (clouds is None or vm.cloud in clouds) and _fits(period, (vm.started_at, vm.ended_at))]
    best = _best([Claim(vm.vm, vm.cloud, (vm.started_at, vm.ended_at), True) for vm in lives], period, None)
    return UNKNOWN if best is None else best.cloud


def _best(claims: list[Claim], period: Period, host: str | None) -> Claim | None:
    """Return the claim that fits best; None if claims that fit equally well name different clouds."""
    if len(claims) < 2:
        return claims[0] if claims else None
    steps: tuple[Callable[[Claim], bool], ...] = (
        lambda claim: claim.vm == host,
        lambda claim: _fits(period, claim.span),
        lambda claim: claim.is_listed,
    )
    for step in steps:
        claims = [claim for claim in claims if step(claim)] or claims
    best = max(claims, key=lambda claim: (_shared(period, claim.span), claim.span[0], claim.vm))
    best_clouds = {
        claim.cloud for claim in claims if _shared(period, best.span) - _shared(period, claim.span) <= TOLERANCE
    }
    return best if len(best_clouds) == 1 else None


def _overlapping(job: Job, places: Iterable[P]) -> list[P]:
    return [place for place in places if _fits(_life(job), (place.started_at, place.ended_at))]


def _life(job: Job) -> Period:
    """Return when a job ran; a missing start or end is the time of its last change."""
    return job.started_at or job.changed_at, job.ended_at or job.final_at or job.changed_at


def _fits(first: Period, second: Period) -> bool:
    return _shared(first, second) > -TOLERANCE


def _shared(first: Period, second: Period) -> timedelta:
    """Return how long two periods overlap; negative for how far they are apart."""
    return min(first[1] or FOREVER, second[1] or FOREVER) - max(first[0], second[0])


def version_of(job: Job) -> int:
    """Return a PanDA job's version: its newest time stamp, so that joins of the same state replace each other.

    A time stamp in the future makes no state newer than another.
    """
    is_possible = job.changed_at <= job.seen_at + AHEAD
    return FIRST_VERSION + (to_ms(job.changed_at) if is_possible else 0)


def key_of(job: Job) -> str:
    """Return a job's key."""
    return f"{job.system}/{job.job_id}"


def store(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Join jobs to their clouds and store them; return those that the store refuses for good.

    Raise Unavailable: then the same call may be repeated.
    """
    written: dict[str, Job] = {}
    refused: dict[str, Job] = {}
    for _ in range(MAX_READS):
        documents.refresh()
        latest = [written.get(key_of(job), job) for job in jobs]
        changed = [new for old, new in _joined_jobs(latest, documents) if new is not old or key_of(new) not in written]
        if not changed:
            return list(refused.values())
        refused |= {key_of(job): job for job in _write(changed, documents)}
        written |= {key_of(job): job for job in changed}
    raise _unsettled()


def join_again(batch_ids: set[str], vms: set[str], documents: Documents) -> None:
    """Join the jobs again that placements of these batch ids, or on these vms, concern; raise Unavailable."""
    refused: set[str] = set()
    notes = Notes(documents.write)
    for _ in range(MAX_READS):
        documents.refresh()
        jobs = [job for job in _concerned(batch_ids, vms, documents) if key_of(job) not in refused]
        changed = [new for old, new in _joined_jobs(jobs, documents) if new is not old]
        if not changed:
            return
        for job in _write(changed, documents):
            refused.add(key_of(job))
            notes.add("document", "job", key_of(job), "the document store refuses this job for good")
    raise _unsettled()


def clouds_of(runs: Sequence[Placement], listed: Iterable[PlacedVm], documents: Documents) -> list[str]:
    """Return the cloud of each run's vm by the stored and the listed vms, in the order of the runs."""
    documents.refresh()
    stored = (vm for _, vm in _find_all(documents, "placed_vm", PlacedVm, "vm", {run.vm for run in runs}))
    vms = _grouped((*stored, *listed), "vm")
    return [_cloud_of(structs.replace(run, clouds=None), vms[run.vm]) for run in runs]


def _unsettled() -> Unavailable:
    return Unavailable("placements change faster than jobs can be joined to them")


def _concerned(batch_ids: set[str], vms: set[str], documents: Documents) -> list[Job]:
    """Return the jobs that a claim on these vms, or of these batch ids, may move."""
    batch_ids = batch_ids | {run.batch_id for _, run in _find_all(documents, "placement", Placement, "vm", vms)}
    numbers = {number for batch_id in batch_ids if (number := number_of(batch_id)) is not None}
    concerned: dict[str, Job] = {}
    for field, values in (("batch_id", batch_ids), ("batch_number", numbers), ("host", vms)):
        concerned |= _find_all(documents, "job", Job, field, values)
    return [job for job in concerned.values() if job.system == "panda"]


def _write(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Write jobs; return those that the store refuses for good."""
    outcomes = documents.write([Write("job", key_of(job), version_of(job), job) for job in jobs]).result()
    return [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome is Outcome.REJECTED]


def _joined_jobs(jobs: Sequence[Job], documents: Documents) -> list[tuple[Job, Job]]:
    """Return each job with itself as joined by the stored placements; note and leave out one for which this fails."""
    notes, done = Notes(documents.write), []
    for page in _pages(jobs):
        placements = _placements_of(page, documents)
        for job in page:
            try:
                done.append((job, joined(job, placements)))
            except Exception as error:  # noqa: BLE001  what is stored of one job stops no other
                notes.add("document", "job", key_of(job), batch.rejection(0, error).message)
    return done


def _placements_of(jobs: Sequence[Job], documents: Documents) -> PlacementIndex:
    """Return the placements of these jobs; of hosts and vms only where batch ids do not give one cloud."""
    ids = {job.batch_id for job in jobs if job.batch_id is not None and not is_bare(job.batch_id)}
    numbers = {job.batch_number for job in jobs if job.batch_number is not None and job.batch_id not in ids}
    by_id = _grouped((run for _, run in _find_all(documents, "placement", Placement, "batch_id", ids)), "batch_id")
    by_number = _grouped(
        (run for _, run in _find_all(documents, "placement", Placement, "batch_number", numbers)), "batch_number"
    )
    clear = {
        batch_id
        for batch_id, runs in by_id.items()
        if len({run.cloud for run in runs}) == 1 and runs[0].cloud != UNKNOWN
    }
    hosts = {job.host for job in jobs if job.host is not None and job.batch_id not in clear}
    on_hosts = (run for _, run in _find_all(documents, "placement", Placement, "vm", hosts))
    unclear = [run for batch_id, runs in by_id.items() if batch_id not in clear for run in runs]
    vms = hosts | {run.vm for run in unclear} | {run.vm for runs in by_number.values() for run in runs}
    return PlacementIndex(
        by_batch_id=by_id,
        by_number=by_number,
        by_vm=_grouped(on_hosts, "vm"),
        vms=_grouped((vm for _, vm in _find_all(documents, "placed_vm", PlacedVm, "vm", vms)), "vm"),
    )


def _grouped(matching: Iterable[D], field: str) -> dict[str, list[D]]:
    groups: dict[str, list[D]] = defaultdict(list)
    for document in matching:
        groups[getattr(document, field)].append(document)
    return groups


def _find_all(
    documents: Documents, index: str, kind: type[D], field: str, values: Iterable[str]
) -> Iterator[tuple[str, D]]:
    """Return documents by any number of values of a field."""
    for page in _pages(sorted(values)):
        yield from documents.find(index, kind, {field: page})


def _pages(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + PAGE] for start in range(0, len(items), PAGE))
