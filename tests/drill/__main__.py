"""A fleet's traffic in compressed time while everything goes wrong, and every promise checked at the end.

    python -m tests.drill --minutes 60

Exit code 0: every total is exact, no secret was delivered twice or lost, nothing leaked. The report is also in JSON,
and the servers' log lies beside it.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from localstack import fleet, servers
from tests.drill import nuisance, report
from tests.drill.client import Client
from tests.drill.deployment import Deployment, port_of
from tests.drill.faults import Faults, Stores, call_timers
from tests.drill.fleet_traffic import Fleet, Pace
from tests.drill.gauges import MIB, Gauges
from tests.drill.ledger import Ledger
from tests.drill.secret_races import Races

ROOT = Path(__file__).resolve().parents[2]
VMS, DAYS_PER_MINUTE = 240, 1.5
# How long vms may take to send what waits once nothing is away any more, and the server to close its connections then.
DRAIN_SECONDS, REST_SECONDS = 300, 60
# A server that crashes writes its threads to the log.
SETTINGS = {"SKYTALLY_TIMER_MIN_SECONDS": "5", "PYTHONFAULTHANDLER": "1"}


class Drill:
    """One drill on one deployment."""

    def __init__(self, deployment, stores, minutes):
        self._deployment, self._stores, self._seconds = deployment, stores, minutes * 60
        self.ledger = Ledger()
        self.client = Client(deployment, self.ledger)
        self.gauges = Gauges(deployment.steady.pid)
        self._until = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        days = minutes * DAYS_PER_MINUTE
        self._begin = self._until - timedelta(days=days)
        self.vms = fleet.make(VMS, days, self._until, seed=int(time.time()))

    async def run(self):
        """Let the fleet live through all faults, wait until everything was told, and compare the totals."""
        background = [asyncio.create_task(coroutine) for coroutine in self._endless()]
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(self._seconds + DRAIN_SECONDS), asyncio.TaskGroup() as group:
                for coroutine in self._work():
                    group.create_task(coroutine)
            await watching
        except TimeoutError:
            self.ledger.violate("whatever waits is taken once nothing is away", f"not within {DRAIN_SECONDS} s")
        for task in background:
            task.cancel()
        for error in await asyncio.gather(*background, return_exceptions=True):
            if not isinstance(error, asyncio.CancelledError):
                raise error
        await self._check_connections()
        base, home = self._deployment.steady.base, self._deployment.home
        for difference in await asyncio.to_thread(fleet.differences, base, home, self.vms, self._until):
            self.ledger.violate("every total is exact", difference)

    async def _check_connections(self):
        """Check that the server that is never ended closes all connections, once all clients have."""
        port, until = port_of(self._deployment.steady), time.monotonic() + REST_SECONDS
        while (left := self.gauges.connections(port)) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        if left:
            self.ledger.violate("a server keeps no connection that its client has closed", f"{left} are left")

    def _endless(self):
        """Yield what goes on until all work is done."""
        cloud = self.vms[0].cloud
        token = fleet.reporter_tokens(self._deployment.home, [cloud])[cloud]
        yield nuisance.send_garbage(self._deployment, self.ledger, token)
        yield nuisance.send_slowly(self._deployment, self.ledger)
        yield call_timers(self.client, self.ledger, self._seconds)

    def _work(self):
        """Yield what lasts as long as the drill, and then until nothing waits any more."""
        home = self._deployment.home
        scheduler = (home / "tokens" / "scheduler").read_text().strip()
        pace = Pace(self._begin, self._until, self._seconds)
        yield Fleet(self.vms, self._until, home, self.client, self.ledger).live(pace)
        yield Races(scheduler, self.client, self.ledger).run(self._seconds)
        yield Faults(self._deployment, self._stores, self.ledger).run(self._seconds)

    async def _watch(self):
        """Sample the server that is never ended each second, and tell of each minute."""
        begun = time.monotonic()
        for second in range(1, int(self._seconds) + 1):
            await asyncio.sleep(begun + second - time.monotonic())
            self.gauges.sample(self.client.steady_requests)
            if second % 60 == 0:
                self._tell(second // 60)

    def _tell(self, minute):
        counts, last = self.ledger.counts, {name: values[-1] for name, values in self.gauges.samples.items()}
        print(
            f"minute {minute}: {counts['reports']} reports, {counts['secrets delivered once']} secrets, "
            f"{counts['servers killed']} kills, {last['memory_bytes'] / MIB:.0f} MiB, {last['files']} files, "
            f"{last['threads']} threads, {self.ledger.violations.total()} broken promises",
            flush=True,
        )


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default 60)")
    parser.add_argument("--documents", choices=("sqlite", "elasticsearch", "opensearch"), default="sqlite")
    parser.add_argument("--objects", choices=("files", "versitygw", "ministack"), default="files")
    parser.add_argument("--report", type=Path, default=ROOT / "build" / "drill.json", help="where the JSON goes")
    return parser.parse_args()


def main():
    """Run a drill; return its exit code."""
    chosen = options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="skytally-drill-")))
        home = folder / "home"
        home.mkdir()
        running = {
            name: stack.enter_context(servers.SERVERS[name](folder))
            for name in (chosen.documents, chosen.objects)
            if name in servers.SERVERS
        }
        stores = Stores(home, running.get(chosen.documents), running.get(chosen.objects))
        deployment = Deployment(home, {**SETTINGS, **stores.settings})
        begun = time.monotonic()
        try:
            deployment.start()
            drill = Drill(deployment, stores, chosen.minutes)
            asyncio.run(drill.run())
        finally:
            deployment.stop()
            chosen.report.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / "server.log", chosen.report.with_suffix(".log"))
        result = report.document(time.monotonic() - begun, drill.gauges, drill.ledger)
    report.write(chosen.report, result)
    report.show(result)
    return 0 if result["is_good"] else 1


if __name__ == "__main__":
    sys.exit(main())
