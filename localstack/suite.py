"""Run all tests in groups, two groups at once: most tests wait for servers, and two cores have time for both.

A group starts the servers that it needs, and writes coverage of its own, which is added up at the end.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# The longest first, so that the last two end at about the same time. A group has the files that no group before it has.
GROUPS = (
    ("contract/test_board*.py", "contract/test_copy.py", "contract/test_documents*.py", "contract/test_search*.py"),
    ("unit/*.py",),
    ("drill/*.py",),
    ("contract/*.py",),
    ("functions/*.py", "properties/*.py"),
    ("**/*.py",),
)
AT_ONCE = 2
COVERED_PERCENT = 95
MEMORY = Path("/dev/shm")  # noqa: S108
ROOM_BYTES = 4 << 30


class Group(NamedTuple):
    """Tests that run in one process, and what that writes."""

    name: str
    process: "subprocess.Popen[bytes]"
    output: Path
    started_at: float


def main() -> int:
    """Show what each group has written when it ends; return 1 where a test failed or too little is covered."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="skytally-", dir=temporary_root()) as folder:
        is_good = run_all(Path(folder))
        is_covered = add_up_coverage(Path(folder))
    return 0 if is_good and is_covered else 1


def add_up_coverage(folder: Path) -> bool:
    """Show the coverage of all groups together; return whether it is enough."""
    coverage = (sys.executable, "-m", "coverage")
    # Not where the caller's own coverage goes: this run may itself be a test.
    environment = os.environ | {"COVERAGE_FILE": f"{folder}/coverage"}
    parts = sorted(folder.glob("coverage-*"))
    subprocess.run([*coverage, "combine", *parts], cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL)
    report = [*coverage, "report", f"--fail-under={COVERED_PERCENT}"]
    return subprocess.run(report, cwd=ROOT, env=environment, check=False).returncode == 0


def temporary_root() -> Path | None:
    """Return the memory where it has room and runs programs, else None:
    databases write thousands of times through to a disk.
    """
    if not MEMORY.is_dir() or os.statvfs(MEMORY).f_flag & os.ST_NOEXEC:
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free >= ROOM_BYTES and available_bytes() >= 2 * ROOM_BYTES else None


def available_bytes() -> int:
    """Return how much memory programs can still take, as Linux estimates it."""
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


def run_all(folder: Path) -> bool:
    """Run all groups, a few at once; return whether all passed.

    Where the run is broken off, end and show those that still run.
    """
    waiting, running, codes = list(enumerate(files_of_groups())), list[Group](), []
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(start(*waiting.pop(0), folder))
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            for group in [group for group in running if group.process.poll() is not None]:
                running.remove(group)
                show(group)
                codes.append(group.process.returncode)
    finally:
        end(running)
    return not any(codes)


def files_of_groups() -> list[list[Path]]:
    """Return the files of each group; every file of tests is in one."""
    taken, groups = set[Path](), list[list[Path]]()
    for patterns in GROUPS:
        matching = {
            path for pattern in patterns for path in (ROOT / "tests").glob(pattern) if path.name.startswith("test_")
        }
        groups.append(sorted(matching - taken))
        taken |= matching
    return groups


def start(number: int, files: list[Path], folder: Path) -> Group:
    """Start the tests of some files; the temporary files of a test that passes are removed at once."""
    name, output = " ".join(GROUPS[number]), folder / f"output-{number}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--cov", "--cov-report="]
    command += [f"--basetemp={folder}/{number}", "-o", "tmp_path_retention_policy=failed", *map(str, files)]
    with output.open("wb") as written:
        environment = os.environ | {"COVERAGE_FILE": f"{folder}/coverage-{number}"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=written, stderr=written)
    print(f"{name}: running", flush=True)
    return Group(name, process, output, time.monotonic())


def show(group: Group) -> None:
    """Show what a group has written, and how long it took."""
    sys.stdout.flush()
    with group.output.open("rb") as written:
        shutil.copyfileobj(written, sys.stdout.buffer)
    print(f"{group.name}: {time.monotonic() - group.started_at:.0f} s", flush=True)


def end(groups: list[Group]) -> None:
    """End the tests that still run, and so their servers."""
    for group in groups:
        group.process.terminate()
    for group in groups:
        group.process.wait()
        show(group)


if __name__ == "__main__":
    sys.exit(main())
