"""Health: whether skytally itself does its work: its timers' rounds and the alarms that are open."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from skytally.catalog import FUNCTIONS
from skytally.documents import Alarm, Cursor, Round
from skytally.ports import Documents
from skytally.records import iso


def health_view(clouds: Sequence[str], documents: Documents, now: datetime) -> dict[str, Any]:
    """Answer a row for each timer, source and open alarm of the reader's clouds; a timer that never ran is not known, not well."""
    documents.refresh()
    rows = [*_timers(documents), *_sources(documents), *_alarms(clouds, documents)]
    return {"view": "health", "generated_at": iso(now), "table": rows, "series": [], "coverage": None}


def _timers(documents: Documents) -> Iterator[dict[str, Any]]:
    names = [function.name for function in FUNCTIONS if function.schedule]
    for name, last in zip(names, documents.get_many("round", names, Round), strict=True):
        state = None if last is None else "failing" if last.error else "well" if last.finished_at else "running"
        succeeded_at = iso(last.succeeded_at) if last and last.succeeded_at else None
        yield {
            "kind": "timer",
            "subject": name,
            "cloud": None,
            "state": state,
            "since": succeeded_at,
            "message": last.error if last else None,
        }


def _sources(documents: Documents) -> Iterator[dict[str, Any]]:
    for name, cursor in documents.find("cursor", Cursor, {}):
        yield {
            "kind": "source",
            "subject": name,
            "cloud": None,
            "state": "failing" if cursor.error else "well",
            "since": iso(cursor.stands_at),
            "message": cursor.error,
        }


def _alarms(clouds: Sequence[str], documents: Documents) -> Iterator[dict[str, Any]]:
    for _, alarm in documents.find("alarm", Alarm, {"state": ["raised"]}):
        if not clouds or alarm.cloud in clouds:
            yield {
                "kind": alarm.kind,
                "subject": alarm.subject,
                "cloud": alarm.cloud,
                "state": alarm.state,
                "since": iso(alarm.raised_at),
                "message": alarm.message,
            }
