"""A group's credential in Elasticsearch: an API key."""

from datetime import datetime
from typing import Any

from skytally.adapters.documents_search.groups import FUNCTIONS, SEES_DISKS, allowed, makes_months
from skytally.adapters.documents_search.templates import MONTHLY, alias
from skytally.adapters.documents_search.wire import Client

# The privilege `index` would let its holder change mappings.
PUT = ("indices:data/write/bulk*", "indices:data/write/index*")
LOOK = ("read", "view_index_metadata", "maintenance")
VERBS = {"read": LOOK, "write": (*LOOK, *PUT), "delete": (*LOOK, "delete", "delete_index")}


def role(prefix: str, group: str) -> dict[str, Any]:
    """Return the privileges of a group's key; every function may check that the store is set up."""
    indices = [
        {"names": [alias(prefix, "label")], "privileges": ["view_index_metadata"]},
        {"names": [f"{prefix}-*"], "privileges": ["maintenance"]},
        *({"names": names, "privileges": list(VERBS[verb])} for verb, names in allowed(prefix, group)),
    ]
    if makes_months(group):
        indices.append({"names": [f"{alias(prefix, MONTHLY)}-*"], "privileges": ["auto_configure"]})
    return {"cluster": ["monitor"] if group in SEES_DISKS else [], "indices": indices}


def make(client: Client, prefix: str, group: str, days: int, now: datetime) -> str:  # noqa: ARG001
    """Create an API key of a group and return it encoded, as clients send it; the server stores only a digest."""
    key = {
        "name": f"{prefix}-{group}",
        "expiration": f"{days}d",
        "role_descriptors": {group: role(prefix, group)},
        "metadata": {"application": "skytally", "functions": list(FUNCTIONS[group])},
    }
    return str(client.perform("PUT", "/_security/api_key", body=key)["encoded"])


def end(client: Client, prefix: str, group: str) -> int:
    """Revoke every API key of a group, and return how many."""
    answer = client.perform("DELETE", "/_security/api_key", body={"name": f"{prefix}-{group}"})
    return len(answer["invalidated_api_keys"])
