"""Many writes in one request, and the fate of each: only a document that cannot be parsed or mapped is REJECTED.

An item that the server has no room for now is sent again, with growing pauses, until a deadline. Any other error is the
store's, not the document's: an index that is closed, missing, read-only or past the cluster's shard limit, a right that
a key lacks. It makes that item Unavailable, and no other.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from skytally.adapters.documents_search.answers import BUSY, answering, is_busy, patiently
from skytally.adapters.documents_search.wire import Client
from skytally.core.commit_queue import Fate
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome

BULK_BYTES = 4 * 1_024 * 1_024
NEWER = "version_conflict_engine_exception"
REFUSED = {"strict_dynamic_mapping_exception", "document_parsing_exception", "mapper_parsing_exception"}
# A text that is longer than Lucene can index has this type in some versions; so has much else.
REFUSED_BY_REASON = ("illegal_argument_exception", "immense term")


def send(client: Client, lines: Sequence[bytes], *, request_seconds: float, deadline_seconds: float) -> list[Fate]:
    """Send actions with their documents, in as many requests as their size needs; return the fate of each.

    After a request that was not answered in time no other is sent: what has no fate then is Unavailable.
    """
    fates: list[Fate | None] = [None] * len(lines)
    try:
        with answering():
            for span in _spans(lines):
                _send(client, lines, fates, span, request_seconds, deadline_seconds)
    except Unavailable as error:
        # What was answered before stays so.
        return [error if fate is None else fate for fate in fates]
    return [fate for fate in fates if fate is not None]


def _send(
    client: Client,
    lines: Sequence[bytes],
    fates: list[Fate | None],
    span: range,
    request_seconds: float,
    deadline_seconds: float,
) -> None:
    """Send one request, and again what the server was too busy for."""
    params = {
        # A shard that is away would else keep the whole answer back for longer than the request may take.
        "timeout": f"{request_seconds * 500:.0f}ms",
        "filter_path": "items.*.status,items.*.error.type,items.*.error.reason",
    }

    def attempt() -> bool:
        left = [at for at in span if fates[at] is None]
        body = b"".join(lines[at] for at in left)
        for at, item in zip(left, client.perform("POST", "/_bulk", params, body)["items"], strict=True):
            fates[at] = _fate(next(iter(item.values())))
        return all(fates[at] is not None for at in left)

    if not patiently(attempt, deadline_seconds, is_busy):
        raise Unavailable("the document store is too busy: ask again")


def _fate(item: dict[str, Any]) -> Fate | None:
    """Read what became of one item; None where the server was too busy for it."""
    error = item.get("error")
    if error is None:
        return Outcome.STORED
    kind = error["type"]
    if kind in BUSY:
        return None
    if kind == NEWER:
        return Outcome.STALE
    if kind in REFUSED or (kind == REFUSED_BY_REASON[0] and REFUSED_BY_REASON[1] in error.get("reason", "")):
        return Outcome.REJECTED
    return Unavailable(f"the document store cannot write this now ({kind}): ask again, or its operator")


def _spans(lines: Sequence[bytes]) -> Iterator[range]:
    """Cut what is to be sent into spans of bounded size."""
    start = size = 0
    for at, line in enumerate(lines):
        if size and size + len(line) > BULK_BYTES:
            yield range(start, at)
            start, size = at, 0
        size += len(line)
    if lines:
        yield range(start, len(lines))
