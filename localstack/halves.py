"""Run all tests, in two halves at once: most of them wait for servers, and two cores have time for both.

Each half starts the servers that it needs, and writes coverage of its own, which is added up at the end.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HALVES = (
    ("tests/contract", "tests/browser"),
    ("tests/test_readme.py", "tests/functions", "tests/journeys", "tests/properties", "tests/unit"),
)
COVERED_PERCENT = 95


def main() -> int:
    """Show the first half as it goes, then what the other has said; answers 1 where a test failed or too little is covered."""
    with tempfile.TemporaryFile() as said:
        files = [f".coverage-{number}" for number in range(len(HALVES))]
        print(f"beside these run {', '.join(HALVES[1])}: what they say comes at the end", flush=True)
        other = start(HALVES[1], files[1], said)
        code = start(HALVES[0], files[0], None).wait()
        code = other.wait() or code
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    coverage = (sys.executable, "-m", "coverage")
    subprocess.run([*coverage, "combine", *files], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    report = subprocess.run([*coverage, "report", f"--fail-under={COVERED_PERCENT}"], cwd=ROOT, check=False)
    return 1 if code or report.returncode else 0


def start(paths: tuple[str, ...], coverage_file: str, output: IO[bytes] | None) -> "subprocess.Popen[bytes]":
    """Start the tests of some folders."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--cov", "--cov-report=", *paths]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"COVERAGE_FILE": coverage_file}, stdout=output, stderr=output)


if __name__ == "__main__":
    sys.exit(main())
