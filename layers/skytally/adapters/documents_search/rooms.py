"""The disk usage of a search engine's data nodes, and the low watermark: beyond it a node gets no more shards.

A watermark is the share of the disk that may be used (`85%`, `0.85`), which leaves at most the headroom free, or the
size that must stay free (`50gb`).
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
    """Return each disk of each data node; this needs the cluster privilege `monitor`."""
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
    """Return the low watermark and its headroom; transient settings override persistent ones, these the defaults."""
    watermarks: dict[str, Any] = {}
    for source in ("defaults", "persistent", "transient"):
        level = settings.get(source, {})
        for part in WATERMARK.split("."):
            level = level.get(part, {})
        watermarks |= level
    low = watermarks.get("low", "85%")
    if isinstance(low, dict):
        return str(low.get("", "85%")), low.get("max_headroom")
    return str(low), watermarks.get("low.max_headroom")


def needed_bytes(low: str, headroom: str | None, total_bytes: int) -> int:
    """Return the bytes of a disk that must stay free; 0 for an unreadable watermark."""
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
