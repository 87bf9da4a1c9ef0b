"""Names of clouds that somebody asks about:
one that nobody knows is an error that names those that are known, never an empty answer.

A cloud is known where the site data name it, or where a vm or a job of it was ever accounted.
"""

from collections.abc import Iterable, Sequence

from skytally.core.errors import NotFound
from skytally.core.ports import Documents, Query
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT
from skytally.core.site_data import Site

MOMENTS = {"usage": "last_sampled_at", "job": "changed_at"}
# What jobs say whose cloud is not known, or that went on at another site.
NO_CLOUDS = frozenset({"unknown", "elsewhere"})
MOST_NAMED, LONGEST_NAME = 50, 100


def check(names: Iterable[str], documents: Documents, site: Site, visible: Sequence[str] = ()) -> None:
    """Raise NotFound for a name that no cloud has;
    it names the clouds that are known, as far as they are visible (empty: all).
    """
    asked = [name for name in names if name not in {*site.clouds, *NO_CLOUDS}]
    if not asked:
        return
    documents.refresh()
    accounted = _accounted(documents, asked)
    unknown = [name for name in asked if name not in accounted]
    if unknown:
        known = {*site.clouds, *_accounted(documents, visible)} - NO_CLOUDS
        raise _not_found(unknown[0], sorted(name for name in known if not visible or name in visible))


def _not_found(name: str, known: Sequence[str]) -> NotFound:
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    others = f"known are {', '.join(known[:MOST_NAMED])}{more}" if known else "none is known yet"
    return NotFound(f"there is no cloud {name[:LONGEST_NAME]!r}: {others}", field="cloud")


def _accounted(documents: Documents, names: Sequence[str]) -> set[str]:
    """Return which clouds have vms or jobs, of some or of all."""
    where = {"cloud": names} if names else {}
    queries = (
        Query(
            index=index,
            moment=moment,
            from_at=EARLIEST_MOMENT,
            until_at=LATEST_MOMENT,
            by=("cloud",),
            sums=("count",),
            where=where,
        )
        for index, moment in MOMENTS.items()
    )
    return {row["cloud"] for query in queries for row in documents.table(query)}
