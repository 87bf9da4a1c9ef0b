"""Distributions of the jobs that ended in a window: how many were in each bucket of a value, by what became of them."""

from datetime import datetime
from typing import Any

from msgspec import structs

from skytally.core.distributions import BUCKET_FIELDS, DISTRIBUTIONS
from skytally.core.job_outcomes import OTHER, OUTCOMES
from skytally.core.ports import Documents
from skytally.dashboard.jobs_view import by_outcome, ended_jobs
from skytally.dashboard.time_range import Window
from skytally.dashboard.usage_view import frame
from skytally.dashboard.window_boots import Where

COUNTS = tuple(f"{outcome}_count" for outcome in OUTCOMES if outcome != OTHER)


def jobs_distribution(shown: Window, where: Where, of: str, documents: Documents, now: datetime) -> dict[str, Any]:
    """Return the counts of every bucket, also of those that nothing is in, and of the jobs whose value is not known.

    The table has the same, and no row where there is no job at all.
    """
    documents.refresh()
    field, distribution = BUCKET_FIELDS[of], DISTRIBUTIONS[of]
    query = structs.replace(ended_jobs(shown, where), by=(field, "status"), sums=("count",))
    spans, rows = distribution.spans(), by_outcome(documents.table(query), is_final=True)
    counts: dict[float | None, dict[str, int]] = {
        begin: dict.fromkeys(COUNTS, 0) for begin in (None, *distribution.edges)
    }
    for row in rows:
        # An earlier version may have had other edges, and a hand may have written anything.
        begin = distribution.bucket_of(row[field]) if isinstance(row[field], int | float) else None
        for name in COUNTS:
            counts[begin][name] += row.get(name, 0)
    return frame("jobs", shown, now) | {
        "of": of,
        "unit": distribution.unit,
        "buckets": [{"from": begin, "until": end, **counts[begin]} for begin, end in spans],
        "unknown_count": sum(counts[None].values()),
        "series": [],
        "table": [{"of": of, "value_from": begin, "value_until": end, **counts[begin]} for begin, end in spans if rows],
    }
