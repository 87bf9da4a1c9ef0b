"""The page in numbers: how long a visitor waits for a day of a small fleet and of a large one, with a day of jobs.

Two tables: every view's data over HTTP with the CPU time of the server, and the page until its first picture.
A real Chromium on the same cores as the server, which is more work at once than either has alone: wall times need a
quiet machine, CPU times do not. `--stores elasticsearch` keeps the documents in a search engine.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import urllib3
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from skytally.app.wiring import open_documents
from skytally.core.config import Config
from skytally.core.documents import BootBenchmark, Job
from skytally.core.ports import Write
from tests.bench import bench_search
from tests.bench.load import batches
from tests.bench.serving import cpu_seconds, serving

ROOT = Path(__file__).resolve().parents[2]

HOURS, VISITS = 24, 7
CLOUDS, QUEUES, ERRORS, TASKS = 15, 40, 25, 600
STORES = ("sqlite", *bench_search.ENGINES)
# What the page asks for first of each view, and the parts that it can ask for alone.
QUERIES = {
    "overview": "view=overview",
    "usage": "view=usage",
    "usage, table": "view=usage&part=table",
    "usage, series": "view=usage&part=series",
    "usage by flavor": "view=usage&by=flavor",
    "usage by vm": "view=usage&by=vm&limit=500",
    "jobs": "view=jobs",
    "jobs by error": "view=jobs&by=error",
    "jobs by run time": "view=jobs&part=distribution&of=run_seconds",
    "statement": "view=statement",
}
DISPLAYS = {
    "overview": "view=overview",
    "clouds": "view=usage",
    "vms": "view=usage&by=vm",
    "jobs": "view=jobs",
}
# A row and a picture are drawn in one go with all others of their kind; the overview's pictures are in its rows.
ROW, PICTURE = "tbody tr", ".picture svg, td svg"
WATCH = f"""
new MutationObserver(() => {{
  if (document.querySelector("{ROW}") && document.querySelector("{PICTURE}")) window.drawn_ms ??= performance.now();
}}).observe(document, {{ childList: true, subtree: true }});
"""
console = Console()


def fill(documents, vms, jobs, until):
    """Keep a day of a fleet, with a benchmark of every boot, and a day of jobs."""
    for batch in batches(bench_search.intervals(vms, HOURS, until), 5_000):
        documents.write(batch).result()
    months = list(bench_search.usages(vms, HOURS, until))
    benchmarks = [benchmark(write.document) for write in months]
    ended = (job(number, vms, until - timedelta(days=1) * number / jobs) for number in range(jobs))
    for writes in (months, benchmarks, ended):
        for batch in batches(writes, 5_000):
            documents.write(batch).result()
    documents.refresh()


def job(number, vms, final_at):
    """Make a job that ended then; one in ten failed."""
    vm, is_failed, wall_ms = number % vms, number % 10 == 0, 1_800_000 + number % 7_200_000
    error = f"pilot {1_000 + number // 10 % ERRORS}" if is_failed else None
    document = Job(
        system="panda",
        job_id=str(number),
        task_id=str(number % TASKS),
        queue=f"QUEUE_{number % QUEUES:02}",
        cloud=f"cloud-{vm % CLOUDS:02}",
        vm=f"vm-{vm:05}",
        status="failed" if is_failed else "finished",
        error=error,
        error_category=error and "site",
        error_message=error and f"{error} failed",
        started_at=final_at - timedelta(milliseconds=wall_ms),
        ended_at=final_at,
        changed_at=final_at,
        final_at=final_at,
        seen_at=final_at,
        cores=8,
        wall_ms=wall_ms,
        cpu_ms=6 * wall_ms,
        core_ms=8 * wall_ms,
        core_ms_with_cpu=8 * wall_ms,
        wasted_core_ms=8 * wall_ms if is_failed else 0,
        max_pss_bytes=2_000_000_000 + number,
        work_folder_bytes=4_000_000_000 + number,
        multicore=True,
    )
    return Write("job", f"panda/{number}", 1, document)


def benchmark(usage):
    blank = dict.fromkeys(BootBenchmark.__struct_fields__)
    named = {
        "boot_id": usage.boot_id,
        "cloud": usage.cloud,
        "flavor": "m8",
        "kernel": "skytally",
        "score_wall": 10.0,
        "score_hs23": 15.0,
    }
    return Write("benchmark", usage.boot_id, 1, BootBenchmark(**blank | named))


def requests(address, pid, query):
    """Ask for a view's data; return the milliseconds of each request, and the mean CPU seconds after the first."""
    http, took_ms, used = urllib3.PoolManager(), [], []
    for _ in range(VISITS + 1):
        began = time.perf_counter()
        reply = http.request("GET", f"{address.rstrip('/')}/data?{query}", headers={"Accept-Encoding": "gzip"})
        assert reply.status == 200, (query, reply.data[:300])
        took_ms.append((time.perf_counter() - began) * 1_000)
        used.append(cpu_seconds(pid))
    return took_ms, (used[-1] - used[0]) / VISITS


def visits(browser, address):
    """Open the page in new tabs; answer for each how many milliseconds passed until it was whole."""
    for _ in range(VISITS + 1):
        page = browser.new_page(viewport={"width": 1_400, "height": 900})
        page.add_init_script(WATCH)
        page.goto(address)
        for selector in (ROW, PICTURE):
            page.wait_for_selector(selector, timeout=60_000, state="attached")
        yield page.evaluate("window.drawn_ms")
        page.close()


@contextlib.contextmanager
def filled(store, vms, jobs, until):
    """Serve a fleet's day from a store; yield the page's address and the server's process id."""
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"SKYTALLY_OPEN_DASHBOARD": "true"}
        if store != "sqlite":
            settings["SKYTALLY_DOCUMENTS"] = stack.enter_context(bench_search.serving(store)).url
        config = Config.from_env({**settings, "SKYTALLY_HOME": str(home)})
        with contextlib.closing(open_documents(config)) as documents:
            documents.install(until)
            fill(documents, vms, jobs, until)
        server = stack.enter_context(serving(home, **settings))
        yield f"{server.base}/function/dashboard", server.pid


def measured(title, columns):
    table = Table(title=f"{title}, {VISITS} visits, load {os.getloadavg()[0]:.1f}")
    for column in ("store", "vms", "view", "first ms", "median ms", "slowest ms", *columns):
        table.add_column(column, justify="right")
    return table


def milliseconds(took_ms):
    """Return the first, the median of the others, and the slowest of them, as text."""
    first, *others = took_ms
    return [f"{ms:,.0f}" for ms in (first, statistics.median(others), max(others))]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, nargs="*", default=[100, 10_000], help="fleets")
    parser.add_argument("--jobs", type=int, default=50_000, help="jobs a day")
    parser.add_argument("--stores", nargs="*", choices=STORES, default=STORES[:1])
    args = parser.parse_args()
    until = datetime.now(UTC).replace(microsecond=0)
    moment = f"until={until:%Y-%m-%dT%H:%M:%SZ}"
    data, page = measured("a view's data", ["server's CPU s"]), measured("the page of a fleet's day", [])
    for store in args.stores:
        for vms in args.vms:
            with filled(store, vms, args.jobs, until) as (address, pid):
                for name, query in QUERIES.items():
                    took_ms, used = requests(address, pid, f"{query}&{moment}")
                    data.add_row(store, f"{vms:,}", name, *milliseconds(took_ms), f"{used:.2f}")
                console.print(data)
                for name, took_ms in shown(address, moment):
                    page.add_row(store, f"{vms:,}", name, *milliseconds(took_ms))
    console.print(page)


def shown(address, moment):
    """Open every display in Chromium; yield its name and how long each visit took; nothing without Chromium."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        console.print("without chromium: the page is not measured")
        return
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        for name, display in DISPLAYS.items():
            yield name, list(visits(browser, f"{address}#{display}&{moment}"))


if __name__ == "__main__":
    main()
