"""A laboratory for DIRAC's jobs: a stand-in that says what it is told,
and vms that name jobs at any time of a test's own clock.
"""

from datetime import UTC, datetime, timedelta

from skytally.core.documents import Job
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState
from skytally.core.records import Caller
from skytally.jobs import dirac_collector, heartbeats
from skytally.operation.timer import Deadline
from tests.support import builders

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
CALLER = Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))
OURS, OTHER = "LCG.Victoria.ca", "LCG.Other.org"
HOUR_MS = 3_600_000


class Door:
    """A DIRAC that says what a test tells it, and counts how often it is asked about jobs."""

    jobs_at_once = 5_000

    def __init__(self, *states):
        self.known = {state.job_id: state for state in states}
        self.calls, self.asked, self.is_away = 0, [], False

    def states(self, job_ids):
        self.calls += bool(job_ids)
        self.asked += job_ids
        if self.is_away:
            raise Unavailable("away")
        return {job_id: self.known[job_id] for job_id in job_ids if job_id in self.known}


def beat(documents, *job_ids, at=0.0, vm="vm-1", caller=CALLER, told=None):
    """Let a vm name jobs, so many hours after the beginning, and tell it then or later."""
    report = builders.heartbeat(*job_ids, vm=vm, seen_at=None if told is None else AT + at * HOUR)
    return heartbeats.record(report, caller, documents, AT + (at if told is None else told) * HOUR)


def unhurried(now):
    """Make a deadline that never comes."""
    return Deadline(now, datetime(2199, 1, 1, tzinfo=UTC))


def settle(documents, door, at):
    return dirac_collector.settle(door, documents, unhurried(lambda: AT + at * HOUR))


def job(documents, job_id="1"):
    return documents.get("job", f"dirac/{job_id}", Job)


def state(status="Done", job_id=1, *, began=0.0, ended=None, moved=None, count=None, site=OURS, **more):
    """Describe a job as DIRAC does, its times in hours after the beginning."""
    told = {
        "started_at": began,
        "ended_at": ended,
        "rescheduled_at": moved,
        "last_update_at": max(ended or 0, moved or 0),
    }
    times = {name: None if hours is None else AT + hours * HOUR for name, hours in told.items()}
    count = int(moved is not None) if count is None else count
    return JobState(job_id=job_id, status=status, site=site, reschedule_count=count, **times | more)
