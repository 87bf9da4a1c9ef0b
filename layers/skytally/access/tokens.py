"""Tokens: a caller's role and what it may touch, signed by us and stored nowhere.

A renewed token names the tokens before it by their SHA-256. So a deny list that names one token shuts out all that were
renewed from it. The digest of the first token is the id of the chain.
"""

import hmac
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

import msgspec
from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode

from skytally.access.keyring import Key
from skytally.core.errors import Malformed, Unauthenticated
from skytally.core.records import Caller

REPORTER_LIFETIME = timedelta(days=90)
DEFAULT_LIFETIME = timedelta(days=365)
MAX_LENGTH = 8_192
# A chain keeps its first token and the newest ones: those in between expired long ago.
CHAIN_LENGTH = 8
_SALT = "skytally/v1 token"


def issue(caller: Caller, keys: tuple[Key, ...]) -> str:
    """Return a caller's token, signed by the key in use: `base64url(json).signature`.

    Raise Malformed for a token longer than `read` accepts.
    """
    token = _signer(keys[0]).sign(base64_encode(msgspec.json.encode(caller))).decode()
    if len(token) > MAX_LENGTH:
        raise Malformed(f"the token would be longer than {MAX_LENGTH} characters: name fewer clouds, or make several")
    return token


def read(token: str, keys: tuple[Key, ...], now: datetime) -> Caller:
    """Return the caller of a token, or raise Unauthenticated for any fault.

    Only one spelling of a signature is accepted, since deny lists name a token by its digest.
    """
    if len(token) > MAX_LENGTH or not any(_signed_by(key, token) for key in keys):
        raise Unauthenticated("the token is none of ours: ask the operator for one")
    caller = content(token)
    if now.timestamp() >= caller.expires:
        raise Unauthenticated("the token has expired: ask the operator for a new one")
    return caller


def content(token: str) -> Caller:
    """Return the content of a token without checking its signature; raise Malformed for what is no token."""
    try:
        return msgspec.json.decode(base64_decode(token.partition(".")[0]), type=Caller)
    except (BadData, msgspec.DecodeError, UnicodeError):
        raise Malformed("this is no token") from None


def digest_of(token: str) -> str:
    """Return the digest by which deny lists name a token."""
    return sha256(token.encode()).hexdigest()


def chain_id(token: str, caller: Caller) -> str:
    """Return the digest of the first token of a token's chain."""
    return caller.chain[0] if caller.chain else digest_of(token)


def renewed(token: str, caller: Caller, keys: tuple[Key, ...], now: datetime) -> str | None:
    """Return a new token of the same chain if this one is past half its life or its key is no longer in use."""
    half_life = (caller.issued + caller.expires) / 2
    if now.timestamp() < half_life and _signed_by(keys[0], token):
        return None
    issued = int(now.timestamp())
    chain = (*caller.chain, digest_of(token))
    chain = (*chain[:1], *chain[1:][1 - CHAIN_LENGTH :])
    return issue(
        msgspec.structs.replace(caller, issued=issued, expires=issued + caller.expires - caller.issued, chain=chain),
        keys,
    )


def _signed_by(key: Key, token: str) -> bool:
    value, _, signature = token.encode(errors="backslashreplace").rpartition(b".")
    return hmac.compare_digest(_signer(key).get_signature(value), signature)


@lru_cache(16)
def _signer(key: Key) -> Signer:
    """Return a key's signer; its signing key is derived once, and not with every token."""
    derived = Signer(key.secret, salt=_SALT, digest_method=sha256, key_derivation="hmac").derive_key()
    return Signer(derived, salt=_SALT, digest_method=sha256, key_derivation="none")
