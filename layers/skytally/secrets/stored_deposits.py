"""Deposits as they lie in the store, for all who list, read or remove them; nothing here opens one.

::

    prep/<exp, 10 digits>/<claim>       the deposit, immutable; listing gives the earliest expiry first
    idempotency/<digest>                what an Idempotency-Key began, created once
    begun/<yyyymmdd>/<digest>           when to forget that; written before it
"""

import re
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from skytally.core.errors import Changed
from skytally.core.ports import Objects
from skytally.core.records import ClaimId, Name
from skytally.core.unreadable import Notes
from skytally.secrets.outcomes import LATEST, Expiry, decoded

_PREP_KEY = re.compile(r"prep/([0-9]{10})/([a-z0-9]{20,64})")


class StoredDeposit(Struct, frozen=True, kw_only=True):
    """What was left, and who may take it; `names` are a batch's vms and empty for a single vm's deposit."""

    claim: ClaimId
    expires: Expiry
    sealed: bytes
    cloud: Name
    vm: Name | None = None
    names: tuple[Name, ...] = ()
    site: str | None = None
    group: str | None = None
    flavor: str | None = None
    cores: int | None = None
    sources: tuple[str, ...] = ()
    hostname: str | None = None
    deposited_at: Expiry = 0


class SealedDeposit(Struct, frozen=True, array_like=True):
    """A deposit as it lies in the store: a Prep's bytes, and its content key bound to exactly these."""

    wrapping_key: str
    content_key_wrapped: bytes
    prep: bytes

    def open(self) -> StoredDeposit:
        """Read what was left; only `deposit.open_content_key` shows that nobody changed it."""
        return msgspec.msgpack.decode(self.prep, type=StoredDeposit)


class Intent(Struct, frozen=True, kw_only=True):
    """A claim that was begun: under which master key, and the MAC of the body by which a repeated request is known."""

    claim: ClaimId
    expires: Expiry
    master_key: str
    body_mac: str = ""


def prep_key(claim: str, expires: int) -> str:
    """Return where a deposit lies."""
    return f"prep/{expires:010d}/{claim}"


def deposits(objects: Objects, notes: Notes) -> Iterator[tuple[int, str]]:
    """Name expiry and claim of every deposit that lies in the store,
    the earliest expiry first; what has no such name is noted.
    """
    for key in objects.list("prep/"):
        name = _PREP_KEY.fullmatch(key)
        if name and int(name[1]) <= LATEST:
            yield int(name[1]), name[2]
        else:
            notes.add("object", "prep", key, "no deposit of ours has such a name")


def read_box(objects: Objects, claim: str, expires: int) -> SealedDeposit:
    """Read a deposit; raises NotFound, or Changed where what lies there is no deposit of this claim."""
    data = objects.get(prep_key(claim, expires))
    try:
        box = msgspec.msgpack.decode(data, type=SealedDeposit)
        prep = box.open()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Changed("what lies there is no deposit: tell the operator") from None
    if (prep.claim, prep.expires) != (claim, expires):
        raise Changed("another claim's deposit lies there: tell the operator")
    return box


def intent_key(name: str) -> str:
    """Return where it lies what an Idempotency-Key began."""
    return f"idempotency/{name}"


def read_intent(objects: Objects, name: str) -> Intent:
    """Read what an Idempotency-Key began; raises NotFound, or Changed where what lies there is none of ours."""
    return decoded(objects.get(intent_key(name)), Intent)
