"""A fleet whose life passes faster than the clock: each vm reports its samples, in order, until all are taken.

Some reports are lost, doubled, slow or late; some clocks are stepped for one sample or stand at 1970. What is kept is a
vm's samples that wait, so it is bounded by the longest outage.
"""

import asyncio
import copy
import json
import random
from datetime import datetime, timedelta

from localstack import fleet
from skytally.core.records import iso
from tests.drill.client import AGAIN

JSON = "Content-Type: application/json"
LOST, DOUBLED, SLOW, STEPPED, AT_1970 = 0.03, 0.05, 0.02, 0.03, 0.01
STEPS_HOURS = (-3, -1, 2, 3)
# A step leaves a sample in its month, and behind its boot.
MARGIN = timedelta(days=1)
AGAIN_SECONDS = 1.0
# A vm that is behind sends several samples in a report.
INTERVAL, MOST_BEHIND = timedelta(hours=1), 50


class Pace:
    """The fleet's time: days that pass in as many seconds as the drill lasts."""

    def __init__(self, begin, end, seconds):
        self._begin, self._factor = begin, seconds / (end - begin).total_seconds()
        self._started = asyncio.get_running_loop().time()

    async def reach(self, moment):
        """Wait until the fleet's time has reached a moment."""
        await asyncio.sleep(max(0.0, self._seconds_until(moment)))

    def is_past(self, moment):
        """Return whether the fleet's time has passed a moment."""
        return self._seconds_until(moment) < 0

    def _seconds_until(self, moment):
        due = self._started + (moment - self._begin).total_seconds() * self._factor
        return due - asyncio.get_running_loop().time()


class Fleet:
    """All vms, and the tokens of their clouds, which servers renew."""

    def __init__(self, vms, until, home, client, ledger):
        self.vms, self.until = vms, until
        self._client, self._ledger = client, ledger
        self._tokens = fleet.reporter_tokens(home, {vm.cloud for vm in vms})

    async def live(self, pace):
        """Let all vms live and report, until every sample was taken."""
        await asyncio.gather(*(self._live(vm, pace) for vm in self.vms))

    async def _live(self, vm, pace):
        dice = random.Random(vm.boot_id)
        late, spool, previous_at = timedelta(hours=dice.random()), [], None
        for sample in vm.samples(self.until):
            due = datetime.fromisoformat(sample["sampled_at"]) + late
            await pace.reach(due)
            if previous_at is not None:
                sample["previous"]["sampled_at"] = previous_at
            step_clock(sample, dice)
            previous_at = sample["sampled_at"]
            if dice.random() < AT_1970:
                await self._send_from_1970(vm, sample)
            spool.append(sample)
            is_behind = pace.is_past(due + INTERVAL) and len(spool) < MOST_BEHIND
            if not is_behind and await self._send(vm, spool, dice):
                spool = []
        while spool and not await self._send(vm, spool, dice):
            await asyncio.sleep(AGAIN_SECONDS)

    async def _send(self, vm, spool, dice):
        """Send a report; return whether the vm knows that it was taken."""
        body = json.dumps({"samples": spool}).encode()
        chance = dice.random()
        sending = self._report(vm, body, pieces=6 if chance < SLOW else 1)
        if SLOW < chance < SLOW + DOUBLED:
            answers = await asyncio.gather(sending, self._report(vm, body))
        else:
            answers = [await sending]
        receipts = [json.loads(answer.body) for answer in answers if answer is not None and answer.status == 200]
        for receipt in receipts:
            self._tokens[vm.cloud] = receipt.get("token", self._tokens[vm.cloud])
            if receipt["rejected"] or receipt["accepted"] + receipt["stale"] != len(spool):
                self._ledger.violate("no good sample is rejected", receipt)
        self._ledger.count("samples acknowledged", sum(len(spool) for _ in receipts))
        return bool(receipts) and dice.random() >= LOST

    async def _report(self, vm, body, pieces=1):
        headers = (JSON, f"Authorization: Bearer {self._tokens[vm.cloud]}")
        self._ledger.count("reports")
        answer = await self._client.ask("usage-report", body, *headers, pieces=pieces, pause=0.3 if pieces > 1 else 0)
        if answer is not None and answer.status != 200 and answer.status not in AGAIN:
            self._ledger.violate("no good report is refused", f"{answer.status} {answer.body[:200]}")
        return answer

    async def _send_from_1970(self, vm, sample):
        """Send a sample of a clock that was not set yet: it is refused, and the vm samples again."""
        wrong = copy.deepcopy(sample)
        wrong["sampled_at"] = wrong["boot_at"] = "1970-01-01T00:10:00Z"
        answer = await self._report(vm, json.dumps({"samples": [wrong]}).encode())
        self._ledger.count("samples from 1970")
        if answer is not None and answer.status == 200 and len(json.loads(answer.body)["rejected"]) != 1:
            self._ledger.violate("a sample from 1970 is rejected", answer.body)


def step_clock(sample, dice):
    """Step the clock of this one sample, now and then, but never beyond its month or its boot."""
    at = datetime.fromisoformat(sample["sampled_at"])
    is_inside = (at - MARGIN).month == (at + MARGIN).month
    is_old = datetime.fromisoformat(sample["boot_at"]) < at - MARGIN
    if is_inside and is_old and not sample["final"] and dice.random() < STEPPED:
        sample["sampled_at"] = iso(at + timedelta(hours=dice.choice(STEPS_HOURS)))
