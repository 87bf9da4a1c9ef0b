"""Endings: what is withdrawn, what ran out, and what is forgotten.

Revocations and sweeps race claims on the same mark, and exactly one of all wins. A deposit goes only once every name of
it has its mark, and a mark only long after the deposit that it guards. Every step may be the last one of a killed
process: the next round goes on there. What is no record of ours is noted and left alone; it stands in no other's way.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Literal, TypedDict

from skytally.core import batch
from skytally.core.errors import Changed, Expired, Holder, NotFound, NotYours, Taken
from skytally.core.ports import Objects
from skytally.core.records import Caller, Revocation, iso
from skytally.core.unreadable import Notes
from skytally.operation.timer import Deadline
from skytally.secrets.outcomes import (
    DELIVERED,
    EXPIRED,
    REVOKED,
    Mark,
    decide,
    mark_key,
    mark_keys,
    open_names,
    read_mark,
)
from skytally.secrets.stored_deposits import StoredDeposit, deposits, intent_key, prep_key, read_box, read_intent

NAMES = {
    "mark": re.compile(r"mark/([0-9]{8})/([a-z0-9]{20,64})(?:\.[0-9a-f]{32})?"),
    "audit": re.compile(r"audit/([0-9]{8})/([a-z0-9]{20,64})/[a-z]{1,20}-[0-9]{3}"),
    "begun": re.compile(r"begun/([0-9]{8})/([0-9a-f]{64})"),
}
MARKS_KEPT, AUDIT_KEPT, IDEMPOTENCY_KEPT = timedelta(days=30), timedelta(days=366), timedelta(days=8)


class RevocationAnswer(TypedDict):
    """Nobody can take it any more."""

    state: Literal["revoked"]


class SweepCounts(TypedDict, total=False):
    """What a round of the sweep ended and removed."""

    expired: int
    forgotten: int


def revoke(request: Revocation, caller: Caller, objects: Objects, now: datetime) -> None:
    """Withdraw what nobody took yet, and nothing more the second time.

    Raises Taken with who has it, Expired where it ran out by itself, NotYours, and NotFound for no such claim.
    """
    claim, expires = request.claim, request.expires
    try:
        prep = read_box(objects, claim, expires).open()
    except NotFound:
        marks = [read_mark(objects, key) for key in mark_keys(objects, claim, expires)]
    else:
        if not caller.may_touch(prep.cloud):
            raise NotYours("this scheduler's token does not name the deposit's cloud")
        marks = [_end(prep, name, REVOKED, objects, now) for name in prep.names or (None,)]
        objects.delete(prep_key(claim, expires))
    if not marks or not all(caller.may_touch(mark.cloud) for mark in marks):
        raise NotFound("no such claim: check claim and expires")
    _check_revoked(marks)


def _check_revoked(marks: list[Mark]) -> None:
    taken = [mark for mark in marks if mark.state == DELIVERED]
    if taken:
        who: list[Holder] = [
            {"vm": m.vm, "address": m.address, "spki_sha256": m.spki_sha256, "at": m.at} for m in taken
        ]
        raise Taken("somebody has taken this secret already: replace what it holds", **who[0], holders=who)
    if any(mark.state == EXPIRED for mark in marks):
        raise Expired("this claim expired by itself before: there is nothing to revoke")


def _end(prep: StoredDeposit, name: str | None, state: str, objects: Objects, now: datetime) -> Mark:
    """Make the mark that nobody took it, or answer the one that was first."""
    mark = Mark(state=state, claim=prep.claim, expires=prep.expires, at=iso(now), cloud=prep.cloud, vm=name or prep.vm)
    return decide(objects, mark_key(prep.claim, prep.expires, name), mark)[0]


def sweep(objects: Objects, deadline: Deadline, notes: Notes) -> int:
    """End what has expired, the oldest first, until a deadline; answer how many deposits.

    Running it twice does no more than once.
    """
    ended = 0
    for expires, claim in deposits(objects, notes):
        if deadline.now().timestamp() <= expires:
            break
        try:
            if not _sweep_one(claim, expires, objects, deadline):
                break
        except Exception as error:  # noqa: BLE001  a deposit that cannot be ended costs itself
            notes.add("object", "prep", prep_key(claim, expires), batch.rejection(ended, error).message)
        else:
            ended += 1
    return ended


def _sweep_one(claim: str, expires: int, objects: Objects, deadline: Deadline) -> bool:
    """Mark every name that nobody took, then remove the deposit; False where the time ran out first.

    A deposit that is damaged can be opened by nobody and names nobody: it goes too, and stands in no other's way.
    """
    try:
        prep = read_box(objects, claim, expires).open()
    except NotFound:
        return True
    except Changed:
        prep = StoredDeposit(claim=claim, expires=expires, sealed=b"", cloud="unknown")
    for name in open_names(objects, claim, expires, prep.names) if prep.names else (None,):
        if deadline.is_over():
            return False
        _end(prep, name, EXPIRED, objects, deadline.now())
    objects.delete(prep_key(claim, expires))
    return True


def forget(objects: Objects, deadline: Deadline, notes: Notes) -> int:
    """Remove records that nobody needs any more, the oldest first, until a deadline; answer how many."""
    gone = 0
    for key in _not_needed(objects, deadline.now(), notes):
        if deadline.is_over():
            break
        objects.delete(key)
        gone += 1
    return gone


def _not_needed(objects: Objects, now: datetime, notes: Notes) -> Iterator[str]:
    """Name what may go: a mark only if its deposit is really gone, an intent only if its claim is long over."""
    expired = takewhile(lambda found: found[0] < (now - MARKS_KEPT).timestamp(), deposits(objects, notes))
    guarded = {claim for _, claim in expired}
    for key, claim in _older(objects, "mark", now - MARKS_KEPT, notes):
        if claim not in guarded:
            yield key
    for key, _ in _older(objects, "audit", now - AUDIT_KEPT, notes):
        yield key
    for key, name in _older(objects, "begun", now - IDEMPOTENCY_KEPT, notes):
        if _is_over(objects, name, now, notes):
            yield intent_key(name)
        yield key


def _older(objects: Objects, folder: str, than: datetime, notes: Notes) -> Iterator[tuple[str, str]]:
    """Name the records of a folder's days before a moment's,
    each with its claim or digest; what has no such name is noted.
    """
    day = f"{than.astimezone(UTC):%Y%m%d}"
    for key in objects.list(f"{folder}/"):
        name = NAMES[folder].fullmatch(key)
        if name is None:
            notes.add("object", folder, key, "no record of ours has such a name")
        elif name[1] < day:
            yield key, name[2]
        else:
            break


def _is_over(objects: Objects, name: str, now: datetime, notes: Notes) -> bool:
    try:
        return read_intent(objects, name).expires < (now - timedelta(days=1)).timestamp()
    except NotFound:
        return False
    except Changed as error:
        notes.add("object", "idempotency", intent_key(name), error.message)
        return False
