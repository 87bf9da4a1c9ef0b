"""Keys by purpose, the newest first; during a rotation there are several of each."""

from msgspec import Struct


class Key(Struct, frozen=True):
    """One secret of 32 bytes and its public name."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        """Return the name without the secret."""
        return f"Key({self.name})"


class Keyring(Struct, frozen=True, kw_only=True):
    """All keys of a deployment.

    `master` derives claim secrets, `wrapping` encrypts content keys in the object store, `token` signs tokens. The
    first key of each is in use; the others still verify and decrypt what they made.
    """

    master: tuple[Key, ...]
    wrapping: tuple[Key, ...]
    token: tuple[Key, ...]


def named(keys: tuple[Key, ...], name: str) -> Key | None:
    """Return the key of a name, or None where it has been removed."""
    return next((key for key in keys if key.name == name), None)
