"""A server with something worth looking at on each view of its page: `make demo`.

A pretended fleet, the PanDA and DIRAC jobs that ran on it and a cloud that breaks them, secrets, and a month that was
closed and closed again. Everything comes by the ordinary way: samples and placements are reported, jobs are collected
from stand-ins for BigPanDA and DIRAC, alarms are raised by their timer, and the month is closed by the command line.
Nothing of it is left in any other server's state: its home is `.skytally-demo`.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from localstack import demo_dirac, demo_months, demo_panda, demo_secrets, fleet
from localstack.bigpanda import bigpanda

ROOT = Path(__file__).resolve().parent.parent
# A vm whose last reports come late: it is silent, and then it is not.
LATE = timedelta(hours=4)
# A folder with this file is the demo's to remove.
MARKER = "demo"


def send(base: str, path: str, token: str = "", body: Any = None) -> bytes:
    """Ask the server; raises where it does not answer 200."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(f"{base}/function/{path}", data, headers), timeout=300
    ) as answer:
        reply: bytes = answer.read()
        return reply


class Demo:
    """A server that runs, the fleet that it is filled with, and a line on each step."""

    def __init__(self, base: str, home: Path, environment: Mapping[str, str]) -> None:
        self.base, self.home, self.environment = base, home, environment
        self.send = partial(send, base)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say what is being done, and how long it took."""
        began = time.monotonic()
        print(f"{title} ...", end=" ", flush=True)
        yield
        print(f"{time.monotonic() - began:.1f} s", flush=True)

    def fill(
        self, vms: list[fleet.Vm], placements: list[dict[str, Any]], dirac: demo_dirac.Made, until: datetime
    ) -> None:
        """Let everything happen, in the order in which it would."""
        scheduler = (self.home / "tokens" / "scheduler").read_text().strip()
        tokens = fleet.reporter_tokens(self.home, {vm.cloud for vm in vms})
        with self.step("vms report"):
            late = next(vm for vm in vms if vm.end_at is None and vm.boot_at < until - 2 * LATE)
            self.send("placement-report", scheduler, {"vms": [vm.as_scheduled() for vm in vms]})
            self.report(tokens, [vm for vm in vms if vm is not late], until)
            self.report(tokens, [late], until - LATE)
        with self.step(f"{demo_months.last_month(until)}: its fleet, closed, and closed again"):
            demo_months.fill(self.base, self.home, until, self.environment, self.send)
        with self.step("secrets are left and taken"):
            demo_secrets.fill(self.send, scheduler, [vm for vm in vms if vm.end_at is None])
        with self.step("jobs are placed, and collected from PanDA and DIRAC"):
            self.send("placement-report", scheduler, {"jobs": placements})
            demo_dirac.fill(self.send, tokens, dirac)
            do_round(self.base, "dirac-collect")
            # A round ends at its deadline, and the next goes on from there.
            while do_round(self.base, "panda-collect")["behind_seconds"]:
                pass
        with self.step("alarms are raised, and one is over"):
            do_round(self.base, "alarm-raise")
            self.report(tokens, [late], until)
            do_round(self.base, "alarm-raise")

    def report(self, tokens: dict[str, str], vms: list[fleet.Vm], until: datetime) -> None:
        """Report what vms did until a moment."""
        asyncio.run(fleet.post_all(self.base, tokens, fleet.requests(vms, until, lost=0.1, doubled=0.1, seed=1)))


def do_round(base: str, timer: str) -> dict[str, Any]:
    """Do a round of a timer, after the one that the server may be doing by itself just now."""
    while True:
        answer: dict[str, Any] = json.loads(send(base, timer, body={}))
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
    panda, dirac = list(demo_panda.jobs(vms, until)), demo_dirac.jobs(vms, until)
    with bigpanda() as (monitor, panda_url):
        monitor.rows = sorted((row for row, _ in panda), key=lambda row: row["modificationtime"])
        environment = settings(home, panda_url)
        set_up(home, dirac)
        command = [sys.executable, str(ROOT / "localstack" / "serve.py")]
        # Its log lines would stand among the steps.
        log = home / "server.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as server,
        ):
            try:
                ready = (server.stdout.readline() if server.stdout else "").strip()
                if not ready.startswith("ready "):
                    code = server.wait() or 1
                    print(log.read_text(), end="", file=sys.stderr)
                    return code
                page = ready.removeprefix("ready ")
                demo = Demo(page.removesuffix("/function/dashboard"), home, environment)
                demo.fill(vms, [placement for _, placement in panda], dirac, until)
                print(f"look at {page}; Ctrl-C ends it; the server's log is {log}", flush=True)
                return server.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                server.terminate()


def settings(home: Path, panda_url: str) -> dict[str, str]:
    """Return the settings that the demo's server and its command line need."""
    return {
        "SKYTALLY_HOME": str(home),
        "SKYTALLY_CLOUDS": str(home / "clouds.toml"),
        "SKYTALLY_OPEN_DASHBOARD": "true",
        "SKYTALLY_TIMER_MIN_SECONDS": "1",
        "SKYTALLY_PANDA_URL": panda_url,
        "SKYTALLY_PANDA_QUEUES": demo_panda.QUEUE,
        "SKYTALLY_DIRAC_URL": "dirac-cli:",
        "PATH": f"{home / 'dirac'}{os.pathsep}{os.environ['PATH']}",
    }


def set_up(home: Path, dirac: demo_dirac.Made) -> None:
    """Begin anew, for a demo that ran before has other vms; raises SystemExit where the folder is no demo's."""
    if home.exists() and any(home.iterdir()) and not (home / MARKER).exists():
        raise SystemExit(f"{home} is not empty and no demo's: name another folder in SKYTALLY_HOME")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, mode=0o700)
    (home / MARKER).touch()
    demo_months.write_site_data(home / "clouds.toml")
    demo_dirac.set_up(home / "dirac", dirac)


if __name__ == "__main__":
    sys.exit(main())
