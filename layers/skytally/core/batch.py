"""Batches: requests of many items, each of which is judged by itself.

A bad item costs itself and leaves its neighbours alone.
"""

from types import TracebackType

from skytally.core import logs
from skytally.core.errors import SkytallyError, Unavailable
from skytally.core.records import Rejection


def rejection(index: int, error: Exception, where: str = "") -> Rejection:
    """Return why one item is not kept, with `where` in front;
    a crash of ours gets the code `internal` and the id of its log line.

    Raises Unavailable again: a store that is away is no item's fault, and costs the whole request.
    """
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, SkytallyError):
        return Rejection(index, error.code, where + error.message)
    return Rejection(index, "internal", f"{where}this is a bug: tell the operator the incident {logs.incident(error)}")


class judging:  # noqa: N801
    """Let what goes wrong within cost this one item: its rejection goes to `rejected`, and the batch goes on.

    Unavailable passes.
    """

    def __init__(self, index: int, rejected: list[Rejection], where: str = "") -> None:
        self._index, self._rejected, self._where = index, rejected, where

    def __enter__(self) -> None:
        """Begin with the item."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """End the item: what it raised becomes its rejection."""
        if not isinstance(error, Exception) or isinstance(error, Unavailable):
            return False
        self._rejected.append(rejection(self._index, error, self._where))
        return True
