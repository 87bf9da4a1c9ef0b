"""Heartbeats: the DIRAC jobs that a vm says run on it.

Each is kept by the server's clock, or as the vm dates what it could not tell at once. A job that is new becomes a job
document at once, so that it shows before DIRAC was ever asked; from then on only the rounds of `dirac_collection`
change it. The last time seen never goes back: it is the document's version, so a vm tells what is oldest first. Each
job is judged by itself, before anything is stored: one that cannot be kept is rejected and leaves its neighbours alone.
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
# A report that is on its way for longer was kept by its vm, which keeps it for two days.
LATE_AFTER, BELIEVED_FOR = timedelta(minutes=5), timedelta(days=3)
_JOB_ID = re.compile(r"[1-9][0-9]{0,18}")
MAX_JOB_ID = 2**63 - 1


def record(report: HeartbeatReport, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Keep every good id of a report, durably;
    raises NotYours for another vm's, Unavailable, and then it may be sent again.
    """
    if caller.vm is not None and caller.vm != report.vm:
        raise NotYours("the token is another vm's: report about the vm that the token names")
    good, rejected = _sorted_out(report.jobs)
    seen_at = _seen_at(report, now)
    seen = {job_id: _beat(job_id, report, caller.clouds[0], len(good), seen_at) for job_id in good}
    before = documents.get_many("heartbeat", [_key(beat) for beat in seen.values()], Heartbeat)
    jobs = dict(zip(good, documents.get_many("job", [job_key(job_id) for job_id in good], Job), strict=True))
    beats: dict[str, Heartbeat] = {}
    for (job_id, beat), last in zip(seen.items(), before, strict=True):
        try:
            beats[job_id] = _carried_on(beat, last, jobs[job_id])
        except Exception as error:  # noqa: BLE001  one job's fault is its own
            rejected.append(batch.rejection(good[job_id], error))
    fresh = [new_job(beat, seen_at) for job_id, beat in beats.items() if jobs[job_id] is None]
    outcomes = documents.write([beat_write(beat) for beat in beats.values()]).result()
    documents.write([job_write(job, 0, create=True) for job in fresh]).result()
    refused = [good[job_id] for job_id, outcome in zip(beats, outcomes, strict=True) if outcome is Outcome.REJECTED]
    rejected += [Rejection(index, "rejected", "the document store refuses this job for good") for index in refused]
    kept, stale = outcomes.count(Outcome.STORED), outcomes.count(Outcome.STALE)
    return Receipt(accepted=kept, stale=stale, rejected=sorted(rejected, key=lambda one: one.index), server_time=now)


def is_job_id(text: Any) -> bool:
    """Say whether this is a DIRAC job's id, in the one way to write it."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None and int(text) <= MAX_JOB_ID


def job_key(job_id: str) -> str:
    """Return a DIRAC job's key."""
    return f"dirac/{job_id}"


def beat_write(beat: Heartbeat) -> Write:
    """Keep a heartbeat unless the same vm has named the job since."""
    return Write("heartbeat", _key(beat), to_ms(beat.last_seen_at), beat)


def job_write(job: Job, version: int, *, create: bool = False) -> Write:
    """Keep a job."""
    return Write("job", job_key(job.job_id), version, job, create=create)


def new_job(beat: Heartbeat, started_at: datetime) -> Job:
    """Describe a job of which only a vm has told so far."""
    blank: dict[str, Any] = dict.fromkeys(Job.__struct_fields__)
    spent = dict.fromkeys(("wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 0)
    named = {"system": "dirac", "job_id": beat.job_id, "status": STATUS_RUNNING, "cloud": beat.cloud, "vm": beat.vm}
    times = {"started_at": started_at, "changed_at": started_at, "seen_at": started_at}
    return Job(**blank | spent | named | times | {"joined_by": "heartbeat", "cores": 1, "multicore": False})


def _sorted_out(jobs: Iterable[msgspec.Raw]) -> tuple[dict[str, int], list[Rejection]]:
    """Part the ids, each once and with its place, from what is none."""
    good: dict[str, int] = {}
    rejected = []
    for index, raw in enumerate(jobs):
        try:
            good.setdefault(_job_id(raw), index)
        except Exception as error:  # noqa: BLE001  one job's fault is its own
            rejected.append(batch.rejection(index, error))
    return good, rejected


def _job_id(raw: msgspec.Raw) -> str:
    try:
        job_id = records.parse(bytes(raw), str)
    except Malformed:
        job_id = ""
    if not is_job_id(job_id):
        raise Malformed("a DIRAC job id is a whole number above zero, as text", code="malformed_job")
    return job_id


def _seen_at(report: HeartbeatReport, now: datetime) -> datetime:
    """Return when the jobs were seen: now, unless the vm says that it tells them late.

    A `seen_at` in the future or days ago is a wrong clock's. It is kept as claimed, but refused it is not: the jobs run
    on the vm all the same, and a vm whose clock is wrong for years would have none.
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


def _carried_on(beat: Heartbeat, last: Heartbeat | None, job: Job | None) -> Heartbeat:
    """Go on with the run that this vm has named before, while that is not over:
    after that, or after a pause, it is worth asking about.
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
