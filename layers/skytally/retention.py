"""Retention: how long documents are kept. What a statement or a boot's name rests on is kept for ever."""

from datetime import datetime, timedelta

from skytally.ports import Documents

# A timer's turns decide who runs one round; an hour later nobody asks for them.
TURNS_KEPT = timedelta(days=2)
DETAILS = {
    "interval": "until_at",
    "job": "changed_at",
    "placement": "reported_at",
    "placed_vm": "reported_at",
    "heartbeat": "last_seen_at",
    "anomaly": "at",
    "alarm": "resolved_at",
}


def forget(documents: Documents, kept_days: int, now: datetime) -> dict[str, int]:
    """Remove the details that are older than so many days (0: none), and old turns; answer how many went of each index."""
    gone = {"turn": documents.forget("turn", "taken_at", now - TURNS_KEPT)}
    if kept_days:
        gone |= {index: documents.forget(index, moment, now - timedelta(days=kept_days)) for index, moment in DETAILS.items()}
    return {index: count for index, count in gone.items() if count}
