"""Keys by purpose, several of each while one replaces another; newest first."""

from msgspec import Struct


class Key(Struct, frozen=True):
    """One secret of 32 bytes with the public name that finds it again."""

    name: str
    secret: bytes

    def __repr__(self) -> str:
        """Never show the secret."""
        return f"Key({self.name})"


class Keyring(Struct, frozen=True, kw_only=True):
    """All keys of a deployment.

    `master` makes claim secrets, `wrapping` closes what lies in the object store, `token` signs tokens. The first of
    each is the one in use; the others still open what they made.
    """

    master: tuple[Key, ...]
    wrapping: tuple[Key, ...]
    token: tuple[Key, ...]


def named(keys: tuple[Key, ...], name: str) -> Key | None:
    """Find a key by its name; None where it has been removed."""
    return next((key for key in keys if key.name == name), None)
