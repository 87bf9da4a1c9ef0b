"""Outcomes: the one terminal record of a claim, created by whoever is first: a claim, a revocation or the sweep.

::

    mark/<yyyymmdd of exp>/<claim>              a single vm's
    mark/<yyyymmdd of exp>/<claim>.<digest>     of one name of a batch

Invariant: an outcome is created once and never changes. Only the invocation that finds its own nonce in it has decided
the claim. Any object under an outcome's key decides the claim: one that cannot be read counts as delivered to somebody
unknown, never as open.
"""

import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from skytally.core.errors import Changed, NotFound, Unavailable
from skytally.core.ports import Created, Objects
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT, ClaimId, Name, iso

T = TypeVar("T")
DECISION_TRIES = 5
DELIVERED, EXPIRED, REVOKED = "delivered", "expired", "revoked"
DUPLICATE, CONTESTED, REFUSED = "duplicate", "contested", "refused"
LATEST = int(LATEST_MOMENT.timestamp())
Expiry = Annotated[int, Meta(ge=0, le=LATEST)]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of a claim in the object store.

    Invariant: `at` is an ISO time with its zone, from 2000 to 2100.
    """

    claim: ClaimId
    at: str

    def __post_init__(self) -> None:
        """Raise ValueError for an impossible time."""
        moment = datetime.fromisoformat(self.at)
        if moment.tzinfo is None or not EARLIEST_MOMENT <= moment <= LATEST_MOMENT:
            raise ValueError("at is no moment from 2000 to 2100")


def decoded(data: bytes, kind: type[T]) -> T:
    """Return the record of a JSON text, or raise Changed for anything else."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Changed("what lies there is no record of ours: tell the operator") from None


class ClaimOutcome(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a claim, when and by whom. Only the invocation that created it knows the nonce."""

    state: Annotated[str, Meta(pattern=rf"^({DELIVERED}|{EXPIRED}|{REVOKED})\Z")]
    expires: Expiry
    cloud: Name
    vm: Name | None = None
    spki_sha256: str | None = None
    comment: str | None = None
    expected_hostname: str | None = None
    address: str | None = None
    agent: str | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))


def short(spki_sha256: str | None) -> str:
    """Return the first digits of a key's digest, as people compare them."""
    return (spki_sha256 or "unknown")[:12]


def outcome_key(claim: str, expires: int, name: str | None = None) -> str:
    """Return the key of the outcome of a claim, or of one name of a batch."""
    suffix = "" if name is None else "." + sha256(name.encode()).hexdigest()[:32]
    return f"mark/{datetime.fromtimestamp(expires, UTC):%Y%m%d}/{claim}{suffix}"


def read_outcome(objects: Objects, key: str) -> ClaimOutcome:
    """Return an outcome, or raise NotFound; one that cannot be read counts as delivered to somebody unknown."""
    data = objects.get(key)
    try:
        return parse_outcome(key, data)
    except Changed:
        return _unknown_taker(key)


def parse_outcome(key: str, data: bytes) -> ClaimOutcome:
    """Return the outcome of an object's data, or raise Changed if it is not the outcome of this key's claim."""
    outcome = decoded(data, ClaimOutcome)
    if key not in {
        outcome_key(outcome.claim, outcome.expires),
        outcome_key(outcome.claim, outcome.expires, outcome.vm or ""),
    }:
        raise Changed("another claim's outcome lies there: tell the operator")
    return outcome


def _unknown_taker(key: str) -> ClaimOutcome:
    _, day, name = key.split("/")
    over_at = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    claim = name.partition(".")[0]
    return ClaimOutcome(
        state=DELIVERED, claim=claim, expires=int(over_at.timestamp()), at=iso(over_at), cloud="unknown"
    )


def outcome_keys(objects: Objects, claim: str, expires: int) -> Iterator[str]:
    """Return the keys of a claim's outcomes: one, or in a batch one for each decided name."""
    whole = outcome_key(claim, expires)
    return (key for key in objects.list(whole) if key == whole or re.fullmatch(rf"{whole}\.[0-9a-f]{{32}}", key))


def open_names(objects: Objects, claim: str, expires: int, names: Iterable[str]) -> list[str | None]:
    """Return the names of a batch without an outcome; for a single vm's claim without one return `[None]`."""
    decided_keys = set(outcome_keys(objects, claim, expires))
    return [name for name in names or (None,) if outcome_key(claim, expires, name) not in decided_keys]


def decide(objects: Objects, key: str, outcome: ClaimOutcome) -> tuple[ClaimOutcome, datetime | None]:
    """Create the outcome and return it with the store's time; where another was first, return that one and None.

    After a lost reply it is unknown which was first. Then the stored outcome is read and returned with None; where none
    is stored, the same outcome with the same nonce is created again.
    """
    data = msgspec.json.encode(outcome)
    for _ in range(DECISION_TRIES):
        try:
            created = objects.create(key, data)
            if isinstance(created, Created):
                return outcome, created.at
            return read_outcome(objects, key), None
        except Unavailable:
            stored = _outcome_if_readable(objects, key)
            if stored is not None:
                return stored, None
        except NotFound:
            continue
    raise Unavailable("the object store does not say who took this secret: ask again with the same key")


def _outcome_if_readable(objects: Objects, key: str) -> ClaimOutcome | None:
    try:
        return read_outcome(objects, key)
    except (NotFound, Unavailable):
        return None


class FailedClaim(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A valid proof that did not get the secret.

    `duplicate`: the holder's own key came again, for example by a proxy's retry. `contested`: another key came, so two
    parties hold the claim secret. `refused`: the deposit does not allow this source or name, or was changed in the
    store.
    """

    kind: Annotated[str, Meta(pattern=rf"^({DUPLICATE}|{CONTESTED}|{REFUSED})\Z")]
    address: str
    agent: str
    spki_sha256: str
    reason: str | None = None
    vm: str | None = None
    holder: ClaimOutcome | None = None


def parse_failed_claim(key: str, data: bytes) -> FailedClaim:
    """Return the failed claim of an object's data, or raise Changed if it is not one of this key's claim."""
    evidence = decoded(data, FailedClaim)
    if not key.partition("/")[2].partition("/")[2].startswith(f"{evidence.claim}/"):
        raise Changed("another claim's evidence lies there: tell the operator")
    return evidence
