"""Health: whether skytally itself does its work: timers, sources,
credentials, site data, what cannot be read, and open alarms.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from skytally.access import credentials
from skytally.access.credentials import FAILING, WELL
from skytally.alarms.service_checks import STALE_ROUNDS, WANTED_WITHIN
from skytally.core import unreadable
from skytally.core.documents import Alarm, Cursor, RenewedCredential, Round, Unreadable
from skytally.core.ports import Documents
from skytally.core.records import iso
from skytally.core.site_data import SiteFault
from skytally.dashboard import alarm_view
from skytally.deployment.catalog import FUNCTIONS, Function

SKIPPED, OFF, RUNNING = "skipped", "off", "running"
# A timer that has not succeeded for so many of its periods is late.
LATE_PERIODS = 3
Row = dict[str, Any]


def health_view(
    clouds: Sequence[str], off: Collection[str], documents: Documents, site_fault: SiteFault | None, now: datetime
) -> dict[str, Any]:
    """Return a row for each timer, source, credential, fault and open alarm of the reader's clouds;
    a timer that never ran is not known, and one of those in `off` has nothing to do.

    Names of what cannot be read, and of tables of the site data, may be those of any cloud: a reader of some clouds
    gets the numbers alone.
    """
    documents.refresh()
    timers, sources = timer_rows(off, documents, now), source_rows(documents)
    alarms = alarm_view.open_alarms(clouds, documents)
    skipped = unreadable.met_by_source(documents, now)
    table = [
        *timers,
        *sources,
        *_credentials(documents, now),
        *([_site_data(site_fault, clouds)] if site_fault else []),
        *(_unreadable(count, newest, clouds) for count, newest in skipped),
        *map(_alarm, sorted(alarms, key=lambda alarm: (alarm.kind, alarm.subject))),
    ]
    totals = {"open_alarms": len(alarms), **totals_of(timers, sources, [count for count, _ in skipped])}
    return {
        "view": "health",
        "generated_at": iso(now),
        "table": table,
        "totals": totals,
        "history": alarm_view.history(clouds, alarms, documents, now),
        "series": [],
        "coverage": None,
    }


def totals_of(timers: Sequence[Row], sources: Sequence[Row], unreadable_counts: Sequence[int]) -> dict[str, int]:
    """Count what of timers, sources and unreadable things needs a person."""
    return {
        "failing_timers": sum(row["state"] == FAILING for row in timers),
        "timers_never_run": sum(row["state"] is None for row in timers),
        "failing_sources": sum(row["state"] == FAILING for row in sources),
        "unreadable_things": sum(unreadable_counts),
    }


def late(timers: Sequence[Row], sources: Sequence[Row], now: datetime) -> list[Row]:
    """Return the timers and sources that fail, and those that are late.

    A timer is late where it has not succeeded for `LATE_PERIODS` of its periods, a source where it is not collected
    until `STALE_ROUNDS` ago.
    """
    patience = {
        row["subject"]: max(STALE_ROUNDS, LATE_PERIODS * timedelta(seconds=row["period_seconds"])) for row in timers
    }
    return [
        row
        for row in (*timers, *sources)
        if row["state"] != OFF
        and (row["state"] == FAILING or _is_older(row["since"], patience.get(row["subject"], STALE_ROUNDS), now))
    ]


def _is_older(since: str | None, age: timedelta, now: datetime) -> bool:
    return since is None or now - datetime.fromisoformat(since) > age


def _row(
    kind: str, subject: str, state: str | None, since: datetime | None, message: str | None, cloud: str | None = None
) -> Row:
    return {
        "kind": kind,
        "subject": subject,
        "cloud": cloud,
        "state": state,
        "since": None if since is None else iso(since),
        "period_seconds": None,
        "message": message,
    }


def timer_rows(off: Collection[str], documents: Documents, now: datetime) -> list[Row]:
    """Return a row for each timer, with the longest time between two of its calls."""
    timers = [function for function in FUNCTIONS if function.schedule]
    rounds = documents.get_many("round", [timer.name for timer in timers], Round)
    return [_timer(timer, last, off, now) for timer, last in zip(timers, rounds, strict=True)]


def _timer(timer: Function, last: Round | None, off: Collection[str], now: datetime) -> Row:
    """Return a timer's row; one in `off` is off once it has done no round for long."""
    if timer.name in off and (last is None or now - last.started_at >= WANTED_WITHIN):
        row = _row("timer", timer.name, OFF, None, "no setting of the dashboard names its source")
    elif last is None:
        row = _row("timer", timer.name, None, None, None)
    else:
        state = FAILING if last.error else WELL if last.finished_at else RUNNING
        row = _row("timer", timer.name, state, last.succeeded_at, last.error)
    return row | {"period_seconds": timer.period_seconds}


def source_rows(documents: Documents) -> list[Row]:
    """Return a row for each source, with until when it is collected."""
    return [
        _row("source", name, FAILING if cursor.error else WELL, cursor.stands_at, cursor.error)
        for name, cursor in documents.find("cursor", Cursor, {})
    ]


def _credentials(documents: Documents, now: datetime) -> Iterator[Row]:
    """Make a row for each source's credential: of the token files that were ever used, the one that changed last."""
    stored = sorted(
        (known for _, known in documents.find("credential", RenewedCredential, {})), key=lambda known: known.changed_at
    )
    for source, known in {known.source: known for known in stored}.items():
        state, message = credentials.described(known, now)
        yield _row("credential", source, state, known.changed_at, message)


def _site_data(fault: SiteFault, clouds: Sequence[str]) -> Row:
    place = "" if clouds else f" ({fault.place})"
    return _row(
        "site_data",
        "SKYTALLY_CLOUDS",
        FAILING,
        fault.since,
        f"clouds.toml is broken{place}: the last good site data count",
    )


def _unreadable(count: int, newest: Unreadable, clouds: Sequence[str]) -> Row:
    last = "" if clouds else f", the last {newest.key_text}: {newest.reason}"
    return _row("unreadable", f"{newest.kind} of {newest.source}", SKIPPED, newest.seen_at, f"{count} left out{last}")


def _alarm(alarm: Alarm) -> Row:
    return _row(alarm.kind, alarm.subject, alarm.state, alarm.raised_at, alarm.message, alarm.cloud)
