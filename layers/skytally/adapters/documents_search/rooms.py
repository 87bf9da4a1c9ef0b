"""How full the disks of a search engine's data nodes are,
beside the low watermark: past it a node takes no more shards.

A watermark is a share of the disk that may be used (`85%`, `0.85`), at most leaving its headroom free, or what must
stay free (`50gb`).
"""

import re
from collections.abc import Iterator
from typing import Any

from skytally.adapters.documents_search.wire import Client
from skytally.core.ports import DiskUsage

WATERMARK = "cluster.routing.allocation.disk.watermark"
UNITS = {"b": 1, "kb": 1_024, "mb": 1_024**2, "gb": 1_024**3, "tb": 1_024**4, "pb": 1_024**5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) *([kmgtp]?b)", re.IGNORECASE)


def rooms(client: Client) -> Iterator[DiskUsage]:
    """Return each disk of each data node; needs the cluster privilege `monitor`."""
    settings = client.perform("GET", "/_cluster/settings", {"include_defaults": True, "filter_path": f"*.{WATERMARK}"})
    low, headroom = watermark(settings)
    stats = client.perform("GET", "/_nodes/stats/fs", {"filter_path": "nodes.*.name,nodes.*.roles,nodes.*.fs.data"})
    for node in stats.get("nodes", {}).values():
        if any(role == "data" or role.startswith("data_") for role in node.get("roles", ())):
            for disk in node.get("fs", {}).get("data", ()):
                total = disk["total_in_bytes"]
                needed = needed_bytes(low, headroom, total)
                yield DiskUsage(
                    f"the disk of {client.dialect.title}'s {node['name']}", disk["available_in_bytes"], total, needed
                )


def watermark(settings: dict[str, Any]) -> tuple[str, str | None]:
    """Read the low watermark and its headroom from where they count:
    transient settings before persistent ones before defaults.
    """
    found: dict[str, Any] = {}
    for source in ("defaults", "persistent", "transient"):
        told = settings.get(source, {})
        for part in WATERMARK.split("."):
            told = told.get(part, {})
        found |= told
    low = found.get("low", "85%")
    if isinstance(low, dict):
        return str(low.get("", "85%")), low.get("max_headroom")
    return str(low), found.get("low.max_headroom")


def needed_bytes(low: str, headroom: str | None, total_bytes: int) -> int:
    """Return how much of a disk must stay free; nothing where the watermark cannot be read."""
    size = _size(low)
    if size is not None:
        return size
    try:
        used = float(low[:-1]) / 100 if low.endswith("%") else float(low)
    except ValueError:
        return 0
    needed, most = round(total_bytes * (1 - used)), _size(headroom or "")
    return needed if most is None else min(needed, most)


def _size(text: str) -> int | None:
    match = _SIZE.fullmatch(text.strip())
    return round(float(match[1]) * UNITS[match[2].lower()]) if match else None
