"""Marks: the one terminal record of a claim, made by whoever is first: a claim, a revocation or the sweep.

::

    mark/<yyyymmdd of exp>/<claim>              a single vm's
    mark/<yyyymmdd of exp>/<claim>.<digest>     of one name of a batch

Invariant: a mark is created once and never changes, so whoever finds its own nonce in it, and nobody else, decided the
claim. Whatever lies under a mark's name decides it: what cannot be read counts as taken by somebody unknown, and never
as free.
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
MARK_TRIES = 5
DELIVERED, EXPIRED, REVOKED = "delivered", "expired", "revoked"
DUPLICATE, CONTESTED, REFUSED = "duplicate", "contested", "refused"
LATEST = int(LATEST_MOMENT.timestamp())
Expiry = Annotated[int, Meta(ge=0, le=LATEST)]


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that the object store keeps of a claim.

    Invariant: `at` is an ISO moment with its zone, from 2000 to 2100.
    """

    claim: ClaimId
    at: str

    def __post_init__(self) -> None:
        """Raise ValueError for a time that is none."""
        moment = datetime.fromisoformat(self.at)
        if moment.tzinfo is None or not EARLIEST_MOMENT <= moment <= LATEST_MOMENT:
            raise ValueError("at is no moment from 2000 to 2100")


def decoded(data: bytes, kind: type[T]) -> T:
    """Read a record of JSON, or raise Changed for whatever else lies there."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Changed("what lies there is no record of ours: tell the operator") from None


class Mark(Record, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a claim, when, and by whom; the nonce is known to the one invocation that made it."""

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
    """Return as much of a key's digest as people compare."""
    return (spki_sha256 or "unknown")[:12]


def mark_key(claim: str, expires: int, name: str | None = None) -> str:
    """Return where the mark of a claim (or of one name of a batch) lies."""
    suffix = "" if name is None else "." + sha256(name.encode()).hexdigest()[:32]
    return f"mark/{datetime.fromtimestamp(expires, UTC):%Y%m%d}/{claim}{suffix}"


def read_mark(objects: Objects, key: str) -> Mark:
    """Read a mark, or raise NotFound; what cannot be read counts as taken, nobody knows by whom."""
    data = objects.get(key)
    try:
        return parse_mark(key, data)
    except Changed:
        return _unknown_taker(key)


def parse_mark(key: str, data: bytes) -> Mark:
    """Read what lies under a mark's name, or raise Changed where that is no mark of this claim."""
    mark = decoded(data, Mark)
    if key not in {mark_key(mark.claim, mark.expires), mark_key(mark.claim, mark.expires, mark.vm or "")}:
        raise Changed("another claim's mark lies there: tell the operator")
    return mark


def _unknown_taker(key: str) -> Mark:
    _, day, name = key.split("/")
    over_at = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    claim = name.partition(".")[0]
    return Mark(state=DELIVERED, claim=claim, expires=int(over_at.timestamp()), at=iso(over_at), cloud="unknown")


def mark_keys(objects: Objects, claim: str, expires: int) -> Iterator[str]:
    """Name the marks that a claim has: one, or in a batch one for each name that is over."""
    whole = mark_key(claim, expires)
    return (key for key in objects.list(whole) if key == whole or re.fullmatch(rf"{whole}\.[0-9a-f]{{32}}", key))


def open_names(objects: Objects, claim: str, expires: int, names: Iterable[str]) -> list[str | None]:
    """Name those of a batch that have no mark yet; `[None]` is a single vm's claim without one."""
    over = set(mark_keys(objects, claim, expires))
    return [name for name in names or (None,) if mark_key(claim, expires, name) not in over]


def decide(objects: Objects, key: str, mark: Mark) -> tuple[Mark, datetime | None]:
    """Make the mark, or answer the one that was first;
    with the store's clock when this very call is known to have made it.

    A lost reply leaves the outcome unknown: then the mark is read, and where it is not there made again with the same
    nonce.
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


class Evidence(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A valid proof that did not get the secret.

    `duplicate`: the holder's own key again, such as a proxy's retry. `contested`: another key, so two parties hold the
    claim secret. `refused`: the deposit does not allow this source or name, or was changed in the store.
    """

    kind: Annotated[str, Meta(pattern=rf"^({DUPLICATE}|{CONTESTED}|{REFUSED})\Z")]
    address: str
    agent: str
    spki_sha256: str
    reason: str | None = None
    vm: str | None = None
    holder: Mark | None = None


def parse_evidence(key: str, data: bytes) -> Evidence:
    """Read what lies under a name of the audit, or raise Changed where that is no evidence of this claim."""
    evidence = decoded(data, Evidence)
    if not key.partition("/")[2].partition("/")[2].startswith(f"{evidence.claim}/"):
        raise Changed("another claim's evidence lies there: tell the operator")
    return evidence
