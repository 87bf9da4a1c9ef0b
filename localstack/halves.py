"""Run all tests, in two halves at once: most of them wait for servers, and two cores have time for both.

Each half starts the servers that it needs, and writes coverage of its own, which is added up at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HALVES = (
    ("tests/contract", "tests/browser", "tests/journeys"),
    ("tests/test_readme.py", "tests/functions", "tests/properties", "tests/unit"),
)
COVERED_PERCENT = 95


def main() -> int:
    """Show the first half as it goes, then what the other has said; answers 1 where a test failed or too little is covered."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    files = [f".coverage-{number}" for number in range(len(HALVES))]
    print(f"beside these run {', '.join(HALVES[1])}: what they say comes at the end", flush=True)
    with tempfile.TemporaryFile() as said:
        halves = [start(HALVES[0], files[0], None), start(HALVES[1], files[1], said)]
        try:
            codes = [half.wait() for half in halves]
        finally:
            end(halves)
            said.seek(0)
            shutil.copyfileobj(said, sys.stdout.buffer)
            sys.stdout.flush()
    coverage = (sys.executable, "-m", "coverage")
    subprocess.run([*coverage, "combine", *files], cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    report = subprocess.run([*coverage, "report", f"--fail-under={COVERED_PERCENT}"], cwd=ROOT, check=False)
    return 1 if any(codes) or report.returncode else 0


def start(paths: tuple[str, ...], coverage_file: str, output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start the tests of some folders."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--cov", "--cov-report=", *paths]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"COVERAGE_FILE": coverage_file}, stdout=output, stderr=output)


def end(halves: list["subprocess.Popen[bytes]"]) -> None:
    """End the tests that still run, and so their servers, where this run was broken off."""
    for half in halves:
        half.terminate()
    for half in halves:
        half.wait()


if __name__ == "__main__":
    sys.exit(main())
