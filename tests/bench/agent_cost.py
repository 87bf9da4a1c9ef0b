"""What vm.py costs a vm: the real script reports about this machine, and looks for jobs on it."""

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from localstack import fleet
from tests.bench.serving import serving

SCRIPT = Path(__file__).resolve().parents[2] / "functions" / "agent" / "vm.py"
CALLS = 10
# A vm runs the system's Python. An environment's starts by reading what is installed there.
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable


def seconds() -> dict[str, float]:
    """Return the CPU seconds of a report and of a look for jobs, each with an interpreter's start."""
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        token_file = Path(folder) / "token"
        token_file.write_text(fleet.reporter_tokens(server.home, ["uvic"])["uvic"])
        options = ["--base", server.base, "--token-file", token_file, "--vm", "bench", "--state", f"{folder}/state"]
        options += ["--benchmark-report", "none"]
        run("boot", options)
        return {verb: cost_of(verb, options) for verb in ("report", "jobs")}


def cost_of(verb: str, options: list[str | Path]) -> float:
    """Return the mean CPU seconds of a verb."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(CALLS):
        run(verb, options)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / CALLS


def run(verb: str, options: list[str | Path]) -> None:
    """Call the script once."""
    subprocess.run([PYTHON, SCRIPT, verb, *options], check=True, stderr=subprocess.DEVNULL)
