"""The demo's PanDA jobs: what ran on a pretended fleet, and the cloud that breaks them of late."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from localstack import fleet

QUEUE = "DEMO_CLOUDS"
JOBS_AN_HOUR = 200
FAULTY_FOR = timedelta(hours=3)
COLLECTED = timedelta(hours=23)
# processing type, transformation, input, output, release, minutes, cores, PSS in GB, tasks
KINDS = (
    ("simul", "Sim_tf.py", "EVNT", "HITS", "Athena/23.0.53", 110, 8, 2.1, (41_000_101, 41_000_102, 41_000_103)),
    ("pile", "Reco_tf.py", "HITS", "AOD", "Athena/24.0.41", 70, 8, 14.0, (41_000_201, 41_000_202)),
    ("evgen", "Gen_tf.py", "TXT", "EVNT", "AthGeneration/23.6.31", 40, 1, 1.4, (41_000_301,)),
    (
        "panda-client-1.5.69-jedi-run",
        "runGen-00-00-02",
        "DAOD",
        "root",
        "AnalysisBase/25.2.12",
        15,
        1,
        0.9,
        (41_000_401, 41_000_402),
    ),
)
ERRORS = (
    {"piloterrorcode": 1099, "piloterrordiag": "Failed to stage-in file: mc23_13p6TeV.{n}.pool.root: lfn not found"},
    {"piloterrorcode": 1305, "piloterrordiag": "Failed to execute payload"},
    {"exeerrorcode": 65, "exeerrordiag": "Non-zero failure code returned by transform"},
)
FAULT = {
    "piloterrorcode": 1151,
    "piloterrordiag": "File transfer timed out during stage-in: mc23_13p6TeV.{n}.pool.root after 3600 s",
}


def jobs(vms: list[fleet.Vm], until: datetime, seed: int = 1) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Make the jobs that ended within a day on some vms, as PanDA's rows,
    each with its placement; on one cloud they fail of late.
    """
    dice = random.Random(seed)
    faulty = Counter(vm.cloud for vm in vms if vm.end_at is None).most_common(2)[-1][0]
    for number in range(JOBS_AN_HOUR * 23):
        processing_type, transformation, reads, writes, release, minutes, cores, pss_gb, tasks = dice.choice(KINDS)
        ended = until - COLLECTED * dice.random()
        alive = [vm for vm in vms if vm.boot_at < ended - timedelta(hours=3) and ended < (vm.end_at or until)]
        if not alive:
            continue
        vm = dice.choice(alive)
        breaks = vm.cloud == faulty and ended > until - FAULTY_FOR and dice.random() < 0.8
        failed = breaks or dice.random() < 0.04
        began = ended - timedelta(minutes=minutes * dice.uniform(0.6, 1.6))
        batch_id = f"sched.demo#{number}.0#{int(began.timestamp())}"
        error = (FAULT if breaks else dice.choice(ERRORS)) if failed else {}
        row = {
            "pandaid": 6_900_000_000 + number,
            "jeditaskid": dice.choice(tasks),
            "computingsite": QUEUE,
            "jobstatus": "failed" if failed else "finished",
            "processingtype": processing_type,
            "transformation": transformation,
            "inputfiletype": reads,
            "outputfiletype": writes,
            "homepackage": release,
            "corecount": cores,
            "actualcorecount": cores,
            "attemptnr": 1,
            "batchid": batch_id,
            "starttime": _naive(began),
            "endtime": _naive(ended),
            "modificationtime": _naive(ended),
            "statechangetime": _naive(ended),
            "durationsec": int((ended - began).total_seconds()),
            "cpuconsumptiontime": int(
                (ended - began).total_seconds() * cores * dice.uniform(0.75, 0.95) * (0.05 if breaks else 1)
            ),
            "maxpss": int(pss_gb * 1e6 * dice.uniform(0.8, 1.2)),
            "jobmetrics": f"workDirSize={int(dice.uniform(1, 12) * 1e9)}",
            "inputfilebytes": int(dice.uniform(0.5, 4) * 1e9),
            "outputfilebytes": int(dice.uniform(0.1, 1) * 1e9),
            "modificationhost": f"slot1@{vm.name}",
            **{name: value.format(n=number) if isinstance(value, str) else value for name, value in error.items()},
        }
        placement = {"batch_id": batch_id, "vm": vm.name, "cloud": vm.cloud, "state": "completed"}
        yield row, placement | {"started_at": began.isoformat(), "ended_at": ended.isoformat()}


def _naive(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}"
