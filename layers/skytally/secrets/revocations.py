"""Revocations, the sweep of expired deposits, and the removal of old records.

Revocations and sweeps race claims for the same outcome, and exactly one of all wins. A deposit is deleted only after
every name has its outcome, and an outcome only long after its deposit. A process may be killed after any step: the next
round continues there. An object that is no record of ours is noted and left alone, and blocks nothing else.
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
    ClaimOutcome,
    decide,
    open_names,
    outcome_key,
    outcome_keys,
    read_outcome,
)
from skytally.secrets.stored_deposits import StoredDeposit, deposit_key, deposits, intent_key, read_intent, read_sealed

NAMES = {
    "mark": re.compile(r"mark/([0-9]{8})/([a-z0-9]{20,64})(?:\.[0-9a-f]{32})?"),
    "audit": re.compile(r"audit/([0-9]{8})/([a-z0-9]{20,64})/[a-z]{1,20}-[0-9]{3}"),
    "begun": re.compile(r"begun/([0-9]{8})/([0-9a-f]{64})"),
}
OUTCOMES_KEPT, AUDIT_KEPT, IDEMPOTENCY_KEPT = timedelta(days=30), timedelta(days=366), timedelta(days=8)


class RevocationAnswer(TypedDict):
    """Nobody can take the secret any more."""

    state: Literal["revoked"]


class SweepCounts(TypedDict, total=False):
    """Counts of a round of the sweep: expired deposits, and removed records."""

    expired: int
    forgotten: int


def revoke(request: Revocation, caller: Caller, objects: Objects, now: datetime) -> None:
    """Revoke a claim that nobody took; a repeated revocation changes nothing.

    Raise Taken with the holders, Expired where the claim expired before, NotYours, or NotFound for no such claim.
    """
    claim, expires = request.claim, request.expires
    try:
        deposit = read_sealed(objects, claim, expires).open()
    except NotFound:
        outcomes = [read_outcome(objects, key) for key in outcome_keys(objects, claim, expires)]
    else:
        if not caller.may_touch(deposit.cloud):
            raise NotYours("this scheduler's token does not name the deposit's cloud")
        outcomes = [_end(deposit, name, REVOKED, objects, now) for name in deposit.names or (None,)]
        objects.delete(deposit_key(claim, expires))
    if not outcomes or not all(caller.may_touch(outcome.cloud) for outcome in outcomes):
        raise NotFound("no such claim: check claim and expires")
    _check_revoked(outcomes)


def _check_revoked(outcomes: list[ClaimOutcome]) -> None:
    taken = [outcome for outcome in outcomes if outcome.state == DELIVERED]
    if taken:
        who: list[Holder] = [
            {"vm": m.vm, "address": m.address, "spki_sha256": m.spki_sha256, "at": m.at} for m in taken
        ]
        raise Taken("somebody has taken this secret already: replace what it holds", **who[0], holders=who)
    if any(outcome.state == EXPIRED for outcome in outcomes):
        raise Expired("this claim expired by itself before: there is nothing to revoke")


def _end(deposit: StoredDeposit, name: str | None, state: str, objects: Objects, now: datetime) -> ClaimOutcome:
    """Create an outcome in which nobody took the secret; return it, or the outcome that was first."""
    outcome = ClaimOutcome(
        state=state,
        claim=deposit.claim,
        expires=deposit.expires,
        at=iso(now),
        cloud=deposit.cloud,
        vm=name or deposit.vm,
    )
    return decide(objects, outcome_key(deposit.claim, deposit.expires, name), outcome)[0]


def sweep(objects: Objects, deadline: Deadline, notes: Notes) -> int:
    """Expire deposits, the oldest first, until a deadline; return how many. The sweep is idempotent."""
    ended = 0
    for expires, claim in deposits(objects, notes):
        if deadline.now().timestamp() <= expires:
            break
        try:
            if not _sweep_one(claim, expires, objects, deadline):
                break
        except Exception as error:  # noqa: BLE001  a deposit that cannot be ended costs itself
            notes.add("object", "prep", deposit_key(claim, expires), batch.rejection(ended, error).message)
        else:
            ended += 1
    return ended


def _sweep_one(claim: str, expires: int, objects: Objects, deadline: Deadline) -> bool:
    """Expire every open name, then delete the deposit; return False where the deadline came first.

    A damaged deposit, which nobody can open, is deleted too.
    """
    try:
        deposit = read_sealed(objects, claim, expires).open()
    except NotFound:
        return True
    except Changed:
        deposit = StoredDeposit(claim=claim, expires=expires, sealed=b"", cloud="unknown")
    for name in open_names(objects, claim, expires, deposit.names) if deposit.names else (None,):
        if deadline.is_over():
            return False
        _end(deposit, name, EXPIRED, objects, deadline.now())
    objects.delete(deposit_key(claim, expires))
    return True


def forget(objects: Objects, deadline: Deadline, notes: Notes) -> int:
    """Delete expired records, the oldest first, until a deadline; return how many."""
    removed = 0
    for key in _expired_keys(objects, deadline.now(), notes):
        if deadline.is_over():
            break
        objects.delete(key)
        removed += 1
    return removed


def _expired_keys(objects: Objects, now: datetime, notes: Notes) -> Iterator[str]:
    """Return the keys to delete: outcomes whose deposit is gone, old audit records, intents of expired claims."""
    expired = takewhile(lambda entry: entry[0] < (now - OUTCOMES_KEPT).timestamp(), deposits(objects, notes))
    guarded = {claim for _, claim in expired}
    for key, claim in _older(objects, "mark", now - OUTCOMES_KEPT, notes):
        if claim not in guarded:
            yield key
    for key, _ in _older(objects, "audit", now - AUDIT_KEPT, notes):
        yield key
    for key, name in _older(objects, "begun", now - IDEMPOTENCY_KEPT, notes):
        if _is_over(objects, name, now, notes):
            yield intent_key(name)
        yield key


def _older(objects: Objects, folder: str, than: datetime, notes: Notes) -> Iterator[tuple[str, str]]:
    """Return the keys of a folder's days before a moment, each with its claim or digest; note other keys."""
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
