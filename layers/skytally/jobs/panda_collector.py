"""The collection of PanDA jobs: time slices from each queue's cursor to now, stored before the cursor passes them.

Invariants:

* A cursor never passes a slice whose answer was cut short or not stored.
* Answers lag, so every round reads the hour before its cursor again. Late state changes are queried once a day.
  Reading twice changes nothing.
* Queues with the same cursor are queried together. If that fails each is queried alone, so a queue's failure costs
  only that queue.
* An unreadable row costs only itself: it is noted and the cursor passes it, since it would not change.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, TypedDict

from msgspec import Struct

from skytally.core import batch
from skytally.core.documents import Cursor, Job
from skytally.core.errors import Unavailable
from skytally.core.ports import Documents, Write
from skytally.core.timestamps import to_ms
from skytally.core.unreadable import Notes
from skytally.jobs import panda_rows, placement_join
from skytally.jobs.panda_rows import ACTIVE, FINAL, UNFINISHED, JobRows, Slice
from skytally.operation.timer import Deadline, TimeIsUp, shuffled

SLICE = timedelta(hours=1)
OVERLAP = timedelta(hours=1)
LAG = timedelta(minutes=2)
FIRST_LOOK = timedelta(days=1)
LATE_EVERY, LATE_SINCE = timedelta(days=1), timedelta(hours=25)
# The monitor queries its archive only for windows that reach back this far, and moves jobs there at any time.
ARCHIVED_AFTER, MOVED_WITHIN = timedelta(hours=72), timedelta(hours=1)
STORED_AT_ONCE = 5_000
CURSOR, LATE_CURSOR = "panda", "panda-late"
Queues = tuple[str, ...]


class PandaCounts(TypedDict, total=False):
    """Counts of a round: stored jobs, unreadable rows, failed queues, and how far the last queue is behind."""

    jobs: int
    unreadable: int
    failed_queues: int
    behind_seconds: int


class Collection(Struct, dict=True):
    """One round: its source, queues, store and deadline, and what it has done; itself a source that ends in time."""

    source: JobRows
    queues: Queues
    documents: Documents
    deadline: Deadline
    stands_at: dict[str, datetime] = {}
    reads_from: dict[str, datetime] = {}
    failed: dict[str, str] = {}
    jobs: int = 0
    unreadable: int = 0

    def __post_init__(self) -> None:
        """Make the notes of unreadable rows."""
        self.notes = Notes(self.documents.write, self.deadline.now)

    def run(self) -> PandaCounts:
        """Collect until now or the deadline; return counts and how far behind the slowest queue is.

        Raise Unavailable if no queue could be queried or nothing could be stored.
        """
        upper = (self.deadline.now() - LAG).replace(microsecond=0)
        self._look_up(upper)
        for queues in self._standing_together():
            self._each_for_itself(queues, lambda group: self._ended(group, upper))
        current = tuple(queue for queue in self.queues if self.stands_at[queue] >= upper and queue not in self.failed)
        self._each_for_itself(current, lambda group: self._running(group, upper))
        self._each_for_itself(self._due(current, upper), lambda group: self._late(group, upper))
        self._write_down_failures()
        behind = max(upper - min(self.stands_at.values()), timedelta(0))
        return {
            "jobs": self.jobs,
            "unreadable": self.unreadable,
            "failed_queues": len(self.failed),
            "behind_seconds": round(behind.total_seconds()),
        }

    def _each_for_itself(self, queues: Queues, work: Callable[[Queues], None]) -> None:
        """Run work for queues together, and if that fails for each alone; one without time left fails with the rest."""
        if not queues:
            return
        try:
            work(queues)
        except TimeIsUp:
            return
        except Exception as error:  # noqa: BLE001  one source's fault is its own
            self.failed |= dict.fromkeys(queues, _cause(error))
            if len(queues) > 1:
                for queue in takewhile(
                    lambda _: not self.deadline.is_over(), shuffled(queues, str, self.deadline.now())
                ):
                    del self.failed[queue]
                    self._each_for_itself((queue,), work)

    def _ended(self, queues: Queues, upper: datetime) -> None:
        """Collect final jobs in steps from the cursor minus the overlap to now."""
        begin = min(*(self.reads_from[queue] for queue in queues), upper - OVERLAP)
        while begin < upper:
            end = upper if upper - begin <= SLICE + OVERLAP else begin + SLICE
            asked_at = self.deadline.now()
            edge = asked_at - ARCHIVED_AFTER
            if begin < edge <= end:
                self._keep(queues, panda_rows.across_archive(self, _archived_late(queues, edge, upper)))
            request = Slice(queues=queues, statuses=FINAL, from_at=_reaching(begin, edge), until_at=end)
            for part, rows in panda_rows.whole(self, request):
                self._keep(queues, rows)
                if part.statuses == FINAL and part.queues == queues:
                    self._move(queues, part.until_at, asked_at)
            self._move(queues, end, asked_at)
            begin = end

    def _running(self, queues: Queues, upper: datetime) -> None:
        self._keep_whole(Slice(queues=queues, statuses=ACTIVE, from_at=upper - OVERLAP, until_at=upper))

    def _due(self, queues: Queues, upper: datetime) -> Queues:
        """Return the queues whose last query for late state changes was a day ago."""
        late = self._cursors(LATE_CURSOR)
        return tuple(
            queue for queue in queues if (cursor := late[queue]) is None or upper - cursor.stands_at >= LATE_EVERY
        )

    def _late(self, queues: Queues, upper: datetime) -> None:
        request = Slice(
            queues=queues, statuses=UNFINISHED, from_at=upper - LATE_SINCE, until_at=upper, moment="statechangetime"
        )
        self._keep_whole(request)
        self._write_cursors(LATE_CURSOR, dict.fromkeys(queues, upper), self.deadline.now())

    def _keep_whole(self, request: Slice) -> None:
        for _, rows in panda_rows.whole(self, request):
            self._keep(request.queues, rows)

    def rows(self, request: Slice) -> list[Any]:
        """Return a slice's rows, or raise TimeIsUp after the deadline."""
        self.deadline.check()
        return self.source.rows(request)

    def _keep(self, queues: Queues, rows: Sequence[Any]) -> None:
        """Store the newest state of each job of an answer."""
        newest: dict[str, Job] = {}
        now = self.deadline.now()
        for position, row in enumerate(rows):
            try:
                job = panda_rows.job(row, now)
            except Exception as error:  # noqa: BLE001  one row's fault is its own
                key = str(panda_rows.number_of_row(row) or f"row {position}")
                self._note(queues, panda_rows.queue_of_row(row), key, batch.rejection(position, error).message)
                continue
            if job.job_id not in newest or newest[job.job_id].changed_at <= job.changed_at:
                newest[job.job_id] = job
        jobs = list(newest.values())
        for start in range(0, len(jobs), STORED_AT_ONCE):
            for job in placement_join.store(jobs[start : start + STORED_AT_ONCE], self.documents):
                self._note(queues, job.queue, job.job_id, "the document store refuses this job for good")
        self.jobs += len(jobs)

    def _note(self, queues: Queues, queue: str | None, key: str, reason: str) -> None:
        """Count and note a row that cannot be read or stored, under its queue, or under all queues if it names none."""
        self.unreadable += 1
        self.notes.add("row", f"{CURSOR}/{queue if queue in queues else '|'.join(queues)}", key, reason)

    def _standing_together(self) -> Iterable[Queues]:
        """Group queues by where they stand, the one that is farthest behind last: it must not take the others' time."""
        moments = sorted(set(self.stands_at.values()), reverse=True)
        return [tuple(queue for queue in self.queues if self.stands_at[queue] == at) for at in moments]

    def _look_up(self, upper: datetime) -> None:
        """Look up where each queue stands, and from where on it must be read again.

        Answers lag by up to `OVERLAP`. What was asked about later than that is not read again, so a round that is far
        behind gets farther.
        """
        cursors = self._cursors(CURSOR)
        self.stands_at = {
            queue: cursor.stands_at if cursor else upper - FIRST_LOOK for queue, cursor in cursors.items()
        }
        for queue, at in self.stands_at.items():
            cursor = cursors[queue]
            asked_at = at if cursor is None or cursor.error else cursor.asked_at
            self.reads_from[queue] = min(at, max(at, asked_at - LAG) - OVERLAP)

    def _cursors(self, name: str) -> dict[str, Cursor | None]:
        cursors = self.documents.get_many("cursor", [f"{name}/{queue}" for queue in self.queues], Cursor)
        return dict(zip(self.queues, cursors, strict=True))

    def _move(self, queues: Queues, until: datetime, asked_at: datetime) -> None:
        """Move cursors to where all is stored that was there at a moment."""
        moved = {queue: until for queue in queues if until > self.stands_at[queue]}
        self._write_cursors(CURSOR, moved, asked_at)
        self.stands_at |= moved

    def _write_down_failures(self) -> None:
        if len(self.failed) == len(self.queues):
            raise Unavailable(self.failed[self.queues[0]])
        for queue, message in self.failed.items():
            self._write_cursors(CURSOR, {queue: self.stands_at[queue]}, self.deadline.now(), message)

    def _write_cursors(
        self, name: str, stand: dict[str, datetime], asked_at: datetime, error: str | None = None
    ) -> None:
        cursors = {
            f"{name}/{queue}": Cursor(stands_at=at, asked_at=asked_at, error=error) for queue, at in stand.items()
        }
        self.documents.write(
            [Write("cursor", key, to_ms(cursor.stands_at), cursor) for key, cursor in cursors.items()]
        ).result()


def _cause(error: Exception) -> str:
    return error.message if isinstance(error, Unavailable) else batch.rejection(0, error).message


def _reaching(begin: datetime, edge: datetime) -> datetime:
    """Let a slice that begins just inside the archive's edge begin behind it, so that the archive is asked, too."""
    return min(begin, edge - LAG) if begin < edge + MOVED_WITHIN else begin


def _archived_late(queues: Queues, edge: datetime, upper: datetime) -> Slice:
    """Return what the archive holds by a state change of the last days: slices inside its edge would never ask it."""
    return Slice(queues=queues, statuses=UNFINISHED, from_at=edge - LAG, until_at=upper, limit=panda_rows.RAISED_LIMIT)
