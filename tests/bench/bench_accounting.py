"""Accounting in numbers: samples accepted durably through HTTP,
bytes a document, a month's view, with the machine that they are of.

Rates depend on the machine and its load: quote ratios of one run. The load generator runs on the same cores as the
server.
"""

import asyncio
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack import fleet

ROOT = Path(__file__).resolve().parents[2]

RUNS = ((1, 1, 1_500), (8, 1, 6_000), (16, 1, 8_000), (1, 1_000, 20), (4, 1_000, 40))
VMS, HOURS = 1_000, 720
console = Console()


class Server:
    """The local server on a fresh state."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory()
        self.home = Path(self._folder.name)
        environment = {**os.environ, "SKYTALLY_HOME": str(self.home)}
        command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.base = self.process.stdout.readline().split()[1].partition("/function/")[0]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()
        self._folder.cleanup()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reports(count, per_request):
    """Make requests of `per_request` samples: an hour each of many vms."""
    until = datetime.now(UTC).replace(microsecond=0)
    vms = [fleet.Vm(f"vm-{n}", "uvic", 8, 80, until - timedelta(hours=100), None) for n in range(500)]
    made = []
    for n in range(count * per_request):
        vm, hour = vms[n % len(vms)], n // len(vms) % 99
        made.append(
            vm.sample(vm.boot_at + timedelta(hours=hour + 1), vm.boot_at + timedelta(hours=hour), f"{until:%Y-%m}")
        )
    return [json.dumps({"samples": made[n : n + per_request]}).encode() for n in range(0, len(made), per_request)]


async def send(port, token, bodies, times):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /function/usage-report HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: "
        "application/json\r\n"
    )
    for body in bodies:
        began = time.perf_counter()
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r")[0]))
        assert answer.startswith(b"http/1.1 200"), answer
        times.append(time.perf_counter() - began)
    writer.close()


def rate(connections, per_request, count):
    """Return one row: what was accepted a second, and how long a request took."""
    with Server() as server:
        token = fleet.reporter_tokens(server.home, ["uvic"])["uvic"]
        bodies, times = reports(count, per_request), []
        port, cpu, began = int(server.base.rpartition(":")[2]), server.cpu_seconds(), time.perf_counter()

        async def all_of_them():
            await asyncio.gather(*(send(port, token, bodies[n::connections], times) for n in range(connections)))

        asyncio.run(all_of_them())
        took = time.perf_counter() - began
        times.sort()
        quantiles = (f"{times[len(times) * share // 100] * 1e3:.1f}" for share in (50, 99))
        cpu_share = f"{(server.cpu_seconds() - cpu) / took:.0%}"
        return (
            str(connections),
            str(per_request),
            f"{count / took:,.0f}",
            f"{count * per_request / took:,.0f}",
            *quantiles,
            cpu_share,
        )


def agent_cost():
    """Let the real vm.py report about this machine and look for jobs on it;
    answer what each costs, beside how large it is.
    """
    script = ROOT / "functions" / "agent" / "vm.py"
    yield "vm.py", f"{script.stat().st_size:,} bytes"
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        token_file = Path(folder) / "token"
        token_file.write_text(fleet.reporter_tokens(server.home, ["uvic"])["uvic"])
        told = [
            "--base",
            server.base,
            "--token-file",
            token_file,
            "--vm",
            "bench",
            "--state",
            f"{folder}/state",
            "--benchmark-report",
            "none",
        ]
        subprocess.run([sys.executable, script, "boot", *told], check=True, stderr=subprocess.DEVNULL)
        processes = sum(path.name.isdigit() for path in Path("/proc").iterdir())
        for verb, what in (("report", "a report"), ("jobs", f"looking for jobs among {processes} processes")):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(10):
                subprocess.run([sys.executable, script, verb, *told], check=True, stderr=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            yield f"vm.py, {what}", f"{spent / 10 * 1e3:,.0f} ms of CPU, interpreter included"


def sizes_and_view():
    """Fill a month of a thousand vms, and look at it."""
    from skytally.adapters.documents_sqlite import SqliteDocuments
    from skytally.core.months import month_end_at
    from skytally.core.site_data import Site
    from skytally.dashboard.time_range import window
    from skytally.dashboard.usage_view import interval_sums, usage_view
    from skytally.dashboard.window_boots import window_boots

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.sqlite"
        documents = SqliteDocuments(path)
        now = month_end_at("2026-10")
        fill(documents, now)
        for name in ("hour", "day", "week", "month"):
            times = []
            for _ in range(3):
                began = time.perf_counter()
                shown = window({"window": name, "until": now.isoformat()}, now)
                boots = window_boots(shown, {}, documents, Site(), now)
                usage_view(shown, {}, "cloud", boots, interval_sums(shown, {}, "cloud", documents), documents, now)
                times.append(time.perf_counter() - began)
            yield f"view of the last {name}, {VMS} vms × {HOURS} h", f"{statistics.median(times) * 1e3:,.0f} ms"
        documents.close()
        with sqlite3.connect(path) as database:
            for table, count in (("interval", VMS * HOURS), ("usage", VMS)):
                pages = database.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE ?", (f"{table}%",)).fetchone()[
                    0
                ]
                yield f"bytes per {table} document", f"{pages / count:,.0f}"
        database.close()


def fill(documents, now):
    """Keep the documents of a month's reports, by the rules themselves."""
    import msgspec

    from skytally.accounting import samples, usage
    from skytally.accounting.boots import Register
    from skytally.core.records import Caller

    register, caller = Register(documents), Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))
    for n in range(VMS):
        vm = fleet.Vm(f"vm-{n}", "uvic", 8, 80, now - timedelta(hours=HOURS), 15.0 if n % 2 else None)
        items = samples.parse(msgspec.json.encode({"samples": list(vm.samples(now))}))
        asyncio.run(usage.record(items, caller, register, documents, now))


def main():
    load, cores = os.getloadavg()[0], os.cpu_count()
    console.print(
        f"{platform.machine()}, {cores} cores, load {load:.1f}, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}"
    )
    table = Table(title="usage_report on SQLite, durable before it is answered")
    for column in ("connections", "samples a request", "requests/s", "samples/s", "p50 ms", "p99 ms", "server CPU"):
        table.add_column(column, justify="right")
    for run in RUNS:
        table.add_row(*rate(*run))
    console.print(table)
    table = Table(title="documents")
    for column in ("what", "measured"):
        table.add_column(column)
    for row in (*sizes_and_view(), *agent_cost()):
        table.add_row(*row)
    console.print(table)
    console.print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
