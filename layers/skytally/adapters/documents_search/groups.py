"""The groups of functions that share a credential for a search engine, and their privileges, for every engine."""

from collections.abc import Iterator

from skytally.adapters.documents_search.templates import MONTHLY, alias
from skytally.core.documents import INDICES

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
DETAILS = (
    "turn",
    "tally",
    "interval",
    "job",
    "placement",
    "placed_vm",
    "heartbeat",
    "anomaly",
    "alarm",
    "unreadable",
    "credential",
)
GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {"write": REPORTS},
    "timers": {
        "write": ("alarm", "turn", "round", "cursor", "credential", "job", "heartbeat", "unreadable"),
        "read": tuple(INDICES),
    },
    "retention": {"write": ("turn", "round", "unreadable", "forgotten"), "delete": DETAILS},
    "readers": {"write": ("unreadable",), "read": tuple(INDICES)},
    "operators": {"write": ("closing", "unreadable"), "read": tuple(INDICES)},
}
# How full the disks are is known to the cluster alone.
SEES_DISKS = ("timers",)
FUNCTIONS = {
    "ingest": ("usage_report", "job_heartbeat", "placement_report"),
    "timers": ("alarm_raise", "secret_sweep", "panda_collect", "dirac_collect"),
    "retention": ("documents_forget",),
    "readers": ("dashboard", "statement"),
    # A person closes months.
    "operators": (),
}


def allowed(prefix: str, group: str) -> Iterator[tuple[str, list[str]]]:
    """Return each verb of a group, read, write or delete, with the indices that it is for."""
    for verb in ("read", "write", "delete"):
        names = [name for index in GROUPS[group].get(verb, ()) for name in _names(prefix, index)]
        if names:
            yield verb, names


def makes_months(group: str) -> bool:
    """Return whether a group writes intervals, which create their months' indices."""
    return MONTHLY in GROUPS[group].get("write", ())


def _names(prefix: str, index: str) -> list[str]:
    return [alias(prefix, index), f"{alias(prefix, index)}-*"] if index == MONTHLY else [alias(prefix, index)]
