"""How sure the alarm of a faulty cloud is, on simulated clouds,
and what a look at jobs costs: `python -m tests.bench.bench_alarms [months]`.
"""

import random
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.alarms import job_checks, payload_checks
from skytally.core.documents import Job
from skytally.core.ports import Write
from tests.support.jobs_lab import HOURS_LONGER, STEPS_A_MONTH, STEPS_AN_HOUR, Fleet, Watch

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CLOUDS, FAULTS = 200, (0.3, 0.4, 0.5, 0.6, 0.8)
WORLDS = {"usual": {}, "rough": {"clumps": 0.1, "bad_tasks": 0.06, "usual": 0.2, "odds_spread": 0.25}}
JOBS_A_DAY, RUNNING = 200_000, 40_000


def found_after(seed, fault):
    """Return after how many steps a faulty cloud is found; None after six hours."""
    fleet = Fleet(seed, outages=0)
    for _ in range(HOURS_LONGER * STEPS_AN_HOUR):
        fleet.advance()
    fleet.faults, watch = {"cloud-3": fault}, Watch(fleet)
    for step in range(1, HOURS_LONGER * STEPS_AN_HOUR + 1):
        watch.step()
        if "cloud-3" in watch.raised:
            return step
    return None


def false_alarms(seed, world):
    """Count the alarms of a month without a faulty cloud."""
    watch = Watch(Fleet(seed, **world))
    for _ in range(STEPS_A_MONTH):
        watch.step()
    return len(watch.raised)


def job(number):
    """Describe a job: one in six runs, a tenth of the others failed."""
    is_running, pick = number >= JOBS_A_DAY, random.Random(number)
    return Job(
        **dict.fromkeys(Job.__struct_fields__)
        | dict.fromkeys(("wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 3_600_000)
        | {"system": "panda", "job_id": str(number), "cores": 1, "multicore": False, "changed_at": NOW, "seen_at": NOW}
        | {
            "cloud": f"cloud-{pick.randrange(15)}",
            "vm": f"vm-{pick.randrange(500)}",
            "task_id": str(pick.randrange(600)),
        }
        | {"processing_type": pick.choice("abc"), "transformation": "x"}
        | {"status": "running" if is_running else "failed" if pick.random() < 0.1 else "finished"}
        | {"final_at": None if is_running else NOW - timedelta(days=pick.random())}
    )


def cost():
    """Time a look at the ended and at the running jobs of a large site, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        documents = SqliteDocuments(Path(folder) / "documents.sqlite")
        for start in range(0, JOBS_A_DAY + RUNNING, 20_000):
            documents.write([Write("job", f"panda/{n}", 1, job(n)) for n in range(start, start + 20_000)]).result()
        for name, look in (
            ("ended", lambda: list(job_checks.findings((), documents, NOW))),
            ("running", lambda: list(payload_checks.findings(documents, NOW))),
        ):
            began = time.process_time()
            look()
            print(
                f"a look at what is {name}, of {JOBS_A_DAY} jobs a day and {RUNNING} that run: "
                f"{time.process_time() - began:.1f} s of CPU"
            )
        documents.close()


def main():
    cost()
    for fault in FAULTS:
        steps = [found_after(1_000 + n, fault) for n in range(CLOUDS)]
        hour, six = (
            sum(step is not None and step <= limit for step in steps) / CLOUDS for limit in (STEPS_AN_HOUR, 99)
        )
        print(
            f"clouds that fail {fault:.0%} of their good jobs: found within an hour {hour:.1%}, within six {six:.1%}",
            flush=True,
        )
    months = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for name, world in WORLDS.items():
        print(
            f"{name} clouds, none faulty: {sum(false_alarms(9_000 + n, world) for n in range(months))} alarms in "
            f"{months} months",
            flush=True,
        )


if __name__ == "__main__":
    main()
