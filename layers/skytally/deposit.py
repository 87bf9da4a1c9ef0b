"""Deposits: a payload left for one vm, or for each of several named vms that boot with one user-data.

What is stored at `prep/<exp, 10 digits>/<claim>` never changes: the content key closed under a key the store does not hold, the
payload sealed with it, and who may take it.
"""

import hmac
import ipaddress
import secrets
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from skytally import envelope, token
from skytally.errors import Exists, Expired, Malformed, NotFound, NotYours, Unavailable
from skytally.keyring import Keyring
from skytally.ports import Created, Objects
from skytally.records import Caller, Deposit, iso

CLAIM_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CLAIM_LENGTH = 26


class Prep(Struct, frozen=True, kw_only=True):
    """A deposit as it lies in the store; `names` are a batch's vms and empty for a single vm's deposit."""

    claim: str
    expires: int
    wrapping_key: str
    content_key_wrapped: bytes
    sealed: bytes
    cloud: str
    vm: str | None = None
    names: tuple[str, ...] = ()
    site: str | None = None
    group: str | None = None
    flavor: str | None = None
    cores: int | None = None
    sources: tuple[str, ...] = ()
    hostname: str | None = None
    deposited_at: int = 0


class Intent(Struct, frozen=True):
    """What a repeated request with the same Idempotency-Key must find: the claim that the first one began, and its body's MAC."""

    claim: str
    expires: int
    body_mac: str


def prep_key(claim: str, expires: int) -> str:
    """Answer where a deposit lies; listing `prep/` gives the earliest expiry first."""
    return f"prep/{expires:010d}/{claim}"


def deposit(wanted: Deposit, caller: Caller, objects: Objects, keys: Keyring, now: datetime, intent: Intent) -> dict[str, str]:
    """Seal and store a payload; answer the claim, the token for the vm's user-data and the expiry. Repeating it changes nothing."""
    if not caller.may_touch(wanted.cloud):
        raise NotYours("this scheduler's token does not name that cloud: ask the operator for one that does")
    if intent.expires <= now.timestamp():
        raise Expired("the first request with this Idempotency-Key has expired: deposit anew with another key")
    _check_sources(wanted.sources)
    secret = envelope.claim_secret(keys.master[0].secret, intent.claim, intent.expires)
    data = msgspec.msgpack.encode(_prep(wanted, intent, secret, keys, now))
    objects.create(prep_key(intent.claim, intent.expires), data)
    return {
        "claim": intent.claim,
        "token": f"{intent.claim}.{intent.expires}.{secret.decode()}",
        "expires_at": iso(datetime.fromtimestamp(intent.expires, UTC)),
    }


def new_intent(expires_in_seconds: int, now: datetime, body_mac: str = "") -> Intent:
    """Choose a claim's name at random."""
    claim = "".join(secrets.choice(CLAIM_LETTERS) for _ in range(CLAIM_LENGTH))
    return Intent(claim, int(now.timestamp()) + expires_in_seconds, body_mac)


def remembered_intent(
    request_key: str,
    body: bytes,
    expires_in_seconds: int,
    caller: Caller,
    objects: Objects,
    keys: Keyring,
    now: datetime,
) -> Intent:
    """Answer the claim that this Idempotency-Key began, today or yesterday, or begin one; raises Exists for another body.

    Body and key are kept as MACs only, since a payload may be short enough to be guessed from a digest.
    """
    mine = hmac.new(
        keys.master[-1].secret, msgspec.json.encode(["skytally/v1 idempotency", caller.clouds, request_key]), "sha256"
    ).hexdigest()
    fresh = new_intent(expires_in_seconds, now, hmac.new(keys.master[-1].secret, body, "sha256").hexdigest())
    today, yesterday = (f"idempotency/{day:%Y%m%d}/{mine}" for day in (now, now - timedelta(days=1)))
    try:
        stored = objects.get(yesterday)
    except NotFound:
        if isinstance(objects.create(today, msgspec.json.encode(fresh)), Created):
            return fresh
        stored = objects.get(today)
    known = msgspec.json.decode(stored, type=Intent)
    if not hmac.compare_digest(known.body_mac, fresh.body_mac):
        raise Exists("this Idempotency-Key came with another body before: use a new key for a new deposit")
    return known


def _prep(wanted: Deposit, intent: Intent, secret: bytes, keys: Keyring, now: datetime) -> Prep:
    content_key = envelope.new_content_key()
    wrapping = keys.wrapping[0]
    bare = Prep(
        claim=intent.claim,
        expires=intent.expires,
        wrapping_key=wrapping.name,
        content_key_wrapped=envelope.wrap(content_key, wrapping.secret, prep_key(intent.claim, intent.expires)),
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
    return msgspec.structs.replace(bare, sealed=envelope.seal_payload(wanted.payload, reporter, secret, content_key, intent.claim))


def reporter_token(prep: Prep, vm: str, keys: Keyring, now: datetime) -> str:
    """Make the credential that a vm reports with: itself, and where it belongs as the scheduler said."""
    issued = int(now.timestamp())
    expires = issued + int(token.REPORTER_LIFETIME.total_seconds())
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
    return token.issue(caller, keys.token)


def content_key_of(prep: Prep, keys: Keyring) -> bytes:
    """Open a deposit's content key, or raise: no key of ours means that the operator retired it too early."""
    for key in keys.wrapping:
        if key.name == prep.wrapping_key:
            return envelope.unwrap(prep.content_key_wrapped, key.secret, prep_key(prep.claim, prep.expires))
    raise Unavailable(f"wrapping key {prep.wrapping_key} is missing: put its file back into SKYTALLY_KEYS")


def _check_sources(sources: tuple[str, ...]) -> None:
    for source in sources:
        try:
            ipaddress.ip_network(source)
        except ValueError:
            raise Malformed("sources must be CIDRs such as 192.0.2.0/24", field="sources") from None
