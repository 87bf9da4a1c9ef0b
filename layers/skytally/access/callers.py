"""Callers: who calls, by which token, and what it may read. A role's token opens the functions of that role alone."""

from datetime import datetime

from msgspec import Struct

from skytally.access import tokens
from skytally.access.keyring import Key
from skytally.core.errors import Forbidden, NotYours
from skytally.core.records import Caller
from skytally.core.site_data import Site


class Admission(Struct, frozen=True):
    """Who calls, by which site data and keys that was found out,
    and the id of the token's chain; none of a caller without a token.
    """

    caller: Caller
    site: Site
    token_keys: tuple[Key, ...] = ()
    chain_id: str = ""


def admit(text: str, role: str, keys: tuple[Key, ...], site: Site, now: datetime) -> Admission:
    """Return whom a token admits to a role's functions.

    Raises Unauthenticated without a good token, Forbidden for another role's or for one on the deny list.
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
    """Return the clouds that a reader asks for, or all of its own where it names none; an empty tuple is every cloud.

    Raises NotYours where its token does not name one of them.
    """
    if not all(map(reader.may_touch, clouds)):
        raise NotYours("this reader's token does not name that cloud")
    return clouds or reader.clouds
