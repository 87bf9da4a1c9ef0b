"""Timers: functions that anybody may call, and that do no more when called a thousand times than when called once.

Invariant: of all calls in one slot of `min_seconds`, in any number of processes, one runs a round, because each slot is
one document that is created once. A round that fails, in whatever way, is over at once, and the next is due as usual;
one that was killed is over after `STUCK_AFTER`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from skytally import logs
from skytally.documents import Round, Turn
from skytally.errors import SkytallyError, Unavailable
from skytally.ports import Documents, Outcome, Write

STUCK_AFTER = timedelta(minutes=10)


def run(
    name: str, work: Callable[[], dict[str, Any]], documents: Documents, min_seconds: int, clock: Callable[[], datetime]
) -> dict[str, Any]:
    """Do a round if it is due and nobody else does it; return `{"state": "done"|"not_due"|"busy", …counts}`.

    Raises Unavailable when a source or store is away, or with an incident id when the round crashed; that is on record, and the next
    round tries again.
    """
    started_at = clock()
    last = documents.get("round", name, Round)
    state = _waiting(last, started_at, min_seconds)
    if state is None and not _take_turn(name, documents, started_at, min_seconds):
        state = "busy"
    if state is not None:
        return {"state": state}
    this = Round(name=name, started_at=started_at, finished_at=None, succeeded_at=last.succeeded_at if last else None, error=None)
    _keep(this, documents)
    try:
        counts = work()
    except Exception as error:  # noqa: BLE001  a round that crashes must not look as if it were still going on
        failure = _failure(name, error)
        _keep(structs.replace(this, finished_at=clock(), error=failure.message), documents)
        raise failure from None
    _keep(structs.replace(this, finished_at=clock(), succeeded_at=clock()), documents)
    return {"state": "done", **counts}


def _failure(name: str, error: Exception) -> Unavailable:
    """Return what is told of a round that failed; of a crash the id of its log line, and nothing of what was in the exception."""
    if isinstance(error, SkytallyError):
        return error if isinstance(error, Unavailable) else Unavailable(error.message)
    return Unavailable(f"this round of {name} crashed, which is a bug: tell the operator the incident {logs.incident(error)}")


def _waiting(last: Round | None, now: datetime, min_seconds: int) -> str | None:
    if last is None:
        return None
    if last.finished_at is None and now - last.started_at < STUCK_AFTER:
        return "busy"
    return "not_due" if now - last.started_at < timedelta(seconds=min_seconds) else None


def _take_turn(name: str, documents: Documents, now: datetime, min_seconds: int) -> bool:
    slot_ms = max(1_000 * min_seconds, 1)
    key = f"{name}-{round(now.timestamp() * 1_000) // slot_ms}"
    return documents.write([Write("turn", key, 0, Turn(taken_at=now), create=True)]).result() == [Outcome.STORED]


def _keep(this: Round, documents: Documents) -> None:
    documents.write([Write("round", this.name, round(this.started_at.timestamp() * 1_000), this)]).result()
