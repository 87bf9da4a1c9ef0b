"""Heartbeats: the DIRAC jobs that a vm says run on it, each kept by the server's clock.

A job that is new becomes a job document at once, so that it shows before DIRAC was ever asked; from then on only `dirac.settle` changes
it. The last time seen never goes back: it is the document's version.
"""

import re
from datetime import datetime
from typing import Any

from skytally.documents import Heartbeat, Job
from skytally.errors import NotYours
from skytally.ports import Documents, Write
from skytally.records import Caller, HeartbeatReport, Receipt, Rejection

RUNNING, AFTER_FINAL, SETTLED = "running", "after_final", "settled"
STATUS_RUNNING = "Running"
_JOB_ID = re.compile(r"[1-9][0-9]{0,18}")
MAX_JOB_ID = 2**63 - 1
WRONG_ID = "a DIRAC job id is a whole number above zero"


def record(report: HeartbeatReport, caller: Caller, documents: Documents, now: datetime) -> Receipt:
    """Keep every good id of a report, durably; raises NotYours for another vm's, Unavailable, and then it may be sent again."""
    if caller.vm is not None and caller.vm != report.vm:
        raise NotYours("the token is another vm's: report about the vm that the token names")
    cloud = caller.clouds[0]
    good = dict.fromkeys(job_id for job_id in report.jobs if is_job_id(job_id))
    bad = [Rejection(n, "malformed_job", WRONG_ID) for n, one in enumerate(report.jobs) if not is_job_id(one)]
    keys = [key_of(job_id, report.vm, cloud) for job_id in good]
    before = documents.get_many("heartbeat", keys, Heartbeat)
    jobs = documents.get_many("job", [f"dirac/{job_id}" for job_id in good], Job)
    writes = []
    for job_id, key, last, job in zip(good, keys, before, jobs, strict=True):
        noted = AFTER_FINAL if job is not None and job.final_at is not None else RUNNING
        first_seen_at = now if last is None else last.first_seen_at
        beat = Heartbeat(
            job_id=job_id,
            noted=noted,
            vm=report.vm,
            cloud=cloud,
            first_seen_at=min(first_seen_at, now),
            last_seen_at=now,
            claimed_at=report.seen_at,
        )
        writes.append(Write("heartbeat", key, round(now.timestamp() * 1_000), beat))
    outcomes = documents.write(writes).result()
    fresh = [new_job(job_id, report.vm, caller, now) for job_id, job in zip(good, jobs, strict=True) if job is None]
    documents.write([Write("job", f"dirac/{job.job_id}", 0, job, create=True) for job in fresh]).result()
    kept = sum(outcome.value == "stored" for outcome in outcomes)
    return Receipt(accepted=kept, stale=len(outcomes) - kept, rejected=bad, server_time=now)


def is_job_id(text: Any) -> bool:
    """Say whether this is a DIRAC job's id, in the one way to write it."""
    return isinstance(text, str) and _JOB_ID.fullmatch(text) is not None and int(text) <= MAX_JOB_ID


def key_of(job_id: str, vm: str, cloud: str) -> str:
    """Answer a heartbeat's key."""
    return f"{job_id}@{vm}@{cloud}"


def new_job(job_id: str, vm: str, caller: Caller, now: datetime) -> Job:
    """Describe a job of which only a vm has told so far."""
    blank: dict[str, Any] = dict.fromkeys(Job.__struct_fields__)
    spent = dict.fromkeys(("wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 0)
    known = {"system": "dirac", "job_id": job_id, "status": STATUS_RUNNING, "cloud": caller.clouds[0], "vm": vm, "joined_by": "heartbeat"}
    return Job(**blank | spent | known | {"started_at": now, "changed_at": now, "seen_at": now, "cores": 1, "multicore": False})
