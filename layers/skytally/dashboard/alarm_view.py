"""Alarms as the views show them: those that are open, and those of the last month with how long they were."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from skytally.alarms import evidence
from skytally.alarms.alarm_round import RAISED
from skytally.core.documents import Alarm
from skytally.core.ports import Documents
from skytally.core.records import iso

HISTORY_DAYS = 31


def open_alarms(clouds: Sequence[str], documents: Documents) -> list[Alarm]:
    """Return the open alarms of some clouds, or all where none is named; newest first."""
    return _newest_first(_of(clouds, documents.find("alarm", Alarm, {"state": [RAISED]})))


def open_alarm_row(alarm: Alarm) -> dict[str, Any]:
    """Return an alarm with where its evidence is."""
    return {
        "kind": alarm.kind,
        "subject": alarm.subject,
        "cloud": alarm.cloud,
        "vm": alarm.vm,
        "state": alarm.state,
        "raised_at": iso(alarm.raised_at),
        "resolved_at": iso(alarm.resolved_at) if alarm.resolved_at else None,
        "message": alarm.message,
        "evidence": evidence.parameters(alarm),
    }


def history(clouds: Sequence[str], open_now: Sequence[Alarm], documents: Documents, now: datetime) -> list[Any]:
    """Return a row for each alarm that is open or was resolved within `HISTORY_DAYS`; newest first."""
    span = now - timedelta(days=HISTORY_DAYS), now + timedelta(days=1)
    resolved = _of(clouds, documents.during("alarm", Alarm, "resolved_at", span, {}))
    return [_history_row(alarm, now) for alarm in _newest_first([*open_now, *resolved])]


def _history_row(alarm: Alarm, now: datetime) -> dict[str, Any]:
    row = open_alarm_row(alarm)
    shown = ("kind", "subject", "cloud", "raised_at", "resolved_at", "message", "evidence")
    return {name: row[name] for name in shown} | {
        "open_seconds": ((alarm.resolved_at or now) - alarm.raised_at).total_seconds()
    }


def _of(clouds: Sequence[str], alarms: Iterator[tuple[str, Alarm]]) -> list[Alarm]:
    return [alarm for _, alarm in alarms if not clouds or alarm.cloud in clouds]


def _newest_first(alarms: Sequence[Alarm]) -> list[Alarm]:
    return sorted(alarms, key=lambda alarm: (alarm.raised_at, alarm.kind, alarm.subject), reverse=True)
