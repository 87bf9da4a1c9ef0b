"""A day of PanDA jobs on many clouds with a known truth: placements before, after and never; a monitor that fails; rounds that overlap."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
STATUSES = ("finished",) * 8 + ("failed", "cancelled")
FAILING_SHARE = 0.05


def naive(moment):
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


class Day:
    """The jobs, where each ran, and what was told of it when."""

    def __init__(self, jobs, clouds, seed=1):
        self.random = random.Random(seed)
        self.vms = [(f"vm-{n}", f"cloud-{n % clouds:02}") for n in range(clouds * 4)]
        self.end = BEGIN + timedelta(hours=30)
        self.rows, self.reports, self.truth = [], [], {}
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
        row |= {"starttime": naive(began), "endtime": naive(ended), "durationsec": (ended - began).total_seconds(), "actualcorecount": 8}
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
        form = self.random.choice(("whole", "whole", "host", "none"))
        self.rows.append(row | {"batchid": batch_id if form == "whole" else None})
        if form == "host":
            run["vm"] = f"host-{number}"
        arrives = self.random.choice((began, ended + timedelta(hours=3), None)) if form != "none" else ended
        if arrives is not None:
            self.reports.append((arrives, run))
        self.truth[str(number + 1)] = (status, cloud if arrives is not None and form != "none" else "unknown")

    def counts(self):
        """Answer how many jobs of each status each cloud had."""
        return dict(Counter((cloud, status) for status, cloud in self.truth.values()))

    def live_through(self, monitor, client, scheduler, monkeypatch):
        """Let the hours pass: the monitor shows what ended, reports arrive, rounds run, some twice, some against a failing monitor."""
        monkeypatch.setenv("SKYTALLY_PANDA_QUEUES", "QUEUE_0,QUEUE_1,QUEUE_2")
        monitor.fault_share, monitor.doubled_share = FAILING_SHARE, 0.02
        at = BEGIN
        while at < self.end:
            at += timedelta(minutes=30)
            monitor.rows = [row for row in self.rows if row["modificationtime"] <= naive(at)]
            self._report(at, client, scheduler)
            self._round(at, monitor, client, monkeypatch)
        monitor.fault_share = 0.0
        self._round(self.end + timedelta(minutes=5), monitor, client, monkeypatch)

    def _report(self, at, client, scheduler):
        due = [run for arrives, run in self.reports if at - timedelta(minutes=30) < arrives <= at]
        doubled = due + self.random.sample(due, len(due) // 10)
        answer = client.post("placement_report", json={"jobs": doubled}, headers=scheduler)
        assert answer.json()["rejected"] == []

    def _round(self, at, monitor, client, monkeypatch):
        monkeypatch.setattr("skytally.web.clock", lambda: at)
        monitor.now = lambda: at.replace(tzinfo=None)
        for _ in range(2):
            client.post("panda_collect")
