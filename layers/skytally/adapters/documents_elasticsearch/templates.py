"""How each index lies in Elasticsearch: mappings made from the records, templates and indices that `install` makes, all under one prefix.

::

    <prefix>-<index>                  one index of each kind
    <prefix>-interval-<YYYY-MM>       a month's intervals, behind the alias <prefix>-interval: old ones go as a whole

A document's `_id` is its key, or the key's digest where that is longer than an `_id` may be; `key` holds it whole. An interval lies in the
month that its own key says, so that one key can never be in two indices.
"""

import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import UnionType
from typing import Any, get_args, get_type_hints

import msgspec
from elasticsearch import Elasticsearch

from skytally.documents import INDICES, Document, Interval

VERSION = 4
MAX_ID_BYTES = 512
MONTHLY = "interval"
OTHER_MONTH = "other"
# What is only shown costs no index and no column.
ONLY_KEPT = {
    "alarm": {"message", "told"},
    "round": {"error"},
    "job": {"error_raw", "history", "runs"},
    "closing": {"text", "signature", "public_key"},
}
TYPES = {str: "keyword", int: "long", float: "double", bool: "boolean", datetime: "date"}
CUT = tuple(field.name for field in msgspec.structs.fields(Interval) if field.type is int and field.name != "cores")
_INTERVAL_KEY = re.compile(r".*-(\d{8}T\d{6})Z(?:~[0-9a-f]{16})?-(\d{1,15})", re.DOTALL)

# One shard holds tens of millions of our small documents, and every search would have to ask each of several. A copy is kept as soon as
# there is a second node. Readers refresh before they look, so that nothing else needs new segments every second.
SETTINGS = {"number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "30s", "codec": "best_compression"}


def id_of(key: str) -> str:
    """Answer the `_id` of a key."""
    return key if len(key.encode()) <= MAX_ID_BYTES else "sha256:" + sha256(key.encode()).hexdigest()


def alias(prefix: str, index: str) -> str:
    """Answer the name under which all of an index is found."""
    return f"{prefix}-{index}"


def written_to(prefix: str, index: str, key: str) -> str:
    """Answer the one index that a key belongs to."""
    return f"{prefix}-{index}-{month_of_key(key)}" if index == MONTHLY else alias(prefix, index)


def month_of_key(key: str) -> str:
    """Read the month in which an interval began, by its boot's name and its uptime; never its own times, which may be corrected."""
    match = _INTERVAL_KEY.fullmatch(key)
    if match is None:
        return OTHER_MONTH
    try:
        booted_at = datetime.strptime(f"{match[1]}+0000", "%Y%m%dT%H%M%S%z")
        return f"{booted_at + timedelta(milliseconds=int(match[2])):%Y-%m}"
    except (ValueError, OverflowError):
        return OTHER_MONTH


def mappings(index: str) -> dict[str, Any]:
    """Make an index's mapping from its record: what is in no record is refused."""
    properties = {"key": {"type": "keyword"}, **{name: _field(index, name, hint) for name, hint in _hints(INDICES[index]).items()}}
    if index == MONTHLY:
        properties |= {"hours_crossed": {"type": "integer"}, "days_crossed": {"type": "integer"}}
        properties["after"] = {"properties": {name: {"type": "long", "index": False} for name in CUT}}
    return {"dynamic": "strict", "_meta": {"skytally": VERSION}, "properties": properties}


def _field(index: str, name: str, hint: type) -> dict[str, Any]:
    if name in ONLY_KEPT.get(index, ()):
        return {"type": "keyword", "index": False, "doc_values": False}
    kind = TYPES[hint]
    return {"type": kind} if kind in {"keyword", "date", "boolean"} else {"type": kind, "index": False}


def _hints(kind: type[Document]) -> dict[str, type]:
    return {name: _plain(hint) for name, hint in get_type_hints(kind).items()}


def _plain(hint: Any) -> type:
    parts = [part for part in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if part is not type(None)]
    plain: type = parts[0]
    return plain


def templates(prefix: str) -> dict[str, dict[str, Any]]:
    """Write the composable templates, by name; each takes the settings from the one component template."""
    made = {}
    for index in INDICES:
        template: dict[str, Any] = {"mappings": mappings(index)}
        if index == MONTHLY:
            template["aliases"] = {alias(prefix, index): {}}
        made[alias(prefix, index)] = {
            "index_patterns": [f"{alias(prefix, index)}-*" if index == MONTHLY else alias(prefix, index)],
            "composed_of": [component(prefix), *([lifecycle_component(prefix)] if index == MONTHLY else [])],
            "priority": 200,
            "version": VERSION,
            "template": template,
        }
    return made


def component(prefix: str) -> str:
    """Name the component template that holds the settings."""
    return f"{prefix}-settings"


def lifecycle_component(prefix: str) -> str:
    """Name the component template that says which policy of ILM, if any, months are removed by."""
    return f"{prefix}-lifecycle"


def install(client: Elasticsearch, prefix: str, now: datetime) -> list[str]:
    """Make or renew templates, indices and mappings; answer what was made new. The same again changes nothing."""
    client.cluster.put_component_template(name=component(prefix), template={"settings": {"index": SETTINGS}}, version=VERSION)
    if not client.cluster.exists_component_template(name=lifecycle_component(prefix)):
        client.cluster.put_component_template(name=lifecycle_component(prefix), template={"settings": {}}, version=VERSION)
    for name, template in templates(prefix).items():
        client.indices.put_index_template(name=name, **template)
    wanted = [written_to(prefix, index, f"x-{now.astimezone(UTC):%Y%m%dT%H%M%S}Z-0") for index in INDICES]
    there = set(client.indices.get(index=f"{prefix}-*", filter_path="*.mappings._meta", expand_wildcards="all"))
    fresh = [name for name in wanted if name not in there]
    for name in fresh:
        client.indices.create(index=name)
    for index in INDICES:
        client.indices.put_mapping(index=alias(prefix, index), **mappings(index))
    return fresh
