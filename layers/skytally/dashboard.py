"""The dashboard's data: which view a query asks for, and over what."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from skytally import evidence, health, job_view, view
from skytally.cloud import Site
from skytally.errors import Malformed
from skytally.ports import Documents, Objects

SECRETS_DAYS = 31


class Asked(Struct, frozen=True):
    """A query of a reader who may see some clouds (none named: all), and where its answer lies."""

    query: Mapping[str, str]
    clouds: Sequence[str]
    documents: Documents
    objects: Objects
    site: Site
    now: datetime


def data(asked: Asked) -> dict[str, Any]:
    """Answer what the query's view shows; raises Malformed for a view, window or dimension that there is not."""
    return VIEWS[_one_of("view", asked.query.get("view", "usage"), VIEWS)](asked)


def _one_of(field: str, value: str, known: Mapping[str, Any]) -> str:
    if value not in known:
        raise Malformed(f"{field} must be one of {', '.join(known)}", field=field)
    return value


def _usage(asked: Asked) -> dict[str, Any]:
    query = asked.query
    by = _one_of("by", query.get("by", "cloud"), view.DIMENSIONS)
    shown = view.window(query.get("window", "day"), query.get("until"), asked.now)
    return view.usage_view(shown, _where(asked, view.FILTERS), by, asked.documents, asked.site, asked.now)


def _where(asked: Asked, filters: Sequence[str]) -> view.Where:
    """Hold what is shown to what the query names and the reader may see."""
    named = {name: (asked.query[name],) for name in filters if name in asked.query}
    return named | ({"cloud": asked.clouds} if asked.clouds else {})


def _jobs(asked: Asked) -> dict[str, Any]:
    query = asked.query
    by = _one_of("by", query.get("by", "cloud"), job_view.DISPLAYS)
    shown = view.window(query.get("window", "day"), query.get("until"), asked.now)
    return job_view.jobs_view(shown, _where(asked, job_view.FILTERS), by, asked.documents, asked.now)


def _secrets(asked: Asked) -> dict[str, Any]:
    held = evidence.history(asked.objects, asked.now, SECRETS_DAYS)
    return evidence.secrets_view([one for one in held if not asked.clouds or one.cloud in asked.clouds], asked.documents, asked.now)


def _health(asked: Asked) -> dict[str, Any]:
    return health.health_view(asked.clouds, asked.documents, asked.now)


VIEWS: dict[str, Callable[[Asked], dict[str, Any]]] = {"usage": _usage, "jobs": _jobs, "secrets": _secrets, "health": _health}
