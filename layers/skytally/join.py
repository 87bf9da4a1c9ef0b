"""The join: which cloud a job ran on, as placements say, whichever of the two is known first.

Tried in this order: the placement of its batch id; of its bare `cluster.proc`, where time and host agree with one; any placement on its
host at the time; the vm of that name that lived then. A name that was reused is told apart by time. Otherwise the cloud stays `unknown`.

Invariant: whoever comes second sees the other. A collector writes jobs, then reads placements again and writes what changed; a placement
report writes placements, then reads the jobs that they concern and writes what changed. A job's version is that of its source, and within
it the better join wins, so the two never undo each other.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec import Struct, structs

from skytally.batch_id import is_bare, number_of
from skytally.documents import Document, Job, PlacedVm, Placement
from skytally.ports import Documents, Write

D = TypeVar("D", bound=Document)
T = TypeVar("T")
UNKNOWN = "unknown"
RANKS = {None: 0, "host": 1, "batch_id": 2}
# The schedd, the vm and PanDA each have a clock of their own.
TOLERANCE = timedelta(minutes=10)
FOREVER = datetime.max.replace(tzinfo=UTC)
PAGE = 1_000
ROUNDS = 3
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
    """Answer a PanDA job's version: its newest time stamp, and of equal ones the better join."""
    return round(job.changed_at.timestamp() * 1_000) * 4 + RANKS[job.joined_by]


def key_of(job: Job) -> str:
    """Answer a job's key."""
    return f"{job.system}/{job.job_id}"


def store(jobs: Sequence[Job], documents: Documents) -> None:
    """Keep jobs on their clouds; raises Unavailable, and then the same again is harmless."""
    written: dict[str, Job] = {}
    for _ in range(ROUNDS):
        now = {key_of(job): job for job in _joined_as_known(jobs, documents)}
        changed = [job for key, job in now.items() if written.get(key) != job]
        _write(changed, documents)
        if not changed:
            return
        written = now


def join_again(batch_ids: set[str], vms: set[str], documents: Documents) -> int:
    """Bring the jobs onto their clouds that placements of these batch jobs, or on these vms, concern; answer how many moved."""
    documents.refresh()
    runs = dict(_found(documents, "placement", Placement, "vm", vms))
    batch_ids = batch_ids | {run.batch_id for run in runs.values() if run.cloud == UNKNOWN}
    numbers = {number for batch_id in batch_ids if (number := number_of(batch_id)) is not None}
    concerned: dict[str, Job] = {}
    for field, values in (("batch_id", batch_ids), ("batch_number", numbers), ("host", vms)):
        concerned |= _found(documents, "job", Job, field, values)
    jobs = [job for job in concerned.values() if job.system == "panda"]
    moved = [new for old, new in zip(jobs, _joined_as_known(jobs, documents), strict=True) if new != old]
    _write(moved, documents)
    return len(moved)


def _write(jobs: Sequence[Job], documents: Documents) -> None:
    documents.write([Write("job", key_of(job), version_of(job), job) for job in jobs]).result()


def _joined_as_known(jobs: Sequence[Job], documents: Documents) -> list[Job]:
    """Join jobs by all that is known now, in the order given."""
    documents.refresh()
    return [joined(job, known) for page in _pages(jobs) for known in [_known_of(page, documents)] for job in page]


def _known_of(jobs: Sequence[Job], documents: Documents) -> Known:
    """Read what was reported of where these jobs may have run; runs on a host only where nothing else tells."""
    ids = {job.batch_id for job in jobs if job.batch_id is not None and not is_bare(job.batch_id)}
    numbers = {job.batch_number for job in jobs if job.batch_number is not None and job.batch_id not in ids}
    runs = dict(_found(documents, "placement", Placement, "batch_id", ids))
    by_number = dict(_found(documents, "placement", Placement, "batch_number", numbers))
    named = {run.batch_id for run in runs.values()}
    hosts = {job.host for job in jobs if job.host is not None and job.batch_id not in named}
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
