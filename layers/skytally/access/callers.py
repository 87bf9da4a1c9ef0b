"""Callers: who calls, with which token, and what the caller may read. A token admits to its role's functions only."""

from datetime import datetime

from msgspec import Struct

from skytally.access import tokens
from skytally.access.keyring import Key
from skytally.core.errors import Forbidden, NotYours
from skytally.core.records import Caller
from skytally.core.site_data import Site


class Admission(Struct, frozen=True):
    """A caller, the site data and keys it was checked by, and its token's chain id: empty without a token."""

    caller: Caller
    site: Site
    token_keys: tuple[Key, ...] = ()
    chain_id: str = ""


def admit(text: str, role: str, keys: tuple[Key, ...], site: Site, now: datetime) -> Admission:
    """Return the admission of a token's holder to a role's functions.

    Raise Unauthenticated without a valid token, Forbidden for another role's token or one on the deny list.
    """
    caller = tokens.read(text, keys, now)
    site.check(caller, tokens.digest_of(text))
    if caller.role != role:
        raise Forbidden(f"this needs a {role}'s token, not a {caller.role}'s")
    return Admission(caller, site, keys, tokens.chain_id(text, caller))


def admit_anybody(site: Site) -> Admission:
    """Return the admission of a reader without a token, who may read every cloud."""
    return Admission(Caller(role="reader", issued=0, expires=0), site)


def readable_clouds(reader: Caller, clouds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the requested clouds, or all of the reader's own if none is requested; an empty tuple means every cloud.

    Raise NotYours for a cloud that the token does not name.
    """
    if not all(map(reader.may_touch, clouds)):
        raise NotYours("this reader's token does not name that cloud")
    return clouds or reader.clouds
