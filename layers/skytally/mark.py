"""Marks: the one terminal record of a claim, made by whoever is first: a claim, a revocation or the sweep.

::

    mark/<yyyymmdd of exp>/<claim>              a single vm's
    mark/<yyyymmdd of exp>/<claim>.<digest>     of one name of a batch

Invariant: a mark is created once and never changes, so whoever finds its own nonce in it, and nobody else, decided the claim.
"""

import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256

import msgspec
from msgspec import Struct, field

from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Objects

MARK_TRIES = 5
DELIVERED, EXPIRED, REVOKED = "delivered", "expired", "revoked"


class Mark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a claim, when, and by whom; the nonce is known to the one invocation that made it."""

    state: str
    claim: str
    expires: int
    at: str
    cloud: str
    vm: str | None = None
    spki_sha256: str | None = None
    comment: str | None = None
    expected_hostname: str | None = None
    address: str | None = None
    agent: str | None = None
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))


def mark_key(claim: str, expires: int, name: str | None = None) -> str:
    """Answer where the mark of a claim (or of one name of a batch) lies."""
    suffix = "" if name is None else "." + sha256(name.encode()).hexdigest()[:32]
    return f"mark/{datetime.fromtimestamp(expires, UTC):%Y%m%d}/{claim}{suffix}"


def read_mark(objects: Objects, key: str) -> Mark:
    """Read a mark, or raise NotFound."""
    return msgspec.json.decode(objects.get(key), type=Mark)


def mark_keys(objects: Objects, claim: str, expires: int) -> Iterator[str]:
    """Name the marks that a claim has: one, or in a batch one for each name that is over."""
    whole = mark_key(claim, expires)
    return (key for key in objects.list(whole) if key == whole or key.startswith(whole + "."))


def open_names(objects: Objects, claim: str, expires: int, names: Iterable[str]) -> list[str | None]:
    """Name those of a batch that have no mark yet; `[None]` is a single vm's claim without one."""
    over = set(mark_keys(objects, claim, expires))
    return [name for name in names or (None,) if mark_key(claim, expires, name) not in over]


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
