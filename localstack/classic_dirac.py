#!/usr/bin/env python3
"""A stand-in for `dstat` of DIRAC 9.1: prints what the real one printed,
of jobs that a file holds, and refuses what the real one refused.

`set_up(folder)` puts it there as `dstat`, with a file of the jobs beside it; `calls(folder)` answers what it was asked.
"""

import json
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Jobs = Mapping[str, Mapping[str, Any]]

NOTICE = "Running without remote configuration"
DATES = {"LastUpdateTime", "HeartBeatTime", "StartExecTime", "EndExecTime", "RescheduleTime", "SubmissionTime"}
FIELDS = DATES | {"Status", "MinorStatus", "ApplicationStatus", "Site", "RescheduleCounter", "Owner"}
# The recorded session's own jobs.
SEEN_AT = "2026-11-24 04:42:58"
RECORDED = {
    "1": {"Status": "Done", "MinorStatus": "Execution Complete", "ApplicationStatus": "Job Finished Successfully"},
    "2": {"Status": "Running", "MinorStatus": "Application", "ApplicationStatus": "Executing basf2; step=2"},
    "3": {"Status": "Failed", "MinorStatus": "Application Finished With Errors", "ApplicationStatus": "exit code=11"},
}
RECORDED_MORE = {
    "Site": "LCG.Victoria.ca",
    "LastUpdateTime": SEEN_AT,
    "HeartBeatTime": SEEN_AT,
    "Owner": "alice",
    "RescheduleCounter": "0",
}


def set_up(folder: Path, jobs: Jobs | None = None) -> Path:
    """Put the command into a folder; return its path."""
    command = folder / "dstat"
    shutil.copy(__file__, command)
    command.write_text(command.read_text().replace("#!/usr/bin/env python3", f"#!{sys.executable}", 1))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    tell(folder, jobs or {number: RECORDED_MORE | job for number, job in RECORDED.items()})
    return command


def tell(folder: Path, jobs: Jobs) -> None:
    """Say what it knows of jobs from now on."""
    (folder / "dstat.json").write_text(json.dumps(jobs))


def calls(folder: Path) -> list[list[str]]:
    """Return the arguments of each call so far."""
    return [json.loads(line) for line in (folder / "dstat.calls").read_text().splitlines()]


def main(folder: Path, *arguments: str) -> int:
    """Return as the real command does; returns its exit code."""
    with (folder / "dstat.calls").open("a") as asked:
        print(json.dumps(arguments), file=asked)
    known = json.loads((folder / "dstat.json").read_text())
    told = dict(zip(arguments[1:-1:2], arguments[2:-1:2], strict=True))
    print(NOTICE)
    if arguments[0] != "-a" or set(told) != {"-f", "-F"}:
        print("No config section found for belle_user, using default profile.")
        return 255
    fields, numbers = told["-F"].split(","), arguments[-1].split(",")
    if not all(number.isdigit() for number in numbers):
        print("Expected integer for jobID")
        return 2
    if not set(fields) <= FIELDS:
        print("Unknown field")
        return 255
    rows = {number: known[number] for number in numbers if number in known}
    return {"csv": csv, "json": as_json}[told["-f"]](rows, fields)


def csv(rows: Jobs, fields: list[str]) -> int:
    """Print without quoting, with a comma behind every value."""
    print(",".join(["JobID", *fields, ""]))
    for number, job in rows.items():
        print(",".join([number, *(str(job.get(name)) for name in fields), ""]))
    print()
    return 0


def as_json(rows: Jobs, fields: list[str]) -> int:
    """Print JSON, or fail over a date as the real one does."""
    if rows and DATES & set(fields):
        print("TypeError: Object of type datetime is not JSON serializable", file=sys.stderr)
        return 1
    print(
        json.dumps([{"JobID": int(number), **{name: job.get(name) for name in fields}} for number, job in rows.items()])
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent, *sys.argv[1:]))
