"""Answers of a search engine: complete, or Unavailable.

An error's type decides, never its status alone.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import tenacity

from skytally.adapters.documents_search.wire import CHECK, UNAUTHENTICATED, Away, Refused
from skytally.core.errors import Unavailable

A = TypeVar("A")

INDEX_NOT_FOUND = "index_not_found_exception"
TOO_MANY = 429
SECURITY = "security_exception"
BUSY = {"es_rejected_execution_exception", "rejected_execution_exception", "circuit_breaking_exception"}


@contextmanager
def answering() -> Iterator[None]:
    """Raise Unavailable, with what to check, for the engine's errors in the block."""
    try:
        yield
    except Refused as error:
        raise Unavailable(_words(error)) from None
    except Away:
        raise Unavailable(f"the document store does not answer: {CHECK}, and ask again") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # Some proxy's JSON, most likely; and a fault of ours is no other outage for the caller.
        raise Unavailable(f"the document store answers what no search engine does: {CHECK}") from error


def _words(error: Refused) -> str:
    if error.status == UNAUTHENTICATED or error.kind == SECURITY:
        return "the document store refuses this credential: check SKYTALLY_DOCUMENTS_API_KEY_FILE"
    if error.kind == INDEX_NOT_FOUND:
        return "the document store is not set up: run `skytally doctor --install`"
    return f"the document store does not answer ({error.kind}): ask again, or its operator"


def whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer of all shards, or raise Unavailable: a part of the documents never counts as all of them."""
    if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
        raise Unavailable("the document store answers from a part of its shards: ask again")
    return answer


def patiently(attempt: Callable[[], A], deadline_seconds: float, is_busy: Callable[[BaseException], bool]) -> A:
    """Repeat an attempt with back-off until it returns true or a deadline; return its last result."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_busy) | tenacity.retry_if_not_result(bool),
        wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=2),
        stop=tenacity.stop_after_delay(deadline_seconds),
        retry_error_callback=_last,
    )
    return retrying(attempt)


def _last(state: tenacity.RetryCallState) -> Any:
    return state.outcome is not None and state.outcome.result()


def is_busy(error: BaseException) -> bool:
    """Return whether the server is too busy for a request now."""
    return isinstance(error, Refused) and error.kind in BUSY
