"""Signatures of texts: Ed25519 (RFC 8032), with keys in PEM as openssl reads them."""

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from skytally.core.errors import Changed, Malformed

PEM = serialization.Encoding.PEM


def new_key() -> str:
    """Return a new signing key in PEM."""
    plain = serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain).decode()


def sign(text: str, signing_key: str) -> tuple[str, str]:
    """Return a text's signature in base64 and the public key in PEM; raise Malformed for what is no signing key."""
    try:
        key = serialization.load_pem_private_key(signing_key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Malformed(
            "this is no private key in PEM without a password: make one by `skytally statement keygen`"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed("the signing key is not Ed25519: make one by `skytally statement keygen`")
    return base64.b64encode(key.sign(text.encode())).decode(), _public(key.public_key())


def _public(key: Ed25519PublicKey) -> str:
    return key.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def verify(text: str, signature: str, public_key: str) -> None:
    """Raise Changed unless the holder of this key signed this text; raise Malformed for what is no public key."""
    try:
        key = serialization.load_pem_public_key(public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("this is no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise Malformed("the public key is not Ed25519")
    try:
        key.verify(base64.b64decode(signature, validate=True), text.encode())
    except (InvalidSignature, binascii.Error, ValueError):
        raise Changed("the signature does not fit: the statement was changed, or another key signed it") from None
