"""Indices of a search engine: mappings made from the records, and the templates and indices that `install` creates.

::

    <prefix>-<index>                  one index of each kind
    <prefix>-interval-<YYYY-MM>       a month's intervals, behind the alias <prefix>-interval: old ones go as a whole
    <prefix>-interval-other           intervals of months that cannot be, behind the same alias

A document's `_id` is its key, or the key's digest where that is longer than an `_id` may be; `key` holds it whole. An
interval lies in the month that its own key says, so that one key can never be in two indices. Only months of 2026 to
2099 have an index of their own: whatever a vm's clock says, it makes a bounded number of them, and no month before the
first release.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec

from skytally.core import storable
from skytally.core.documents import INDICES, Interval
from skytally.core.timestamps import EPOCH, to_ms

VERSION = 6
MAX_ID_BYTES = 512
MONTHLY = "interval"
OTHER_MONTH = "other"
FIRST_YEAR, LAST_YEAR = 2026, 2099
DAY_MS = 86_400_000
# What is only shown costs no index and no column.
ONLY_KEPT = {
    "alarm": {"message", "told"},
    "round": {"error"},
    "credential": {"sealed"},
    "job": {"error_raw", "history", "runs", "log_url"},
    "closing": {"text", "signature", "public_key"},
}
TYPES = {str: "keyword", int: "long", float: "double", bool: "boolean", datetime: "date"}
CUT = tuple(field.name for field in msgspec.structs.fields(Interval) if field.type is int and field.name != "cores")
_BOOT_AT = "([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})"
_MONTH = re.compile(r"\d{4}-\d{2}")
# Boots that were named before names had a cloud keep theirs.
_BOOT_NAMES = tuple(re.compile(rf".*-{_BOOT_AT}Z{rest}", re.DOTALL) for rest in ("@[^@]*", "(?:~[0-9a-f]{16})?"))
_UPTIME_MS = re.compile("[0-9]{1,15}")

# One shard holds tens of millions of our small documents, and every search would have to ask each of several. A copy is
# kept as soon as there is a second node. Readers refresh before they look, so that nothing else needs new segments
# every second.
SETTINGS = {
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",
    "refresh_interval": "30s",
    "codec": "best_compression",
}


def id_of(key: str) -> str:
    """Return the `_id` of a key."""
    return key if len(key.encode()) <= MAX_ID_BYTES else "sha256:" + sha256(key.encode()).hexdigest()


def alias(prefix: str, index: str) -> str:
    """Return the alias of an index."""
    return f"{prefix}-{index}"


def written_to(prefix: str, index: str, key: str) -> str:
    """Return the index that a key is written to."""
    return f"{prefix}-{index}-{month_of_key(key)}" if index == MONTHLY else alias(prefix, index)


def month_of_key(key: str) -> str:
    """Return the month in which an interval began, by its label and uptime: its times may be corrected."""
    label, _, uptime_ms = key.rpartition("-")
    booted_ms = _booted_ms(label)
    if booted_ms is None or not _UPTIME_MS.fullmatch(uptime_ms):
        return OTHER_MONTH
    return _month_of_day((booted_ms + int(uptime_ms)) // DAY_MS)


@lru_cache(maxsize=1_000)
def _month_of_day(days: int) -> str:
    """Return the month in which a day after 1970 lies."""
    try:
        began_at = EPOCH + timedelta(days=days)
    except OverflowError:
        return OTHER_MONTH
    return f"{began_at.year}-{began_at.month:02}" if FIRST_YEAR <= began_at.year <= LAST_YEAR else OTHER_MONTH


@lru_cache(maxsize=10_000)  # A boot has many intervals.
def _booted_ms(label: str) -> int | None:
    """Return the time in a label; None where it has none, or one that no calendar has."""
    match = next(filter(None, (form.fullmatch(label) for form in _BOOT_NAMES)), None)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        return to_ms(datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    except ValueError:
        return None


def other_months(prefix: str) -> str:
    """Return the index of the intervals without a month of their own."""
    return f"{alias(prefix, MONTHLY)}-{OTHER_MONTH}"


def is_month(prefix: str, name: str) -> bool:
    """Return whether an index is one month's; such an index does not exist before its first interval."""
    return _MONTH.fullmatch(name.removeprefix(f"{alias(prefix, MONTHLY)}-")) is not None


def mappings(index: str) -> dict[str, Any]:
    """Return an index's mapping from its record; it refuses unknown fields."""
    properties = {
        "key": {"type": "keyword"},
        **{name: _field(index, name, kind) for name, kind in storable.field_types(INDICES[index]).items()},
    }
    if index == MONTHLY:
        properties |= {"hours_crossed": {"type": "integer"}, "days_crossed": {"type": "integer"}}
        properties["after"] = {"properties": {name: {"type": "long", "index": False} for name in CUT}}
    return {"dynamic": "strict", "_meta": {"skytally": VERSION}, "properties": properties}


def _field(index: str, name: str, field_type: type) -> dict[str, Any]:
    if name in ONLY_KEPT.get(index, ()):
        return {"type": "keyword", "index": False, "doc_values": False}
    kind = TYPES[field_type]
    return {"type": kind} if kind in {"keyword", "date", "boolean"} else {"type": kind, "index": False}


def templates(prefix: str) -> dict[str, dict[str, Any]]:
    """Return the composable templates by name; all have their settings from one component template."""
    templates = {
        alias(prefix, index): _template(prefix, index, alias(prefix, index)) for index in INDICES if index != MONTHLY
    }
    templates[alias(prefix, MONTHLY)] = _template(
        prefix, MONTHLY, f"{alias(prefix, MONTHLY)}-*", lifecycle_component(prefix)
    )
    # It holds intervals of any age, so it never goes as a whole.
    templates[other_months(prefix)] = _template(prefix, MONTHLY, other_months(prefix)) | {"priority": 201}
    return templates


def _template(prefix: str, index: str, pattern: str, *more: str) -> dict[str, Any]:
    template: dict[str, Any] = {"mappings": mappings(index)}
    if index == MONTHLY:
        template["aliases"] = {alias(prefix, index): {}}
    composed_of = [component(prefix), *more]
    return {
        "index_patterns": [pattern],
        "composed_of": composed_of,
        "priority": 200,
        "version": VERSION,
        "template": template,
    }


def component(prefix: str) -> str:
    """Return the name of the component template with the settings."""
    return f"{prefix}-settings"


def lifecycle_component(prefix: str) -> str:
    """Return the name of the component template with the months' lifecycle policy, if any."""
    return f"{prefix}-lifecycle"
