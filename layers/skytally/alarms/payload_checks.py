"""What a person must look at among jobs that run:
payloads that are stuck, a finding a vm, since that is where somebody looks.

A payload is stuck where it runs for more than a day and six times as long as its like took yesterday; where it has used
no hundredth of its cores in three hours; or where a vm still names it long after DIRAC said that it ended. Run times of
one kind spread by a factor of two to three; six times the mean is a job in thousands. What still runs of a job that
PanDA gave up, nobody tells.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from msgspec import Struct, structs

from skytally.alarms.alarm_round import Crash, Finding, each
from skytally.core.documents import Job
from skytally.core.job_outcomes import STATUSES
from skytally.core.ports import Documents, Query, Row
from skytally.jobs.dirac_state import ZOMBIE
from skytally.jobs.heartbeats import AFTER_END, OVER, ROUND, SETTLED, STATUS_RUNNING, job_key

KINDS = ("stuck_payload",)
RUNS = ("running", STATUS_RUNNING)
LIKE = ("system", "processing_type", "transformation")
LIKE_WITHIN, LIKE_JOBS, LIKE_TIMES = timedelta(days=1), 20, 6
LONG_MS, IDLE_MS, IDLE_SHARE = 86_400_000, 3 * 3_600_000, 0.01
# Both collectors see a job that runs again within the hour; DIRAC may be late by as much.
SEEN_WITHIN, NAMED_WITHIN, LATE = timedelta(hours=2), 3 * ROUND, timedelta(hours=2)
MOST_NAMED, MOST_ASKED = 5, 1_000


class Stuck(Struct, frozen=True):
    """One payload that is stuck: where, and in a few words why."""

    cloud: str
    vm: str | None
    job: str
    why: str

    @property
    def subject(self) -> str:
        """Name the vm where it runs; a job whose vm is not known stands for itself."""
        return f"{self.cloud}/{self.vm}" if self.vm else self.job


def findings(documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find all of them, by the vm where they run."""
    stuck: dict[tuple[str, str], list[Stuck]] = defaultdict(list)
    for one in [*_running_too_long(documents, now), *_outliving(documents, now)]:
        if isinstance(one, Crash):
            yield one
        else:
            stuck[one.cloud, one.subject].append(one)
    for (cloud, subject), payloads in stuck.items():
        words = sorted(f"{one.job} {one.why}" for one in payloads)
        more = f" and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
        message = f"stuck on {subject}: {', '.join(words[:MOST_NAMED])}{more}: look at the vm, and end what hangs"
        yield Finding("stuck_payload", subject, cloud, message, payloads[0].vm)


def _running_too_long(documents: Documents, now: datetime) -> Iterator[Stuck | Crash]:
    running = Query(
        index="job",
        moment="seen_at",
        missing="final_at",
        from_at=now - SEEN_WITHIN,
        until_at=now + timedelta(hours=1),
        where={"status": RUNS},
        by=("cloud", "vm", "job_id", *LIKE),
        sums=("wall_ms", "core_ms_with_cpu", "cpu_ms"),
    )
    usual = _usual_ms(documents, now)

    def find(row: Row) -> Iterator[Stuck]:
        why = _why(row, usual.get(tuple(row[name] for name in LIKE)))
        if why is not None:
            yield _stuck(row, why)

    return each(documents.table(running), lambda row: (_stuck(row, "").subject, row["cloud"]), find)


def _stuck(row: Row, why: str) -> Stuck:
    return Stuck(row["cloud"], row["vm"], f"{row['system']}/{row['job_id']}", why)


def _why(row: Row, usual_ms: float | None) -> str | None:
    """Say why a running job is stuck, or None."""
    hours = row["wall_ms"] / 3_600_000
    if row["wall_ms"] >= IDLE_MS and row["core_ms_with_cpu"] and row["cpu_ms"] < IDLE_SHARE * row["core_ms_with_cpu"]:
        return f"has used {row['cpu_ms'] / 1_000:.0f} s of CPU in {hours:.0f} h"
    if usual_ms and row["wall_ms"] >= max(LONG_MS, LIKE_TIMES * usual_ms):
        return f"has run for {hours:.0f} h, where its like take {usual_ms / 3_600_000:.1f}"
    return None


def _usual_ms(documents: Documents, now: datetime) -> dict[tuple[str | None, ...], float]:
    """Return how long the jobs of each kind took that ended well within a day, where there are enough to say."""
    where = {"status": STATUSES["finished"]}
    ended = Query(
        index="job",
        moment="final_at",
        from_at=now - LIKE_WITHIN,
        until_at=now,
        where=where,
        by=LIKE,
        sums=("count", "wall_ms"),
    )
    rows = documents.table(ended)
    return {
        tuple(row[name] for name in LIKE): row["wall_ms"] / row["count"] for row in rows if row["count"] >= LIKE_JOBS
    }


def _outliving(documents: Documents, now: datetime) -> Iterator[Stuck]:
    """Find jobs that a vm names now although they ended long ago, or run elsewhere."""
    named = Query(
        index="heartbeat", moment="last_seen_at", from_at=now - NAMED_WITHIN, until_at=now + ROUND, sums=("count",)
    )
    late = structs.replace(named, where={"noted": (AFTER_END, OVER, SETTLED)}, by=("job_id", "cloud", "vm"))
    rows = documents.table(late)[:MOST_ASKED]
    jobs = documents.get_many("job", [job_key(row["job_id"]) for row in rows], Job)
    for row, job in zip(rows, jobs, strict=True):
        if job is not None and job.doubt == ZOMBIE and (job.final_at is None or now - job.final_at > LATE):
            yield Stuck(row["cloud"], row["vm"], f"dirac/{row['job_id']}", f"runs on, although DIRAC says {job.status}")
