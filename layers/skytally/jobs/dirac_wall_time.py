"""Finished runs of DIRAC jobs: each as it was counted, and corrected by late heartbeats.

A job's document holds its finished runs, so a heartbeat that comes twice, or again after a crash, counts once. A late
heartbeat belongs to the run of its vm within the times that DIRAC gives. A heartbeat after these times names a payload
that outlived its run, and is not counted.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct, structs

from skytally.core.documents import Heartbeat, Job
from skytally.core.ports import JobState
from skytally.jobs.dirac_runs import ALWAYS, STALLED, STALLED_AFTER, Period, Run
from skytally.jobs.heartbeats import ROUND


class FinishedRun(Struct, frozen=True, kw_only=True):
    """A run on one of our vms that is over.

    `told_at` is the end that DIRAC reports, unless DIRAC only gave the job up. `called_at` is the watchdog's last call.
    """

    vm: str
    cloud: str
    since: datetime
    until: datetime
    began_at: datetime
    ended_at: datetime
    last_seen_at: datetime
    called_at: datetime | None
    told_at: datetime | None

    @property
    def wall_ms(self) -> int:
        """Return how long the run lasted."""
        return Period(self.began_at, self.ended_at).wall_ms

    def holds(self, beat: Heartbeat) -> bool:
        """Return whether a heartbeat belongs to this run."""
        return (
            (beat.vm, beat.cloud) == (self.vm, self.cloud)
            and self.since < beat.last_seen_at
            and beat.first_seen_at <= self.until
        )

    def seen_until(self, moment: datetime) -> "FinishedRun":
        """Return the run with its vm's last heartbeat at this moment."""
        named_at = min(moment, self.until)
        if named_at <= self.last_seen_at:
            return self
        heard_at = max(named_at, self.called_at or named_at)
        ended_at = min(heard_at + max(named_at + ROUND - heard_at, timedelta()) / 2, self.until)
        if self.told_at is not None and self.told_at - heard_at <= STALLED_AFTER:
            ended_at = self.told_at
        return structs.replace(self, last_seen_at=named_at, ended_at=ended_at)


def finished_run(run: Run, state: JobState | None) -> FinishedRun:
    """Return a run that is over, with its times fixed."""
    span, last = run.whole(state), run.sightings.last
    given_up = state is None or STALLED in (state.minor_status or "").lower()
    return FinishedRun(
        vm=last.vm,
        cloud=last.cloud,
        since=run.since,
        until=run.until,
        began_at=span.began_at,
        ended_at=span.ended_at,
        last_seen_at=min(last.last_seen_at, run.until),
        called_at=None if state is None else run.within(state.heartbeat_at),
        told_at=None if state is None or given_up else run.within(state.ended_at),
    )


def runs_of(job: Job) -> tuple[FinishedRun, ...]:
    """Return the finished runs that a job's document holds."""
    return () if job.runs is None else msgspec.json.decode(job.runs, type=tuple[FinishedRun, ...])


def closed(runs: Iterable[FinishedRun], moment: datetime) -> tuple[FinishedRun, ...]:
    """Return runs that end at the latest when DIRAC rescheduled the job."""
    return tuple(structs.replace(run, until=min(run.until, moment)) for run in runs)


def corrected(
    runs: tuple[FinishedRun, ...], beats: Iterable[Heartbeat]
) -> tuple[tuple[FinishedRun, ...], list[Heartbeat]]:
    """Return the runs corrected by heartbeats, and the heartbeats that belong to none of them."""
    unmatched = []
    for beat in beats:
        match = next((run for run in reversed(runs) if run.holds(beat)), None)
        if match is not None:
            runs = tuple(run.seen_until(beat.last_seen_at) if run is match else run for run in runs)
        elif not any(run.began_at <= beat.last_seen_at <= run.ended_at for run in runs):
            unmatched.append(beat)
    return runs, unmatched


def ended_before(runs: Iterable[FinishedRun], moment: datetime) -> datetime:
    """Return when the last run before a moment ended."""
    return max((run.until for run in runs if run.until < moment), default=ALWAYS)


def summed(job: Job, runs: tuple[FinishedRun, ...], going_on: Period | None) -> Job:
    """Return a job with the summed time of its runs on our vms: the finished ones, and the one that goes on."""
    began = [run.began_at for run in runs] + ([going_on.began_at] if going_on else [])
    wall_ms = sum(run.wall_ms for run in runs) + (going_on.wall_ms if going_on else 0)
    changed: dict[str, Any] = {"wall_ms": wall_ms, "core_ms": wall_ms * job.cores}
    changed["started_at"] = min(began + ([job.started_at] if job.started_at else []), default=None)
    changed["ended_at"] = runs[-1].ended_at if runs and going_on is None else None
    changed["runs"] = msgspec.json.encode(runs).decode() if runs else None
    return structs.replace(job, **changed)
