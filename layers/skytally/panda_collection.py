"""Collecting PanDA's jobs: time slices from the cursor to now, each stored whole before the cursor passes it.

Invariants: the cursor never passes a slice that was not answered whole or not stored; every round reads again what was modified up to an
hour before it, since answers lag; what changes state late is asked for once a day. Reading twice changes nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from skytally import join, panda
from skytally.documents import Cursor, Job
from skytally.panda import ACTIVE, FINAL, JobRows, Slice
from skytally.ports import Documents, Write

SLICE = timedelta(hours=1)
OVERLAP = timedelta(hours=1)
LAG = timedelta(minutes=2)
FIRST_LOOK = timedelta(days=1)
LATE_EVERY, LATE_SINCE = timedelta(days=1), timedelta(hours=25)
STORED_AT_ONCE = 5_000
CURSOR, LATE_CURSOR = "panda", "panda-late"


class Collection(Struct):
    """A round: where it asks, where it keeps, when it must stop, and what it has done."""

    source: JobRows
    queues: tuple[str, ...]
    documents: Documents
    clock: Callable[[], datetime]
    stop_at: datetime
    jobs: int = 0
    unreadable: int = 0

    def run(self) -> dict[str, Any]:
        """Collect until now or until time is up; answers counts and how far behind it is."""
        upper = (self.clock() - LAG).replace(microsecond=0)
        stands_at = self._ended_until(upper)
        if stands_at >= upper:
            self._keep_all(Slice(queues=self.queues, statuses=ACTIVE, from_at=upper - OVERLAP, until_at=upper))
            self._late(upper)
        behind = upper - stands_at
        return {"jobs": self.jobs, "unreadable": self.unreadable, "behind_seconds": round(behind.total_seconds())}

    def _ended_until(self, upper: datetime) -> datetime:
        """Step from an hour before the cursor towards now; answers where the cursor stands at the end."""
        known = self.documents.get("cursor", CURSOR, Cursor)
        stands_at = known.stands_at if known else upper - FIRST_LOOK
        begin = min(stands_at, upper) - OVERLAP
        while begin < upper and self.clock() < self.stop_at:
            end = min(begin + SLICE, upper)
            self._keep_all(Slice(queues=self.queues, statuses=FINAL, from_at=begin, until_at=end))
            if end > stands_at:
                stands_at = end
                self._move(CURSOR, stands_at)
            begin = end
        return stands_at

    def _late(self, upper: datetime) -> None:
        """Ask once a day for jobs of which the batch system said something after they were final."""
        known = self.documents.get("cursor", LATE_CURSOR, Cursor)
        if known is not None and upper - known.stands_at < LATE_EVERY:
            return
        for queue in self.queues:
            asked = Slice(queues=(queue,), statuses=FINAL, from_at=upper - LATE_SINCE, until_at=upper, limit=panda.RAISED_LIMIT)
            self._keep(self.source.changed_late(asked))
        self._move(LATE_CURSOR, upper)

    def _keep_all(self, asked: Slice) -> None:
        for rows in panda.whole(self.source, asked):
            self._keep(rows)

    def _keep(self, rows: Sequence[dict[str, Any]]) -> None:
        """Store an answer's jobs, of each the newest."""
        newest: dict[str, Job] = {}
        for row in rows:
            job = panda.job(row, self.clock())
            if job is None:
                self.unreadable += 1
            elif job.job_id not in newest or newest[job.job_id].changed_at <= job.changed_at:
                newest[job.job_id] = job
        jobs = list(newest.values())
        for start in range(0, len(jobs), STORED_AT_ONCE):
            join.store(jobs[start : start + STORED_AT_ONCE], self.documents)
        self.jobs += len(jobs)

    def _move(self, name: str, stands_at: datetime) -> None:
        self.documents.write([Write("cursor", name, round(stands_at.timestamp() * 1_000), Cursor(stands_at=stands_at))]).result()
