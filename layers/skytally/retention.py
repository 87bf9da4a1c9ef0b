"""Retention: how long documents are kept. What a statement or a boot's name rests on is kept for ever."""

from datetime import datetime, timedelta

from skytally.ports import Documents

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
}


def forget(documents: Documents, kept_days: int, now: datetime) -> dict[str, int]:
    """Remove the details that are older than so many days (0: none), and old turns and tallies; answer how many went of each index."""
    gone = {index: documents.forget(index, moment, now - SHORTLY_KEPT) for index, moment in SHORTLY}
    if kept_days:
        gone |= {index: documents.forget(index, moment, now - timedelta(days=kept_days)) for index, moment in DETAILS.items()}
    return {index: count for index, count in gone.items() if count}
