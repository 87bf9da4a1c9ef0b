"""Makers of what tests send: a vm's key and claim, and samples with known counters."""

import base64
import gzip
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import strategies as st

from skytally.adapters.documents_search.templates import is_month, written_to
from skytally.core import records
from skytally.core.records import HeartbeatReport
from skytally.secrets import envelope

SEARCH_ENGINES = ("elasticsearch", "opensearch")
DOCUMENT_STORES = ("sqlite", *SEARCH_ENGINES)
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


def remove(client: Any, prefix: str) -> None:
    """Remove all indices and templates of a prefix from a search engine."""
    client.perform("DELETE", "/" + ",".join(client.perform("GET", f"/{prefix}-*", {"filter_path": "*.aliases"})))
    client.perform("DELETE", f"/_index_template/{prefix}-*")
    client.perform("DELETE", f"/_component_template/{prefix}-*")


def empty(documents: Any, prefix: str) -> None:
    """Make those indices of a prefix anew that were written to;
    of months, this one is there and others come by themselves.
    """
    client, now = documents.client, datetime.now(UTC)
    stats = client.perform(
        "GET", f"/{prefix}-*/_stats/indexing", {"filter_path": "indices.*.primaries.indexing.index_total"}
    )
    written = [name for name, row in stats["indices"].items() if row["primaries"]["indexing"]["index_total"]]
    if written:
        client.perform("DELETE", "/" + ",".join(written))
    this_month = written_to(prefix, "interval", f"x-{now:%Y%m%dT%H%M%S}Z-0")
    made_anew = {name for name in written if not is_month(prefix, name)}
    if this_month not in stats["indices"] or this_month in written:
        made_anew.add(this_month)
    for name in made_anew:
        client.perform("PUT", f"/{name}")
    documents.refresh()


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
        return {
            "sampled_at": stamp(at),
            "uptime_seconds": seconds,
            "counters": counters(seconds, self.cores, self.busy),
        }

    def sample(
        self, at: datetime, previous: datetime | None = None, *, month: str | None = None, **more: Any
    ) -> dict[str, Any]:
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


def heartbeat(*job_ids: Any, vm: str = "vm-1", seen_at: datetime | None = None, **more: Any) -> HeartbeatReport:
    """Read the report of a vm that names jobs, as it comes over the wire."""
    body = {"vm": vm, "jobs": job_ids, **({} if seen_at is None else {"seen_at": seen_at}), **more}
    return records.parse(msgspec.json.encode(body), HeartbeatReport)


_PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=300)
)
_NESTED = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_MOMENTS = (
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "0000-00-00 00:00:00",
    "1999-12-31T23:59:59Z",
    "2099-12-31T00:00:00Z",
)
_WORDS = (
    "\x00",
    "a\nb",
    "\u202e",
    "\u2028",
    "x" * 256,
    "😀" * 255,
    "a@b@1",
    "x" * 100_000,
    "NaN",
    "2026-11-24T00:00:00",
)
_TEXTS = ("1e400", "-1e400", "9" * 5_000, "1e-400", str(2**63), str(-(2**63) - 1), "[" * 800 + "]" * 800, "{}", "[[]]")
# The text of any JSON value, also of those that no library writes.
ANY_JSON = _NESTED.map(json.dumps) | st.sampled_from(_TEXTS) | st.sampled_from(_MOMENTS + _WORDS).map(json.dumps)
