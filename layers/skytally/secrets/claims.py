"""Secrets: one payload, one vm, at most once.

Objects, and who writes them::

    prep/<exp, 10 digits>/<claim>             deposit: see secrets/stored_deposits.py
    mark/<yyyymmdd of exp>/<claim>[.<name>]   claim, revocation or sweep, whoever is first: see secrets/outcomes.py and
                                              secrets/revocations.py
    audit/<yyyymmdd>/<claim>/<kind>-<slot>    a claim with a valid proof that did not get the secret

Invariants: one mark per claim (and name of a batch). A prep is deleted only after its marks exist. An answer leaves
only from the invocation whose nonce is in the mark. Killed between mark and answer means zero deliveries, never two.
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
    Evidence,
    Mark,
    decide,
    mark_key,
    open_names,
    read_mark,
    short,
)
from skytally.secrets.stored_deposits import SealedDeposit, StoredDeposit, prep_key, read_box

EVIDENCE_SLOTS = 1_000


class Origin(Struct, frozen=True):
    """Where a request came from."""

    address: str
    agent: str


class Attempt(Struct, frozen=True):
    """One well-formed claim whose proof holds, and where it came from."""

    request: Claim
    key: VmKey
    objects: Objects
    origin: Origin
    clock: Callable[[], datetime]

    def mark_of(self, name: str | None) -> str:
        """Return where the mark of this claim (or of one name of a batch) lies."""
        return mark_key(self.request.claim, self.request.expires, name)

    def leave_evidence(self, kind: str, *, reason: str | None = None, holder: Mark | None = None) -> None:
        """Write down a valid proof that did not get the secret; raises Unavailable rather than forget it.

        A day and claim have `EVIDENCE_SLOTS` places of a kind, so that nobody fills the store by asking again; the
        first of a place stays.
        """
        now = self.clock().astimezone(UTC)
        who = (self.origin.address, self.key.spki_sha256, self.request.vm, reason)
        slot = int.from_bytes(sha256(msgspec.json.encode(who)).digest()[:8], "big") % EVIDENCE_SLOTS
        evidence = Evidence(
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
    """Return the bundle to the one invocation that makes the mark; everybody else gets an error that says why.

    Raises Forbidden (wrong proof, unknown claim, policy), Malformed (key), Expired, Revoked, Taken, Unavailable.
    """
    secret = _proven_secret(request, keys)
    if clock().timestamp() > request.expires:
        raise _expired()
    attempt = Attempt(request, envelope.parse_public_key(request.public_key), objects, origin, clock)
    prep, content_key = _opened(attempt, keys)
    _check_policy(prep, attempt)
    answer = _answer(prep, content_key, secret, attempt, keys)
    mark = _delivery(prep, attempt)
    holder, stored_at = decide(objects, attempt.mark_of(request.vm if prep.names else None), mark)
    if holder.nonce != mark.nonce:
        raise _refusal(holder, attempt)
    if max(stored_at or clock(), clock()).timestamp() > request.expires:
        raise _expired()
    _tidy(prep, objects)
    return answer


def _proven_secret(request: Claim, keys: Keyring) -> bytes:
    """Return the claim secret under which the proof holds, or raise; touches no store and looks at every key."""
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
    return Expired("this claim's time is over: boot the vm anew with a fresh deposit")


def _opened(attempt: Attempt, keys: Keyring) -> tuple[StoredDeposit, bytes]:
    """Return a deposit that nobody changed, with its content key; leaves evidence of one that somebody did."""
    try:
        box = _read_box(attempt)
        return box.open(), open_content_key(box, keys)
    except Changed:
        attempt.leave_evidence(REFUSED, reason="changed")
        raise


def _read_box(attempt: Attempt) -> SealedDeposit:
    request = attempt.request
    try:
        return read_box(attempt.objects, request.claim, request.expires)
    except NotFound:
        pass
    for name in [None] if request.vm is None else [request.vm, None]:
        holder = _mark_or_none(attempt.objects, attempt.mark_of(name))
        if holder is not None:
            raise _refusal(holder, attempt)
    raise _forbidden()


def _mark_or_none(objects: Objects, key: str) -> Mark | None:
    try:
        return read_mark(objects, key)
    except NotFound:
        return None


def _refusal(holder: Mark, attempt: Attempt) -> SkytallyError:
    """Say why a mark stands in the way, and leave evidence of a second taker before saying so."""
    if holder.state == EXPIRED:
        return _expired()
    if holder.state == REVOKED:
        return Revoked("this claim was withdrawn by the scheduler")
    kind = DUPLICATE if holder.spki_sha256 == attempt.key.spki_sha256 else CONTESTED
    attempt.leave_evidence(kind, holder=holder)
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


def _check_policy(prep: StoredDeposit, attempt: Attempt) -> None:
    """Refuse a source or a name that the deposit does not allow,
    leaving evidence; the key's comment is never a permission.
    """
    name, reason = attempt.request.vm, None
    if prep.sources and not _inside(attempt.origin.address, prep.sources):
        reason = "source"
    elif name is None and prep.names:
        reason = "name missing"
    elif name is not None and name not in (prep.names or (prep.vm,)):
        reason = "name"
    if reason is not None:
        attempt.leave_evidence(REFUSED, reason=reason)
        raise _forbidden()


def _inside(address: str, sources: tuple[str, ...]) -> bool:
    """Say whether an address lies in one of the networks, an IPv4 address also where it came in IPv6's clothes."""
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    plain = getattr(caller, "ipv4_mapped", None) or caller
    return any(plain in ipaddress.ip_network(source) for source in sources)


def _answer(prep: StoredDeposit, content_key: bytes, secret: bytes, attempt: Attempt, keys: Keyring) -> bytes:
    """Build the whole bundle before anything is decided, so that a failure here burns nothing."""
    request, sealed = attempt.request, prep.sealed
    if prep.names and request.vm is not None:
        payload, _ = envelope.open_payload(sealed, secret, content_key, prep.claim)
        reporter = reporter_token(prep, request.vm, keys, attempt.clock())
        sealed = envelope.seal_payload(payload, reporter, secret, content_key, prep.claim)
    return envelope.bundle(sealed, content_key, secret, attempt.key, request.claim, request.expires, request.vm)


def _delivery(prep: StoredDeposit, attempt: Attempt) -> Mark:
    """Describe who takes it."""
    return Mark(
        state=DELIVERED,
        claim=prep.claim,
        expires=prep.expires,
        at=iso(attempt.clock()),
        cloud=prep.cloud,
        vm=attempt.request.vm or prep.vm,
        spki_sha256=attempt.key.spki_sha256,
        comment=attempt.key.comment,
        expected_hostname=prep.hostname,
        address=attempt.origin.address,
        agent=attempt.origin.agent,
    )


def _tidy(prep: StoredDeposit, objects: Objects) -> None:
    """Remove what nobody may take any more, where the store allows it now; the sweep does it otherwise."""
    try:
        if not prep.names or not open_names(objects, prep.claim, prep.expires, prep.names):
            objects.delete(prep_key(prep.claim, prep.expires))
    except Unavailable:
        pass
