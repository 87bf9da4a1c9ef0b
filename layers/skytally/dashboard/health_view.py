"""Health: whether skytally itself does its work: timers, sources,
credentials, site data, what cannot be read, and open alarms.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from skytally.access import credentials
from skytally.access.credentials import FAILING, WELL
from skytally.alarms.alarm_round import RAISED
from skytally.core import unreadable
from skytally.core.documents import Alarm, Cursor, RenewedCredential, Round, Unreadable
from skytally.core.ports import Documents
from skytally.core.records import iso
from skytally.core.site_data import SiteFault
from skytally.deployment.catalog import FUNCTIONS

SKIPPED = "skipped"
Row = dict[str, Any]


def health_view(
    clouds: Sequence[str], documents: Documents, site_fault: SiteFault | None, now: datetime
) -> dict[str, Any]:
    """Return a row for each timer, source, credential, fault and open alarm of the reader's clouds;
    a timer that never ran is not known.

    Names of what cannot be read, and of tables of the site data, may be those of any cloud: a reader of some clouds
    gets the numbers alone.
    """
    documents.refresh()
    timers, sources, alarms = list(_timers(documents)), list(_sources(documents)), list(_alarms(clouds, documents))
    skipped = unreadable.met_by_source(documents, now)
    table = [
        *timers,
        *sources,
        *_credentials(documents, now),
        *([_site_data(site_fault, clouds)] if site_fault else []),
        *(_unreadable(count, newest, clouds) for count, newest in skipped),
        *alarms,
    ]
    totals = {
        "open_alarms": len(alarms),
        "failing_timers": sum(row["state"] == FAILING for row in timers),
        "timers_never_run": sum(row["state"] is None for row in timers),
        "failing_sources": sum(row["state"] == FAILING for row in sources),
        "unreadable_things": sum(count for count, _ in skipped),
    }
    return {
        "view": "health",
        "generated_at": iso(now),
        "table": table,
        "totals": totals,
        "series": [],
        "coverage": None,
    }


def _row(
    kind: str, subject: str, state: str | None, since: datetime | None, message: str | None, cloud: str | None = None
) -> Row:
    at = None if since is None else iso(since)
    return {"kind": kind, "subject": subject, "cloud": cloud, "state": state, "since": at, "message": message}


def _timers(documents: Documents) -> Iterator[Row]:
    names = [function.name for function in FUNCTIONS if function.schedule]
    for name, last in zip(names, documents.get_many("round", names, Round), strict=True):
        state = None if last is None else FAILING if last.error else WELL if last.finished_at else "running"
        yield _row("timer", name, state, last.succeeded_at if last else None, last.error if last else None)


def _sources(documents: Documents) -> Iterator[Row]:
    for name, cursor in documents.find("cursor", Cursor, {}):
        yield _row("source", name, FAILING if cursor.error else WELL, cursor.stands_at, cursor.error)


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


def _alarms(clouds: Sequence[str], documents: Documents) -> Iterator[Row]:
    for _, alarm in documents.find("alarm", Alarm, {"state": [RAISED]}):
        if not clouds or alarm.cloud in clouds:
            yield _row(alarm.kind, alarm.subject, alarm.state, alarm.raised_at, alarm.message, alarm.cloud)
