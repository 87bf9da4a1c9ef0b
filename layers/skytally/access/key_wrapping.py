"""Wrapping of keys: AES-256-GCM under a key that no store holds, bound to where the text lies."""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skytally.core.errors import Changed


def wrap(content_key: bytes, wrapping_key: bytes, bound_to: bytes) -> bytes:
    """Close a content key under a key that the store does not hold,
    bound to what it came with: nonce(12) + AES-256-GCM.
    """
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(wrapping_key).encrypt(nonce, content_key, bound_to)


def unwrap(wrapped: bytes, wrapping_key: bytes, bound_to: bytes) -> bytes:
    """Open what `wrap` made, or raise Changed: it is not, or came not with, what it was."""
    try:
        return AESGCM(wrapping_key).decrypt(wrapped[:12], wrapped[12:], bound_to)
    except (InvalidTag, ValueError):
        raise Changed("this deposit was changed outside skytally: tell the operator") from None
