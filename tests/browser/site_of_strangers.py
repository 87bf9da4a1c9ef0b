"""A real server with a small fleet whose clouds have names that strangers gave them."""

import itertools
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import lab

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = {
    "<img src=x onerror=alert(1)>": 4,
    "مركز الحوسبة السحابية": 8,
    "🦉" * 255: 2,
    "research-cloud-of-a-university-with-a-name-that-goes-on": 16,
}


class Site:
    """A server with a fleet on it, and how to stop and start it."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, 0
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


def fleet(site: Site, now: datetime) -> dict[str, float]:
    """Let a vm of each hostile cloud report every hour of two days; answers the core hours of the last whole day by cloud."""
    truth = {}
    for cloud, cores in HOSTILE.items():
        vm = lab.FakeVm(f"vm-of-{cores}", boot_at=now - timedelta(hours=48), cores=cores, busy=0.5)
        times = [vm.boot_at + timedelta(hours=hour) for hour in range(49)]
        site.report(cloud, [vm.sample(at, before) for before, at in itertools.pairwise(times)])
        truth[cloud] = 24.0 * cores
    return truth
