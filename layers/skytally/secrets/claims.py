"""Secrets: one payload, one vm, at most once.

Objects, and who writes them::

    prep/<exp, 10 digits>/<claim>             deposit: see secrets/stored_deposits.py
    mark/<yyyymmdd of exp>/<claim>[.<name>]   outcome, by the first claim, revocation or sweep: see secrets/outcomes.py
                                              and secrets/revocations.py
    audit/<yyyymmdd>/<claim>/<kind>-<slot>    a claim with a valid proof that did not get the secret

Invariants: a claim, or a name of a batch, has one outcome. A deposit is deleted only after its outcomes exist. Only the
invocation whose nonce is in the outcome sends the answer. A process killed between the two delivers nothing: a secret
is delivered at most once.
"""

import hmac
import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from msgspec import Struct

from skytally.access.keyring import Keyring
from skytally.core.errors import Changed, Expired, Forbidden, NotFound, Revoked, SkytallyError, Taken, Unavailable
from skytally.core.ports import Objects
from skytally.core.records import Claim, iso
from skytally.secrets import envelope
from skytally.secrets.deposits import open_content_key, reporter_token
from skytally.secrets.envelope import VmKey
from skytally.secrets.outcomes import (
    CONTESTED,
    DELIVERED,
    DUPLICATE,
    EXPIRED,
    REFUSED,
    REVOKED,
    ClaimOutcome,
    FailedClaim,
    decide,
    open_names,
    outcome_key,
    read_outcome,
    short,
)
from skytally.secrets.stored_deposits import SealedDeposit, StoredDeposit, deposit_key, read_sealed

FAILURE_SLOTS = 1_000


class Origin(Struct, frozen=True):
    """Where a request came from."""

    address: str
    agent: str


class Attempt(Struct, frozen=True):
    """One well-formed claim with a valid proof, and its origin."""

    request: Claim
    key: VmKey
    objects: Objects
    origin: Origin
    clock: Callable[[], datetime]

    def outcome_key(self, name: str | None) -> str:
        """Return the key of the outcome of this claim, or of one name of a batch."""
        return outcome_key(self.request.claim, self.request.expires, name)

    def record_failure(self, kind: str, *, reason: str | None = None, holder: ClaimOutcome | None = None) -> None:
        """Write a record of a valid proof that did not get the secret; raise Unavailable rather than lose it.

        A claim has `FAILURE_SLOTS` slots per day and kind, so that repeated claims cannot fill the store. The first
        record of a slot stays.
        """
        now = self.clock().astimezone(UTC)
        who = (self.origin.address, self.key.spki_sha256, self.request.vm, reason)
        slot = int.from_bytes(sha256(msgspec.json.encode(who)).digest()[:8], "big") % FAILURE_SLOTS
        evidence = FailedClaim(
            kind=kind,
            claim=self.request.claim,
            at=iso(now),
            address=self.origin.address,
            agent=self.origin.agent,
            spki_sha256=self.key.spki_sha256,
            reason=reason,
            vm=self.request.vm,
            holder=holder,
        )
        self.objects.create(f"audit/{now:%Y%m%d}/{self.request.claim}/{kind}-{slot:03d}", msgspec.json.encode(evidence))


def claim(request: Claim, objects: Objects, keys: Keyring, origin: Origin, clock: Callable[[], datetime]) -> bytes:
    """Return the bundle to the one invocation that creates the outcome; raise an error with the reason in all others.

    Raise Forbidden for a wrong proof, an unknown claim or by policy, and Malformed for a bad key. Raise Expired,
    Revoked, Taken or Unavailable otherwise.
    """
    secret = _proven_secret(request, keys)
    if clock().timestamp() > request.expires:
        raise _expired()
    attempt = Attempt(request, envelope.parse_public_key(request.public_key), objects, origin, clock)
    deposit, content_key = _opened(attempt, keys)
    _check_policy(deposit, attempt)
    answer = _answer(deposit, content_key, secret, attempt, keys)
    outcome = _delivery(deposit, attempt)
    holder, stored_at = decide(objects, attempt.outcome_key(request.vm if deposit.names else None), outcome)
    if holder.nonce != outcome.nonce:
        raise _refusal(holder, attempt)
    if max(stored_at or clock(), clock()).timestamp() > request.expires:
        raise _expired()
    _tidy(deposit, objects)
    return answer


def _proven_secret(request: Claim, keys: Keyring) -> bytes:
    """Return the claim secret that the proof fits, or raise Forbidden; query no store, and try every master key."""
    proven = b""
    for master in keys.master:
        secret = envelope.claim_secret(master.secret, request.claim, request.expires)
        proof = envelope.proof_of(secret, request.claim, request.public_key, request.vm)
        if hmac.compare_digest(proof, request.proof):
            proven = secret
    if not proven:
        raise _forbidden()
    return proven


def _forbidden() -> Forbidden:
    return Forbidden("no such claim, or the proof does not hold: check the token in the user-data")


def _expired() -> Expired:
    return Expired("this claim has expired: boot the vm anew with a fresh deposit")


def _opened(attempt: Attempt, keys: Keyring) -> tuple[StoredDeposit, bytes]:
    """Return a deposit and its content key; where the deposit was changed, record the failure and raise Changed."""
    try:
        sealed_deposit = _read_sealed(attempt)
        return sealed_deposit.open(), open_content_key(sealed_deposit, keys)
    except Changed:
        attempt.record_failure(REFUSED, reason="changed")
        raise


def _read_sealed(attempt: Attempt) -> SealedDeposit:
    request = attempt.request
    try:
        return read_sealed(attempt.objects, request.claim, request.expires)
    except NotFound:
        pass
    for name in [None] if request.vm is None else [request.vm, None]:
        holder = _outcome_or_none(attempt.objects, attempt.outcome_key(name))
        if holder is not None:
            raise _refusal(holder, attempt)
    raise _forbidden()


def _outcome_or_none(objects: Objects, key: str) -> ClaimOutcome | None:
    try:
        return read_outcome(objects, key)
    except NotFound:
        return None


def _refusal(holder: ClaimOutcome, attempt: Attempt) -> SkytallyError:
    """Return the error for a claim that was decided before; record a second taker first."""
    if holder.state == EXPIRED:
        return _expired()
    if holder.state == REVOKED:
        return Revoked("this claim was withdrawn by the scheduler")
    kind = DUPLICATE if holder.spki_sha256 == attempt.key.spki_sha256 else CONTESTED
    attempt.record_failure(kind, holder=holder)
    by = f"at {holder.at} from {holder.address or 'an unknown address'}"
    if kind == DUPLICATE:
        return Taken(
            f"the answer was lost on its way to this very vm, whose key took the secret {by}: it is gone for good, "
            "boot anew, "
            "or deposit anew and `vm.py boot`",
            kind=kind,
        )
    return Taken(
        f"somebody took this secret {by} with key {short(holder.spki_sha256)}: stop, and tell the operator", kind=kind
    )


def _check_policy(deposit: StoredDeposit, attempt: Attempt) -> None:
    """Record and raise Forbidden for a source or name that the deposit does not allow.

    The key's comment is never a permission.
    """
    name, reason = attempt.request.vm, None
    if deposit.sources and not _inside(attempt.origin.address, deposit.sources):
        reason = "source"
    elif name is None and deposit.names:
        reason = "name missing"
    elif name is not None and name not in (deposit.names or (deposit.vm,)):
        reason = "name"
    if reason is not None:
        attempt.record_failure(REFUSED, reason=reason)
        raise _forbidden()


def _inside(address: str, sources: tuple[str, ...]) -> bool:
    """Return whether an address lies in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    plain = getattr(caller, "ipv4_mapped", None) or caller
    return any(plain in ipaddress.ip_network(source) for source in sources)


def _answer(deposit: StoredDeposit, content_key: bytes, secret: bytes, attempt: Attempt, keys: Keyring) -> bytes:
    """Return the whole bundle; it is made before the claim is decided, so that a failure here loses no secret."""
    request, sealed = attempt.request, deposit.sealed
    if deposit.names and request.vm is not None:
        payload, _ = envelope.open_payload(sealed, secret, content_key, deposit.claim)
        reporter = reporter_token(deposit, request.vm, keys, attempt.clock())
        sealed = envelope.seal_payload(payload, reporter, secret, content_key, deposit.claim)
    return envelope.bundle(sealed, content_key, secret, attempt.key, request.claim, request.expires, request.vm)


def _delivery(deposit: StoredDeposit, attempt: Attempt) -> ClaimOutcome:
    """Return the outcome of a delivery to this attempt."""
    return ClaimOutcome(
        state=DELIVERED,
        claim=deposit.claim,
        expires=deposit.expires,
        at=iso(attempt.clock()),
        cloud=deposit.cloud,
        vm=attempt.request.vm or deposit.vm,
        spki_sha256=attempt.key.spki_sha256,
        comment=attempt.key.comment,
        expected_hostname=deposit.hostname,
        address=attempt.origin.address,
        agent=attempt.origin.agent,
    )


def _tidy(deposit: StoredDeposit, objects: Objects) -> None:
    """Delete a deposit without open names; where the store is away the sweep deletes it later."""
    try:
        if not deposit.names or not open_names(objects, deposit.claim, deposit.expires, deposit.names):
            objects.delete(deposit_key(deposit.claim, deposit.expires))
    except Unavailable:
        pass
