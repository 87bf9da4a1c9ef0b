"""A real server with a small fleet whose clouds have names that strangers gave them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import lab

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Story:
    """What becomes of a cloud's only vm, half busy for the two days before now."""

    cores: int
    hs23: float | None = None
    silent_hours: int = 0
    lost_hours: range = range(0)

    def heard_hours(self, window_hours: int) -> int:
        """Count the hours of a window before now of which there are intervals."""
        return sum(hour not in self.lost_hours for hour in range(self.silent_hours, window_hours))

    def up_hours(self, window_hours: int) -> int:
        """Count those in which the vm is known to have been up."""
        return max(0, window_hours - self.silent_hours)


MARKUP, RIGHT_TO_LEFT, EMOJI, LONG = (
    "<img src=x onerror=alert(1)>",
    "مركز الحوسبة السحابية",
    "🦉" * 255,
    "research-cloud-of-a-university-with-a-name-that-goes-on",
)
STRANGERS = {
    MARKUP: Story(cores=4, hs23=15.0),
    RIGHT_TO_LEFT: Story(cores=8, silent_hours=3),
    EMOJI: Story(cores=2, lost_hours=range(4, 10)),
    LONG: Story(cores=16),
}
LIFE_HOURS = 48


class Site:
    """A server with a fleet on it, and how to stop and start it."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, 0
        self.now = datetime.now(UTC).replace(microsecond=0)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
        self._environment = {**clean, "SKYTALLY_HOME": str(home)}

    def start(self) -> None:
        command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", str(self.port)]
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True)
        self.port = int(self.process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        self.page = f"http://127.0.0.1:{self.port}/function/dashboard"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def reader(self) -> str:
        return (self.home / "tokens" / "reader").read_text()

    def report(self, cloud: str, samples: list[dict[str, object]]) -> None:
        command = [Path(sys.executable).parent / "skytally", "token", "--role", "reporter", "--cloud", cloud]
        token = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout.strip()
        answer = httpx2.post(
            f"http://127.0.0.1:{self.port}/function/usage_report", json={"samples": samples}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.json()["rejected"] == []


def fleet(site: Site, now: datetime) -> None:
    """Let every stranger's vm report each hour of its story."""
    for cloud, story in STRANGERS.items():
        site.report(cloud, list(reports(story, now)))


def reports(story: Story, now: datetime) -> Iterator[dict[str, object]]:
    """Tell a story in samples; where hours were lost, the sample at their end has no previous one."""
    vm = lab.FakeVm(f"vm-of-{story.cores}", boot_at=now - timedelta(hours=LIFE_HOURS), cores=story.cores, busy=0.5)
    benchmark = {"kernel": "HEPscore23", "score_hs23": story.hs23} if story.hs23 else None
    for hours_ago in range(LIFE_HOURS - 1, story.silent_hours - 1, -1):
        at = now - timedelta(hours=hours_ago)
        sample = vm.sample(at, at - timedelta(hours=1), benchmark=benchmark)
        if hours_ago not in story.lost_hours:
            yield sample
        elif hours_ago == story.lost_hours.start:
            yield sample | {"previous": None}
