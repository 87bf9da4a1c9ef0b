"""Batches: requests of many items, each of which is judged by itself. A bad item costs itself and leaves its neighbours alone."""

from skytally import logs
from skytally.errors import SkytallyError, Unavailable
from skytally.records import Rejection


def rejection(index: int, error: Exception, where: str = "") -> Rejection:
    """Return why one item is not kept, with `where` in front; a crash of ours gets the code `internal` and the id of its log line.

    Raises Unavailable again: a store that is away is no item's fault, and costs the whole request.
    """
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, SkytallyError):
        return Rejection(index, error.code, where + error.message)
    return Rejection(index, "internal", f"{where}this is a bug: tell the operator the incident {logs.incident(error)}")
