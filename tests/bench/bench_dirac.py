"""DIRAC's jobs in numbers: what `vm.py jobs` costs a vm, and what heartbeats and rounds cost the server, on SQLite."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.jobs import dirac_collector
from skytally.jobs import heartbeats as heartbeat_rules
from tests.support import builders, dirac_lab
from tests.support.agent_lab import VM_PY, load_agent
from tests.support.dirac_lab import AT, CALLER, HOUR, Door, state

PROCESSES, VARIABLES = 200, 150
VMS, JOBS_A_VM, SILENT = 300, 8, 10_000
console = Console()


def main():
    on_the_vm()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(SqliteDocuments(Path(folder) / "documents.sqlite")) as documents,
    ):
        heartbeats(documents)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(SqliteDocuments(Path(folder) / "documents.sqlite")) as documents,
    ):
        rounds(documents)


def on_the_vm():
    """Look through real processes, in this interpreter and as the whole command."""
    environment = {f"VARIABLE_{n}": "x" * 40 for n in range(VARIABLES)}
    with contextlib.ExitStack() as stack:
        for n in range(PROCESSES):
            child = stack.enter_context(
                subprocess.Popen(["sleep", "600"], env={**environment, "DIRACJOBID": str(n + 1)})
            )
            stack.callback(child.kill)
        agent, vm = load_agent(), types.SimpleNamespace(proc="/proc")
        agent.running_jobs(vm)
        began = time.process_time()
        found, sources = agent.running_jobs(vm)
        console.print(
            f"vm.py jobs: {sources['processes']} processes, {len(found)} jobs, {time.process_time() - began:.3f} CPU "
            "s to look"
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        state_folder = stack.enter_context(tempfile.TemporaryDirectory())
        (Path(state_folder) / "token").write_text("t0")
        where = ["--state", state_folder, "--token-file", f"{state_folder}/token", "--vm", "vm-1"]
        command = [sys.executable, VM_PY, "jobs", "--base", "http://127.0.0.1:9", "--patience", "0", *where]
        subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        console.print(f"vm.py jobs: {whole:.3f} CPU s as a whole, Python's start included (allowed: 0.2)")


def heartbeats(documents):
    """Take an hour of a fleet's reports, one after another."""
    began = time.perf_counter()
    for quarter in range(4):
        for vm in range(VMS):
            ids = tuple(str(vm * JOBS_A_VM + n + 1) for n in range(JOBS_A_VM))
            heartbeat_rules.record(
                builders.heartbeat(*ids, vm=f"vm-{vm}"), CALLER, documents, AT + timedelta(minutes=15 * quarter)
            )
    took = time.perf_counter() - began
    console.print(
        f"job_heartbeat: {4 * VMS / took:,.0f} reports/s of {JOBS_A_VM} jobs, each durable, on one connection"
    )


def rounds(documents):
    """Settle many silent jobs, then watch them."""
    for start in range(0, SILENT, 5_000):
        ids = tuple(str(start + n + 1) for n in range(5_000))
        heartbeat_rules.record(builders.heartbeat(*ids, vm=f"vm-{start}"), CALLER, documents, AT)
    door = Door(*(state(job_id=n + 1, ended=1) for n in range(SILENT)))
    for what, at in (("settled", 2), ("watched", 3)):
        calls, began = door.calls, time.perf_counter()
        dirac_collector.settle(door, documents, dirac_lab.unhurried(lambda at=at: AT + at * HOUR))
        console.print(
            f"dirac_collect: {SILENT:,} silent jobs {what} in {time.perf_counter() - began:.2f} s, "
            f"{door.calls - calls} call"
        )


if __name__ == "__main__":
    os.environ.pop("SKYTALLY_BASE", None)
    main()
