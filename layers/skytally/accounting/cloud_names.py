"""Names of requested clouds: an unknown one is an error that lists the known ones, never an empty answer.

A cloud is known if the site data name it, or if a vm or a job of it was ever accounted.
"""

from collections.abc import Iterable, Sequence

from skytally.core.errors import NotFound
from skytally.core.ports import Documents, Query
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT
from skytally.core.site_data import Site

MOMENTS = {"usage": "last_sampled_at", "job": "changed_at"}
# The cloud of jobs whose cloud is not known, and of jobs that went on at another site.
NO_CLOUDS = frozenset({"unknown", "elsewhere"})
MOST_NAMED, LONGEST_NAME = 50, 100


def check(names: Iterable[str], documents: Documents, site: Site, visible: Sequence[str] = ()) -> None:
    """Raise NotFound for a name that no cloud has; its message lists the known clouds that are visible (empty: all)."""
    unlisted = [name for name in names if name not in {*site.clouds, *NO_CLOUDS}]
    if not unlisted:
        return
    documents.refresh()
    accounted = _accounted(documents, unlisted)
    unknown = [name for name in unlisted if name not in accounted]
    if unknown:
        visible_names = {*site.clouds, *_accounted(documents, visible)} - NO_CLOUDS
        raise _not_found(unknown[0], sorted(name for name in visible_names if not visible or name in visible))


def _not_found(name: str, visible_names: Sequence[str]) -> NotFound:
    more = f" and {len(visible_names) - MOST_NAMED} more" if len(visible_names) > MOST_NAMED else ""
    hint = f"known are {', '.join(visible_names[:MOST_NAMED])}{more}" if visible_names else "none is known yet"
    return NotFound(f"there is no cloud {name[:LONGEST_NAME]!r}: {hint}", field="cloud")


def _accounted(documents: Documents, names: Sequence[str]) -> set[str]:
    """Return the clouds among these names, or among all, that have vms or jobs."""
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
