"""Runs of DIRAC jobs: what vms named of them, and how long they were.

A run is what lies between two reschedulings. Its times are DIRAC's where DIRAC's are that run's: StartExecTime stays
the first run's for ever and EndExecTime that of the first run that ended, so only RescheduleTime tells whose they are.
Else a run lasted from the first to the last time that a vm named it or its watchdog called home, and half of what may
be missing at each end: wrong by a quarter of an hour at most where nothing was lost on the way.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

from skytally.core.documents import Heartbeat
from skytally.core.ports import JobState
from skytally.core.timestamps import ms_between
from skytally.jobs.heartbeats import ROUND, RUNNING

SILENT_AFTER = timedelta(hours=1)
# A watchdog calls home so often; after two and a half of these DIRAC calls its job stalled.
CALLS_EVERY = timedelta(minutes=30)
UNHEARD_AFTER = 2.5 * CALLS_EVERY
STALLED = "stalled"
ALWAYS, FOREVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class Seen(Struct, frozen=True):
    """What vms said of one job, at least once."""

    beats: tuple[Heartbeat, ...]

    @property
    def last(self) -> Heartbeat:
        """Return the newest heartbeat: of two vms that name a job, it is on the one that named it last."""
        return max(self.beats, key=lambda beat: beat.last_seen_at)

    @property
    def first_at(self) -> datetime:
        """Return when the job was first named."""
        return min(beat.first_seen_at for beat in self.beats)

    def is_to_be_asked(self, now: datetime) -> bool:
        """Say whether DIRAC has something to tell: the job is new to us, fell silent, or had a run that is over."""
        return any(beat.noted != RUNNING for beat in self.beats) or now - self.last.last_seen_at >= SILENT_AFTER


def some(beats: Iterable[Heartbeat]) -> Seen | None:
    """Put heartbeats together, if there are any."""
    found = tuple(beats)
    return Seen(found) if found else None


def parted(beat: Heartbeat, moment: datetime) -> tuple[Heartbeat | None, Heartbeat | None]:
    """Part a heartbeat at a moment: into what the vm said of the job before it, and after it."""
    if beat.last_seen_at <= moment:
        return beat, None
    if beat.first_seen_at > moment:
        return None, beat
    if beat.paused_at is not None and beat.resumed_at is not None and beat.paused_at <= moment <= beat.resumed_at:
        return structs.replace(beat, last_seen_at=beat.paused_at), structs.replace(beat, first_seen_at=beat.resumed_at)
    return structs.replace(beat, last_seen_at=moment), beat


class Span(Struct, frozen=True):
    """From when to when a run is known to have lasted."""

    began_at: datetime
    ended_at: datetime

    @property
    def wall_ms(self) -> int:
        """Return how long it was."""
        return max(0, ms_between(self.began_at, self.ended_at))


class Run(Struct, frozen=True):
    """What vms named of one run, and the reschedulings between which it lies."""

    seen: Seen
    is_first: bool
    since: datetime
    until: datetime

    def so_far(self, state: JobState) -> Span:
        """Return how long it was until anybody last heard of it."""
        return Span(self._began_at(state), self._heard_at(state))

    def whole(self, state: JobState | None) -> Span:
        """Return how long it was, now that it is over; without DIRAC's word as long as vms named it."""
        if state is None:
            return Span(self.seen.first_at - ROUND / 2, self.seen.last.last_seen_at + ROUND / 2)
        began_at, heard_at = self._began_at(state), self._heard_at(state)
        told_at = self.own(state.ended_at)
        if told_at is None or told_at < began_at:
            return Span(began_at, min(self._guess(state, heard_at), self.until))
        if self._was_unheard(state, heard_at, told_at):
            return Span(began_at, min(self._guess(state, heard_at), told_at))
        return Span(began_at, told_at)

    def own(self, moment: datetime | None) -> datetime | None:
        """Return a moment that DIRAC tells where it is one of this run, else None."""
        return moment if moment is not None and self.since < moment <= self.until else None

    def _began_at(self, state: JobState) -> datetime:
        if state.started_at is not None and self.is_first:
            return min(state.started_at, self.seen.first_at)
        return max(self.seen.first_at - ROUND / 2, self.since)

    def _heard_at(self, state: JobState) -> datetime:
        """Return when the payload last gave a sign of life, to its vm's agent or to DIRAC."""
        named_at = min(self.seen.last.last_seen_at, self.until)
        return max(named_at, self.own(state.heartbeat_at) or named_at)

    def _guess(self, state: JobState, heard_at: datetime) -> datetime:
        """Return the middle between the last sign of life and when the next would have come.

        That is the vm's next report; DIRAC's next call where it must have come later, or where its begin is told, so
        that a lost report makes the whole no more than a quarter of an hour wrong.
        """
        due_at = min(self.seen.last.last_seen_at, self.until) + ROUND
        called_at = self.own(state.heartbeat_at)
        if called_at is not None and (self._is_told(state) or due_at <= heard_at):
            due_at = called_at + CALLS_EVERY
        return heard_at + max(due_at - heard_at, timedelta()) / 2

    def _is_told(self, state: JobState) -> bool:
        return self.is_first and state.started_at is not None

    def _was_unheard(self, state: JobState, heard_at: datetime, told_at: datetime) -> bool:
        """Say whether DIRAC gave a job up that had been gone for long:
        then the end that it tells is not the payload's.
        """
        was_given_up = STALLED in (state.minor_status or "").lower()
        return was_given_up or (self.own(state.heartbeat_at) is not None and told_at - heard_at > UNHEARD_AFTER)
