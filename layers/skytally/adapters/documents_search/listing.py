"""Listing documents as of one moment: a point in time of all shards or of none, read page by page.

An engine holds so many points at once, one a shard: OpenSearch 300 a node. One that has no room for more is waited for.
What a span lies in is asked for by its months' own names, so that a listing of a day holds few.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from contextlib import suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import Any

from skytally.adapters.documents_search.answers import TOO_MANY, answering, is_busy, patiently, whole
from skytally.adapters.documents_search.templates import MONTHLY, alias, is_month
from skytally.adapters.documents_search.wire import Away, Client, Refused
from skytally.core.concurrently import READERS
from skytally.core.errors import Unavailable

PIT_KEPT = "1m"
# A corrected clock moves an interval by less than a month from the one that its key says.
MOVED = timedelta(days=62)
# A list of more names makes a longer URL than servers take; then all months are opened.
MOST_NAMES = 20


def indices_of(client: Client, prefix: str, index: str, span: tuple[datetime, datetime] | None) -> str:
    """Return what a listing has to open:
    of intervals those months alone that a span may lie in, and that of other months.
    """
    every = alias(prefix, index)
    if span is None or index != MONTHLY:
        return every
    first, last = (f"{moment:%Y-%m}" for moment in (_moved(span[0], -MOVED), _moved(span[1], MOVED)))
    names = client.perform("GET", f"/{every}-*/_alias", {"expand_wildcards": "open,closed"})
    chosen = [name for name in names if not is_month(prefix, name) or first <= name[-7:] <= last]
    return ",".join(sorted(chosen)) if len(chosen) < min(len(names), MOST_NAMES) else every


def _moved(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment + by
    except OverflowError:
        return moment


def listed(
    client: Client,
    search: Callable[..., Any],
    indices: str,
    query: dict[str, Any],
    order: Sequence[Any],
    *,
    page_size: int,
    deadline_seconds: float,
) -> Iterator[dict[str, Any]]:
    """Return hits page by page."""
    with answering():
        pit = patiently(lambda: opened(client, indices), deadline_seconds, _has_no_room)
    point = {"id": pit, "keep_alive": PIT_KEPT}

    def page(after: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return a page, and what to ask for the one behind it."""
        answer = search(
            pit=point, query=query, sort=order, size=page_size, track_total_hits=False, version=True, **after
        )
        point["id"] = answer.get("pit_id", point["id"])
        hits = answer["hits"]["hits"]
        return hits, {"search_after": hits[-1]["sort"]} if len(hits) == page_size else {}

    try:
        yield from _read_ahead(page)
    finally:
        # It ends by itself where the server is away.
        with suppress(Refused, Away, Unavailable):
            client.perform("DELETE", client.dialect.close_path, body=client.dialect.closing(point["id"]))


def _read_ahead(page: Callable[[dict[str, Any]], tuple[list[Any], dict[str, Any]]]) -> Iterator[Any]:
    """Return the hits of all pages; the engine finds a page while the caller works on the one before."""
    hits, after = page({})
    while after:
        next_page = READERS.submit(copy_context().run, page, after)
        try:
            yield from hits
        finally:
            # A page that no reader has begun is read here, so nobody waits for busy readers.
            is_begun = not next_page.cancel()
            if is_begun:
                wait([next_page])
        hits, after = next_page.result() if is_begun else page(after)
    yield from hits


def opened(client: Client, indices: str) -> str:
    """Open a point in time of all shards."""
    dialect = client.dialect
    answer = client.perform("POST", f"/{indices}/{dialect.open_path}", {"keep_alive": PIT_KEPT, **dialect.open_params})
    return str(whole(answer)[dialect.pit_name])


def _has_no_room(error: BaseException) -> bool:
    return is_busy(error) or (isinstance(error, Refused) and error.status == TOO_MANY)
