"""Jobs to join to placements, and a store that refuses one document."""

from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from skytally.core.documents import Job
from skytally.core.ports import Outcome
from skytally.jobs.batch_id import number_of

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def job(number=1, batch_id=None, host="vm-1", began=0.0, lasted=1.0, **fields):
    blank = dict.fromkeys(Job.__struct_fields__) | {
        "system": "panda",
        "job_id": str(number),
        "status": "finished",
        "cloud": "unknown",
    }
    spent = dict.fromkeys(("cores", "wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 1)
    ended_at = AT + (began + lasted) * HOUR
    times = {
        "started_at": AT + began * HOUR,
        "ended_at": ended_at,
        "final_at": ended_at,
        "changed_at": ended_at,
        "seen_at": AT,
    }
    named = {"batch_id": batch_id, "batch_number": batch_id and number_of(batch_id), "host": host, "multicore": True}
    return Job(**blank | spent | times | named | fields)


def refusing(documents, key):
    """Let the store refuse one document for good."""
    write = documents.write

    def some(writes):
        outcomes, future = iter(write([one for one in writes if one.key != key]).result()), Future()
        future.set_result([Outcome.REJECTED if one.key == key else next(outcomes) for one in writes])
        return future

    documents.write = some
