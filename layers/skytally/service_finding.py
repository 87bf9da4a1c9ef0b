"""What a person must look at in skytally itself: timers and sources that fail, and stores that fill up."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from skytally import catalog
from skytally.alarm import Finding
from skytally.documents import Cursor, Round
from skytally.ports import Documents, Room
from skytally.records import iso

STALE_KINDS, STORE_KINDS = ("stale_timer", "stale_source"), ("store_nearly_full",)
STALE_ROUNDS = timedelta(hours=1)
# Nobody has wanted a timer's work for so long: it was switched off.
WANTED_WITHIN = timedelta(days=7)
GIB = 1_024**3
# What was nearly full is so until a fiftieth of the store is free beyond its mark: files that come and go make no alarm flap.
STAYS_SHARE = 0.02


def stale_findings(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find timers and sources that have not succeeded for long."""
    yield from stale_timers(documents, now)
    yield from stale_sources(documents, now)


def stale_timers(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find timer functions that have not succeeded for long."""
    timers = [function.name for function in catalog.FUNCTIONS if function.schedule]
    for name, last in zip(timers, documents.get_many("round", timers, Round), strict=True):
        well = None if last is None else last.succeeded_at
        if last is not None and (well is None or now - well > STALE_ROUNDS) and now - last.started_at < WANTED_WITHIN and last.error:
            yield Finding("stale_timer", name, None, f"{name} last succeeded {iso(well) if well else 'never'}: {last.error}")


def stale_sources(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find sources of which one part fails while the others answer; one that nobody asks any more is no alarm."""
    for name, cursor in documents.find("cursor", Cursor, {}):
        if cursor.error and now - cursor.stands_at > STALE_ROUNDS and now - cursor.asked_at < STALE_ROUNDS:
            yield Finding("stale_source", name, None, f"{name} is collected until {iso(cursor.stands_at)}: {cursor.error}")


def full_stores(rooms: Iterable[Room], known: Collection[str]) -> Iterator[Finding]:
    """Find disks of the stores with less room than they need to go on."""
    for room in rooms:
        more = STAYS_SHARE * room.total_bytes if room.name in known else 0
        if room.free_bytes <= room.needed_bytes + more:
            free, total = room.free_bytes / GIB, room.total_bytes / GIB
            message = f"{room.name} has {free:.1f} of {total:.1f} GiB left: give it a larger disk, or keep documents for fewer days"
            yield Finding("store_nearly_full", room.name, None, message)
