"""Clouds whose jobs are simulated, healthy and faulty, with what reality has:
jobs that fail in clumps, bad tasks, quiet nights, outages.

A step is twenty minutes, as often as a collector brings what ended. Seeded: the same seed is the same month.
"""

import math
import random
from collections import defaultdict, deque

from skytally.alarms.failure_rate_test import Cell, Comparison, faulty

STEPS_AN_HOUR = 3
STEPS_A_MONTH = 24 * 30 * STEPS_AN_HOUR
HOURS_LONGER = 6


class Fleet:
    """Clouds that run tasks: big ones everywhere, small ones on one to three clouds."""

    def __init__(
        self,
        seed,
        *,
        clouds=15,
        jobs_an_hour=100,
        usual=0.1,
        clumps=0.05,
        bad_tasks=0.03,
        big=10,
        small=25,
        odds_spread=0.15,
        outages=1 / 150,
    ):
        self.random = random.Random(seed)
        self.clouds = [f"cloud-{n}" for n in range(clouds)]
        self.jobs_an_hour, self.usual, self.clumps, self.bad_tasks = jobs_an_hour, usual, clumps, bad_tasks
        self.odds = {cloud: self.random.lognormvariate(0, odds_spread) for cloud in self.clouds}
        self.faults, self.outages = {}, outages
        self.step, self.outage_until, self.next_task = 0, 0, 0
        self.tasks = [self._task(n < big) for n in range(big + small)]
        self.cell_shares = {}
        self.steps = deque(maxlen=HOURS_LONGER * STEPS_AN_HOUR)

    def _task(self, is_big):
        self.next_task += 1
        clouds = (
            self.clouds if is_big else self.random.sample(self.clouds, self.random.randint(1, min(3, len(self.clouds))))
        )
        share = 0.9 if self.random.random() < self.bad_tasks else self._beta(self.usual, 0.1)
        weight = self.random.lognormvariate(0, 1) * (3 if is_big else 2)
        ends = self.step + self.random.randint(2, 12 if not is_big else 72)
        return str(self.next_task), self.random.choice("ab"), set(clouds), share, weight, ends, is_big

    def _beta(self, mean, correlation):
        """Draw a share with a mean, such that two of its jobs fail together with a correlation."""
        if correlation == 0 or mean in (0, 1):
            return mean
        size = 1 / correlation - 1
        return self.random.betavariate(mean * size, (1 - mean) * size)

    def _share(self, task, cloud):
        """The share of a task's jobs that fail at a cloud: the task's, moved by the cloud's odds and by a clump."""
        key = task[0], cloud
        if key not in self.cell_shares:
            odds = task[3] / max(1e-9, 1 - task[3]) * self.odds[cloud]
            self.cell_shares[key] = self._beta(min(0.99, odds / (1 + odds)), self.clumps)
        return self.cell_shares[key]

    def advance(self):
        """Let twenty minutes of jobs end."""
        rng = self.random
        self.step += 1
        self.tasks = [self._task(task[6]) if task[5] < self.step else task for task in self.tasks]
        if rng.random() < self.outages / STEPS_AN_HOUR:
            self.outage_until = self.step + rng.randint(2, 6)
        outage = 0.6 if self.step < self.outage_until else 0.0
        day = 0.6 + 0.4 * math.sin(2 * math.pi * self.step / (24 * STEPS_AN_HOUR))
        ended = defaultdict(lambda: [0, 0])
        for cloud in self.clouds:
            here = [task for task in self.tasks if cloud in task[2]]
            rate = self.jobs_an_hour / STEPS_AN_HOUR * (1 if self.faults else day / 0.6 if day < 0.6 else 1)
            for task in rng.choices(here, [task[4] for task in here], k=_poisson(rng, rate)) if here else ():
                share = self._share(task, cloud)
                share = 1 - (1 - share) * (1 - outage) * (1 - self.faults.get(cloud, 0))
                cell = ended[cloud, task[1], task[0]]
                cell[0] += 1
                cell[1] += rng.random() < share
        self.steps.append(ended)
        if self.step % 500 == 0:
            alive = {task[0] for task in self.tasks}
            self.cell_shares = {key: share for key, share in self.cell_shares.items() if key[0] in alive}

    def ended(self, hours):
        """The jobs that ended in the last hours, as a comparison of clouds."""
        total = defaultdict(lambda: [0, 0])
        for step in list(self.steps)[-hours * STEPS_AN_HOUR :]:
            for key, (jobs, failed) in step.items():
                total[key][0] += jobs
                total[key][1] += failed
        return Comparison(Cell(*key, *counts) for key, counts in total.items())


class Watch:
    """Who looks at a fleet step by step, as rounds of the alarms do:
    what was found stays for an hour without evidence.
    """

    def __init__(self, fleet):
        self.fleet, self.seen, self.raised = fleet, {}, []

    def step(self):
        self.fleet.advance()
        found = faulty(self.fleet.ended(1), self.fleet.ended(HOURS_LONGER), self.seen)
        self.raised += sorted(found.keys() - self.seen.keys())
        kept = {place: step for place, step in self.seen.items() if self.fleet.step - step < STEPS_AN_HOUR}
        self.seen = kept | dict.fromkeys(found, self.fleet.step)


def _poisson(rng, mean):
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count += 1
        product *= rng.random()
    return count
