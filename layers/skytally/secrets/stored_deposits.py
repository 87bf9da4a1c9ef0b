"""Deposits in the object store: their records, keys, listing and reading; nothing here decrypts one.

::

    prep/<exp, 10 digits>/<claim>       the deposit, immutable; listing gives the earliest expiry first
    idempotency/<digest>                the intent of an Idempotency-Key, created once
    begun/<yyyymmdd>/<digest>           the day of that intent, for its removal; written before it
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
    """A deposit's content and who may take it; `names` are a batch's vms, and empty for a single vm's deposit."""

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
    """A deposit as the store keeps it: a StoredDeposit's bytes, and the content key that authenticates them."""

    wrapping_key: str
    content_key_wrapped: bytes
    deposit: bytes

    def open(self) -> StoredDeposit:
        """Return the deposit, unverified: only `deposits.open_content_key` shows that nobody changed it."""
        return msgspec.msgpack.decode(self.deposit, type=StoredDeposit)


class Intent(Struct, frozen=True, kw_only=True):
    """The claim of a deposit request: its master key, and the MAC of the body that a repeated request must have."""

    claim: ClaimId
    expires: Expiry
    master_key: str
    body_mac: str = ""


def deposit_key(claim: str, expires: int) -> str:
    """Return a deposit's key."""
    return f"prep/{expires:010d}/{claim}"


def deposits(objects: Objects, notes: Notes) -> Iterator[tuple[int, str]]:
    """Return expiry and claim of every stored deposit, the earliest expiry first; note other keys."""
    for key in objects.list("prep/"):
        name = _PREP_KEY.fullmatch(key)
        if name and int(name[1]) <= LATEST:
            yield int(name[1]), name[2]
        else:
            notes.add("object", "prep", key, "no deposit of ours has such a name")


def read_sealed(objects: Objects, claim: str, expires: int) -> SealedDeposit:
    """Return a stored deposit; raise NotFound, or Changed where the object is no deposit of this claim."""
    data = objects.get(deposit_key(claim, expires))
    try:
        sealed_deposit = msgspec.msgpack.decode(data, type=SealedDeposit)
        deposit = sealed_deposit.open()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Changed("what lies there is no deposit: tell the operator") from None
    if (deposit.claim, deposit.expires) != (claim, expires):
        raise Changed("another claim's deposit lies there: tell the operator")
    return sealed_deposit


def intent_key(name: str) -> str:
    """Return the key of the intent of an Idempotency-Key."""
    return f"idempotency/{name}"


def read_intent(objects: Objects, name: str) -> Intent:
    """Return the intent of an Idempotency-Key; raise NotFound, or Changed where the object is no intent."""
    return decoded(objects.get(intent_key(name)), Intent)
