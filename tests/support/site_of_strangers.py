"""A real server with a small fleet whose clouds have names that strangers gave them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2

from skytally.access import tokens
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.adapters.keys_files import KeyFiles
from skytally.core.documents import Job
from skytally.core.ports import Write
from skytally.core.records import Caller
from tests.support import builders

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Story:
    """What becomes of a cloud's only vm, half busy for the two days before now."""

    cores: int
    hs23: float | None = None
    silent_hours: int = 0
    lost_hours: range = range(0)
    site: str | None = None
    group: str | None = None
    clock_offset_seconds: float | None = None
    estimated: bool = False
    vm_named: str = ""

    @property
    def vm(self) -> str:
        return self.vm_named or f"vm-of-{self.cores}"

    def heard_hours(self, window_hours: int) -> int:
        """Count the hours of a window before now of which there are intervals."""
        return sum(hour not in self.lost_hours for hour in range(self.silent_hours, window_hours))


MARKUP, RIGHT_TO_LEFT, EMOJI, LONG = (
    "<img src=x onerror=alert(1)>",
    "مركز الحوسبة السحابية",
    "🦉" * 255,
    "research-cloud-of-a-university-with-a-name-that-goes-on",
)
HOSTILE_VM, HOSTILE_SITE, HOSTILE_MESSAGE = (
    '"><script>alert(1)</script>\u202etxt.exe',
    "<u>موقع</u>",
    "<script>alert(2)</script> no input " + "🐢" * 60,
)
STRANGERS = {
    MARKUP: Story(cores=4, hs23=15.0, site=HOSTILE_SITE, group="belle"),
    RIGHT_TO_LEFT: Story(cores=8, silent_hours=3, site="Victoria"),
    EMOJI: Story(cores=2, lost_hours=range(4, 10), clock_offset_seconds=-340.0, vm_named=HOSTILE_VM),
    LONG: Story(cores=16, site="Victoria", group="belle", estimated=True),
}
LIFE_HOURS = 48
TASKS = 8


@dataclass(frozen=True)
class Jobs:
    """Some jobs of an hour each, that ended one after the other, minutes apart, or that still run."""

    cloud: str
    status: str
    count: int
    cores: int
    cpu_hours: float
    vm: str | None = None
    error: str | None = None
    minutes_apart: float = 30

    @property
    def wasted_core_hours(self) -> int:
        return self.count * self.cores if self.status == "failed" else 0


JOBS = (
    Jobs(LONG, "finished", 5, 16, 12.0, vm="vm-of-16"),
    Jobs(MARKUP, "failed", 3, 4, 1.0, vm="vm-of-4", error="pilot 1099"),
    Jobs("unknown", "finished", 2, 8, 6.0),
    Jobs(RIGHT_TO_LEFT, "running", 1, 8, 0.0, vm="vm-of-8"),
)


class Site:
    """A server with a fleet on it, and how to stop and start it."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home, self.port = home, 0
        self.now = datetime.now(UTC).replace(microsecond=0)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
        self.environment = {**clean, "SKYTALLY_HOME": str(home), **settings}

    def start(self) -> None:
        command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", str(self.port), "--processes", "1"]
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.port = int(self.process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        self.page = f"http://127.0.0.1:{self.port}/function/dashboard"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def reader(self) -> str:
        return (self.home / "tokens" / "reader").read_text()

    def signed(self, role: str, lives_seconds: int = 3_600, **fields: object) -> str:
        """Sign a token with the server's own keys."""
        now = datetime.now(UTC)
        issued = int(now.timestamp())
        caller = Caller(role=role, issued=issued, expires=issued + lives_seconds, **fields)
        return tokens.issue(caller, KeyFiles(self.home / "keys", lambda: now).keyring().token)

    def report(self, cloud: str, samples: list[dict[str, object]], **labels: str | None) -> None:
        signed = self.signed("reporter", clouds=(cloud,), **labels)
        answer = httpx2.post(
            f"http://127.0.0.1:{self.port}/function/usage-report",
            json={"samples": samples},
            headers={"Authorization": f"Bearer {signed}"},
        )
        assert answer.json()["rejected"] == []

    def keep(self, writes: list[Write]) -> None:
        """Put documents into the server's own store, as a collector does."""
        documents = SqliteDocuments(self.home / "documents.sqlite")
        documents.write(writes).result()
        documents.close()


def fleet(site: Site, now: datetime) -> None:
    """Let every stranger's vm report each hour of its story, and let jobs run there."""
    for cloud, story in STRANGERS.items():
        site.report(cloud, list(reports(story, now)), site=story.site, group=story.group)
    site.keep([job for number, jobs in enumerate(JOBS) for job in job_documents(jobs, 100 * number, now)])


def raw_error(error: str, job_id: int) -> str:
    """Return the source's text of a job's error, of two lines."""
    return f"{error}: {HOSTILE_MESSAGE}\n    at <b>line {job_id}</b>"


def job_documents(jobs: Jobs, first: int, now: datetime) -> Iterator[Write]:
    """Write jobs down as a collector knows them."""
    hour_ms = 3_600_000
    for number in range(jobs.count):
        ended_at = None if jobs.status == "running" else now - timedelta(minutes=jobs.minutes_apart * (number + 1))
        told = {
            "system": "panda",
            "job_id": str(first + number),
            "cloud": jobs.cloud,
            "vm": jobs.vm,
            "queue": "QUEUE<1>",
            "task_id": str(41_000_000 + number % TASKS),
            "batch_id": f"sched.example#{first + number}.0",
            "status": jobs.status,
            "cores": jobs.cores,
            "multicore": True,
            "error": jobs.error,
            "error_message": jobs.error and HOSTILE_MESSAGE,
            "error_raw": jobs.error and raw_error(jobs.error, first + number),
            "log_url": f"https://logs.example/{first + number}",
            "started_at": (ended_at or now) - timedelta(hours=1),
            "ended_at": ended_at,
            "final_at": ended_at,
            "changed_at": now,
            "seen_at": now,
            "wall_ms": hour_ms,
            "cpu_ms": int(jobs.cpu_hours * hour_ms),
            "core_ms": jobs.cores * hour_ms,
            "core_ms_with_cpu": jobs.cores * hour_ms,
            "wasted_core_ms": jobs.wasted_core_hours * hour_ms // jobs.count,
        }
        yield Write("job", f"panda/{told['job_id']}", 1, Job(**dict.fromkeys(Job.__struct_fields__) | told))


def reports(story: Story, now: datetime) -> Iterator[dict[str, object]]:
    """Tell a story in samples; where hours were lost, the sample at their end has no previous one."""
    vm = builders.FakeVm(story.vm, boot_at=now - timedelta(hours=LIFE_HOURS), cores=story.cores, busy=0.5)
    benchmark = {"kernel": "HEPscore23", "score_hs23": story.hs23} if story.hs23 else None
    for hours_ago in range(LIFE_HOURS - 1, story.silent_hours - 1, -1):
        at = now - timedelta(hours=hours_ago)
        doubts = {"clock_offset_seconds": story.clock_offset_seconds, "estimated": story.estimated}
        sample = vm.sample(at, at - timedelta(hours=1), benchmark=benchmark, **doubts)
        if hours_ago not in story.lost_hours:
            yield sample
        elif hours_ago == story.lost_hours.start:
            yield sample | {"previous": None}
