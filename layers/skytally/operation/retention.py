"""Retention: how long documents are kept. What a statement or a boot's name rests on is kept for ever."""

from collections.abc import Callable
from datetime import datetime, timedelta

from skytally.core.documents import Forgotten
from skytally.core.ports import Documents, Write
from skytally.core.timestamps import to_ms

# A timer's turns decide who runs one round, and tallies are of today; nobody asks for them later.
SHORTLY_KEPT = timedelta(days=2)
# What is still met is written down anew.
SHORTLY = (("turn", "taken_at"), ("tally", "hour_at"), ("unreadable", "seen_at"))
DETAILS = {
    "interval": "until_at",
    "job": "changed_at",
    "placement": "reported_at",
    "placed_vm": "reported_at",
    "heartbeat": "last_seen_at",
    "anomaly": "at",
    "alarm": "resolved_at",
    "credential": "changed_at",
}


def forget(
    documents: Documents, kept_days: int, now: datetime, is_over: Callable[[], bool] = lambda: False
) -> dict[str, int]:
    """Remove the details that are older than so many days (0:
    none), and old turns and tallies; answer how many went of each index.

    What is left when its time is over goes when this is called again.
    """
    gone = {index: documents.forget(index, moment, now - SHORTLY_KEPT, is_over) for index, moment in SHORTLY}
    if kept_days:
        before = now - timedelta(days=kept_days)
        _note(documents, before)
        gone |= {index: documents.forget(index, moment, before, is_over) for index, moment in DETAILS.items()}
    return {index: count for index, count in gone.items() if count}


def _note(documents: Documents, before: datetime) -> None:
    """Write down until when details are forgotten, before they are:
    whoever adds up what is left can tell that it is not all.
    """
    version = max(0, to_ms(before))
    documents.write([Write("forgotten", index, version, Forgotten(before=before)) for index in DETAILS]).result()


def forgotten_before(index: str, documents: Documents) -> datetime | None:
    """Return the moment before which an index's details were ever forgotten; None if none were."""
    known = documents.get("forgotten", index, Forgotten)
    return known.before if known else None
