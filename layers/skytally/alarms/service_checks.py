"""What a person must look at in skytally itself:
timers and sources that fail, stores that fill up, and what cannot be read.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from skytally.alarms.alarm_round import Finding
from skytally.core import unreadable
from skytally.core.documents import Cursor, Round
from skytally.core.ports import DiskUsage, Documents
from skytally.core.records import iso
from skytally.core.site_data import SiteFault
from skytally.deployment import catalog

TIMER_KINDS, SOURCE_KINDS, STORE_KINDS = ("stale_timer",), ("stale_source",), ("store_nearly_full",)
UNREADABLE_KINDS, SITE_KINDS = ("unreadable_document", "unreadable_row"), ("broken_site_data",)
KINDS = (*TIMER_KINDS, *SOURCE_KINDS, *STORE_KINDS, *UNREADABLE_KINDS, *SITE_KINDS)
STALE_ROUNDS = timedelta(hours=1)
# Nobody has wanted a timer's work for so long: it was switched off.
WANTED_WITHIN = timedelta(days=7)
GIB = 1_024**3
# What was nearly full is so until a fiftieth of the store is free beyond its mark: files that come and go make no alarm
# flap.
STAYS_SHARE = 0.02


def stale_timers(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find timer functions that have not succeeded for long."""
    timers = [function.name for function in catalog.FUNCTIONS if function.schedule]
    for name, last in zip(timers, documents.get_many("round", timers, Round), strict=True):
        well = None if last is None else last.succeeded_at
        if (
            last is not None
            and (well is None or now - well > STALE_ROUNDS)
            and now - last.started_at < WANTED_WITHIN
            and last.error
        ):
            yield Finding(
                "stale_timer", name, None, f"{name} last succeeded {iso(well) if well else 'never'}: {last.error}"
            )


def stale_sources(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find sources of which one part fails while the others answer; one that nobody asks any more is no alarm."""
    for name, cursor in documents.find("cursor", Cursor, {}):
        if cursor.error and now - cursor.stands_at > STALE_ROUNDS and now - cursor.asked_at < STALE_ROUNDS:
            yield Finding(
                "stale_source", name, None, f"{name} is collected until {iso(cursor.stands_at)}: {cursor.error}"
            )


def full_stores(rooms: Iterable[DiskUsage], known: Collection[str]) -> Iterator[Finding]:
    """Find disks of the stores with less room than they need to go on."""
    for room in rooms:
        more = STAYS_SHARE * room.total_bytes if room.name in known else 0
        if room.free_bytes <= room.needed_bytes + more:
            free, total = room.free_bytes / GIB, room.total_bytes / GIB
            message = (
                f"{room.name} has {free:.1f} of {total:.1f} GiB left: give it a larger disk, or keep documents for "
                "fewer days"
            )
            yield Finding("store_nearly_full", room.name, None, message)


def unreadable_things(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find documents, objects and rows that were met of late and cannot be read; one that is met no more is over."""
    for one in unreadable.met(documents, now):
        kind = "unreadable_row" if one.kind == "row" else "unreadable_document"
        message = (
            f"the {one.kind} {one.key_text} of {one.source} cannot be read and is left out ({one.reason}): see who "
            "wrote it, and mend it"
        )
        yield Finding(kind, f"{one.source}: {one.key_text}", None, message)


def broken_site_data(fault: SiteFault | None) -> Iterator[Finding]:
    """Find site data that cannot be used, so that older ones count."""
    if fault is not None:
        message = (
            f"the site data are broken since {iso(fault.since)} ({fault.place}), and the last good ones count: see "
            "`skytally doctor`"
        )
        yield Finding("broken_site_data", "SKYTALLY_CLOUDS", None, message)
