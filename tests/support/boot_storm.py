"""Storms: many vms behind one address that boot, or come back after an outage, within a minute.

A vm behaves as vm.py does: a connection for each request, bodies in gzip, and what is not taken comes again after the
time that the answer asks for. All vms share one RSA key, since making ten thousand keys would keep the machine from
serving them; each opens its own bundle with it.
"""

import asyncio
import gzip
import json
import random
import urllib.parse
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localstack import fleet
from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.app import wiring
from skytally.core.config import Config
from skytally.core.records import Caller
from skytally.secrets import envelope
from tests.support import builders, left_deposits, slow_senders

ADDRESS = "198.51.100.7"
# One hop is trusted, so that all callers have the address that it names, and the rate limits count them.
SETTINGS = {"SKYTALLY_TRUSTED_HOPS": "1"}
CLOUD, SPOOLED_HOURS = "uvic", 24
OLDEST_SPOOL = timedelta(hours=SPOOLED_HOURS + 1)
UNREACHED = 0


@dataclass
class Storm:
    """What became of it: how long each vm took, and what was answered instead of a 200, by status."""

    waits_seconds: list[float] = field(default_factory=list)
    refusals: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def quantile_seconds(self, share: float) -> float:
        """Return within how many seconds this share of the vms was done."""
        ordered = sorted(self.waits_seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


Vm = Callable[[int, Storm], Coroutine[Any, Any, None]]


def boots(home: Path, count: int) -> list[Vm]:
    """Leave a deposit for each vm; return what each does as it boots: it claims, opens, and reports."""
    objects = wiring.open_objects(Config.from_env({"SKYTALLY_HOME": str(home)}))
    names = [f"storm-{n:05}" for n in range(count)]
    claim_tokens = left_deposits.leave(objects, _keys(home).keyring(), names, CLOUD)
    public_key = builders.public_key()
    return [_booting(name, token, public_key) for name, token in zip(names, claim_tokens, strict=True)]


def _booting(name: str, claim_token: str, public_key: str) -> Vm:
    form = urllib.parse.urlencode(builders.claim_form(claim_token, public_key)).encode()

    async def boot(port: int, storm: Storm) -> None:
        boot_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
        bundle = await _insist(port, "secret-claim", form, storm, "Content-Type: application/x-www-form-urlencoded")
        claim, expires, secret = claim_token.split(".")
        _, reporter = envelope.open_bundle(bundle, secret.encode(), builders.SHARED_KEY, claim, int(expires))
        vm, now = fleet.Vm(name, CLOUD, 8, 80, boot_at, None), datetime.now(UTC)
        await _report(port, reporter, _packed([vm.sample(now, boot_at, f"{now:%Y-%m}")]), storm)

    return boot


def returns(home: Path, count: int) -> list[Vm]:
    """Return what each of so many vms does after a day without a server: it sends a day of hourly samples at once."""
    now = datetime.now(UTC).replace(microsecond=0)
    key, issued, expires = _keys(home).keyring().token, int(now.timestamp()), int(now.timestamp()) + 86_400
    coming = []
    for n in range(count):
        name, boot_at = f"back-{n:05}", now - timedelta(hours=SPOOLED_HOURS, minutes=1 + n % 60)
        caller = Caller(role="reporter", clouds=(CLOUD,), vm=name, issued=issued, expires=expires)
        vm = fleet.Vm(name, CLOUD, 8, 80, boot_at, None)
        spool = list(vm.samples(boot_at + timedelta(hours=SPOOLED_HOURS)))
        coming.append(_coming_back(tokens.issue(caller, key), _packed(spool)))
    return coming


def _coming_back(token: str, body: bytes) -> Vm:
    async def come_back(port: int, storm: Storm) -> None:
        await _report(port, token, body, storm)

    return come_back


def run(port: int, vms: Sequence[Vm], within_seconds: float, seed: int = 1) -> Storm:
    """Let each vm begin at a moment of its own within some seconds; return once all are done."""
    storm, dice = Storm(), random.Random(seed)

    async def live(vm: Vm, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        began = asyncio.get_running_loop().time()
        await vm(port, storm)
        storm.waits_seconds.append(asyncio.get_running_loop().time() - began)

    async def all_of_them() -> None:
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for vm in vms:
                group.create_task(live(vm, dice.uniform(0, within_seconds)))
        storm.seconds = asyncio.get_running_loop().time() - began

    asyncio.run(all_of_them())
    return storm


async def _report(port: int, token: str, body: bytes, storm: Storm) -> None:
    headers = ("Content-Type: application/json", "Content-Encoding: gzip", f"Authorization: Bearer {token}")
    receipt = json.loads(await _insist(port, "usage-report", body, storm, *headers))
    if receipt["rejected"]:
        raise RuntimeError(f"rejected: {receipt['rejected'][:3]}")


async def _insist(port: int, function: str, body: bytes, storm: Storm, *headers: str) -> bytes:
    """Send a request until it is taken; return the body of the answer. Raise RuntimeError for a final refusal."""
    sent = (f"Content-Length: {len(body)}", f"X-Forwarded-For: {ADDRESS}", "Connection: close")
    request, pause_seconds = slow_senders.head(function, *headers, *sent) + body, 1.0
    while True:
        try:
            answer = await slow_senders.converse(port, [request])
        except OSError:
            answer = slow_senders.Answer(b"", 0.0)
        if answer.status == 200:
            return answer.body
        storm.refusals[answer.status or UNREACHED] += 1
        if answer.status not in {None, 408, 429, 503}:
            raise RuntimeError(f"{function}: {answer.status} {answer.body[:300]!r}")
        asked_seconds = float(answer.headers.get("retry-after", 0)) if answer.status else 0.0
        await asyncio.sleep(asked_seconds + random.uniform(pause_seconds / 2, pause_seconds))
        pause_seconds = min(2 * pause_seconds, 60)


def _packed(samples: list[dict[str, Any]]) -> bytes:
    return gzip.compress(json.dumps({"samples": samples}).encode(), 6)


def _keys(home: Path) -> KeyFiles:
    return KeyFiles(home / "keys", lambda: datetime.now(UTC))
