"""Secrets: one payload, one vm, at most once.

Objects, and who writes them::

    prep/<exp, 10 digits>/<claim>             deposit: see deposit.py
    mark/<yyyymmdd of exp>/<claim>[.<name>]   claim, revoke or sweep, whoever is first: the terminal record, created once
    audit/<yyyymmdd>/<claim>/<time>-<random>  evidence of a second taker, or of a refusal by policy

Invariants: one terminal mark per claim (and name of a batch). A prep is deleted only after its marks exist. An answer leaves only
from the invocation whose nonce is in the mark. Killed between mark and answer means zero deliveries, never two.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from msgspec import Struct

from skytally import envelope
from skytally.deposit import Prep, content_key_of, prep_key, reporter_token
from skytally.envelope import VmKey
from skytally.errors import Expired, Forbidden, NotFound, NotYours, Revoked, SkytallyError, Taken, Unavailable
from skytally.keyring import Keyring
from skytally.ports import Created, Objects
from skytally.records import Caller, Claim, Revocation, iso

MARK_TRIES = 5
MARKS_KEPT, AUDIT_KEPT, IDEMPOTENCY_KEPT = timedelta(days=30), timedelta(days=366), timedelta(days=8)
DELIVERED, EXPIRED, REVOKED = "delivered", "expired", "revoked"


class Origin(Struct, frozen=True):
    """Where a request came from."""

    address: str
    agent: str


class Mark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The terminal record of a claim: what became of it, when, and by whom."""

    state: str
    claim: str
    nonce: str
    at: str
    cloud: str
    vm: str | None = None
    spki_sha256: str | None = None
    comment: str | None = None
    expected_hostname: str | None = None
    address: str | None = None
    agent: str | None = None


class Evidence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A valid proof that did not get the secret.

    `duplicate`: the holder's own key again, such as a proxy's retry. `contested`: another key, so two parties hold the claim secret.
    `refused`: a policy said no.
    """

    kind: str
    claim: str
    at: str
    address: str
    agent: str
    spki_sha256: str
    reason: str | None = None
    vm: str | None = None
    holder: Mark | None = None


def mark_key(claim: str, expires: int, name: str | None = None) -> str:
    """Answer where the terminal record of a claim (or of one name of a batch) lies."""
    suffix = "" if name is None else "." + sha256(name.encode()).hexdigest()[:32]
    return f"mark/{datetime.fromtimestamp(expires, UTC):%Y%m%d}/{claim}{suffix}"


class Attempt(Struct, frozen=True):
    """One well-formed claim whose proof holds, and where it came from."""

    request: Claim
    key: VmKey
    objects: Objects
    origin: Origin
    clock: Callable[[], datetime]

    def mark_of(self, name: str | None) -> str:
        """Answer where the terminal record of this claim (or of one name of a batch) lies."""
        return mark_key(self.request.claim, self.request.expires, name)

    def leave_evidence(self, kind: str, *, reason: str | None = None, holder: Mark | None = None) -> None:
        """Write down a valid proof that did not get the secret; raises Unavailable rather than forget it."""
        now = self.clock().astimezone(UTC)
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
        name = f"audit/{now:%Y%m%d}/{self.request.claim}/{now:%H%M%S%f}-{secrets.token_hex(8)}"
        self.objects.create(name, msgspec.json.encode(evidence))


def claim(request: Claim, objects: Objects, keys: Keyring, origin: Origin, clock: Callable[[], datetime]) -> bytes:
    """Answer the bundle to the one invocation that makes the mark; everybody else gets an error that says why.

    Raises Forbidden (wrong proof, unknown claim, policy), Malformed (key), Expired, Revoked, Taken, Unavailable.
    """
    secret = _proven_secret(request, keys)
    if clock().timestamp() > request.expires:
        raise Expired("this claim's time is over: boot the vm anew with a fresh deposit")
    attempt = Attempt(request, envelope.parse_public_key(request.public_key), objects, origin, clock)
    prep = _read_prep(attempt)
    _check_policy(prep, attempt)
    answer = _answer(prep, attempt, secret, keys)
    name = request.vm if prep.names else None
    mark = _delivery(prep, attempt)
    holder, stored_at = decide(objects, attempt.mark_of(name), mark)
    if holder.nonce != mark.nonce:
        raise _refusal(holder, attempt)
    if max(stored_at or clock(), clock()).timestamp() > request.expires:
        raise Expired("this claim's time ran out while it was answered: boot the vm anew with a fresh deposit")
    _tidy(prep, objects)
    return answer


def _delivery(prep: Prep, attempt: Attempt) -> Mark:
    """Describe who takes it, under a nonce that only this invocation knows."""
    return Mark(
        state=DELIVERED,
        claim=prep.claim,
        nonce=secrets.token_hex(16),
        at=iso(attempt.clock()),
        cloud=prep.cloud,
        vm=attempt.request.vm or prep.vm,
        spki_sha256=attempt.key.spki_sha256,
        comment=attempt.key.comment,
        expected_hostname=prep.hostname,
        address=attempt.origin.address,
        agent=attempt.origin.agent,
    )


def decide(objects: Objects, key: str, mark: Mark) -> tuple[Mark, datetime | None]:
    """Make the mark, or answer the one that was first; with the store's clock when this very call is known to have made it.

    A lost reply leaves the outcome unknown: then the mark is read, and where it is not there made again with the same nonce.
    """
    data = msgspec.json.encode(mark)
    for _ in range(MARK_TRIES):
        try:
            made = objects.create(key, data)
            if isinstance(made, Created):
                return mark, made.at
            return read_mark(objects, key), None
        except Unavailable:
            found = _mark_if_readable(objects, key)
            if found is not None:
                return found, None
        except NotFound:
            continue
    raise Unavailable("the object store does not say who took this secret: ask again with the same key")


def _mark_if_readable(objects: Objects, key: str) -> Mark | None:
    try:
        return read_mark(objects, key)
    except (NotFound, Unavailable):
        return None


def read_mark(objects: Objects, key: str) -> Mark:
    """Read a terminal record, or raise NotFound."""
    return msgspec.json.decode(objects.get(key), type=Mark)


def _proven_secret(request: Claim, keys: Keyring) -> bytes:
    """Answer the claim secret under which the proof holds, or raise; touches no store and looks at every key."""
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


def _read_prep(attempt: Attempt) -> Prep:
    request = attempt.request
    try:
        return msgspec.msgpack.decode(attempt.objects.get(prep_key(request.claim, request.expires)), type=Prep)
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
        return Expired("this claim's time is over: boot the vm anew with a fresh deposit")
    if holder.state == REVOKED:
        return Revoked("this claim was withdrawn by the scheduler")
    kind = "duplicate" if holder.spki_sha256 == attempt.key.spki_sha256 else "contested"
    attempt.leave_evidence(kind, holder=holder)
    return Taken("somebody has taken this secret already: stop, and tell the operator", kind=kind)


def _check_policy(prep: Prep, attempt: Attempt) -> None:
    """Refuse a source or a name that the deposit does not allow, leaving evidence; the key's comment is never a permission."""
    name, reason = attempt.request.vm, None
    if prep.sources and not _inside(attempt.origin.address, prep.sources):
        reason = "source"
    elif name is None and prep.names:
        reason = "name missing"
    elif name is not None and name not in (prep.names or (prep.vm,)):
        reason = "name"
    if reason is not None:
        attempt.leave_evidence("refused", reason=reason)
        raise _forbidden()


def _inside(address: str, sources: tuple[str, ...]) -> bool:
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(caller in ipaddress.ip_network(source) for source in sources)


def _answer(prep: Prep, attempt: Attempt, secret: bytes, keys: Keyring) -> bytes:
    """Build the whole bundle before anything is decided, so that a failure here burns nothing."""
    request, sealed = attempt.request, prep.sealed
    content_key = content_key_of(prep, keys)
    if prep.names and request.vm is not None:
        payload, _ = envelope.open_payload(sealed, secret, content_key, prep.claim)
        reporter = reporter_token(prep, request.vm, keys, attempt.clock())
        sealed = envelope.seal_payload(payload, reporter, secret, content_key, prep.claim)
    return envelope.bundle(sealed, content_key, secret, attempt.key, request.claim, request.expires, request.vm)


def _tidy(prep: Prep, objects: Objects) -> None:
    """Remove what nobody may take any more, where the store allows it now; the sweep does it otherwise."""
    try:
        if not prep.names or _marked(prep, objects) == len(prep.names):
            objects.delete(prep_key(prep.claim, prep.expires))
    except Unavailable:
        pass


def _marked(prep: Prep, objects: Objects) -> int:
    return sum(1 for _ in objects.list(mark_key(prep.claim, prep.expires) + "."))


def revoke(request: Revocation, caller: Caller, objects: Objects, now: datetime) -> None:
    """Withdraw what nobody took yet; raises Taken with who has it, NotFound for no such claim, Expired, Revoked never twice."""
    try:
        prep = msgspec.msgpack.decode(objects.get(prep_key(request.claim, request.expires)), type=Prep)
    except NotFound:
        _already_over(request, caller, objects)
        return
    if not caller.may_touch(prep.cloud):
        raise NotYours("this scheduler's token does not name the deposit's cloud")
    holders = [_revoke_one(prep, name, objects, now) for name in prep.names or (None,)]
    taken = [holder for holder in holders if holder.state == DELIVERED]
    objects.delete(prep_key(prep.claim, prep.expires))
    if taken:
        raise _too_late(taken)


def _revoke_one(prep: Prep, name: str | None, objects: Objects, now: datetime) -> Mark:
    mark = Mark(state=REVOKED, claim=prep.claim, nonce=secrets.token_hex(16), at=iso(now), cloud=prep.cloud, vm=name or prep.vm)
    return decide(objects, mark_key(prep.claim, prep.expires, name), mark)[0]


def _already_over(request: Revocation, caller: Caller, objects: Objects) -> None:
    marks = [read_mark(objects, key) for key in objects.list(mark_key(request.claim, request.expires))]
    if not marks or not all(caller.may_touch(mark.cloud) for mark in marks):
        raise NotFound("no such claim: check claim and expires")
    taken = [mark for mark in marks if mark.state == DELIVERED]
    if taken:
        raise _too_late(taken)
    if any(mark.state == EXPIRED for mark in marks):
        raise Expired("this claim expired by itself before: there is nothing to revoke")


def _too_late(taken: list[Mark]) -> Taken:
    """Say who has it: address, key digest and when, of each name."""
    who = [{"vm": m.vm, "address": m.address, "spki_sha256": m.spki_sha256, "at": m.at} for m in taken]
    return Taken("somebody has taken this secret already: replace what it holds", **who[0], holders=who)


def forget(objects: Objects, now: datetime, limit: int) -> int:
    """Remove records that nobody needs any more, up to a number of them; answer how many.

    A mark outlives its claim's expiry by `MARKS_KEPT`, by when the sweep has removed the prep that it guards; it goes only where that
    prep is really gone.
    """
    gone = 0
    for prefix, kept_for in (("mark/", MARKS_KEPT), ("audit/", AUDIT_KEPT), ("idempotency/", IDEMPOTENCY_KEPT)):
        last_day = f"{now.astimezone(UTC) - kept_for:%Y%m%d}"
        waiting = {key.rpartition("/")[2] for key in objects.list("prep/")} if prefix == "mark/" else set()
        for key in objects.list(prefix):
            _, day, name, *_ = key.split("/")
            if day >= last_day or gone >= limit:
                break
            if name.partition(".")[0] not in waiting:
                objects.delete(key)
                gone += 1
    return gone


def sweep(objects: Objects, now: datetime, limit: int) -> int:
    """End what has expired, oldest first, up to a number of deposits; answer how many. Running it twice does no more than once.

    A sweep races claims and revocations on the same mark, and exactly one of them wins; the prep goes only after that.
    """
    ended = 0
    for key in objects.list("prep/"):
        expires = int(key.split("/")[1])
        if now.timestamp() <= expires or ended >= limit:
            break
        try:
            prep = msgspec.msgpack.decode(objects.get(key), type=Prep)
        except NotFound:
            continue
        for name in prep.names or (None,):
            mark = Mark(
                state=EXPIRED,
                claim=prep.claim,
                nonce=secrets.token_hex(16),
                at=iso(now),
                cloud=prep.cloud,
                vm=name or prep.vm,
            )
            decide(objects, mark_key(prep.claim, expires, name), mark)
        objects.delete(key)
        ended += 1
    return ended
