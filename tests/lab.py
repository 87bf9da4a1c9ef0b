"""Makers of what tests send: a vm's key and claim, and samples with known counters."""

import base64
import gzip
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from skytally import envelope

DOCUMENT_STORES = ("sqlite", "elasticsearch")
SHARED_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def public_key(private_key: rsa.RSAPrivateKey = SHARED_KEY, comment: str = "root@vm") -> str:
    """Write a key as a vm sends it: base64(gzip(ssh-rsa line))."""
    line = private_key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64encode(gzip.compress(line + b" " + comment.encode() + b"\n", mtime=0)).decode()


def claim_form(token: str, key: str, vm: str | None = None) -> dict[str, str]:
    """Fill in the form of secret_claim, with the proof of whoever holds the token."""
    claim, expires, secret = token.split(".")
    proof = envelope.proof_of(secret.encode(), claim, key, vm)
    return {"claim": claim, "expires": expires, "public_key": key, "proof": proof} | ({"vm": vm} if vm else {})


def stamp(moment: datetime) -> str:
    """Write a moment as the wire has it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counters(wall_seconds: float, cores: int = 8, busy: float = 0.5) -> dict[str, float]:
    """Count what a vm with so many cores, so busy, counts in a time."""
    core_seconds = wall_seconds * cores
    user, system = core_seconds * busy * 0.9, core_seconds * busy * 0.1
    return {
        "wall_seconds": wall_seconds,
        "core_seconds": core_seconds,
        "user_seconds": user,
        "system_seconds": system,
        "idle_seconds": core_seconds - user - system,
    }


class FakeVm:
    """A vm with a known past: cores equally busy all the time since its boot."""

    def __init__(self, vm: str = "vm-1", boot_at: datetime | None = None, cores: int = 8, busy: float = 0.5) -> None:
        self.vm, self.cores, self.busy = vm, cores, busy
        self.boot_id = str(uuid.uuid4())
        self.boot_at = boot_at or datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)

    def moment(self, at: datetime) -> dict[str, Any]:
        """Describe a moment as `previous` does."""
        seconds = (at - self.boot_at).total_seconds()
        return {"sampled_at": stamp(at), "uptime_seconds": seconds, "counters": counters(seconds, self.cores, self.busy)}

    def sample(self, at: datetime, previous: datetime | None = None, *, month: str | None = None, **more: Any) -> dict[str, Any]:
        """Take a sample; `previous` is the boot where none is given."""
        month = month or f"{at.astimezone(UTC):%Y-%m}"
        edge = max(self.boot_at, datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC))
        return {
            "vm": self.vm,
            "boot_id": self.boot_id,
            "boot_at": stamp(self.boot_at),
            "month": month,
            "cores": self.cores,
            "month_start": counters((edge - self.boot_at).total_seconds(), self.cores, self.busy),
            "previous": self.moment(previous or self.boot_at),
            **self.moment(at),
            **more,
        }
