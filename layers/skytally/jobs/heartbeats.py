"""Heartbeats: the DIRAC jobs that a vm reports as running on it.

Each heartbeat carries the server's time, or the vm's where the report comes late. A new job becomes a job document at
once, before DIRAC was queried; after that only the rounds of `dirac_collector` change it. The time last seen is the
document's version and never goes back, so a vm sends its oldest report first. Each job is checked by itself before
anything is stored: a bad one is rejected and its neighbours are stored.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import structs

from skytally.core import batch, records
from skytally.core.documents import Heartbeat, Job
from skytally.core.errors import Malformed, NotYours
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import Caller, HeartbeatReport, Receipt, Rejection
from skytally.core.timestamps import to_ms

NEW, RUNNING, AFTER_END, OVER, SETTLED = "new", "running", "after_end", "over", "settled"
OPEN = {NEW, RUNNING, AFTER_END}
STATUS_RUNNING = "Running"
# Vms report every quarter of an hour.
ROUND = timedelta(minutes=15)
PAUSE = 2.5 * ROUND
# A report that comes later than this waited on its vm, where reports wait two days at most.
LATE_AFTER, BELIEVED_FOR = timedelta(minutes=5), timedelta(days=3)
_JOB_ID = re.compile(r"[1-9][0-9]{0,18}")
MAX_JOB_ID = 2**63 - 1


def record(report: HeartbeatReport, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Store every good job id of a report durably.

    Raise NotYours for a report about another vm, and Unavailable: then the report may be sent again.
    """
    if caller.vm is not None and caller.vm != report.vm:
        raise NotYours("the token is another vm's: report about the vm that the token names")
    positions, rejected = _parsed(report.jobs)
    seen_at = _seen_at(report, now)
    reported = [_beat(job_id, report, caller.clouds[0], len(positions), seen_at) for job_id in positions]
    stored_beats = documents.get_many("heartbeat", [_key(beat) for beat in reported], Heartbeat)
    stored_jobs = documents.get_many("job", [job_key(beat.job_id) for beat in reported], Job)
    beats: list[Heartbeat] = []
    new_jobs: list[Job] = []
    for beat, stored_beat, stored_job in zip(reported, stored_beats, stored_jobs, strict=True):
        with batch.judging(positions[beat.job_id], rejected):
            beats.append(_continued(beat, stored_beat, stored_job))
            if stored_job is None:
                new_jobs.append(new_job(beats[-1], seen_at))
    outcomes = documents.write([beat_write(beat) for beat in beats]).result()
    documents.write([job_write(job, 0, create=True) for job in new_jobs]).result()
    for beat, outcome in zip(beats, outcomes, strict=True):
        if outcome is Outcome.REJECTED:
            refusal = "the document store refuses this job for good"
            rejected.append(Rejection(positions[beat.job_id], "rejected", refusal))
    rejected.sort(key=lambda rejection: rejection.index)
    accepted, stale = outcomes.count(Outcome.STORED), outcomes.count(Outcome.STALE)
    return Receipt(accepted=accepted, stale=stale, rejected=rejected, server_time=now)


def is_job_id(text: Any) -> bool:
    """Return whether this is a DIRAC job id in its canonical form."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None and int(text) <= MAX_JOB_ID


def job_key(job_id: str) -> str:
    """Return a DIRAC job's key."""
    return f"dirac/{job_id}"


def beat_write(beat: Heartbeat) -> Write:
    """Return the write of a heartbeat; a newer heartbeat of the same vm and job stays."""
    return Write("heartbeat", _key(beat), to_ms(beat.last_seen_at), beat)


def job_write(job: Job, version: int, *, create: bool = False) -> Write:
    """Return the write of a job."""
    return Write("job", job_key(job.job_id), version, job, create=create)


def new_job(beat: Heartbeat, started_at: datetime) -> Job:
    """Return the job of a first heartbeat; DIRAC was not queried yet."""
    return Job(
        system="dirac",
        job_id=beat.job_id,
        status=STATUS_RUNNING,
        cloud=beat.cloud,
        vm=beat.vm,
        joined_by="heartbeat",
        started_at=started_at,
        changed_at=started_at,
        seen_at=started_at,
        cores=1,
        wall_ms=0,
        cpu_ms=0,
        core_ms=0,
        core_ms_with_cpu=0,
        wasted_core_ms=0,
        multicore=False,
    )


def _parsed(jobs: Iterable[msgspec.Raw]) -> tuple[dict[str, int], list[Rejection]]:
    """Return the position of each job id in the report, and the rejections of what is no job id."""
    positions: dict[str, int] = {}
    rejected: list[Rejection] = []
    for index, raw in enumerate(jobs):
        with batch.judging(index, rejected):
            positions.setdefault(_job_id(raw), index)
    return positions, rejected


def _job_id(raw: msgspec.Raw) -> str:
    try:
        job_id = records.parse(bytes(raw), str)
    except Malformed:
        job_id = ""
    if not is_job_id(job_id):
        raise Malformed("a DIRAC job id is a whole number above zero, as text", code="malformed_job")
    return job_id


def _seen_at(report: HeartbeatReport, now: datetime) -> datetime:
    """Return when the jobs were seen: now, unless the vm reports them late.

    A `seen_at` in the future or days ago comes from a wrong clock. It is stored as claimed and not refused, since the
    jobs run on the vm all the same.
    """
    claimed_at = report.seen_at
    return claimed_at if claimed_at is not None and LATE_AFTER < now - claimed_at <= BELIEVED_FOR else now


def _key(beat: Heartbeat) -> str:
    return f"{beat.job_id}@{beat.vm}@{beat.cloud}"


def _beat(job_id: str, report: HeartbeatReport, cloud: str, named_together: int, seen_at: datetime) -> Heartbeat:
    return Heartbeat(
        job_id=job_id,
        noted=NEW,
        vm=report.vm,
        cloud=cloud,
        site=None,
        first_seen_at=seen_at,
        last_seen_at=seen_at,
        claimed_at=report.seen_at,
        named_together=named_together,
        paused_at=None,
        resumed_at=None,
    )


def _continued(beat: Heartbeat, last: Heartbeat | None, job: Job | None) -> Heartbeat:
    """Return a heartbeat that continues the vm's stored one of the same run.

    It is noted for a query of DIRAC if the run is over, or after a pause.
    """
    is_final = job is not None and job.final_at is not None
    if last is None:
        return structs.replace(beat, noted=AFTER_END if is_final else NEW)
    if last.noted not in OPEN:
        return structs.replace(beat, noted=AFTER_END, site=last.site)
    is_back = beat.last_seen_at - last.last_seen_at > PAUSE
    return structs.replace(
        beat,
        noted=AFTER_END if is_final else NEW if is_back else last.noted,
        site=last.site,
        first_seen_at=min(last.first_seen_at, beat.first_seen_at),
        named_together=max(last.named_together, beat.named_together),
        paused_at=last.last_seen_at if is_back else last.paused_at,
        resumed_at=beat.last_seen_at if is_back else last.resumed_at,
    )
