"""The catalog of functions: the local server, the deployment descriptions and OpenAPI are made from it."""

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, takewhile

from cronsim import CronSim
from msgspec import Struct

# Two weeks and a day, so that a weekly schedule has two moments in them.
FROM_AT, UNTIL_AT = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 16, tzinfo=UTC)


def service_of(name: str) -> str:
    """Return a function's name in paths."""
    return name.replace("_", "-")


class Function(Struct, frozen=True):
    """One function: its name, a summary, a timer's schedule (cron, UTC), and whether it needs the keys."""

    name: str
    summary: str
    schedule: str | None = None
    keys: bool = True

    @property
    def service(self) -> str:
        """Return the name that platforms and callers use: a DNS label."""
        return service_of(self.name)

    @property
    def period_seconds(self) -> int:
        """Return the longest gap between two calls of a timer; 0 for other functions."""
        return longest_gap_seconds(self.schedule) if self.schedule else 0


@cache
def longest_gap_seconds(schedule: str) -> int:
    """Return the longest gap between two moments of a cron expression that has at least one moment a week."""
    moments = takewhile(lambda moment: moment <= UNTIL_AT, CronSim(schedule, FROM_AT - timedelta(minutes=1)))
    return max(int((later - sooner).total_seconds()) for sooner, later in pairwise(moments))


FUNCTIONS: tuple[Function, ...] = (
    Function("agent", "serves the scripts that vms and schedulers run", keys=False),
    Function(
        "alarm_raise", "what a person must look at: contested secrets, silent vms", schedule="*/5 * * * *", keys=False
    ),
    Function("dashboard", "the page, and the JSON it draws"),
    Function("dirac_collect", "what became of DIRAC jobs that went silent", schedule="*/15 * * * *"),
    Function(
        "documents_forget", "details that are old enough go; months and boots stay", schedule="17 * * * *", keys=False
    ),
    Function("job_heartbeat", "the DIRAC jobs that run on a vm now"),
    Function("panda_collect", "PanDA's jobs, joined to their clouds", schedule="*/20 * * * *", keys=False),
    Function("placement_report", "which cloud and vm each batch job ran on, from the scheduler's host"),
    Function("secret_claim", "a vm sends its public key and takes the bundle, once"),
    Function("secret_deposit", "the scheduler leaves a payload for one vm, with an expiry"),
    Function("secret_revoke", "the scheduler withdraws what nobody took yet"),
    Function(
        "secret_sweep",
        "expired deposits get their terminal mark, and their payload goes",
        schedule="*/5 * * * *",
        keys=False,
    ),
    Function("statement", "a month's accounting"),
    Function("usage_report", "a vm's samples"),
)
