"""Who may do what in Elasticsearch: an API key for each group of functions, which can do what they do and nothing else."""

from typing import Any

from elasticsearch import Elasticsearch

from skytally.adapters.documents_elasticsearch.templates import MONTHLY, alias
from skytally.documents import INDICES

# The privilege `index` would let its holder change mappings.
PUT = ("indices:data/write/bulk*", "indices:data/write/index*")
LOOK = ("read", "view_index_metadata", "maintenance")
# What each group writes, looks at besides, and removes. Whoever reads may meet what cannot be read, and notes it.
REPORTS = (
    "label",
    "boot",
    "boot_cores",
    "benchmark",
    "usage",
    "interval",
    "anomaly",
    "heartbeat",
    "placed_vm",
    "placement",
    "job",
    "tally",
    "unreadable",
)
DETAILS = ("turn", "tally", "interval", "job", "placement", "placed_vm", "heartbeat", "anomaly", "alarm", "unreadable", "credential")
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {"write": REPORTS},
    "timers": {"write": ("alarm", "turn", "round", "cursor", "credential", "job", "heartbeat", "unreadable"), "read": tuple(INDICES)},
    "retention": {"write": ("turn", "round", "unreadable", "forgotten"), "delete": DETAILS},
    "readers": {"write": ("unreadable",), "read": tuple(INDICES)},
    "operators": {"write": ("closing", "unreadable"), "read": tuple(INDICES)},
}
# How full the disks are is known to the cluster alone.
CLUSTER = {"timers": ("monitor",)}
FUNCTIONS = {
    "ingest": ("usage_report", "job_heartbeat", "placement_report"),
    "timers": ("alarm_raise", "secret_sweep", "panda_collect", "dirac_collect"),
    "retention": ("documents_forget",),
    "readers": ("dashboard", "statement"),
    # A person closes months.
    "operators": (),
}


def role(prefix: str, group: str) -> dict[str, Any]:
    """Describe what a group's key may do; every function may see that the store is set up."""
    told = GROUPS[group]
    allowed = [
        {"names": [alias(prefix, "label")], "privileges": ["view_index_metadata"]},
        {"names": [f"{prefix}-*"], "privileges": ["maintenance"]},
    ]
    for verb, privileges in (("read", LOOK), ("write", (*LOOK, *PUT)), ("delete", (*LOOK, "delete", "delete_index"))):
        names = [name for index in told.get(verb, ()) for name in _names(prefix, index)]
        if names:
            allowed.append({"names": names, "privileges": list(privileges)})
    if "interval" in told.get("write", ()):
        allowed.append({"names": [f"{alias(prefix, MONTHLY)}-*"], "privileges": ["auto_configure"]})
    return {"cluster": list(CLUSTER.get(group, ())), "indices": allowed}


def _names(prefix: str, index: str) -> list[str]:
    return [alias(prefix, index), f"{alias(prefix, index)}-*"] if index == MONTHLY else [alias(prefix, index)]


def make_key(client: Elasticsearch, prefix: str, group: str, days: int) -> str:
    """Make an API key of a group and answer it encoded, as clients send it; the server keeps only a digest."""
    answer = client.security.create_api_key(
        name=f"{prefix}-{group}",
        expiration=f"{days}d",
        role_descriptors={group: role(prefix, group)},
        metadata={"application": "skytally", "functions": list(FUNCTIONS[group])},
    )
    encoded: str = answer["encoded"]
    return encoded


def end_keys(client: Elasticsearch, prefix: str) -> int:
    """End every API key of every group, and answer how many; none is success."""
    ended = [client.security.invalidate_api_key(name=f"{prefix}-{group}") for group in FUNCTIONS]
    return sum(len(answer["invalidated_api_keys"]) for answer in ended)
