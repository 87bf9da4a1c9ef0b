"""Secrets that several racers claim at the same moment, on servers that are killed and stores that are away.

Of a race only its result is kept: delivered once, lost with the answer that carried it, or expired.
"""

import asyncio
import base64
import json
import time

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.drill.client import AGAIN
from tests.support import builders

# Each key claims twice at the same moment, and one more later: a repeated claim and a foreign one are told apart.
KEYS, CLAIMS_OF_A_KEY = 2, 2
# Alarms read all evidence of contested secrets, so a long drill has no more of them than a bad month.
SECRETS_PER_SECOND, MOST_SECRETS = 3, 1_500
RACES_AT_ONCE = 60
EXPIRING_EVERY, EXPIRES_SECONDS = 25, 60
AGAIN_SECONDS = 0.3
JSON = "Content-Type: application/json"


class Races:
    """A scheduler that leaves secrets, and the vms that race for them."""

    def __init__(self, token, client, ledger):
        self._token, self._client, self._ledger = token, client, ledger
        keys = (rsa.generate_private_key(public_exponent=65_537, key_size=2_048) for _ in range(KEYS + 1))
        self._public_keys = [builders.public_key(key) for key in keys]

    async def run(self, seconds):
        """Begin races for some seconds; return when all are over."""
        until, number, places = time.monotonic() + seconds, 0, asyncio.Semaphore(RACES_AT_ONCE)
        pause = max(1 / SECRETS_PER_SECOND, seconds / MOST_SECRETS)
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < until:
                await places.acquire()
                is_expiring = number % EXPIRING_EVERY == 0 and time.monotonic() < until - EXPIRES_SECONDS
                work = self._let_expire(number) if is_expiring else self._race(number)
                group.create_task(work).add_done_callback(lambda _: places.release())
                number += 1
                await asyncio.sleep(pause)

    async def _race(self, number):
        token = await self._deposit(number, 3_600)
        claims = await asyncio.gather(*(self._claim(token, key) for key in self._public_keys[:KEYS] * CLAIMS_OF_A_KEY))
        late = await self._claim(token, self._public_keys[KEYS])
        statuses = sorted(status for status, _ in (*claims, late))
        is_answer_lost = any(is_lost for _, is_lost in claims)
        deliveries = statuses.count(200)
        if deliveries > 1:
            self._ledger.violate("no secret is delivered twice", f"secret {number}: {statuses}")
        elif deliveries == 1 and set(statuses[1:]) == {409}:
            self._ledger.count("secrets delivered once")
        elif set(statuses) == {409} and is_answer_lost:
            self._ledger.count("secrets gone with a lost answer")
        else:
            self._ledger.violate(
                "no secret is lost, and all others are told who took it", f"secret {number}: {statuses}"
            )

    async def _let_expire(self, number):
        token = await self._deposit(number, EXPIRES_SECONDS)
        await asyncio.sleep(max(0.0, int(token.split(".")[1]) + 2 - time.time()))
        status, _ = await self._claim(token, self._public_keys[0])
        if status == 410:
            self._ledger.count("secrets expired")
        else:
            self._ledger.violate("no secret is delivered after its expiry", f"secret {number}: {status}")

    async def _deposit(self, number, expires_seconds):
        """Leave a secret, with one Idempotency-Key for all tries; return the claim's token."""
        payload = base64.b64encode(b"payload of %d" % number).decode()
        body = {"vm": f"raced-{number}", "cloud": "uvic", "payload": payload, "expires_in_seconds": expires_seconds}
        headers = (JSON, f"Authorization: Bearer {self._token}", f"Idempotency-Key: drill-{number}")
        answer, _ = await self._insist("secret-deposit", json.dumps(body).encode(), *headers)
        if answer.status != 201:
            self._ledger.violate("no good deposit is refused", f"{answer.status} {answer.body[:200]}")
        return json.loads(answer.body)["token"]

    async def _claim(self, token, public_key):
        """Claim until the answer is final; return its status, and whether an answer before it was lost."""
        form = builders.claim_form(token, public_key)
        body = json.dumps({**form, "expires": int(form["expires"])}).encode()
        answer, is_lost = await self._insist("secret-claim", body, JSON)
        return answer.status, is_lost

    async def _insist(self, path, body, *headers):
        is_lost = False
        while True:
            answer = await self._client.ask(path, body, *headers)
            if answer is not None and answer.status not in AGAIN:
                return answer, is_lost
            is_lost = is_lost or answer is None or answer.status == 503
            await asyncio.sleep(AGAIN_SECONDS)
