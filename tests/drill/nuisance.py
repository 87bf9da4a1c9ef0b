"""Senders that cost a server: garbage at a tenth of the traffic, and clients of a byte a second."""

import asyncio
import contextlib
import json
import random

from tests.drill.fleet_traffic import JSON
from tests.support import slow_senders
from tests.support.slow_senders import converse, head

GARBAGE_SHARE = 0.1
GARBAGE_CLIENTS, GARBAGE_PATIENCE_SECONDS = 4, 0.3
SLOW_CLIENTS, SLOW_PAUSE_SECONDS = 6, 1.0
LOOK_SECONDS = 0.02


SLOW_KINDS = (
    lambda port: slow_senders.slow_head(port, SLOW_PAUSE_SECONDS),
    lambda port: slow_senders.slow_claim(port, SLOW_PAUSE_SECONDS),
    slow_senders.silent,
)


def garbage(token):
    """Return the pieces of a request that deserves no answer, or a refusal."""
    junk = random.randbytes(random.randrange(1, 2_000))
    bearer = f"Authorization: Bearer {token}"
    bodies = {
        "junk json": (b'{"samples": [{"vm": 7}, [], null, "\\u0000", 1e999]}', bearer),
        "no json": (junk, bearer),
        "wrong token": (b'{"samples": []}', f"Authorization: Bearer {junk.hex()[:60]}.{junk.hex()[:20]}"),
        "no token": (b'{"samples": []}', "Accept: */*"),
        "wrong claim": (
            json.dumps({"claim": "a" * 26, "expires": 1, "public_key": "x", "proof": "0" * 64}).encode(),
            "",
        ),
    }
    kind = random.choice(("bytes", "half a request", "nowhere", *bodies))
    if kind == "bytes":
        return [junk + b"\r\n\r\n"]
    if kind == "half a request":
        return [head("usage-report", bearer, JSON, f"Content-Length: {len(junk) + 10}") + junk]
    if kind == "nowhere":
        return [head(junk.hex()[:30], "Connection: close", method="GET")]
    body, header = bodies[kind]
    path = "secret-claim" if kind == "wrong claim" else "usage-report"
    return [head(path, JSON, header or "Accept: */*", f"Content-Length: {len(body)}", "Connection: close") + body]


async def send_garbage(deployment, ledger, token):
    """Send garbage for ever, a tenth of all requests."""
    await asyncio.gather(*(_send_garbage(deployment, ledger, token) for _ in range(GARBAGE_CLIENTS)))


async def _send_garbage(deployment, ledger, token):
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        while ledger.counts["garbage"] < GARBAGE_SHARE / (1 - GARBAGE_SHARE) * ledger.counts["reports"]:
            ledger.count("garbage")
            await _send_once(deployment, ledger, garbage(token))


async def _send_once(deployment, ledger, pieces):
    """Send garbage and wait a moment for the refusal; a connection that stays silent is given up."""
    with contextlib.suppress(OSError, LookupError, ValueError, TimeoutError):
        async with asyncio.timeout(GARBAGE_PATIENCE_SECONDS):
            answer = await converse(deployment.port(), pieces)
            if answer.status == 500:
                ledger.violate("garbage is answered by no 500", answer.body)


async def send_slowly(deployment, ledger):
    """Keep some clients of a byte a second connected, for ever; servers end them."""
    await asyncio.gather(*(_send_slowly(deployment, ledger) for _ in range(SLOW_CLIENTS)))


async def _send_slowly(deployment, ledger):
    while True:
        with contextlib.suppress(OSError, LookupError, ValueError):
            answer = await random.choice(SLOW_KINDS)(deployment.port())
            ledger.count("slow senders ended")
            if answer.status not in {408, 503, None}:
                ledger.violate("slow senders are ended by 408", answer.status)
        await asyncio.sleep(0.5)
