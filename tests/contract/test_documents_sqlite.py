"""What only the SQLite store promises."""

import contextlib
import sqlite3
from datetime import UTC, datetime

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.documents import Job
from skytally.ports import Write

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
BLANK = dict.fromkeys(Job.__struct_fields__) | {"system": "dirac", "job_id": "1", "status": "Running", "cloud": "uvic", "multicore": False}
JOB = Job(**BLANK | {"changed_at": AT, "seen_at": AT} | dict.fromkeys([name for name in BLANK if "_ms" in name] + ["cores"], 0))


def test_a_file_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path):
    path = tmp_path / "documents.sqlite"
    with contextlib.closing(SqliteDocuments(path)) as documents:
        documents.write([Write("job", "dirac/1", 1, JOB)]).result()
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("DROP INDEX job_batch_id")
        for column in ("batch_id", "runs"):
            old.execute(f"ALTER TABLE job DROP COLUMN {column}")
        old.execute("DROP TABLE closing")
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert documents.get("job", "dirac/1", Job) == JOB
        newer = Job(**{name: getattr(JOB, name) for name in BLANK} | {"runs": "[]", "batch_id": "s#1.0#2"})
        documents.write([Write("job", "dirac/1", 2, newer)]).result()
        assert [job for _, job in documents.find("job", Job, {"batch_id": ["s#1.0#2"]})] == [newer]
        assert documents.count("closing") == 0
