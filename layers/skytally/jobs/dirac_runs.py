"""Runs of DIRAC jobs: which heartbeats belong to a run, and how long it lasted.

A run lies between two reschedules. DIRAC's StartExecTime stays the first run's for ever, and its EndExecTime that of
the first run that ended. RescheduleTime decides whether these times belong to a run. Where they do not, a run lasted
from its first to its last sign of life, extended at each end by half the time until the next sign was due. A sign of
life is a heartbeat of the vm or a call of DIRAC's watchdog. The error is at most a quarter of an hour while no report
is lost.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

from skytally.core.documents import Heartbeat
from skytally.core.ports import JobState
from skytally.core.timestamps import ms_between
from skytally.jobs.heartbeats import ROUND, RUNNING

SILENT_AFTER = timedelta(hours=1)
# DIRAC calls a job stalled after two and a half periods without a call of its watchdog.
WATCHDOG_PERIOD = timedelta(minutes=30)
STALLED_AFTER = 2.5 * WATCHDOG_PERIOD
STALLED = "stalled"
ALWAYS, FOREVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Sightings(Struct, frozen=True):
    """The heartbeats of one job: at least one."""

    beats: tuple[Heartbeat, ...]

    @property
    def last(self) -> Heartbeat:
        """Return the newest heartbeat: the job runs on the vm that named it last."""
        return max(self.beats, key=lambda beat: beat.last_seen_at)

    @property
    def first_at(self) -> datetime:
        """Return when a vm first named the job."""
        return min(beat.first_seen_at for beat in self.beats)

    def is_due(self, now: datetime) -> bool:
        """Return whether to query DIRAC: the job is new, silent, or had a run that is over."""
        return any(beat.noted != RUNNING for beat in self.beats) or now - self.last.last_seen_at >= SILENT_AFTER


def sightings_of(beats: Iterable[Heartbeat]) -> Sightings | None:
    """Return the sightings of these heartbeats, or None without any."""
    all_beats = tuple(beats)
    return Sightings(all_beats) if all_beats else None


def split_at(beat: Heartbeat, moment: datetime) -> tuple[Heartbeat | None, Heartbeat | None]:
    """Split a heartbeat at a moment: into the part before it and the part after it."""
    if beat.last_seen_at <= moment:
        return beat, None
    if beat.first_seen_at > moment:
        return None, beat
    if beat.paused_at is not None and beat.resumed_at is not None and beat.paused_at <= moment <= beat.resumed_at:
        return structs.replace(beat, last_seen_at=beat.paused_at), structs.replace(beat, first_seen_at=beat.resumed_at)
    return structs.replace(beat, last_seen_at=moment), beat


class Period(Struct, frozen=True):
    """The time that a run lasted."""

    began_at: datetime
    ended_at: datetime

    @property
    def wall_ms(self) -> int:
        """Return how long the run lasted."""
        return max(0, ms_between(self.began_at, self.ended_at))


class Run(Struct, frozen=True):
    """One run: its heartbeats, and the reschedules between which it lies."""

    sightings: Sightings
    is_first: bool
    since: datetime
    until: datetime

    def so_far(self, state: JobState) -> Period:
        """Return the run's time up to its last sign of life."""
        return Period(self._began_at(state), self._heard_at(state))

    def whole(self, state: JobState | None) -> Period:
        """Return the time of a run that is over; without DIRAC's state by its heartbeats alone."""
        if state is None:
            return Period(self.sightings.first_at - ROUND / 2, self.sightings.last.last_seen_at + ROUND / 2)
        began_at, heard_at = self._began_at(state), self._heard_at(state)
        reported_end_at = self.within(state.ended_at)
        if reported_end_at is None or reported_end_at < began_at:
            return Period(began_at, min(self._estimated_end_at(state, heard_at), self.until))
        if self._was_given_up(state, heard_at, reported_end_at):
            return Period(began_at, min(self._estimated_end_at(state, heard_at), reported_end_at))
        return Period(began_at, reported_end_at)

    def within(self, moment: datetime | None) -> datetime | None:
        """Return a moment if it lies in this run, else None."""
        return moment if moment is not None and self.since < moment <= self.until else None

    def _began_at(self, state: JobState) -> datetime:
        if state.started_at is not None and self.is_first:
            return min(state.started_at, self.sightings.first_at)
        return max(self.sightings.first_at - ROUND / 2, self.since)

    def _heard_at(self, state: JobState) -> datetime:
        """Return the payload's last sign of life, to its vm's agent or to DIRAC."""
        named_at = min(self.sightings.last.last_seen_at, self.until)
        return max(named_at, self.within(state.heartbeat_at) or named_at)

    def _estimated_end_at(self, state: JobState, heard_at: datetime) -> datetime:
        """Return the middle between the last sign of life and the time when the next was due.

        The next sign is the vm's report. It is DIRAC's watchdog call if that was due later or DIRAC reports the run's
        start: then a lost report shifts the run's time by a quarter of an hour at most.
        """
        due_at = min(self.sightings.last.last_seen_at, self.until) + ROUND
        called_at = self.within(state.heartbeat_at)
        if called_at is not None and (self._is_start_reported(state) or due_at <= heard_at):
            due_at = called_at + WATCHDOG_PERIOD
        return heard_at + max(due_at - heard_at, timedelta()) / 2

    def _is_start_reported(self, state: JobState) -> bool:
        return self.is_first and state.started_at is not None

    def _was_given_up(self, state: JobState, heard_at: datetime, reported_end_at: datetime) -> bool:
        """Return whether DIRAC gave up a job that had long been gone: its reported end is then not the payload's."""
        is_stalled = STALLED in (state.minor_status or "").lower()
        return is_stalled or (
            self.within(state.heartbeat_at) is not None and reported_end_at - heard_at > STALLED_AFTER
        )
