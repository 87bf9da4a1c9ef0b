"""A day of PanDA jobs on many clouds with a known truth: placements before, after and never;
a monitor that fails, shows jobs late and says more of them later; rounds that overlap.
"""

import random
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from skytally.app import wiring
from skytally.core.errors import Unavailable
from skytally.jobs.panda_collector import Collection
from skytally.operation.timer import Deadline

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
STATUSES = ("finished",) * 8 + ("failed", "cancelled")
FAILING_SHARE, LATE_SHARE = 0.05, 0.1


def naive(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


class Day:
    """The jobs, where each ran, and what was told of it when."""

    def __init__(self, jobs, clouds, seed=1):
        self.random = random.Random(seed)
        self.vms = [(f"vm-{n}", f"cloud-{n % clouds:02}") for n in range(clouds * 4)]
        self.end = BEGIN + timedelta(hours=30)
        self.rows, self.reports, self.truth, self.late_words = [], [], {}, {}
        self.shown_at = {}
        for number in range(jobs):
            self._job(number)
        self.rows.sort(key=lambda row: row["modificationtime"])

    def _job(self, number):
        vm, cloud = self.random.choice(self.vms)
        began = BEGIN + timedelta(seconds=self.random.randrange(22 * 3_600))
        ended = began + timedelta(seconds=self.random.randrange(60, 7_000))
        told = ended + timedelta(seconds=self.random.randrange(0, 600))
        batch_id = f"sched@#{number}.0#{int(began.timestamp())}"
        status = self.random.choice(STATUSES)
        row = {
            "pandaid": number + 1,
            "jeditaskid": 7,
            "computingsite": f"QUEUE_{number % 3}",
            "jobstatus": status,
            "corecount": 8,
            "attemptnr": 1,
        }
        row |= {
            "starttime": naive(began),
            "endtime": naive(ended),
            "durationsec": (ended - began).total_seconds(),
            "actualcorecount": 8,
        }
        row |= {
            "modificationtime": naive(told),
            "statechangetime": naive(told),
            "modificationhost": f"slot1@host-{number}",
            "wn": "Unknown",
        }
        run = {
            "batch_id": batch_id,
            "vm": vm,
            "cloud": cloud,
            "started_at": began.isoformat(),
            "ended_at": ended.isoformat(),
            "state": "completed",
        }
        row |= dict.fromkeys(("superrorcode", "superrordiag"))
        form = self.random.choice(("whole", "whole", "host", "bare", "none"))
        self.rows.append(row | {"batchid": {"whole": batch_id, "bare": f"{number}.0"}.get(form)})
        self.shown_at[number + 1] = told + timedelta(minutes=50 if self.random.random() < LATE_SHARE else 0)
        if status != "finished" and self.random.random() < LATE_SHARE and told < BEGIN + timedelta(hours=20):
            self.late_words[str(number + 1)] = told + timedelta(hours=3)
        if form in {"host", "bare"}:
            run["vm"] = f"host-{number}"
        arrives = self.random.choice((began, ended + timedelta(hours=3), None)) if form != "none" else ended
        if arrives is not None:
            self.reports.append((arrives, run))
        self.truth[str(number + 1)] = (status, cloud if arrives is not None and form != "none" else "unknown")

    def counts(self):
        """Return how many jobs of each status each cloud had."""
        return dict(Counter((cloud, status) for status, cloud in self.truth.values()))

    def live_through(self, monitor, client, scheduler, monkeypatch):
        """Let the hours pass: the monitor shows what ended, reports arrive,
        rounds run, some twice, some against a failing monitor.
        """
        monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", "QUEUE_0,QUEUE_1,QUEUE_2")
        monitor.fault_share, monitor.doubled_share = FAILING_SHARE, 0.02
        at = BEGIN
        while at < self.end:
            at += timedelta(minutes=30)
            monitor.rows = [self._shown(row, at) for row in self.rows if self.shown_at[row["pandaid"]] <= at]
            self._report(at, client, scheduler)
            self._round(at, monitor, client, monkeypatch)
        monitor.fault_share = 0.0
        self._round(self.end + timedelta(minutes=5), monitor, client, monkeypatch)

    def _shown(self, row, at):
        """Let the batch system say something after a job was final: only its status change moves."""
        said_at = self.late_words.get(str(row["pandaid"]))
        if said_at is None or said_at > at:
            return row
        return row | {"statechangetime": naive(said_at), "superrorcode": 9, "superrordiag": "Diag from worker : lost"}

    def _report(self, at, client, scheduler):
        due = [run for arrives, run in self.reports if at - timedelta(minutes=30) < arrives <= at]
        doubled = due + self.random.sample(due, len(due) // 10)
        answer = client.post("placement-report", json={"jobs": doubled}, headers=scheduler)
        assert answer.json()["rejected"] == []

    def _round(self, at, monitor, client, monkeypatch):
        """Call the timer twice; now and then beside a round that was thought dead and goes on."""
        monitor.now = lambda: at.replace(tzinfo=None)
        undead = threading.Thread(target=self._undead_round, args=[at])
        if at.hour % 3 == 0:
            undead.start()
        for seconds in (0, 1):
            moment = at + timedelta(seconds=seconds)
            monkeypatch.setattr("skytally.core.clock.now", lambda moment=moment: moment)
            client.post("panda-collect")
        if undead.ident is not None:
            undead.join()

    def _undead_round(self, at):
        with suppress(Unavailable):
            Collection(
                wiring.panda(),
                wiring.panda_queues(),
                wiring.documents(),
                Deadline(lambda: at, at + timedelta(minutes=1)),
            ).run()
