"""A group's credential in OpenSearch: a user of the security plugin, with a password and the group's role.

A password has no end of its own, so the user carries the day on which it ends, and whoever runs `search-setup` next
removes those that are over. Each time makes new users, so that old credentials go on until then.
"""

import secrets
from datetime import datetime, timedelta
from typing import Any

from skytally.adapters.documents_search.groups import SEES_DISKS, allowed, makes_months
from skytally.adapters.documents_search.templates import MONTHLY, alias
from skytally.adapters.documents_search.wire import FORBIDDEN, Client, Refused
from skytally.core.errors import Malformed, Unavailable

API = "/_plugins/_security/api"
SEEN = ("indices:admin/mappings/get*", "indices:admin/get", "indices:admin/aliases/get")
LOOK = (
    *SEEN,
    "indices:data/read/search*",
    "indices:data/read/get*",
    "indices:data/read/mget*",
    "indices:data/read/point_in_time/*",
    "indices:admin/refresh*",
)
PUT = ("indices:data/write/bulk*", "indices:data/write/index*")
VERBS = {
    "read": LOOK,
    "write": (*LOOK, *PUT),
    "delete": (*LOOK, "indices:data/write/bulk*", "indices:data/write/delete*", "indices:admin/delete"),
}
MADE_BY_WRITING = ("indices:admin/auto_create", "indices:admin/create", "indices:admin/mapping/auto_put")
# What concerns several indices at once is asked of the cluster first, and of each index then.
CLUSTER = (
    "cluster:monitor/main",
    "indices:data/read/mget",
    "indices:data/read/search*",
    "indices:data/read/point_in_time/*",
    "indices:data/write/bulk",
)
DISKS = ("cluster:monitor/nodes/stats", "cluster:monitor/settings", "cluster:monitor/state")
NO_HANDLER = {400, 405}


def role(prefix: str, group: str) -> dict[str, Any]:
    """Return the privileges of a group's users; every function may check that the store is set up."""
    indices = [
        {"index_patterns": [alias(prefix, "label")], "allowed_actions": list(SEEN)},
        {"index_patterns": [f"{prefix}-*"], "allowed_actions": ["indices:admin/refresh*"]},
        *({"index_patterns": names, "allowed_actions": list(VERBS[verb])} for verb, names in allowed(prefix, group)),
    ]
    if makes_months(group):
        indices.append({"index_patterns": [f"{alias(prefix, MONTHLY)}-*"], "allowed_actions": list(MADE_BY_WRITING)})
    cluster = [*CLUSTER, *(DISKS if group in SEES_DISKS else ())]
    return {"cluster_permissions": cluster, "index_permissions": indices}


def make(client: Client, prefix: str, group: str, days: int, now: datetime) -> str:
    """Create a user of a group and return name and password; remove expired users."""
    name, password = f"{prefix}-{group}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", secrets.token_urlsafe(32)
    for old, ends in _users(client, prefix, group).items():
        if ends and ends < f"{now:%Y-%m-%d}":
            client.perform("DELETE", f"{API}/internalusers/{old}")
    client.perform("PUT", f"{API}/roles/{prefix}-{group}", body=role(prefix, group))
    user = {
        "password": password,
        "opendistro_security_roles": [f"{prefix}-{group}"],
        "attributes": {"application": "skytally", "ends": f"{now + timedelta(days=days):%Y-%m-%d}"},
    }
    client.perform("PUT", f"{API}/internalusers/{name}", body=user)
    return f"{name}:{password}"


def end(client: Client, prefix: str, group: str) -> int:
    """Remove every user of a group, and return how many."""
    users = _users(client, prefix, group)
    for user in users:
        client.perform("DELETE", f"{API}/internalusers/{user}")
    return len(users)


def _users(client: Client, prefix: str, group: str) -> dict[str, str]:
    """Return the users of a group with their last days; raise Malformed if the engine has no users."""
    try:
        users = client.perform("GET", f"{API}/internalusers")
    except Refused as error:
        if error.status == FORBIDDEN:
            raise Unavailable(
                "this user may not make users of OpenSearch: let the cluster's owner run search-setup, "
                "or give the functions a credential with rights on the prefix"
            ) from None
        if error.status in NO_HANDLER:
            raise Malformed(
                "this OpenSearch has no security plugin, so it asks nobody who calls: leave --out out"
            ) from None
        raise
    mine = {
        name: user for name, user in users.items() if f"{prefix}-{group}" in user.get("opendistro_security_roles", ())
    }
    return {name: str(user.get("attributes", {}).get("ends", "")) for name, user in mine.items()}
