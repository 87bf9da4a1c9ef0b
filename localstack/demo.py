"""A server with something worth looking at: a pretended fleet,
the PanDA jobs that ran on it, and a cloud that breaks them: `make demo`.

Everything comes by the ordinary way: samples and placements are reported, jobs are collected from a stand-in for
BigPanDA, and the alarms are raised by their timer. Nothing of it is left in any other server's state: its home is
`.skytally-demo`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from localstack import fleet
from localstack.bigpanda import bigpanda

ROOT = Path(__file__).resolve().parent.parent
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


def call(base: str, path: str, token: str = "", body: Any = None) -> Any:
    """Ask the server; raises where it does not answer 200."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{base}/function/{path}", data, headers), timeout=300
    ) as answer:
        return json.load(answer)


def fill(base: str, home: Path, vms: list[fleet.Vm], placements: list[dict[str, Any]], until: datetime) -> None:
    """Report a fleet, then its jobs' placements; collect the jobs, and raise what alarms there are."""
    tokens = fleet.reporter_tokens(home, {vm.cloud for vm in vms})
    asyncio.run(fleet.post_all(base, tokens, fleet.requests(vms, until, lost=0.1, doubled=0.1, seed=1)))
    call(base, "placement-report", (home / "tokens" / "scheduler").read_text().strip(), {"jobs": placements})
    for timer in ("panda-collect", "alarm-raise"):
        print(f"{timer}: {do_round(base, timer)}", flush=True)


def do_round(base: str, timer: str) -> dict[str, Any]:
    """Do a round of a timer, after the one that the server may be doing by itself just now."""
    while True:
        answer: dict[str, Any] = call(base, timer, body={})
        if answer["state"] == "done":
            return answer
        time.sleep(1)


def main() -> int:
    """Run the server with its fleet until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=60, help="how many vms (default 60)")
    parser.add_argument("--days", type=float, default=3.0, help="how long they have lived until now (default 3)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = Path(os.environ.get("SKYTALLY_HOME", ".skytally-demo")).absolute()
    until = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    vms = fleet.make(options.vms, options.days, until, seed=1)
    job_rows = list(jobs(vms, until))
    with bigpanda() as (monitor, panda_url):
        monitor.rows = sorted((row for row, _ in job_rows), key=lambda row: row["modificationtime"])
        settings = {"SKYTALLY_HOME": str(home), "SKYTALLY_OPEN_DASHBOARD": "true", "SKYTALLY_TIMER_MIN_SECONDS": "1"}
        environment = {**os.environ, **settings, "SKYTALLY_PANDA_URL": panda_url, "SKYTALLY_PANDA_QUEUES": QUEUE}
        command = [sys.executable, str(ROOT / "localstack" / "serve.py")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                ready = (server.stdout.readline() if server.stdout else "").strip()
                if not ready.startswith("ready "):
                    return server.wait() or 1
                page = ready.removeprefix("ready ")
                fill(
                    page.removesuffix("/function/dashboard"), home, vms, [placement for _, placement in job_rows], until
                )
                print(f"look at {page}; Ctrl-C ends it", flush=True)
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                server.terminate()


if __name__ == "__main__":
    sys.exit(main())
