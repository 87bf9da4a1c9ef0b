"""DIRAC's job states by its classic command line, for installations without DiracX: `dstat -a -f csv`.

The CSV has no quoting and a trailing comma, so ApplicationStatus, which may contain anything, is the last column. A
line after a line break in it belongs to it, unless it looks like a row. If a job then seems to have two rows, it is
queried again, alone. dstat prints only the jobs that it knows, and exits with 0 even if it knows none. Another exit
code, and output without its header or its end, is an outage.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from typing import Any

from skytally.adapters.http_client import REQUEST_SECONDS
from skytally.core.clock import Countdown
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState, UnreadState
from skytally.jobs import dirac_rows
from skytally.jobs.foreign_values import MAX_IDENTITY

CALL_JOBS = 500
# A command takes seconds, so only this many jobs can be queried alone in one round.
MOST_ALONE = 10
FIELDS = (
    "Status",
    "Site",
    "LastUpdateTime",
    "HeartBeatTime",
    "StartExecTime",
    "EndExecTime",
    "RescheduleTime",
    "RescheduleCounter",
    "MinorStatus",
    "ApplicationStatus",
)
HEADER = ",".join(("JobID", *FIELDS, ""))
# JobState's names of the columns.
NAMES = (
    "job_id",
    "status",
    "site",
    "last_update_at",
    "heartbeat_at",
    "started_at",
    "ended_at",
    "rescheduled_at",
    "reschedule_count",
    "minor_status",
    "application_status",
)
ROW = re.compile(r"[0-9]{1,19},[A-Za-z]+,")
Row = dict[str, Any]


class TooSlow(Unavailable):
    """A command did not end in its time."""


class DiracCommandJobStates:
    """The classic client, as it is set up and signed in on this machine."""

    jobs_at_once = 500

    def __init__(self, command: str = "dstat") -> None:
        self._command = command

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState | UnreadState]:
        """Return job states, some hundred per command, so that no command line is too long; see the port."""
        valid_ids = sorted({job_id for job_id in job_ids if 0 < job_id <= MAX_IDENTITY})
        job_states: dict[int, JobState | UnreadState] = {}
        for start in range(0, len(valid_ids), CALL_JOBS):
            batch = valid_ids[start : start + CALL_JOBS]
            job_states |= dirac_rows.states(set(batch), self._rows(batch))
        return job_states

    def _rows(self, job_ids: list[int]) -> list[Row]:
        """Return the rows of an answer, one per job; for a job with several rows, the first one of a query of its own.

        All commands together take `REQUEST_SECONDS` at most.
        """
        countdown = Countdown(REQUEST_SECONDS)
        rows = parse_csv(self._ask(job_ids, countdown.left_seconds()))
        counts = Counter(row["job_id"] for row in rows)
        again = [job_id for job_id in job_ids if counts[str(job_id)] > 1]
        alone = [self._alone(job_id, countdown) for job_id in again[:MOST_ALONE]]
        rest = [{"job_id": str(job_id)} for job_id in again[MOST_ALONE:]]
        return (
            [row for row in rows if counts[row["job_id"]] == 1] + [row for job_rows in alone for row in job_rows] + rest
        )

    def _alone(self, job_id: int, countdown: Countdown) -> list[Row]:
        """Return the first row of a job that is queried alone, or an empty row if no time is left."""
        try:
            return parse_csv(self._ask([job_id], countdown.left_seconds()))[:1]
        except TooSlow:
            return [{"job_id": str(job_id)}]

    def _ask(self, job_ids: list[int], seconds: float) -> str:
        command = [self._command, "-a", "-f", "csv", "-F", ",".join(FIELDS), ",".join(map(str, job_ids))]
        try:
            process = subprocess.run(  # noqa: S603
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise TooSlow(
                f"{self._command} did not end in {REQUEST_SECONDS:.0f} s: the jobs stay as they are"
            ) from None
        except OSError:
            raise Unavailable(
                f"{self._command} cannot be run: install DIRAC's client where the collector runs"
            ) from None
        if process.returncode:
            raise Unavailable(f"{self._command} ended with {process.returncode}: check the robot's proxy")
        return process.stdout.decode("utf-8", "replace")


def parse_csv(text: str) -> list[Row]:
    """Return the rows that dstat prints after its notices; raise Unavailable without the header or the end."""
    lines = text.replace("\r\n", "\n").split("\n")
    if HEADER not in lines:
        raise Unavailable("dstat printed no table: check the robot's proxy and configuration")
    rows: list[str] = []
    for line in lines[lines.index(HEADER) + 1 :]:
        if ROW.match(line) or not rows:
            rows.append(line)
        else:
            rows[-1] += f"\n{line}"
    whole = [row.strip("\n") for row in rows if row.strip()]
    if whole and not whole[-1].endswith(","):
        raise Unavailable("dstat's output breaks off: the jobs stay as they are")
    return [_row(row) for row in whole]


def _row(text: str) -> Row:
    """Return the cells of a row; of an incomplete one only the job id."""
    cells = text.removesuffix(",").split(",", len(FIELDS))
    names = NAMES if len(cells) == len(NAMES) else NAMES[:1]
    return {name: cell if cell not in {"", "None"} else None for name, cell in zip(names, cells, strict=False)}
