"""Metrics: how skytally itself is, as Prometheus's text, for sites that have it.

Everything comes from what is kept, because the process that answers is any of many: rounds, cursors and open alarms as
they are, moments as seconds since 1970 so that an age is `time() - …`, and the reports of all processes since midnight
UTC. Those are counters that begin anew each day, which Prometheus takes for a restart. What the dashboard's own process
does is no metric: a gateway counts its requests.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from skytally.alarms import alarm_round, job_checks, payload_checks, secret_checks, service_checks, vm_checks
from skytally.alarms.service_checks import WANTED_WITHIN
from skytally.core import unreadable
from skytally.core.documents import Alarm, Cursor, Round
from skytally.core.ports import Documents, Objects, Query
from skytally.core.site_data import SiteFault
from skytally.deployment.catalog import FUNCTIONS
from skytally.operation.report_counters import ITEMS, REQUESTS
from skytally.secrets import preflight

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
REPORTS = ("usage_report", "job_heartbeat", "placement_report")
ALARMS = (
    *secret_checks.KINDS,
    *vm_checks.KINDS,
    *job_checks.KINDS,
    *payload_checks.KINDS,
    *service_checks.KINDS,
    *alarm_round.KINDS,
)
Samples = Iterable[tuple[dict[str, str], float]]


def metrics(
    clouds: Sequence[str],
    off: Collection[str],
    documents: Documents,
    objects: Objects,
    site_fault: SiteFault | None,
    now: datetime,
) -> str:
    """Return all metrics, with the alarms of the reader's clouds. Raise Unavailable where a store is away.

    `off` names the timers that have nothing to do. They have no period, so that no rule waits for their success.
    """
    documents.refresh()
    families = (
        *_rounds(documents, off, now),
        *_cursors(documents),
        _alarms(clouds, documents),
        _unreadable(documents, now),
        _family(
            "skytally_site_data_failed",
            "gauge",
            "1 where the site data are broken and older ones count",
            [({}, site_fault is not None)],
        ),
        *_reports(documents, now),
        *_preflight(objects, now),
    )
    return "".join(families)


def _rounds(documents: Documents, off: Collection[str], now: datetime) -> Iterator[str]:
    timers = {function.name: function for function in FUNCTIONS if function.schedule}
    rounds = dict(zip(timers, documents.get_many("round", list(timers), Round), strict=True))
    in_use = [name for name, last in rounds.items() if name not in off or _is_recent(last, now)]
    periods = [({"timer": name}, float(timers[name].period_seconds)) for name in in_use]
    succeeded = [({"timer": name}, _succeeded_timestamp(rounds[name])) for name in in_use]
    known = [last for last in rounds.values() if last is not None]
    began = [({"timer": last.name}, last.started_at.timestamp()) for last in known]
    took = [
        ({"timer": last.name}, (last.finished_at - last.started_at).total_seconds())
        for last in known
        if last.finished_at
    ]
    failed = [({"timer": last.name}, float(last.error is not None)) for last in known]
    yield _family(
        "skytally_timer_period_seconds",
        "gauge",
        "the longest time between two calls of a timer by its schedule",
        periods,
    )
    yield _family("skytally_round_started_timestamp_seconds", "gauge", "when a timer's newest round began", began)
    yield _family(
        "skytally_round_succeeded_timestamp_seconds",
        "gauge",
        "when a timer's round last went well, 0 for never",
        succeeded,
    )
    yield _family("skytally_round_duration_seconds", "gauge", "how long a timer's newest round took", took)
    yield _family("skytally_round_failed", "gauge", "1 where a timer's newest round failed", failed)


def _is_recent(last: Round | None, now: datetime) -> bool:
    """Say whether a timer did a round of late, whatever the settings of this process say of it."""
    return last is not None and now - last.started_at < WANTED_WITHIN


def _succeeded_timestamp(last: Round | None) -> float:
    return 0.0 if last is None or last.succeeded_at is None else last.succeeded_at.timestamp()


def _cursors(documents: Documents) -> Iterator[str]:
    known = list(documents.find("cursor", Cursor, {}))
    stands = [({"source": name}, cursor.stands_at.timestamp()) for name, cursor in known]
    asked = [({"source": name}, cursor.asked_at.timestamp()) for name, cursor in known]
    failed = [({"source": name}, float(cursor.error is not None)) for name, cursor in known]
    yield _family("skytally_cursor_timestamp_seconds", "gauge", "until when a source is collected whole", stands)
    yield _family("skytally_cursor_asked_timestamp_seconds", "gauge", "when a source was last asked", asked)
    yield _family("skytally_cursor_failed", "gauge", "1 where a source did not answer when it was last asked", failed)


def _alarms(clouds: Sequence[str], documents: Documents) -> str:
    found = [
        alarm
        for _, alarm in documents.find("alarm", Alarm, {"state": ["raised"]})
        if not clouds or alarm.cloud in clouds
    ]
    counts = Counter((alarm.kind, alarm.cloud or "") for alarm in found)
    none = {(kind, "") for kind in ALARMS}
    samples = [
        ({"kind": kind, "cloud": cloud}, float(counts[kind, cloud])) for kind, cloud in sorted(none | counts.keys())
    ]
    return _family(
        "skytally_alarms_open", "gauge", "open alarms by kind and cloud, none for what is no cloud's", samples
    )


def _unreadable(documents: Documents, now: datetime) -> str:
    samples = [
        ({"kind": one.kind, "source": one.source}, float(count))
        for count, one in unreadable.met_by_source(documents, now)
    ]
    meaning = "documents, objects and rows met in the last three hours that cannot be read and are left out"
    return _family("skytally_unreadable", "gauge", meaning, samples)


def _reports(documents: Documents, now: datetime) -> Iterator[str]:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = midnight + timedelta(days=1)
    today = Query(
        index="tally", moment="hour_at", from_at=midnight, until_at=until, by=("function",), sums=(*REQUESTS, *ITEMS)
    )
    rows = {row["function"]: row for row in documents.table(today)}
    requests, items = (
        [
            ({"function": name, "outcome": outcome}, float(rows.get(name, {}).get(outcome, 0)))
            for name in REPORTS
            for outcome in outcomes
        ]
        for outcomes in (REQUESTS, ITEMS)
    )
    yield _family(
        "skytally_report_requests_total",
        "counter",
        "reports since midnight UTC by what they got, of all processes",
        requests,
    )
    yield _family(
        "skytally_report_items_total", "counter", "samples, jobs and vms in reports since midnight UTC", items
    )


def _preflight(objects: Objects, now: datetime) -> Iterator[str]:
    """Tell the verdict on the object store that holds; nothing where there is none."""
    verdict = preflight.kept(objects, now)
    if verdict is not None:
        safe, at = float(verdict.word == preflight.SAFE), verdict.at.timestamp()
        yield _family("skytally_preflight_safe", "gauge", "1 where the object store may hold secrets", [({}, safe)])
        yield _family(
            "skytally_preflight_timestamp_seconds", "gauge", "when the object store was last examined", [({}, at)]
        )


def _family(name: str, kind: str, meaning: str, samples: Samples) -> str:
    lines = [f"{name}{_labels(labels)} {_number(value)}\n" for labels, value in samples]
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n{''.join(lines)}"


def _labels(labels: dict[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
