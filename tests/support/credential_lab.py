"""What tests of credentials share: keys, and a credential of a token file."""

from datetime import UTC, datetime

from skytally.access.credentials import Credential
from skytally.access.keyring import Key, Keyring

OLD, NEW = Key("wrapping-20261101000000", b"o" * 32), Key("wrapping-20261102000000", b"n" * 32)
KEYS = Keyring(master=(), wrapping=(OLD,), token=())


def credential(file, documents, keys=lambda: KEYS, now=lambda: datetime.now(UTC)):
    return Credential("dirac", "SKYTALLY_DIRAC_TOKEN_FILE", file, documents, keys, now)
