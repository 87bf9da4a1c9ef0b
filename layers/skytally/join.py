"""The join: which cloud a job ran on, as placements say, whichever of the two is known first.

Tried in this order: the placement of its batch id; of its bare `cluster.proc`, where time and host agree with one; any placement on its
host at the time; the vm of that name that lived then. A name that was reused is told apart by time. Otherwise the cloud stays `unknown`.

Invariant: whoever writes last has looked since. A collector writes jobs and a placement report placements; then both look at what is
stored, write the jobs whose cloud is another now, and look again until none is. So any order of any number of them ends the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec import Struct, structs

from skytally.batch_id import is_bare, number_of
from skytally.documents import Document, Job, PlacedVm, Placement
from skytally.errors import Unavailable
from skytally.ports import Documents, Outcome, Write

D = TypeVar("D", bound=Document)
T = TypeVar("T")
UNKNOWN = "unknown"
# The schedd, the vm and PanDA each have a clock of their own.
TOLERANCE = timedelta(minutes=10)
FOREVER = datetime.max.replace(tzinfo=UTC)
PAGE = 1_000
LOOKS = 5
Span = tuple[datetime, datetime | None]


class Known(Struct, frozen=True):
    """What was reported of where batch jobs ran, found by each of the ways in which a job may name it."""

    by_batch_id: dict[str, list[Placement]]
    by_number: dict[str, list[Placement]]
    by_vm: dict[str, list[Placement]]
    vms: dict[str, list[PlacedVm]]


def joined(job: Job, known: Known) -> Job:
    """Answer the job with the cloud and vm that the placements give it."""
    placement, joined_by = _placement(job, known)
    if placement is not None:
        cloud = (
            placement.cloud if placement.cloud != UNKNOWN else _cloud_of(placement.vm, (placement.started_at, placement.ended_at), known)
        )
        if cloud != UNKNOWN:
            return structs.replace(job, cloud=cloud, vm=placement.vm, joined_by=joined_by)
    cloud = _cloud_of(job.host, _life(job), known) if job.host else UNKNOWN
    if cloud != UNKNOWN:
        return structs.replace(job, cloud=cloud, vm=job.host, joined_by="host")
    return structs.replace(job, cloud=UNKNOWN, vm=None, joined_by=None)


def _placement(job: Job, known: Known) -> tuple[Placement | None, str | None]:
    if job.batch_id is not None and not is_bare(job.batch_id):
        runs = known.by_batch_id.get(job.batch_id, [])
        if runs:
            return max(runs, key=lambda run: (run.vm == job.host, *_likeness(_life(job), run))), "batch_id"
    elif job.batch_number is not None:
        runs = [run for run in _at_the_time(job, known.by_number.get(job.batch_number, [])) if job.host in (None, run.vm)]
        if len({(run.vm, run.cloud) for run in runs}) == 1:
            return runs[-1], "batch_id"
    here = [run for run in _at_the_time(job, known.by_vm.get(job.host or "", [])) if run.cloud != UNKNOWN]
    return (max(here, key=lambda run: _likeness(_life(job), run)), "host") if here else (None, None)


def _at_the_time(job: Job, runs: Iterable[Placement]) -> list[Placement]:
    return [run for run in runs if _shared(_life(job), (run.started_at, run.ended_at)) > -TOLERANCE]


def _cloud_of(vm: str, when: Span, known: Known) -> str:
    """Answer the cloud of the vm of that name that lived then; the one that began last, where reports overlap."""
    lived = [one for one in known.vms.get(vm, []) if _shared(when, (one.started_at, one.ended_at)) > -TOLERANCE]
    return max(lived, key=lambda one: (*_likeness(when, one), one.reported_at)).cloud if lived else UNKNOWN


def _likeness(when: Span, other: Placement | PlacedVm) -> tuple[timedelta, datetime]:
    """Tell those apart that are all of the right name: by the time shared, then the later one."""
    return _shared(when, (other.started_at, other.ended_at)), other.started_at


def _life(job: Job) -> Span:
    """Answer when a job ran; one that says no more was where it was at its last change."""
    return job.started_at or job.changed_at, job.ended_at or job.final_at or job.changed_at


def _shared(one: Span, other: Span) -> timedelta:
    """Answer how long two spans overlap; negative is how far they are apart."""
    return min(one[1] or FOREVER, other[1] or FOREVER) - max(one[0], other[0])


def version_of(job: Job) -> int:
    """Answer a PanDA job's version: its newest time stamp, so that a join replaces what another join of the same state wrote."""
    return round(job.changed_at.timestamp() * 1_000)


def key_of(job: Job) -> str:
    """Answer a job's key."""
    return f"{job.system}/{job.job_id}"


def store(jobs: Sequence[Job], documents: Documents) -> int:
    """Keep jobs, each once, on their clouds; answers how many the store will never take.

    Raises Unavailable, and then the same again is harmless.
    """
    written: dict[str, Job] = {}
    rejected = 0
    for _ in range(LOOKS):
        documents.refresh()
        changed = [job for job in _joined_as_known(jobs, documents) if written.get(key_of(job)) != job]
        if not changed:
            return rejected
        rejected += _write(changed, documents)
        written |= {key_of(job): job for job in changed}
    raise _restless()


def join_again(batch_ids: set[str], vms: set[str], documents: Documents) -> None:
    """Bring the jobs onto their clouds that placements of these batch jobs, or on these vms, concern; raises Unavailable."""
    for _ in range(LOOKS):
        documents.refresh()
        jobs = _concerned(batch_ids, vms, documents)
        moved = [new for old, new in zip(jobs, _joined_as_known(jobs, documents), strict=True) if new != old]
        if not moved:
            return
        _write(moved, documents)
    raise _restless()


def clouds_of(runs: Sequence[Placement], documents: Documents) -> list[str]:
    """Answer the cloud of each run's vm as it is known now, in the order given."""
    documents.refresh()
    vms = _grouped((vm for _, vm in _found(documents, "placed_vm", PlacedVm, "vm", {run.vm for run in runs})), "vm")
    known = Known(by_batch_id={}, by_number={}, by_vm={}, vms=vms)
    return [_cloud_of(run.vm, (run.started_at, run.ended_at), known) for run in runs]


def _restless() -> Unavailable:
    return Unavailable("placements change faster than jobs can be joined to them")


def _concerned(batch_ids: set[str], vms: set[str], documents: Documents) -> list[Job]:
    runs = dict(_found(documents, "placement", Placement, "vm", vms))
    batch_ids = batch_ids | {run.batch_id for run in runs.values() if run.cloud == UNKNOWN}
    numbers = {number for batch_id in batch_ids if (number := number_of(batch_id)) is not None}
    concerned: dict[str, Job] = {}
    for field, values in (("batch_id", batch_ids), ("batch_number", numbers), ("host", vms)):
        concerned |= _found(documents, "job", Job, field, values)
    return [job for job in concerned.values() if job.system == "panda"]


def _write(jobs: Sequence[Job], documents: Documents) -> int:
    """Keep jobs; answers how many the store will never take."""
    return documents.write([Write("job", key_of(job), version_of(job), job) for job in jobs]).result().count(Outcome.REJECTED)


def _joined_as_known(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Join jobs by all that was known at the last refresh or later, in the order given."""
    return [joined(job, known) for page in _pages(jobs) for known in [_known_of(page, documents)] for job in page]


def _known_of(jobs: Sequence[Job], documents: Documents) -> Known:
    """Read what was reported of where these jobs may have run; what was on a host only where nothing else tells a cloud."""
    ids = {job.batch_id for job in jobs if job.batch_id is not None and not is_bare(job.batch_id)}
    numbers = {job.batch_number for job in jobs if job.batch_number is not None and job.batch_id not in ids}
    runs = dict(_found(documents, "placement", Placement, "batch_id", ids))
    by_number = dict(_found(documents, "placement", Placement, "batch_number", numbers))
    placed = {run.batch_id for run in runs.values() if run.cloud != UNKNOWN}
    hosts = {job.host for job in jobs if job.host is not None and job.batch_id not in placed}
    on_hosts = dict(_found(documents, "placement", Placement, "vm", hosts))
    vms = hosts | {run.vm for run in (*runs.values(), *by_number.values()) if run.cloud == UNKNOWN}
    return Known(
        by_batch_id=_grouped(runs.values(), "batch_id"),
        by_number=_grouped(by_number.values(), "batch_number"),
        by_vm=_grouped(on_hosts.values(), "vm"),
        vms=_grouped((vm for _, vm in _found(documents, "placed_vm", PlacedVm, "vm", vms)), "vm"),
    )


def _grouped(found: Iterable[D], field: str) -> dict[str, list[D]]:
    groups: dict[str, list[D]] = defaultdict(list)
    for one in found:
        groups[getattr(one, field)].append(one)
    return groups


def _found(documents: Documents, index: str, kind: type[D], field: str, values: Iterable[str]) -> Iterator[tuple[str, D]]:
    """List documents by any number of values of a field."""
    for page in _pages(sorted(values)):
        yield from documents.find(index, kind, {field: page})


def _pages(many: Sequence[T]) -> Iterator[Sequence[T]]:
    return (many[start : start + PAGE] for start in range(0, len(many), PAGE))
