"""Pretend vms with a known truth: what they report, what gets lost,
doubled and shuffled on the way, and what must come out all the same.

    python -m localstack.fleet --vms 60 --days 3                fill the page of a server that `make serve` runs (what
                                                                `make demo` does)
    python -m localstack.fleet --vms 10000 --days 1 --check     a day of reports, one request each, and every total
                                                                compared

Counters are whole milliseconds, so the truth is exact. A vm behaves as vm.py does: a report that got no answer goes
along with the next.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.progress import track

from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.core.records import Caller, iso

HOUR_MS = 3_600_000
CONNECTIONS = 16
CLOUDS = ("uvic", "cern", "melbourne", "lrz", "ec2-eu-central", "azure-west", "desy", "kek", "iowa", "bologna")


@dataclass
class Vm:
    """One boot of a vm: equally busy all its life, known to the millisecond."""

    name: str
    cloud: str
    cores: int
    busy_percent: int
    boot_at: datetime
    hs23: float | None
    end_at: datetime | None = None
    boot_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def counters_ms(self, uptime_ms: int) -> dict[str, int]:
        """Return wall, core, user, system and idle milliseconds at an uptime."""
        core = uptime_ms * self.cores
        user, system = core * self.busy_percent // 100, core * 2 // 100
        return {"wall": uptime_ms, "core": core, "user": user, "system": system, "idle": core - user - system}

    def moment(self, at: datetime) -> dict[str, Any]:
        """Describe a moment as a sample and its `previous` do."""
        uptime_ms = (at - self.boot_at) // timedelta(milliseconds=1)
        return {
            "sampled_at": iso(at),
            "uptime_seconds": uptime_ms / 1_000,
            "counters": {f"{name}_seconds": ms / 1_000 for name, ms in self.counters_ms(uptime_ms).items()},
        }

    def sample(self, at: datetime, previous_at: datetime, month: str) -> dict[str, Any]:
        """Take a sample."""
        edge = max(self.boot_at, datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC))
        benchmark = {"kernel": "HEPscore23", "score_hs23": self.hs23, "score_wall": self.hs23} if self.hs23 else None
        return {
            "vm": self.name,
            "boot_id": self.boot_id,
            "boot_at": iso(self.boot_at),
            "month": month,
            "cores": self.cores,
            "cpu_model": "pretended",
            "agent_version": "fleet",
            "month_start": self.moment(edge)["counters"],
            "previous": self.moment(previous_at),
            "benchmark": benchmark,
            "final": at == self.end_at,
            **self.moment(at),
        }

    def samples(self, until: datetime) -> Iterator[dict[str, Any]]:
        """Take a sample every hour of life, at each month's edge, and at the end."""
        last, end = self.boot_at, min(until, self.end_at or until)
        while last < end:
            edge = (last.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
            at = min(last + timedelta(hours=1), end, edge)
            yield self.sample(at, last, f"{last:%Y-%m}")
            last = at

    def as_scheduled(self) -> dict[str, Any]:
        """Describe the vm's life as the scheduler does, who saw it for some minutes longer."""
        ends = {} if self.end_at is None else {"ended_at": iso(self.end_at + timedelta(minutes=6))}
        began = {"started_at": iso(self.boot_at - timedelta(minutes=4))}
        return {"vm": self.name, "cloud": self.cloud, "cores": self.cores} | began | ends

    def truth(self, until: datetime) -> dict[str, dict[str, int]]:
        """Return the milliseconds of each month."""
        end, totals, start = min(until, self.end_at or until), {}, self.boot_at
        while start < end:
            edge = (start.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
            stop = min(edge, end)
            at_start, at_stop = (
                self.counters_ms((moment - self.boot_at) // timedelta(milliseconds=1)) for moment in (start, stop)
            )
            totals[f"{start:%Y-%m}"] = {name: at_stop[name] - at_start[name] for name in at_start}
            start = edge
        return totals


def make(count: int, days: float, until: datetime, seed: int) -> list[Vm]:
    """Make a fleet: some vms boot late, some end early, some boot again under the same name."""
    dice, vms = random.Random(seed), []
    for n in range(count):
        cloud = CLOUDS[min(int(dice.expovariate(0.45)), len(CLOUDS) - 1)]
        cores, busy, hs23 = (
            dice.choice((4, 8, 8, 16, 32)),
            dice.randrange(60, 96),
            dice.choice((None, 14.5, 15.5, 16.0)),
        )
        begin = until - timedelta(days=days) * (1 if dice.random() < 0.6 else dice.random())
        begin -= timedelta(microseconds=begin.microsecond)
        ends = begin + (until - begin) * dice.random() if dice.random() < 0.3 else None
        ends = None if ends is None else ends.replace(microsecond=0)
        vms.append(Vm(f"{cloud}-{n:05}", cloud, cores, busy, begin, hs23, ends))
        if ends is not None and dice.random() < 0.5 and until - ends > timedelta(hours=1):
            vms.append(Vm(f"{cloud}-{n:05}", cloud, cores, busy, ends + timedelta(minutes=7), hs23))
    return vms


def requests(
    vms: Iterable[Vm], until: datetime, lost: float, doubled: float, seed: int
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return what arrives, shuffled: (cloud, samples) each;
    a lost report goes along with the vm's next, and the last always arrives.
    """
    dice, arrived = random.Random(seed), []
    for vm in vms:
        spool: list[dict[str, Any]] = []
        whole = list(vm.samples(until))
        for sample in whole:
            spool.append(sample)
            if sample is not whole[-1] and dice.random() < lost:
                continue
            arrived += [(vm.cloud, spool)] * (2 if dice.random() < doubled else 1)
            spool = []
    dice.shuffle(arrived)
    return arrived


def reporter_tokens(home: Path, clouds: Iterable[str]) -> dict[str, str]:
    """Sign a reporter for each cloud with the server's own keys."""
    now = datetime.now(UTC)
    keys = KeyFiles(home / "keys", lambda: now).keyring().token
    issued, expires = int(now.timestamp()), int((now + timedelta(days=1)).timestamp())
    return {
        cloud: tokens.issue(Caller(role="reporter", clouds=(cloud,), issued=issued, expires=expires), keys)
        for cloud in clouds
    }


async def post_all(base: str, tokens: dict[str, str], queue: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """Send every request over some connections; raises where one is not answered with 200 or rejects anything."""
    waiting = iter(track(queue, description="reports", disable=not sys.stderr.isatty()))
    host, port = base.removeprefix("http://").split(":")

    async def send() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for cloud, samples in waiting:
            body = json.dumps({"samples": samples}).encode()
            head = f"POST /function/usage-report HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {tokens[cloud]}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            receipt = await reader.readexactly(int(answer.partition("content-length: ")[2].partition("\r")[0]))
            if not answer.startswith("http/1.1 200") or json.loads(receipt)["rejected"]:
                raise RuntimeError(receipt.decode())
        writer.close()

    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))


def differences(base: str, home: Path, vms: list[Vm], until: datetime) -> list[str]:
    """Compare every boot's month with the truth,
    and the page of each whole month with the statement; return what differs.
    """
    expected = {(vm.boot_id, month): totals for vm in vms for month, totals in vm.truth(until).items()}
    wrong: list[str] = []
    for month in sorted({month for _, month in expected}):
        statement = read(base, home, f"statement?month={month}&detail=boots")
        actual = {(boot["boot_id"], month): boot for boot in statement["boots"]}
        for key in {key for key in expected if key[1] == month} | set(actual):
            wrong += [
                f"{key}: {name}"
                for name in ("wall", "core", "user", "system", "idle")
                if not _same(expected, actual, key, name)
            ]
        wrong += [
            f"{month} {cloud['cloud']}: coverage {cloud['coverage']}"
            for cloud in statement["clouds"]
            if cloud["coverage"] != 1
        ]
        wrong += _page_differs(base, home, month, statement["clouds"])
    return wrong


def _same(expected: Any, actual: Any, key: Any, name: str) -> bool:
    return key in expected and key in actual and actual[key][f"{name}_seconds"] == expected[key][name] / 1_000


def _page_differs(base: str, home: Path, month: str, clouds: list[dict[str, Any]]) -> list[str]:
    end = (datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC) + timedelta(days=32)).replace(day=1)
    page = read(base, home, f"dashboard/data?window=month&until={end:%Y-%m-%d}T00:00:00Z")["table"]
    page_rows = {row["cloud"]: row for row in page}
    names = ("vm_count", "wall_hours", "core_hours", "cpu_hours", "hs23_hours", "coverage")
    return [
        f"{month} {c['cloud']}: page {name}"
        for c in clouds
        for name in names
        if page_rows.get(c["cloud"], {}).get(name) != c[name]
    ]


def read(base: str, home: Path, path: str) -> Any:
    """Read as the operator's reader."""
    request = urllib.request.Request(
        f"{base}/function/{path}",
        headers={"Authorization": f"Bearer {(home / 'tokens' / 'reader').read_text().strip()}"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def main() -> int:
    """Send a fleet's reports to a running server; return 1 where something does not come out as it must."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base",
        default=f"http://127.0.0.1:{os.environ.get('PORT', '8080')}",
        help="the server (default: PORT on this machine)",
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=Path(os.environ.get("SKYTALLY_HOME", ".skytally")),
        help="the server's state folder",
    )
    parser.add_argument("--vms", type=int, default=60, help="how many vms (default 60)")
    parser.add_argument("--days", type=float, default=3.0, help="how long they have lived until now (default 3)")
    parser.add_argument("--lost", type=float, default=0.1, help="share of reports that are lost at first (default 0.1)")
    parser.add_argument("--doubled", type=float, default=0.1, help="share that arrives twice (default 0.1)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same fleet (default 1)")
    parser.add_argument(
        "--check", action="store_true", help="compare every total with the truth; wants a server without other boots"
    )
    options = parser.parse_args()
    until = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    vms = make(options.vms, options.days, until, options.seed)
    queue = requests(vms, until, options.lost, options.doubled, options.seed)
    tokens = reporter_tokens(options.home, {vm.cloud for vm in vms})
    began = datetime.now(UTC)
    asyncio.run(post_all(options.base, tokens, queue))
    took = (datetime.now(UTC) - began).total_seconds()
    print(f"{len(queue)} reports of {len(vms)} boots in {took:.0f} s, {len(queue) / took:.0f} a second")
    if not options.check:
        return 0
    wrong = differences(options.base, options.home, vms, until)
    print(
        "\n".join(wrong[:20])
        or f"all totals of {len(vms)} boots are exact, and the page and the statement agree to the last digit"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
