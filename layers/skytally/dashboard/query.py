"""The dashboard's data: which view a query asks for, over what, in which order and how much of it."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec import Struct, structs

from skytally.accounting import cloud_names
from skytally.core import records
from skytally.core.concurrently import concurrently
from skytally.core.distributions import DISTRIBUTIONS
from skytally.core.errors import Malformed
from skytally.core.months import month_of
from skytally.core.ports import Documents, Objects, Row
from skytally.core.records import iso
from skytally.core.site_data import Site, SiteFault
from skytally.core.unreadable import Notes
from skytally.dashboard import (
    alarm_view,
    health_view,
    jobs_distribution,
    jobs_view,
    overview,
    statement_view,
    usage_series,
    usage_view,
)
from skytally.dashboard.paging import cut, listed
from skytally.dashboard.time_range import Window, step_end, step_start, window
from skytally.dashboard.window_boots import Where, window_boots
from skytally.secrets import audit

SECRETS_DAYS = 31
SECRET_STATES = ("waiting", "delivered", "expired", "revoked", "damaged")
PARTS = {
    "table": ("table",),
    "series": ("series",),
    "all": ("table", "series"),
    "distribution": ("distribution",),
}


class Asked(Struct, frozen=True, kw_only=True):
    """A query of a reader, and where its answer lies.

    `clouds` are those that it is about, `visible` those that the reader may see; none named are all. `panda_url` is
    where jobs have their pages, if anywhere. `off` names the timers that have nothing to do.
    """

    query: Mapping[str, str]
    clouds: Sequence[str]
    visible: Sequence[str]
    documents: Documents
    objects: Objects
    notes: Notes
    site: Site
    site_fault: SiteFault | None
    panda_url: str
    off: Collection[str]
    now: datetime


def data(asked: Asked) -> dict[str, Any]:
    """Return what the query's view shows.

    Raises Malformed for a view, window, dimension, order or part that there is not, and NotFound for a cloud that
    nobody knows. A cloud of which something is shown is known: it is looked up only where nothing is.
    """
    parts = PARTS[_one_of("part", asked.query.get("part", "all"), PARTS)]
    asked_cut = cut(asked.query)
    view_name = _one_of("view", asked.query.get("view", "usage"), VIEWS)
    if "distribution" in parts and view_name != "jobs":
        raise Malformed("part=distribution is of view=jobs: name that view", field="part")
    answer = VIEWS[view_name](asked, parts)
    rows = answer.get("table", [])
    if view_name in {"overview", "health"} or not (rows or answer.get("series")):
        check_cloud(asked)
    alarms = alarm_view.open_alarms(asked.visible, asked.documents)
    return answer | {"table": listed(rows, asked_cut), "row_count": len(rows), "open_alarms": len(alarms)}


def check_cloud(asked: Asked) -> None:
    """Raise NotFound where the query names a cloud that nobody knows."""
    named = [asked.query["cloud"]] if "cloud" in asked.query else []
    cloud_names.check(named, asked.documents, asked.site, asked.visible)


def _one_of(field: str, value: str, known: Mapping[str, Any]) -> str:
    if value not in known:
        raise Malformed(f"{field} must be one of {', '.join(known)}", field=field)
    return value


def _usage(asked: Asked, parts: Sequence[str]) -> dict[str, Any]:
    by = _one_of("by", asked.query.get("by", "cloud"), usage_view.DIMENSIONS)
    shown, where = window(asked.query, asked.now), _where(asked, usage_view.FILTERS)
    documents, plotted_by = asked.documents, usage_view.PLOTTED_BY[by]
    reads: dict[str, Callable[[], list[Row]]] = {
        "table": partial(usage_view.interval_sums, shown, where, by, documents),
        "series": partial(usage_series.step_sums, shown, where, plotted_by, documents),
    }
    sums, steps = (reads[part] if part in parts else list for part in reads)
    documents.refresh()
    boots, (rows, points) = concurrently(
        lambda: window_boots(shown, where, documents, asked.site, asked.now), lambda: concurrently(sums, steps)
    )
    return usage_view.frame("usage", shown, asked.now) | _parts(
        parts,
        partial(usage_view.usage_view, shown, where, by, boots, rows, documents, asked.now),
        partial(usage_series.usage_series, shown, where, plotted_by, boots, points, documents),
    )


def _parts(
    parts: Sequence[str], table: Callable[[], dict[str, Any]], series: Callable[[], list[Any]]
) -> dict[str, Any]:
    """Return the parts that are asked for, both in the time of one."""
    if len(parts) == 1:
        return table() | {"series": []} if "table" in parts else {"series": series()}
    answer, points = concurrently(table, series)
    return answer | {"series": points}


def _where(asked: Asked, filters: Sequence[str]) -> Where:
    """Hold what is shown to what the query names and the reader may see."""
    named = {name: (asked.query[name],) for name in filters if name in asked.query}
    return named | ({"cloud": asked.clouds} if asked.clouds else {})


def _jobs(asked: Asked, parts: Sequence[str]) -> dict[str, Any]:
    by = _one_of("by", asked.query.get("by", "cloud"), jobs_view.DISPLAYS)
    shown, where = window(asked.query, asked.now), _where(asked, jobs_view.FILTERS)
    if "distribution" in parts:
        of = _one_of("of", asked.query.get("of", ""), DISTRIBUTIONS)
        return jobs_distribution.jobs_distribution(shown, where, of, asked.documents, asked.now)
    table = partial(jobs_view.jobs_view, shown, where, by, asked.documents, asked.panda_url, asked.now)
    return usage_view.frame("jobs", shown, asked.now) | _parts(
        parts, table, partial(jobs_view.jobs_series, shown, where, asked.documents)
    )


def _statement(asked: Asked, parts: Sequence[str]) -> dict[str, Any]:
    """Show a calendar month, this one where none is named."""
    month = records.month(asked.query.get("month", month_of(asked.now)))
    shown = usage_view.frame("statement", statement_view.month_window(month), asked.now)
    shown |= {"month": month, **statement_view.neighbours(month, asked.now)}
    shown |= {"coverage": None, "doubts": [], "series": []}
    table = partial(statement_view.statement_table, month, asked.clouds, asked.documents, asked.site, asked.now)
    series = partial(statement_view.statement_series, month, asked.clouds, asked.documents)
    if len(parts) == 1:
        return shown | (table() if "table" in parts else series())
    answer, points = concurrently(table, series)
    return shown | answer | points


def _secrets(asked: Asked, _: Sequence[str]) -> dict[str, Any]:
    """Show what waits, and what came to its end in the window: of the last month, where none is named."""
    since = asked.now - timedelta(days=SECRETS_DAYS)
    named = {"window", "from", "until"} & asked.query.keys()
    shown = window(asked.query if named else {"from": iso(since)}, asked.now)
    held = audit.history(asked.objects, asked.now, min((asked.now - shown.from_at).days + 1, SECRETS_DAYS), asked.notes)
    mine = [one for one in held if _is_asked(one, asked) and (one.state == "waiting" or _inside(one.at, shown))]
    counts = Counter(one.state for one in mine)
    answer = audit.secrets_view(mine, asked.documents, asked.now)
    return (
        answer
        | usage_view.frame("secrets", shown, asked.now)
        | {
            "series": _ends(mine, shown),
            "totals": {f"{state}_count": counts[state] for state in SECRET_STATES}
            | {
                "contested_count": sum(bool(row["contested_count"]) for row in answer["table"]),
                "unreported_count": sum(row["reported"] is False for row in answer["table"]),
            },
            "doubts": [{"kind": "kept_days", "days": SECRETS_DAYS}] if shown.from_at < since else [],
            "choices": {"cloud": sorted({one.cloud for one in mine})},
        }
    )


def _is_asked(one: audit.SecretRecord, asked: Asked) -> bool:
    return (not asked.clouds or one.cloud in asked.clouds) and asked.query.get("vm", one.vm) == one.vm


def _inside(at: str, shown: Window) -> bool:
    return shown.from_at <= datetime.fromisoformat(at) < shown.until_at


def _ends(held: Sequence[audit.SecretRecord], shown: Window) -> list[dict[str, Any]]:
    """Count what came to its end in each step, by its state."""
    moments = (
        (datetime.fromisoformat(one.at), one.state) for one in held if one.state != "waiting" and _inside(one.at, shown)
    )
    counts = Counter((step_start(at, shown), state) for at, state in moments)
    return [
        {"at": iso(at), "until": iso(step_end(at, shown)), "state": state, "secret_count": count}
        for (at, state), count in sorted(counts.items())
    ]


def _overview(asked: Asked, parts: Sequence[str]) -> dict[str, Any]:
    """Show the last hour, whatever window is asked for: of vms of a time to come nothing is known."""
    until = {"until": asked.query["until"]} if "until" in asked.query else {}
    shown = window({"window": "hour"} | until, asked.now)
    shown = structs.replace(
        shown if shown.until_at <= asked.now else window({"window": "hour"}, asked.now), step=overview.HOUR
    )
    sources = overview.Sources(documents=asked.documents, objects=asked.objects, notes=asked.notes, off=asked.off)
    return usage_view.frame("overview", shown, asked.now) | _parts(
        parts,
        partial(overview.overview, shown, asked.clouds, sources, asked.now),
        partial(overview.overview_series, shown, asked.clouds, asked.documents),
    )


def _health(asked: Asked, _: Sequence[str]) -> dict[str, Any]:
    """Show how skytally is now, whatever window is asked for."""
    now = iso(asked.now)
    answer = health_view.health_view(asked.clouds, asked.off, asked.documents, asked.site_fault, asked.now)
    return {"from": now, "until": now, "doubts": [], "choices": {}} | answer


View = Callable[[Asked, Sequence[str]], dict[str, Any]]
VIEWS: dict[str, View] = {
    "overview": _overview,
    "usage": _usage,
    "jobs": _jobs,
    "statement": _statement,
    "secrets": _secrets,
    "health": _health,
}
