"""The demo's DIRAC jobs: vms name them in heartbeats, and a stand-in for DIRAC's command line knows their ends."""

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from localstack import classic_dirac, fleet

JOBS = 120
Send = Callable[[str, str, Any], bytes]
# Number, vm, begin, end, and the row that DIRAC has.
Made = Sequence[tuple[str, fleet.Vm, datetime, datetime, dict[str, Any]]]
ENDS = (
    *((("Done", "Execution Complete", "Job Finished Successfully"),) * 8),
    ("Failed", "Application Finished With Errors", "basf2 exited with code 11"),
    ("Killed", "Marked for termination", "Unknown"),
)


def jobs(vms: Sequence[fleet.Vm], until: datetime) -> Made:
    """Make jobs that ended within a day, on vms that lived meanwhile."""
    dice = random.Random(3)
    made = []
    for number in range(70_001, 70_001 + JOBS):
        ended = until - timedelta(hours=2) - timedelta(hours=20) * dice.random()
        began = ended - timedelta(hours=dice.uniform(0.5, 4))
        alive = [vm for vm in vms if vm.boot_at < began and ended < (vm.end_at or until)]
        if not alive:
            continue
        status, minor, application = dice.choice(ENDS)
        row = {
            "Status": status,
            "MinorStatus": minor,
            "ApplicationStatus": application,
            "Site": "LCG.Demo.org",
            "LastUpdateTime": _naive(ended),
            "HeartBeatTime": _naive(ended),
            "StartExecTime": _naive(began),
            "EndExecTime": _naive(ended),
            "RescheduleTime": None,
            "RescheduleCounter": "0",
        }
        made.append((str(number), dice.choice(alive), began, ended, row))
    return made


def _naive(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def set_up(folder: Path, made: Made) -> None:
    """Put the stand-in's command into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    classic_dirac.set_up(folder, {number: row for number, _, _, _, row in made})


def fill(
    send: Send,
    tokens: dict[str, str],
    made: Made,
) -> None:
    """Name each job at its begin and at its end, told late."""
    for number, vm, began, ended, _ in made:
        for seen_at in (began, ended):
            body = {"vm": vm.name, "jobs": [number], "seen_at": seen_at.isoformat()}
            send("job-heartbeat", tokens[vm.cloud], body)
