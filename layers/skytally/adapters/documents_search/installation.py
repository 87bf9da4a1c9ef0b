"""The installation on a cluster: templates, indices and mappings under one prefix; idempotent.

Templates belong to the whole cluster. Where the credential has rights on the prefix alone, the indices are made whole
without them, months of intervals ahead too, and the cluster's owner has to make the templates before those months are
over.
"""

from datetime import UTC, datetime
from typing import Any

from skytally.adapters.documents_search.answers import SECURITY
from skytally.adapters.documents_search.templates import (
    MONTHLY,
    SETTINGS,
    VERSION,
    alias,
    component,
    lifecycle_component,
    mappings,
    other_months,
    templates,
    written_to,
)
from skytally.adapters.documents_search.wire import FORBIDDEN, Client, Refused
from skytally.core.documents import INDICES
from skytally.core.ports import Installed

MONTHS_BEFORE, MONTHS_AHEAD = 3, 24


def install(client: Client, prefix: str, now: datetime) -> Installed:
    """Create or update templates, indices and mappings; return the new ones."""
    has_templates = _make_templates(client, prefix)
    months = [_month(now, 0)] if has_templates else [_month(now, by) for by in range(-MONTHS_BEFORE, MONTHS_AHEAD + 1)]
    names = [alias(prefix, index) for index in INDICES if index != MONTHLY]
    names += [written_to(prefix, MONTHLY, f"x-{month.replace('-', '')}01T000000Z-0") for month in months]
    names.append(other_months(prefix))
    meta = {"filter_path": "*.mappings._meta", "expand_wildcards": "all"}
    existing = set(client.perform("GET", f"/{prefix}-*", meta))
    missing = [name for name in names if name not in existing]
    for name in missing:
        client.perform("PUT", f"/{name}", body=None if has_templates else _whole(prefix, name))
    # The first one says that all of the store is of this version, so it comes last.
    for index in reversed(INDICES):
        client.perform("PUT", f"/{alias(prefix, index)}/_mapping", body=mappings(index))
    return Installed(missing, "" if has_templates else _left(months[-1]))


def _left(last_month: str) -> str:
    return (
        f"this credential may not make index templates, so months of intervals are made until {last_month}: "
        "let the cluster's owner run `skytally doctor --install` once, or run it again before then"
    )


def _make_templates(client: Client, prefix: str) -> bool:
    """Create or update the templates; return whether this credential may."""
    try:
        put_component(client, component(prefix), {"index": SETTINGS})
        if not has_component(client, lifecycle_component(prefix)):
            put_component(client, lifecycle_component(prefix), {})
        for name, template in templates(prefix).items():
            client.perform("PUT", f"/_index_template/{name}", body=template)
    except Refused as error:
        if error.status != FORBIDDEN or error.kind != SECURITY:
            raise
        return False
    return True


def put_component(client: Client, name: str, settings: dict[str, Any]) -> None:
    """Create or update a component template of settings."""
    client.perform("PUT", f"/_component_template/{name}", body={"template": {"settings": settings}, "version": VERSION})


def has_component(client: Client, name: str) -> bool:
    """Return whether a component template exists."""
    try:
        client.perform("GET", f"/_component_template/{name}")
    except Refused as error:
        if error.status != 404:
            raise
        return False
    return True


def _whole(prefix: str, name: str) -> dict[str, Any]:
    """Return an index as the templates would create it."""
    index = next(
        index
        for index in INDICES
        if name == alias(prefix, index) or (index == MONTHLY and name.startswith(alias(prefix, MONTHLY)))
    )
    aliases: dict[str, Any] = {alias(prefix, MONTHLY): {}} if index == MONTHLY else {}
    return {"settings": {"index": SETTINGS}, "mappings": mappings(index), "aliases": aliases}


def _month(now: datetime, by: int) -> str:
    """Return the month a number of months after this one."""
    year, month = divmod(now.astimezone(UTC).year * 12 + now.astimezone(UTC).month - 1 + by, 12)
    return f"{year:04}-{month + 1:02}"
