"""Batches: requests of many items, each of which is checked by itself. A bad item costs only itself."""

from types import TracebackType

from skytally.core import logs
from skytally.core.errors import SkytallyError, Unavailable
from skytally.core.records import Rejection


def rejection(index: int, error: Exception, where: str = "") -> Rejection:
    """Return the rejection of one item, with `where` in front of the message.

    A crash of ours gets the code `internal` and the id of its log line. Raise Unavailable again: an outage of a store
    is no item's fault, and fails the whole request.
    """
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, SkytallyError):
        return Rejection(index, error.code, where + error.message)
    return Rejection(index, "internal", f"{where}this is a bug: tell the operator the incident {logs.incident(error)}")


class judging:  # noqa: N801
    """Turn an exception in the block into a rejection of this item, added to `rejected`; Unavailable passes through."""

    def __init__(self, index: int, rejected: list[Rejection], where: str = "") -> None:
        self._index, self._rejected, self._where = index, rejected, where

    def __enter__(self) -> None:
        """Enter the block of one item."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Add the rejection of what the block raised; let Unavailable pass."""
        if not isinstance(error, Exception) or isinstance(error, Unavailable):
            return False
        self._rejected.append(rejection(self._index, error, self._where))
        return True
