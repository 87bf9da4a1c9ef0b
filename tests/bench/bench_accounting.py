"""Accounting in numbers: bytes a document, views of a month, and what the agent costs a vm."""

import asyncio
import os
import platform
import resource
import sqlite3
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from localstack import fleet
from tests.bench import agent_cost

VMS, HOURS = 1_000, 720
console = Console()


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


def agent():
    """Yield how large the agent is, and what its verbs cost."""
    yield "vm.py", f"{agent_cost.SCRIPT.stat().st_size:,} bytes"
    for verb, seconds in agent_cost.seconds().items():
        yield f"vm.py {verb}", f"{seconds * 1e3:,.0f} ms of CPU, interpreter included"


def main():
    load, cores = os.getloadavg()[0], os.cpu_count()
    console.print(
        f"{platform.machine()}, {cores} cores, load {load:.1f}, Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}"
    )
    table = Table(title="documents")
    for column in ("what", "measured"):
        table.add_column(column)
    for row in (*sizes_and_view(), *agent()):
        table.add_row(*row)
    console.print(table)
    console.print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
