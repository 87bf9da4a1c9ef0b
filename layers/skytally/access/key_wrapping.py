"""Key wrapping: AES-256-GCM under a key that no store holds; associated data bind a wrapped key to its place."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skytally.core.errors import Changed


def wrap(content_key: bytes, wrapping_key: bytes, bound_to: bytes) -> bytes:
    """Return nonce(12) + AES-256-GCM of a content key, with `bound_to` as associated data."""
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(wrapping_key).encrypt(nonce, content_key, bound_to)


def unwrap(wrapped: bytes, wrapping_key: bytes, bound_to: bytes) -> bytes:
    """Return the content key that `wrap` encrypted; raise Changed if it or its associated data were changed."""
    try:
        return AESGCM(wrapping_key).decrypt(wrapped[:12], wrapped[12:], bound_to)
    except (InvalidTag, ValueError):
        raise Changed("this deposit was changed outside skytally: tell the operator") from None
