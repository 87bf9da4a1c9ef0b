"""The differences between engines, as small values; everything else is the same for all of them."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Dialect:
    """One engine's names and bodies."""

    name: str
    title: str
    oldest: tuple[int, int]
    # A point in time: where it is opened behind an index and where it is closed, how, and by which name.
    open_path: str
    close_path: str
    pit_name: str
    open_params: dict[str, Any] = field(default_factory=dict)

    def closing(self, pit: str) -> dict[str, Any]:
        """Return the body that closes a point in time."""
        return {self.pit_name: [pit] if self.name == "opensearch" else pit}


DIALECTS = {
    "elasticsearch": Dialect("elasticsearch", "Elasticsearch", (8, 0), "_pit", "/_pit", "id"),
    # It opens on some of the shards, and says 200, unless it is told otherwise.
    "opensearch": Dialect(
        "opensearch",
        "OpenSearch",
        (2, 4),
        "_search/point_in_time",
        "/_search/point_in_time",
        "pit_id",
        {"allow_partial_pit_creation": False},
    ),
}
