"""DIRAC's job states by its classic command line, for installations without DiracX: `dstat -a -f csv`.

The CSV has dates but no quoting and a trailing comma, so ApplicationStatus, which may hold anything, is asked for last. It prints only
the jobs it knows and ends with 0 even when it knows none; anything else than 0, or output without the header, is an outage.
"""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime

from skytally.errors import Unavailable
from skytally.ports import JobState

CALL_JOBS = 500
SECONDS = 120
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


class DiracCommandJobStates:
    """The classic client, as it is set up and signed in on this machine."""

    def __init__(self, command: str = "dstat") -> None:
        self._command = command

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState]:
        """Ask for some hundred at a time, so that no command line grows too long."""
        wanted = sorted({job_id for job_id in job_ids if job_id > 0})
        found: dict[int, JobState] = {}
        for start in range(0, len(wanted), CALL_JOBS):
            found |= {state.job_id: state for state in parse_csv(self._ask(wanted[start : start + CALL_JOBS]))}
        return found

    def _ask(self, job_ids: list[int]) -> str:
        command = [self._command, "-a", "-f", "csv", "-F", ",".join(FIELDS), ",".join(map(str, job_ids))]
        try:
            done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self._command} did not end in {SECONDS} s: the jobs stay as they are") from None
        except OSError:
            raise Unavailable(f"{self._command} cannot be run: install DIRAC's client where the collector runs") from None
        if done.returncode:
            raise Unavailable(f"{self._command} ended with {done.returncode}: check the robot's proxy")
        return done.stdout.decode("utf-8", "replace")


def parse_csv(text: str) -> list[JobState]:
    """Read what dstat prints after its notices; raises Unavailable where the header is missing or a row is cut."""
    lines = text.splitlines()
    if HEADER not in lines:
        raise Unavailable("dstat printed no table: check the robot's proxy and configuration")
    return [_state(line) for line in lines[lines.index(HEADER) + 1 :] if line.strip()]


def _state(line: str) -> JobState:
    cells = line.split(",", len(FIELDS))
    if len(cells) != len(FIELDS) + 1 or not line.endswith(","):
        raise Unavailable("dstat's output breaks off: the jobs stay as they are")
    job_id, *values = cells
    named = dict(zip(FIELDS, values, strict=True))
    try:
        return JobState(
            job_id=int(job_id),
            status=named["Status"],
            minor_status=_text(named["MinorStatus"]),
            application_status=_text(named["ApplicationStatus"].removesuffix(",")),
            site=_text(named["Site"]),
            last_update_at=_moment(named["LastUpdateTime"]),
            heartbeat_at=_moment(named["HeartBeatTime"]),
            started_at=_moment(named["StartExecTime"]),
            ended_at=_moment(named["EndExecTime"]),
            rescheduled_at=_moment(named["RescheduleTime"]),
            reschedule_count=int(named["RescheduleCounter"]) if named["RescheduleCounter"].isdigit() else None,
        )
    except ValueError:
        raise Unavailable("dstat's output cannot be read: the jobs stay as they are") from None


def _text(cell: str) -> str | None:
    return cell if cell not in {"", "None"} else None


def _moment(cell: str) -> datetime | None:
    """Read a naive UTC time; None where the job has none."""
    return datetime.fromisoformat(cell).replace(tzinfo=UTC) if _text(cell) else None
