"""Many writes in one request, and the result of each: only a document that cannot be parsed or mapped is REJECTED.

An item that a busy server refuses is sent again, with back-off, until a deadline. Any other error is the store's, not
the document's: an index that is closed, missing, read-only or beyond the cluster's shard limit, or a missing privilege.
It makes that item Unavailable, and no other.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from skytally.adapters.documents_search.answers import BUSY, answering, is_busy, patiently
from skytally.adapters.documents_search.wire import Client
from skytally.core.commit_queue import WriteResult
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome

BULK_BYTES = 4 * 1_024 * 1_024
NEWER = "version_conflict_engine_exception"
REFUSED = {"strict_dynamic_mapping_exception", "document_parsing_exception", "mapper_parsing_exception"}
# Some versions report a text longer than Lucene can index by this type, which many other errors have too.
REFUSED_BY_REASON = ("illegal_argument_exception", "immense term")


def send(
    client: Client, lines: Sequence[bytes], *, request_seconds: float, deadline_seconds: float
) -> list[WriteResult]:
    """Send actions with their documents, in as many requests as their size needs; return the result of each.

    After a request without an answer in time no other is sent: lines without a result are then Unavailable.
    """
    results: list[WriteResult | None] = [None] * len(lines)
    try:
        with answering():
            for span in _ranges(lines):
                _send(client, lines, results, span, request_seconds, deadline_seconds)
    except Unavailable as error:
        # Results that have come already stay.
        return [error if result is None else result for result in results]
    return [result for result in results if result is not None]


def _send(
    client: Client,
    lines: Sequence[bytes],
    results: list[WriteResult | None],
    span: range,
    request_seconds: float,
    deadline_seconds: float,
) -> None:
    """Send one request, and repeat the items that the server was too busy for."""
    params = {
        # Otherwise a missing shard would delay the whole answer beyond the request's timeout.
        "timeout": f"{request_seconds * 500:.0f}ms",
        "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason",
    }

    def attempt() -> bool:
        left = [at for at in span if results[at] is None]
        body = b"".join(lines[at] for at in left)
        answer = client.perform("POST", "/_bulk", params, body)
        for at, item in zip(left, answer["items"], strict=True):
            results[at] = _result(next(iter(item.values()))) if answer["errors"] else Outcome.STORED
        return all(results[at] is not None for at in left)

    if not patiently(attempt, deadline_seconds, is_busy):
        raise Unavailable("the document store is too busy: ask again")


def _result(item: dict[str, Any]) -> WriteResult | None:
    """Return the result of one item, or None if the server was too busy for it."""
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


def _ranges(lines: Sequence[bytes]) -> Iterator[range]:
    """Return ranges of lines of a bounded size."""
    start = size = 0
    for at, line in enumerate(lines):
        if size and size + len(line) > BULK_BYTES:
            yield range(start, at)
            start, size = at, 0
        size += len(line)
    if lines:
        yield range(start, len(lines))
