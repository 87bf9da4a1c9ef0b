"""Deposits: a payload left for one vm, or for each of several named vms that boot with one user-data.

A deposit's content key is closed under a key that the store does not hold, and bound to every other byte of the
deposit: whoever can write to the store can remove a secret, but change neither it nor who may take it.
"""

import hmac
import ipaddress
import secrets
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypedDict

import msgspec
from msgspec import Struct

from skytally.access import key_wrapping, tokens
from skytally.access.keyring import Keyring, named
from skytally.core.errors import Changed, Exists, Expired, Malformed, NotYours, Unavailable
from skytally.core.ports import Created, Objects
from skytally.core.records import Caller, ClaimId, Deposit, IsoMoment, iso
from skytally.secrets import envelope
from skytally.secrets.outcomes import open_names
from skytally.secrets.stored_deposits import Intent, SealedDeposit, StoredDeposit, intent_key, prep_key, read_intent

CLAIM_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CLAIM_LENGTH = 26
MAX_REQUEST_KEY = 255


class Deposited(TypedDict):
    """What the scheduler gets: the claim, the token for the vm's user-data and when both expire."""

    claim: ClaimId
    token: str
    expires_at: IsoMoment


class Repeatable(Struct, frozen=True):
    """A request that may come again: its Idempotency-Key and its body."""

    request_key: str
    body: bytes


def deposit(
    wanted: Deposit,
    caller: Caller,
    objects: Objects,
    keys: Keyring,
    now: datetime,
    repeatable: Repeatable | None = None,
) -> Deposited:
    """Seal and store a payload; answer the claim, the token for the vm's user-data and the expiry.

    The same request again changes nothing and gets the same answer, also after somebody took the secret and after keys
    were rotated. Raises NotYours, Malformed, Exists (the key came with another body), Expired, Unavailable.
    """
    _check(wanted, caller)
    fresh = _begin(wanted, keys, now)
    intent = fresh if repeatable is None else _remembered(repeatable, fresh, caller, objects, keys, now)
    master = named(keys.master, intent.master_key)
    if master is None or intent.expires <= now.timestamp():
        raise Expired("the first request with this Idempotency-Key is over: deposit anew with another key")
    secret = envelope.claim_secret(master.secret, intent.claim, intent.expires)
    made = objects.create(prep_key(intent.claim, intent.expires), _box(wanted, intent, secret, keys, now))
    if (
        intent is not fresh
        and isinstance(made, Created)
        and not open_names(objects, intent.claim, intent.expires, wanted.vms)
    ):
        objects.delete(prep_key(intent.claim, intent.expires))
    return {
        "claim": intent.claim,
        "token": f"{intent.claim}.{intent.expires}.{secret.decode()}",
        "expires_at": iso(datetime.fromtimestamp(intent.expires, UTC)),
    }


def _check(wanted: Deposit, caller: Caller) -> None:
    if not caller.may_touch(wanted.cloud):
        raise NotYours("this scheduler's token does not name that cloud: ask the operator for one that does")
    for source in wanted.sources:
        try:
            ipaddress.ip_network(source)
        except ValueError:
            raise Malformed("sources must be CIDRs such as 192.0.2.0/24", field="sources") from None


def _begin(wanted: Deposit, keys: Keyring, now: datetime) -> Intent:
    """Choose a claim's name at random."""
    claim = "".join(secrets.choice(CLAIM_LETTERS) for _ in range(CLAIM_LENGTH))
    return Intent(claim=claim, expires=int(now.timestamp()) + wanted.expires_in_seconds, master_key=keys.master[0].name)


def _remembered(
    repeatable: Repeatable, fresh: Intent, caller: Caller, objects: Objects, keys: Keyring, now: datetime
) -> Intent:
    """Return what this Idempotency-Key began, or let it begin the fresh one; raises Exists for another body.

    The body is kept as a MAC only, under the claim's own master key: a payload may be short enough to be guessed from a
    digest.
    """
    if not 0 < len(repeatable.request_key) <= MAX_REQUEST_KEY:
        raise Malformed(f"Idempotency-Key must have 1 to {MAX_REQUEST_KEY} characters", field="Idempotency-Key")
    name = sha256(msgspec.json.encode(["skytally/v1 idempotency", caller.clouds, repeatable.request_key])).hexdigest()
    mine = msgspec.structs.replace(fresh, body_mac=_body_mac(repeatable.body, fresh, keys))
    objects.create(f"begun/{now.astimezone(UTC):%Y%m%d}/{name}", b"")
    if isinstance(objects.create(intent_key(name), msgspec.json.encode(mine)), Created):
        return fresh
    known = _known_intent(objects, name)
    if not hmac.compare_digest(known.body_mac, _body_mac(repeatable.body, known, keys)):
        raise Exists("this Idempotency-Key came with another body before: use a new key for a new deposit")
    return known


def _known_intent(objects: Objects, name: str) -> Intent:
    try:
        return read_intent(objects, name)
    except Changed:
        raise Exists("what this Idempotency-Key began cannot be read: use a new key for a new deposit") from None


def _body_mac(body: bytes, intent: Intent, keys: Keyring) -> str:
    """Return the body's MAC under the intent's key;
    where that is gone the intent's own, since it is over whatever the body.
    """
    master = named(keys.master, intent.master_key)
    return (
        intent.body_mac
        if master is None
        else hmac.new(master.secret, b"skytally/v1 body|" + body, "sha256").hexdigest()
    )


def _box(wanted: Deposit, intent: Intent, secret: bytes, keys: Keyring, now: datetime) -> bytes:
    """Seal a deposit for the store."""
    content_key, wrapping = envelope.new_content_key(), keys.wrapping[0]
    bare = StoredDeposit(
        claim=intent.claim,
        expires=intent.expires,
        sealed=b"",
        cloud=wanted.cloud,
        vm=wanted.vm,
        names=wanted.vms,
        site=wanted.site,
        group=wanted.group,
        flavor=wanted.flavor,
        cores=wanted.cores,
        sources=wanted.sources,
        hostname=wanted.hostname,
        deposited_at=int(now.timestamp()),
    )
    reporter = reporter_token(bare, wanted.vm, keys, now) if wanted.vm else ""
    sealed = envelope.seal_payload(wanted.payload, reporter, secret, content_key, intent.claim)
    prep = msgspec.msgpack.encode(msgspec.structs.replace(bare, sealed=sealed))
    return msgspec.msgpack.encode(
        SealedDeposit(wrapping.name, key_wrapping.wrap(content_key, wrapping.secret, prep), prep)
    )


def open_content_key(box: SealedDeposit, keys: Keyring) -> bytes:
    """Open the content key; raises Changed where anything was changed, Unavailable where the key for it is missing."""
    key = named(keys.wrapping, box.wrapping_key)
    if key is None:
        raise Unavailable(f"wrapping key {box.wrapping_key} is missing: put its file back into SKYTALLY_KEYS")
    return key_wrapping.unwrap(box.content_key_wrapped, key.secret, box.prep)


def reporter_token(prep: StoredDeposit, vm: str, keys: Keyring, now: datetime) -> str:
    """Make the credential that a vm reports with: itself, and where it belongs as the scheduler said."""
    issued = int(now.timestamp())
    expires = issued + int(tokens.REPORTER_LIFETIME.total_seconds())
    caller = Caller(
        role="reporter",
        issued=issued,
        expires=expires,
        clouds=(prep.cloud,),
        vm=vm,
        site=prep.site,
        group=prep.group,
        flavor=prep.flavor,
    )
    return tokens.issue(caller, keys.token)
