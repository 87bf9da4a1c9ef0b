"""Deposits left by the rules themselves, for those who come to claim them."""

import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from skytally.access.keyring import Keyring
from skytally.core.ports import Objects
from skytally.core.records import Caller, Deposit
from skytally.secrets import deposits

PAYLOAD_BYTES = 4_096
SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)


def leave(objects: Objects, keyring: Keyring, vms: Iterable[str], cloud: str = "uvic") -> list[str]:
    """Leave a payload for each vm; return the claim tokens in the same order."""
    now = datetime.now(UTC)

    def left(vm: str) -> str:
        request = Deposit(cloud=cloud, vm=vm, payload=secrets.token_bytes(PAYLOAD_BYTES), expires_in_seconds=7_200)
        return deposits.deposit(request, SCHEDULER, objects, keyring, now)["token"]

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(left, vms))
