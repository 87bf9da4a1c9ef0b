"""Deposits: a payload left for one vm, or for each of several named vms that boot with one user-data.

A deposit's content key is encrypted under a key that the store does not hold, and authenticates every other byte of the
deposit. Whoever can write to the store can remove a secret, but can change neither the secret nor who may take it.
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
from skytally.core.errors import Changed, Expired, IdempotencyKeyReused, Malformed, NotYours, Unavailable
from skytally.core.ports import Created, Objects
from skytally.core.records import Caller, ClaimId, Deposit, IsoMoment, iso
from skytally.secrets import envelope
from skytally.secrets.outcomes import open_names
from skytally.secrets.stored_deposits import Intent, SealedDeposit, StoredDeposit, deposit_key, intent_key, read_intent

CLAIM_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CLAIM_LENGTH = 26
MAX_REQUEST_KEY = 255


class Deposited(TypedDict):
    """The scheduler's answer: the claim, the token for the vm's user-data and when both expire."""

    claim: ClaimId
    token: str
    expires_at: IsoMoment


class Repeatable(Struct, frozen=True):
    """A request that may be repeated: its Idempotency-Key and its body."""

    request_key: str
    body: bytes


def deposit(
    request: Deposit,
    caller: Caller,
    objects: Objects,
    keys: Keyring,
    now: datetime,
    repeatable: Repeatable | None = None,
) -> Deposited:
    """Seal and store a payload; return the claim, the token for the vm's user-data and the expiry.

    A repeated request changes nothing and gets the same answer, even after the secret was taken or keys were rotated.
    Raise NotYours, Malformed, IdempotencyKeyReused for a key with another body, Expired or Unavailable.
    """
    _check(request, caller)
    new_intent = _new_intent(request, keys, now)
    intent = new_intent if repeatable is None else _intent_of_key(repeatable, new_intent, caller, objects, keys, now)
    master = named(keys.master, intent.master_key)
    if master is None or intent.expires <= now.timestamp():
        raise Expired("the deposit made with this Idempotency-Key has expired: deposit again with a new key")
    secret = envelope.claim_secret(master.secret, intent.claim, intent.expires)
    key = deposit_key(intent.claim, intent.expires)
    is_created = isinstance(objects.create(key, _seal(request, intent, secret, keys, now)), Created)
    is_repeated = intent is not new_intent
    if is_repeated and is_created and not open_names(objects, intent.claim, intent.expires, request.vms):
        objects.delete(key)
    return {
        "claim": intent.claim,
        "token": f"{intent.claim}.{intent.expires}.{secret.decode()}",
        "expires_at": iso(datetime.fromtimestamp(intent.expires, UTC)),
    }


def _check(request: Deposit, caller: Caller) -> None:
    if not caller.may_touch(request.cloud):
        raise NotYours("this scheduler's token does not name that cloud: ask the operator for one that does")
    for source in request.sources:
        try:
            ipaddress.ip_network(source)
        except ValueError:
            raise Malformed("sources must be CIDRs such as 192.0.2.0/24", field="sources") from None


def _new_intent(request: Deposit, keys: Keyring, now: datetime) -> Intent:
    """Return an intent with a random claim name."""
    claim = "".join(secrets.choice(CLAIM_LETTERS) for _ in range(CLAIM_LENGTH))
    return Intent(
        claim=claim, expires=int(now.timestamp()) + request.expires_in_seconds, master_key=keys.master[0].name
    )


def _intent_of_key(
    repeatable: Repeatable, new_intent: Intent, caller: Caller, objects: Objects, keys: Keyring, now: datetime
) -> Intent:
    """Return the intent stored under this Idempotency-Key, or store the new one; raise IdempotencyKeyReused.

    Of the body only a MAC under the claim's own master key is stored: a short payload could be guessed from a digest.
    """
    if not 0 < len(repeatable.request_key) <= MAX_REQUEST_KEY:
        raise Malformed(f"Idempotency-Key must have 1 to {MAX_REQUEST_KEY} characters", field="Idempotency-Key")
    name = sha256(msgspec.json.encode(["skytally/v1 idempotency", caller.clouds, repeatable.request_key])).hexdigest()
    intent_with_mac = msgspec.structs.replace(new_intent, body_mac=_body_mac(repeatable.body, new_intent, keys))
    objects.create(f"begun/{now.astimezone(UTC):%Y%m%d}/{name}", b"")
    if isinstance(objects.create(intent_key(name), msgspec.json.encode(intent_with_mac)), Created):
        return new_intent
    stored_intent = _stored_intent(objects, name)
    if not hmac.compare_digest(stored_intent.body_mac, _body_mac(repeatable.body, stored_intent, keys)):
        raise IdempotencyKeyReused(
            "this Idempotency-Key came with another body before: use a new key for a new deposit"
        )
    return stored_intent


def _stored_intent(objects: Objects, name: str) -> Intent:
    try:
        return read_intent(objects, name)
    except Changed:
        raise IdempotencyKeyReused(
            "the deposit made with this Idempotency-Key cannot be read: use a new key for a new deposit"
        ) from None


def _body_mac(body: bytes, intent: Intent, keys: Keyring) -> str:
    """Return the body's MAC under the intent's master key.

    Where that key is gone the intent has expired whatever the body, so its own MAC is returned.
    """
    master = named(keys.master, intent.master_key)
    return (
        intent.body_mac
        if master is None
        else hmac.new(master.secret, b"skytally/v1 body|" + body, "sha256").hexdigest()
    )


def _seal(request: Deposit, intent: Intent, secret: bytes, keys: Keyring, now: datetime) -> bytes:
    """Return a deposit as the store keeps it."""
    content_key, wrapping = envelope.new_content_key(), keys.wrapping[0]
    unsealed = StoredDeposit(
        claim=intent.claim,
        expires=intent.expires,
        sealed=b"",
        cloud=request.cloud,
        vm=request.vm,
        names=request.vms,
        site=request.site,
        group=request.group,
        flavor=request.flavor,
        cores=request.cores,
        sources=request.sources,
        hostname=request.hostname,
        deposited_at=int(now.timestamp()),
    )
    reporter = reporter_token(unsealed, request.vm, keys, now) if request.vm else ""
    sealed = envelope.seal_payload(request.payload, reporter, secret, content_key, intent.claim)
    stored = msgspec.msgpack.encode(msgspec.structs.replace(unsealed, sealed=sealed))
    return msgspec.msgpack.encode(
        SealedDeposit(wrapping.name, key_wrapping.wrap(content_key, wrapping.secret, stored), stored)
    )


def open_content_key(sealed_deposit: SealedDeposit, keys: Keyring) -> bytes:
    """Return the content key; raise Changed for a changed deposit, Unavailable for a missing wrapping key."""
    key = named(keys.wrapping, sealed_deposit.wrapping_key)
    if key is None:
        raise Unavailable(
            f"wrapping key {sealed_deposit.wrapping_key} is missing: put its file back into SKYTALLY_KEYS"
        )
    return key_wrapping.unwrap(sealed_deposit.content_key_wrapped, key.secret, sealed_deposit.deposit)


def reporter_token(deposit: StoredDeposit, vm: str, keys: Keyring, now: datetime) -> str:
    """Return the token that a vm reports with: it names the vm and its cloud, site, group and flavor."""
    issued = int(now.timestamp())
    expires = issued + int(tokens.REPORTER_LIFETIME.total_seconds())
    caller = Caller(
        role="reporter",
        issued=issued,
        expires=expires,
        clouds=(deposit.cloud,),
        vm=vm,
        site=deposit.site,
        group=deposit.group,
        flavor=deposit.flavor,
    )
    return tokens.issue(caller, keys.token)
