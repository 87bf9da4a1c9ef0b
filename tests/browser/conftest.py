"""A real headless Chromium on a real server with a small known fleet."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import lab
import pytest
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "screenshots"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = {
    "<img src=x onerror=alert(1)>": 4,
    "مركز الحوسبة السحابية": 8,
    "🦉" * 255: 2,
    "research-cloud-of-a-university-with-a-name-that-goes-on": 16,
}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("without chromium: the page is not tested in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.start()
    site.now = datetime.now(UTC).replace(microsecond=0)
    site.truth = fleet(site, site.now)
    yield site
    if site.process.poll() is None:
        site.stop()
