"""The page in numbers: how long a visitor waits for a day of a small fleet and of a large one,
from the address to the last bar.

A real Chromium on the same cores as the server, which is more work at once than either has alone: only ratios of one
run mean anything.
"""

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import BootBenchmark
from skytally.core.ports import Write
from tests.bench import bench_search

ROOT = Path(__file__).resolve().parents[2]

HOURS, VISITS = 24, 7
DISPLAYS = {"clouds": "view=usage", "vms": "view=usage&by=vm"}
# A row and a bar are drawn in one go with all others of their kind.
WATCH = """
new MutationObserver(() => {
  if (document.querySelector("tbody tr") && document.querySelector("rect.bar")) window.drawn_ms ??= performance.now();
}).observe(document, { childList: true, subtree: true });
"""
console = Console()


def fill(path, vms, until):
    """Keep a day of a fleet, with a benchmark of every boot."""
    with contextlib.closing(SqliteDocuments(path)) as documents:
        for batch in bench_search.batches(bench_search.intervals(vms, HOURS, until), 5_000):
            documents.write(batch).result()
        months = list(bench_search.usages(vms, HOURS, until))
        documents.write(months).result()
        documents.write([benchmark(write.document) for write in months]).result()


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


@contextlib.contextmanager
def serving(home):
    environment = {**os.environ, "SKYTALLY_HOME": str(home), "SKYTALLY_OPEN_DASHBOARD": "true"}
    command = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            yield server.stdout.readline().split()[1]
        finally:
            server.terminate()


def visits(browser, address):
    """Open the page in new tabs; answer for each how many milliseconds passed until it was whole."""
    for _ in range(VISITS):
        page = browser.new_page(viewport={"width": 1_400, "height": 900})
        page.add_init_script(WATCH)
        page.goto(address)
        page.wait_for_selector("rect.bar", timeout=60_000)
        yield page.evaluate("window.drawn_ms")
        page.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--vms",
        type=int,
        nargs="*",
        default=[100, 10_000],
        help="fleets, the first of which the others are compared with",
    )
    told = parser.parse_args()
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        console.print("without chromium: the page is not measured")
        return
    table = Table(title=f"the page of a fleet's day, {VISITS} visits, load {os.getloadavg()[0]:.1f}")
    for column in ("vms", "rows of", "first ms", "median ms", "slowest ms", "beside the smallest fleet"):
        table.add_column(column, justify="right")
    until, smallest = datetime.now(UTC).replace(microsecond=0), {}
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"]) as browser,
    ):
        for vms in told.vms:
            with tempfile.TemporaryDirectory() as home:
                fill(Path(home) / "documents.sqlite", vms, until)
                with serving(home) as address:
                    for name, shown in DISPLAYS.items():
                        took_ms = list(visits(browser, f"{address}#{shown}&until={until:%Y-%m-%dT%H:%M:%SZ}"))
                        median_ms = statistics.median(took_ms)
                        ratio = median_ms / smallest.setdefault(name, median_ms)
                        table.add_row(
                            f"{vms:,}",
                            name,
                            *(f"{ms:,.0f}" for ms in (took_ms[0], median_ms, max(took_ms))),
                            f"× {ratio:.2f}",
                        )
    console.print(table)


if __name__ == "__main__":
    main()
