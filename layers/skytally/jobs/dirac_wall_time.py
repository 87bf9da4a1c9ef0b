"""Runs of DIRAC jobs that are over: each as it was counted,
and corrected where a vm tells later what it could not tell in time.

A job's document holds them, so that what is told twice, or told again after a crash, counts once. A run is found again
by its vm and by the time that DIRAC gives it; what vms name after that is what is left of it, and is not counted.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct, structs

from skytally.core.documents import Heartbeat, Job
from skytally.core.ports import JobState
from skytally.jobs.dirac_runs import ALWAYS, STALLED, UNHEARD_AFTER, Run, Span
from skytally.jobs.heartbeats import ROUND


class Counted(Struct, frozen=True, kw_only=True):
    """A run on a vm of ours that is over. `told_at` is the end that DIRAC tells, unless it only gave the job up."""

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
        """Return how long it was."""
        return Span(self.began_at, self.ended_at).wall_ms

    def holds(self, beat: Heartbeat) -> bool:
        """Say whether a vm tells of this run."""
        return (
            (beat.vm, beat.cloud) == (self.vm, self.cloud)
            and self.since < beat.last_seen_at
            and beat.first_seen_at <= self.until
        )

    def seen_until(self, moment: datetime) -> "Counted":
        """Return the run, now that its vm had named it at this moment too, and not a quarter of an hour later."""
        named_at = min(moment, self.until)
        if named_at <= self.last_seen_at:
            return self
        heard_at = max(named_at, self.called_at or named_at)
        ended_at = min(heard_at + max(named_at + ROUND - heard_at, timedelta()) / 2, self.until)
        if self.told_at is not None and self.told_at - heard_at <= UNHEARD_AFTER:
            ended_at = self.told_at
        return structs.replace(self, last_seen_at=named_at, ended_at=ended_at)


def counted(run: Run, state: JobState | None) -> Counted:
    """Count a run that is over."""
    span, last = run.whole(state), run.seen.last
    given_up = state is None or STALLED in (state.minor_status or "").lower()
    return Counted(
        vm=last.vm,
        cloud=last.cloud,
        since=run.since,
        until=run.until,
        began_at=span.began_at,
        ended_at=span.ended_at,
        last_seen_at=min(last.last_seen_at, run.until),
        called_at=None if state is None else run.own(state.heartbeat_at),
        told_at=None if state is None or given_up else run.own(state.ended_at),
    )


def runs_of(job: Job) -> tuple[Counted, ...]:
    """Read what was counted of a job."""
    return () if job.runs is None else msgspec.json.decode(job.runs, type=tuple[Counted, ...])


def closed(runs: Iterable[Counted], moment: datetime) -> tuple[Counted, ...]:
    """End what may still be told of runs by the moment when DIRAC took the job from there."""
    return tuple(structs.replace(run, until=min(run.until, moment)) for run in runs)


def corrected(runs: tuple[Counted, ...], beats: Iterable[Heartbeat]) -> tuple[tuple[Counted, ...], list[Heartbeat]]:
    """Return runs as far as vms name them by now, and what vms named of none of these."""
    others = []
    for beat in beats:
        mine = next((run for run in reversed(runs) if run.holds(beat)), None)
        if mine is not None:
            runs = tuple(run.seen_until(beat.last_seen_at) if run is mine else run for run in runs)
        elif not any(run.began_at <= beat.last_seen_at <= run.ended_at for run in runs):
            others.append(beat)
    return runs, others


def ended_before(runs: Iterable[Counted], moment: datetime) -> datetime:
    """Return the last time before a moment when DIRAC took the job from a vm of ours."""
    return max((run.until for run in runs if run.until < moment), default=ALWAYS)


def summed(job: Job, runs: tuple[Counted, ...], going_on: Span | None) -> Job:
    """Count a job's runs on our vms: those that are over, and the one that goes on."""
    began = [run.began_at for run in runs] + ([going_on.began_at] if going_on else [])
    wall_ms = sum(run.wall_ms for run in runs) + (going_on.wall_ms if going_on else 0)
    changed: dict[str, Any] = {"wall_ms": wall_ms, "core_ms": wall_ms * job.cores}
    changed["started_at"] = min(began + ([job.started_at] if job.started_at else []), default=None)
    changed["ended_at"] = runs[-1].ended_at if runs and going_on is None else None
    changed["runs"] = msgspec.json.encode(runs).decode() if runs else None
    return structs.replace(job, **changed)
