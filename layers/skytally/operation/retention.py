"""Retention: how long documents are kept. Those that statements and boots' labels need are kept for ever."""

from collections.abc import Callable
from datetime import datetime, timedelta

from skytally.core.documents import Forgotten
from skytally.core.ports import Documents, Write
from skytally.core.timestamps import to_ms

# A turn decides one round, and tallies are read on the same day.
SHORTLY_KEPT = timedelta(days=2)
# Unreadable items that still exist are noted again.
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
    """Remove details older than `kept_days` (0 keeps all), and old turns and tallies; return the counts by index.

    The next call removes what is left once `is_over` returns True.
    """
    removed = {index: documents.forget(index, moment, now - SHORTLY_KEPT, is_over) for index, moment in SHORTLY}
    if kept_days:
        before = now - timedelta(days=kept_days)
        _note(documents, before)
        removed |= {index: documents.forget(index, moment, before, is_over) for index, moment in DETAILS.items()}
    return {index: count for index, count in removed.items() if count}


def _note(documents: Documents, before: datetime) -> None:
    """Write the time before which details are removed, before removing them: later sums of the rest are incomplete."""
    version = max(0, to_ms(before))
    documents.write([Write("forgotten", index, version, Forgotten(before=before)) for index in DETAILS]).result()


def forgotten_before(index: str, documents: Documents) -> datetime | None:
    """Return the time before which an index's details were removed, or None."""
    forgotten = documents.get("forgotten", index, Forgotten)
    return forgotten.before if forgotten else None
