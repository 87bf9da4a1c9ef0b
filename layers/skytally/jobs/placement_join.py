"""The join: which cloud a job ran on, as placements say, whichever of the two is known first.

Tried in this order: the placements of its batch id, or of its bare `cluster.proc` where time and host agree with one;
then, for its host, any placement there at the time and the vms of that name that lived then. Otherwise the cloud stays
`unknown`.

A scheduler speaks for its own clouds, but may say anything of any job. What several say of one job is told apart in
steps: claims on the job's host, then at its time, then on a vm that the claimed cloud listed at that time, then those
that share most of its time. Where what is left names different clouds the job stays `unknown`: no claim moves another
cloud's job unless it fits the job better. A placement without a cloud is on its vm's, if that is a cloud of which its
scheduler may speak.

Not told apart are a false claim on a job of which its own scheduler says nothing; one that names host and time rightly
and lists the vm, too, which leaves the job `unknown`; and one on a bare `cluster.proc` whose job names no host,
likewise.

Invariant: every writer reads again after its write. A collector writes jobs and a placement report placements; then
both look at what is stored, write the jobs whose cloud is another now, and look again until none is. So any order of
any number of them ends the same.
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
# The schedd, the vm and PanDA each have a clock of their own.
TOLERANCE = timedelta(minutes=10)
FOREVER = LATEST_MOMENT
# Above the ms of any year: versions that begin here replace what an impossible time stamp once made the newest for
# ever.
FIRST_VERSION = 3 * 10**14
PAGE = 1_000
LOOKS = 5
Span = tuple[datetime, datetime | None]


class Known(Struct, frozen=True):
    """What was reported of where batch jobs ran, found by each of the ways in which a job may name it."""

    by_batch_id: dict[str, list[Placement]]
    by_number: dict[str, list[Placement]]
    by_vm: dict[str, list[Placement]]
    vms: dict[str, list[PlacedVm]]


class Claim(Struct, frozen=True):
    """A vm of a cloud where a job may have run, and when;
    `is_listed` where that cloud listed the vm at the job's time.
    """

    vm: str
    cloud: str
    span: Span
    is_listed: bool


def joined(job: Job, known: Known) -> Job:
    """Return the job with the cloud and vm that the placements give it."""
    for joined_by, claims_of in (("batch_id", _by_batch), ("host", _by_host)):
        best = _best(claims_of(job, known), _life(job), job.host)
        if best is not None:
            return structs.replace(job, cloud=best.cloud, vm=best.vm, joined_by=joined_by)
    return structs.replace(job, cloud=UNKNOWN, vm=None, joined_by=None)


def _by_batch(job: Job, known: Known) -> list[Claim]:
    """Return what the job's own placements claim;
    a bare number may be another schedd's job, so it must fit one vm only.
    """
    if job.batch_id is not None and not is_bare(job.batch_id):
        return [
            claim
            for run in known.by_batch_id.get(job.batch_id, [])
            if (claim := _claim(run, job, known)).cloud != UNKNOWN
        ]
    claims = [_claim(run, job, known) for run in _at_the_time(job, known.by_number.get(job.batch_number or "", []))]
    here = [claim for claim in claims if job.host in (None, claim.vm)]
    is_clear = len({claim.vm for claim in here}) == 1 and all(claim.cloud != UNKNOWN for claim in here)
    return here if is_clear else []


def _by_host(job: Job, known: Known) -> list[Claim]:
    """Return what is claimed of the job's host at its time, by placements of any job and by lists of vms."""
    host = job.host or ""
    runs = [_claim(run, job, known) for run in _at_the_time(job, known.by_vm.get(host, []))]
    lives = [
        Claim(host, vm.cloud, (vm.started_at, vm.ended_at), True) for vm in _at_the_time(job, known.vms.get(host, []))
    ]
    return [claim for claim in (*runs, *lives) if claim.cloud != UNKNOWN]


def _claim(run: Placement, job: Job, known: Known) -> Claim:
    cloud = run.cloud if run.cloud != UNKNOWN else _cloud_of(run, known.vms.get(run.vm, []))
    is_listed = any(vm.cloud == cloud for vm in _at_the_time(job, known.vms.get(run.vm, [])))
    return Claim(run.vm, cloud, (run.started_at, run.ended_at), is_listed)


def _cloud_of(run: Placement, vms: Iterable[PlacedVm]) -> str:
    """Return the cloud of the vm on which a placement without a cloud was,
    among those of which its scheduler may speak.
    """
    when, clouds = (run.started_at, run.ended_at), None if run.clouds is None else json.loads(run.clouds)
    lives = [vm for vm in vms if (clouds is None or vm.cloud in clouds) and _fits(when, (vm.started_at, vm.ended_at))]
    best = _best([Claim(vm.vm, vm.cloud, (vm.started_at, vm.ended_at), True) for vm in lives], when, None)
    return UNKNOWN if best is None else best.cloud


def _best(claims: list[Claim], when: Span, host: str | None) -> Claim | None:
    """Return the claim that fits best; None where those that fit alike name different clouds."""
    steps: tuple[Callable[[Claim], bool], ...] = (
        lambda claim: claim.vm == host,
        lambda claim: _fits(when, claim.span),
        lambda claim: claim.is_listed,
    )
    for step in steps:
        claims = [claim for claim in claims if step(claim)] or claims
    best = max(claims, key=lambda claim: (_shared(when, claim.span), claim.span[0], claim.vm), default=None)
    alike = {
        claim.cloud
        for claim in claims
        if best is not None and _shared(when, best.span) - _shared(when, claim.span) <= TOLERANCE
    }
    return best if len(alike) == 1 else None


def _at_the_time(job: Job, places: Iterable[P]) -> list[P]:
    return [place for place in places if _fits(_life(job), (place.started_at, place.ended_at))]


def _life(job: Job) -> Span:
    """Return when a job ran; one that says no more was where it was at its last change."""
    return job.started_at or job.changed_at, job.ended_at or job.final_at or job.changed_at


def _fits(one: Span, other: Span) -> bool:
    return _shared(one, other) > -TOLERANCE


def _shared(one: Span, other: Span) -> timedelta:
    """Return how long two spans overlap; negative is how far they are apart."""
    return min(one[1] or FOREVER, other[1] or FOREVER) - max(one[0], other[0])


def version_of(job: Job) -> int:
    """Return a PanDA job's version: its newest time stamp,
    so that a join replaces what another join of the same state wrote.

    A time stamp that was in the future when the job was seen makes no state newer than another.
    """
    is_possible = job.changed_at <= job.seen_at + AHEAD
    return FIRST_VERSION + (to_ms(job.changed_at) if is_possible else 0)


def key_of(job: Job) -> str:
    """Return a job's key."""
    return f"{job.system}/{job.job_id}"


def store(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Keep jobs, each once, on their clouds; return those that the store will never take.

    Raises Unavailable, and then the same again is harmless.
    """
    written: dict[str, Job] = {}
    refused: dict[str, Job] = {}
    for _ in range(LOOKS):
        documents.refresh()
        changed = [job for _, job in _joined_as_known(jobs, documents) if written.get(key_of(job)) != job]
        if not changed:
            return list(refused.values())
        refused |= {key_of(job): job for job in _write(changed, documents)}
        written |= {key_of(job): job for job in changed}
    raise _restless()


def join_again(batch_ids: set[str], vms: set[str], documents: Documents) -> None:
    """Bring the jobs onto their clouds that placements of these batch jobs,
    or on these vms, concern; raises Unavailable.
    """
    refused: set[str] = set()
    notes = Notes(documents.write)
    for _ in range(LOOKS):
        documents.refresh()
        jobs = [job for job in _concerned(batch_ids, vms, documents) if key_of(job) not in refused]
        moved = [new for old, new in _joined_as_known(jobs, documents) if new != old]
        if not moved:
            return
        for job in _write(moved, documents):
            refused.add(key_of(job))
            notes.add("document", "job", key_of(job), "the document store refuses this job for good")
    raise _restless()


def clouds_of(runs: Sequence[Placement], listed: Iterable[PlacedVm], documents: Documents) -> list[str]:
    """Return the cloud of each run's vm, as it is known now and listed just now, in the order given."""
    documents.refresh()
    stored = (vm for _, vm in _found(documents, "placed_vm", PlacedVm, "vm", {run.vm for run in runs}))
    vms = _grouped((*stored, *listed), "vm")
    return [_cloud_of(structs.replace(run, clouds=None), vms[run.vm]) for run in runs]


def _restless() -> Unavailable:
    return Unavailable("placements change faster than jobs can be joined to them")


def _concerned(batch_ids: set[str], vms: set[str], documents: Documents) -> list[Job]:
    """Find the jobs that a claim on these vms, or of these batch jobs, may move."""
    batch_ids = batch_ids | {run.batch_id for _, run in _found(documents, "placement", Placement, "vm", vms)}
    numbers = {number for batch_id in batch_ids if (number := number_of(batch_id)) is not None}
    concerned: dict[str, Job] = {}
    for field, values in (("batch_id", batch_ids), ("batch_number", numbers), ("host", vms)):
        concerned |= _found(documents, "job", Job, field, values)
    return [job for job in concerned.values() if job.system == "panda"]


def _write(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Keep jobs; return those that the store will never take."""
    outcomes = documents.write([Write("job", key_of(job), version_of(job), job) for job in jobs]).result()
    return [job for job, outcome in zip(jobs, outcomes, strict=True) if outcome is Outcome.REJECTED]


def _joined_as_known(jobs: Sequence[Job], documents: Documents) -> list[tuple[Job, Job]]:
    """Return jobs, each with itself as joined by all that was known at the last refresh or later;
    one that cannot be is left out.
    """
    notes, done = Notes(documents.write), []
    for page in _pages(jobs):
        known = _known_of(page, documents)
        for job in page:
            try:
                done.append((job, joined(job, known)))
            except Exception as error:  # noqa: BLE001  what is stored of one job stops no other
                notes.add("document", "job", key_of(job), batch.rejection(0, error).message)
    return done


def _known_of(jobs: Sequence[Job], documents: Documents) -> Known:
    """Read what was reported of where these jobs may have run;
    of hosts and vms only where batch ids alone do not tell one cloud.
    """
    ids = {job.batch_id for job in jobs if job.batch_id is not None and not is_bare(job.batch_id)}
    numbers = {job.batch_number for job in jobs if job.batch_number is not None and job.batch_id not in ids}
    by_id = _grouped((run for _, run in _found(documents, "placement", Placement, "batch_id", ids)), "batch_id")
    by_number = _grouped(
        (run for _, run in _found(documents, "placement", Placement, "batch_number", numbers)), "batch_number"
    )
    clear = {
        batch_id
        for batch_id, runs in by_id.items()
        if len({run.cloud for run in runs}) == 1 and runs[0].cloud != UNKNOWN
    }
    hosts = {job.host for job in jobs if job.host is not None and job.batch_id not in clear}
    on_hosts = (run for _, run in _found(documents, "placement", Placement, "vm", hosts))
    unclear = [run for batch_id, runs in by_id.items() if batch_id not in clear for run in runs]
    vms = hosts | {run.vm for run in unclear} | {run.vm for runs in by_number.values() for run in runs}
    return Known(
        by_batch_id=by_id,
        by_number=by_number,
        by_vm=_grouped(on_hosts, "vm"),
        vms=_grouped((vm for _, vm in _found(documents, "placed_vm", PlacedVm, "vm", vms)), "vm"),
    )


def _grouped(found: Iterable[D], field: str) -> dict[str, list[D]]:
    groups: dict[str, list[D]] = defaultdict(list)
    for one in found:
        groups[getattr(one, field)].append(one)
    return groups


def _found(
    documents: Documents, index: str, kind: type[D], field: str, values: Iterable[str]
) -> Iterator[tuple[str, D]]:
    """List documents by any number of values of a field."""
    for page in _pages(sorted(values)):
        yield from documents.find(index, kind, {field: page})


def _pages(many: Sequence[T]) -> Iterator[Sequence[T]]:
    return (many[start : start + PAGE] for start in range(0, len(many), PAGE))
