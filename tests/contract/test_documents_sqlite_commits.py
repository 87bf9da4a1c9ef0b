"""What the SQLite store promises of a commit: many rows a statement, and the outcomes of one row after the other."""

import contextlib
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.adapters import documents_sqlite
from skytally.adapters.documents_sqlite import SqliteDocuments, commits
from skytally.core.documents import Interval, Label
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Query, Write
from tests.support.slow_senders import locked

# More than a busy machine lets a thread wait.
BUSY_SECONDS = 2.0
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
HOUR = timedelta(hours=1)


def label(key, version, text, *, create=False):
    return Write("label", key, version, Label(boot_id=text), create=create)


def interval(key, version, core_ms, hour=5):
    named = {"label": key, "vm": key, "cloud": "cern", "site": None, "group": None, "flavor": None}
    moments = {"from_at": MIDNIGHT + hour * HOUR, "until_at": MIDNIGHT + (hour + 1) * HOUR}
    document = Interval(**dict.fromkeys(Interval.__struct_fields__, 0) | named | moments | {"core_ms": core_ms})
    return Write("interval", key, version, document)


def one_after_the_other(database, writes):
    """Write labels row by row and let the database compare the versions; return the outcomes."""
    insert = "INSERT INTO label VALUES (?, ?, ?) ON CONFLICT (key) DO"
    update = "UPDATE SET version = excluded.version, boot_id = excluded.boot_id WHERE excluded.version >= version"
    outcomes = []
    for write in writes:
        values = (write.key, write.version, write.document.boot_id)
        changed = database.execute(f"{insert} {'NOTHING' if write.create else update}", values).rowcount
        outcomes.append(Outcome.STORED if changed else Outcome.STALE)
    return outcomes


KEYS = st.sampled_from([f"vm-{n}" for n in range(12)] + ['"', "\\", "a\nb", "nul\0", "ü", "🜁", "{}"])
VERSIONS = st.integers(0, 4) | st.sampled_from([2**53 + 1, 2**63 - 1])
WRITES = st.builds(label, KEYS, VERSIONS, st.text("abc", max_size=3), create=st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(WRITES, min_size=1, max_size=40), min_size=1, max_size=4))
def test_a_batch_leaves_the_rows_and_outcomes_of_one_write_after_the_other(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("store") / "documents.sqlite"
    with (
        contextlib.closing(SqliteDocuments(path)) as documents,
        contextlib.closing(sqlite3.connect(":memory:")) as rows,
    ):
        rows.execute("CREATE TABLE label (key TEXT PRIMARY KEY, version INTEGER NOT NULL, boot_id TEXT)")
        for batch in batches:
            assert documents.write(batch).result() == one_after_the_other(rows, batch)
        stored = [(key, version, document.boot_id) for key, version, document in documents.stored("label", Label)]
        assert stored == rows.execute("SELECT * FROM label ORDER BY key").fetchall()


@pytest.mark.parametrize("count", [1, 31, 32, 33, 63, 499, 500, 501, 1_234])
def test_every_row_of_a_batch_of_any_size_is_there(tmp_path, count):
    with contextlib.closing(SqliteDocuments(tmp_path / "documents.sqlite")) as documents:
        writes = [label(f"vm-{n}", n, str(n)) for n in range(count)]
        assert documents.write(writes).result() == [Outcome.STORED] * count
        assert documents.write([label(f"vm-{n}", 0, "older") for n in range(count)]).result() == [
            Outcome.STORED,
            *[Outcome.STALE] * (count - 1),
        ]
        assert documents.get_many("label", [f"vm-{n}" for n in range(1, count)], Label) == [
            Label(boot_id=str(n)) for n in range(1, count)
        ]


@pytest.mark.parametrize("junk", ["'words'", "x'00ff'", "9e999"])
def test_a_row_whose_version_no_number_can_follow_stays_and_its_neighbours_are_written(tmp_path, junk):
    path = tmp_path / "documents.sqlite"
    with contextlib.closing(SqliteDocuments(path)) as documents:
        documents.write([label("a", 1, "a"), label("b", 1, "b")]).result()
        with contextlib.closing(sqlite3.connect(path)) as hand, hand:
            hand.execute(f"UPDATE label SET version = {junk} WHERE key = 'a'")
        assert documents.write([label("a", 2, "x"), label("b", 2, "x")]).result() == [Outcome.STALE, Outcome.STORED]
        assert documents.get_many("label", ["a", "b"], Label) == [Label(boot_id="a"), Label(boot_id="x")]


CHANGES = st.builds(
    interval, st.sampled_from("abcd"), st.integers(0, 3), st.integers(0, 1_000_000), st.integers(0, 24 * 4)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(CHANGES, min_size=1, max_size=8), min_size=1, max_size=5))
def test_sums_that_were_kept_follow_every_batch_of_every_process(tmp_path_factory, batches):
    path = tmp_path_factory.mktemp("store") / "documents.sqlite"
    window = Query(index="interval", from_at=MIDNIGHT, until_at=MIDNIGHT + 120 * HOUR, by=("cloud",), sums=("core_ms",))
    newest: dict[str, Write] = {}
    with contextlib.closing(SqliteDocuments(path)) as ours, contextlib.closing(SqliteDocuments(path)) as others:
        for n, batch in enumerate(batches):
            for write in batch:
                if write.key not in newest or newest[write.key].version <= write.version:
                    newest[write.key] = write
            (ours, others)[n % 2].write(batch).result()
            for documents in (ours, others):
                (row,) = documents.table(window)
                hours = [row["core_ms"] for row in documents.series(window, HOUR)]
                expected = sum(write.document.core_ms for write in newest.values())
                assert (row["core_ms"], sum(hours)) == (expected, expected)


DAY_SUM = Query(index="interval", from_at=MIDNIGHT, until_at=MIDNIGHT + 24 * HOUR, by=("cloud",), sums=("core_ms",))
EARLIER_TRIGGERS = """
CREATE TABLE interval_day_kept (day INTEGER PRIMARY KEY);
INSERT INTO interval_day_kept SELECT day FROM boot_day_kept;
DROP TRIGGER interval_strikes_out_on_insert;
DROP TRIGGER interval_strikes_out_on_update;
CREATE TRIGGER interval_inserted AFTER INSERT ON interval
  BEGIN DELETE FROM interval_day_kept WHERE day IN (NEW.from_at / 86400000); END;
CREATE TRIGGER interval_updated AFTER UPDATE ON interval
  BEGIN DELETE FROM interval_day_kept WHERE day IN (OLD.from_at / 86400000, NEW.from_at / 86400000); END;
CREATE TRIGGER interval_hour_inserted AFTER INSERT ON interval
  BEGIN DELETE FROM interval_hour_kept WHERE hour BETWEEN NEW.from_at / 3600000 AND NEW.until_at / 3600000; END;
CREATE TRIGGER interval_hour_updated AFTER UPDATE ON interval
  BEGIN DELETE FROM interval_hour_kept WHERE hour BETWEEN OLD.from_at / 3600000 AND OLD.until_at / 3600000;
  DELETE FROM interval_hour_kept WHERE hour BETWEEN NEW.from_at / 3600000 AND NEW.until_at / 3600000; END;
"""


def triggers(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}


def total(documents):
    """Return the day's sum of the table and of the hourly series, which are kept apart."""
    (row,) = documents.table(DAY_SUM)
    return row["core_ms"], sum(row["core_ms"] for row in documents.series(DAY_SUM, HOUR))


def test_a_file_with_the_triggers_of_an_earlier_version_answers_the_same_and_goes_on(tmp_path):
    path = tmp_path / "documents.sqlite"
    late = interval("vm-9", 1, 0, hour=30)  # Later hours make the first day's hours old enough to be kept.
    with contextlib.closing(SqliteDocuments(path)) as documents:
        now = triggers(path)
        documents.write([interval(f"vm-{n}", 1, 10, n) for n in range(5)] + [late]).result()
        assert total(documents) == (50, 50)
    with contextlib.closing(sqlite3.connect(path)) as earlier:
        earlier.executescript(EARLIER_TRIGGERS)
        assert earlier.execute("SELECT COUNT(*) FROM boot_day_kept").fetchone() == (1,)
        assert earlier.execute("SELECT COUNT(*) FROM interval_hour_kept").fetchone()[0] >= 5
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert triggers(path) == now == {"interval_strikes_out_on_insert", "interval_strikes_out_on_update"}
        assert total(documents) == (50, 50)
        documents.write([interval("vm-1", 2, 1_000, 1), interval("vm-7", 1, 7, 7)]).result()
        assert total(documents) == (1_047, 1_047)


def test_an_interval_that_another_program_writes_strikes_out_what_was_kept(tmp_path):
    path = tmp_path / "documents.sqlite"
    with contextlib.closing(SqliteDocuments(path)) as documents:
        documents.write([interval("vm-1", 1, 10, 1), interval("vm-2", 1, 0, 30)]).result()
        assert total(documents) == (10, 10)
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE interval SET core_ms = 11 WHERE key = 'vm-1'")
        assert total(documents) == (11, 11)
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            moments = (MIDNIGHT + 2 * HOUR).timestamp() * 1_000, (MIDNIGHT + 3 * HOUR).timestamp() * 1_000
            other.execute(
                "INSERT INTO interval (key, version, label, vm, cloud, from_at, until_at, core_ms) "
                "VALUES ('x', 1, 'x', 'x', 'cern', ?, ?, 5)",
                moments,
            )
        assert total(documents)[0] == 16


def test_a_commit_that_fails_half_way_leaves_nothing_behind(tmp_path):
    """A commit of two tables is one transaction: the first table's rows go with the second's."""
    path = tmp_path / "documents.sqlite"
    with contextlib.closing(SqliteDocuments(path)) as documents:
        with contextlib.closing(sqlite3.connect(path)) as hand, hand:
            hand.execute("CREATE TRIGGER refusal BEFORE INSERT ON label BEGIN SELECT RAISE(ABORT, 'no'); END")
        writes = [*(interval(f"vm-{n}", 1, 1) for n in range(2 * commits.MOST_ROWS)), label("a", 1, "a")]
        with pytest.raises(Exception, match="did not keep this"):
            documents.write(writes).result()
        assert documents.count("interval") == 0


def test_a_commit_waits_for_another_process_and_is_an_outage_if_that_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(documents_sqlite, "BUSY_SECONDS", BUSY_SECONDS)
    with contextlib.closing(SqliteDocuments(tmp_path / "documents.sqlite")) as documents:
        with locked(tmp_path):
            in_time = documents.write([label("a", 1, "a")])
            assert not in_time.done()
        assert in_time.result(10) == [Outcome.STORED]
        with locked(tmp_path):
            begins_at = time.monotonic()
            too_late = documents.write([label("b", 1, "b")])
            with pytest.raises(Unavailable, match="did not keep this"):
                too_late.result(10)
            assert time.monotonic() - begins_at < 2 * BUSY_SECONDS
        assert documents.write([label("c", 1, "c")]).result(10) == [Outcome.STORED]
        assert documents.get_many("label", ["a", "b", "c"], Label) == [Label(boot_id="a"), None, Label(boot_id="c")]


# Writes documents as fast as it can until all its numbers are stored, and says how many of them were.
WRITER = """
import sys
from pathlib import Path
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import Label
from skytally.core.ports import Outcome, Write
documents = SqliteDocuments(Path(sys.argv[1]))
futures = [documents.write([Write("label", f"{sys.argv[2]}-{n}", n, Label(boot_id="x"))]) for n in range(2_000)]
same = [documents.write([Write("label", "one", n, Label(boot_id=sys.argv[2]), create=True)]) for n in range(50)]
print(sum(future.result() == [Outcome.STORED] for future in futures))
print(sum(future.result() == [Outcome.STORED] for future in same))
documents.close()
"""


@pytest.mark.slow
def test_processes_that_write_at_the_same_time_lose_nothing_and_create_once(tmp_path):
    path, writers = tmp_path / "documents.sqlite", ("a", "b", "c", "d")
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", WRITER, path, writer], stdout=subprocess.PIPE, text=True)
            )
            for writer in writers
        ]
        said = [process.communicate(timeout=120)[0].split() for process in running]
    assert [stored for stored, _ in said] == ["2000"] * len(writers)
    assert sorted(created for _, created in said) == ["0", "0", "0", "1"]
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert documents.count("label") == 2_000 * len(writers) + 1
