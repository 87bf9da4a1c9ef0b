"""What only the SQLite store promises."""

import contextlib
import sqlite3
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from skytally.adapters.documents_sqlite import SqliteDocuments, hours
from skytally.adapters.documents_sqlite.tables import conditions
from skytally.core.documents import Interval, Job
from skytally.core.ports import Query, Write

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)
BLANK = dict.fromkeys(Job.__struct_fields__) | {
    "system": "dirac",
    "job_id": "1",
    "status": "Running",
    "cloud": "uvic",
    "multicore": False,
}
JOB = Job(
    **BLANK
    | {"changed_at": AT, "seen_at": AT}
    | dict.fromkeys([name for name in BLANK if "_ms" in name] + ["cores"], 0)
)


def test_lists_of_all_lengths_make_few_statements():
    statements = set()
    for count in range(501):
        names = [f"vm-{n}" for n in range(count)]
        condition, values = conditions({"vm": names})
        assert sorted(set(values)) == sorted(names)
        assert condition.count("?") == len(values)
        statements.add(condition)
    assert len(statements) == 11


def test_a_file_of_an_earlier_version_gets_the_columns_and_indices_that_it_lacks(tmp_path):
    path = tmp_path / "documents.sqlite"
    with contextlib.closing(SqliteDocuments(path)) as documents:
        documents.write([Write("job", "dirac/1", 1, JOB)]).result()
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("DROP INDEX job_batch_id")
        for column in ("batch_id", "runs"):
            old.execute(f"ALTER TABLE job DROP COLUMN {column}")
        old.execute("DROP TABLE closing")
        old.execute("CREATE INDEX interval_until_at ON interval (until_at)")
        old.execute("DROP INDEX interval_until_at_covering")
        old.execute("CREATE INDEX interval_crosses ON interval (until_at) WHERE from_at / 10 <> until_at / 10")
        old.execute("DROP INDEX interval_crosses_cloud")
        old.execute("CREATE INDEX usage_month ON usage (month)")
        old.execute("DROP INDEX usage_month_covering")
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert documents.get("job", "dirac/1", Job) == JOB
        newer = Job(**{name: getattr(JOB, name) for name in BLANK} | {"runs": "[]", "batch_id": "s#1.0#2"})
        documents.write([Write("job", "dirac/1", 2, newer)]).result()
        assert [job for _, job in documents.find("job", Job, {"batch_id": ["s#1.0#2"]})] == [newer]
        assert documents.count("closing") == 0
    with contextlib.closing(sqlite3.connect(path)) as now:
        made = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('interval', 'usage') AND sql <> ''"
        names = {name for (name,) in now.execute(made)}
        assert names == {"interval_until_at_covering", "interval_crosses_cloud", "usage_month_covering"}


def test_sums_of_an_earlier_version_without_flavors_are_added_up_anew(tmp_path):
    path, day = tmp_path / "documents.sqlite", timedelta(days=1)
    begin = AT.replace(hour=0, minute=0, second=0)
    flavors = Query(index="interval", from_at=begin, until_at=begin + day, by=("flavor",), sums=("core_ms",))
    with contextlib.closing(SqliteDocuments(path)) as documents:
        made = interval(1, 0, 60, 7, "cern")
        newer = interval(1, 2 * 1_440, 60, 7, "cern")
        flavored = structs.replace(made.document, flavor="m8", from_at=begin, until_at=begin + HOUR)
        documents.write([Write("interval", "a", 1, flavored), Write("interval", "b", 1, newer.document)]).result()
        assert documents.table(flavors) == [{"flavor": "m8", "core_ms": 7}]
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.execute("CREATE TABLE interval_day (day INTEGER, label TEXT, core_ms INTEGER, PRIMARY KEY (day, label))")
        old.execute("CREATE TABLE interval_day_kept (day INTEGER PRIMARY KEY)")
        old.execute("INSERT INTO interval_day_kept SELECT day FROM boot_day_kept")
        old.execute("DROP TABLE boot_day")
        old.execute("DROP TABLE boot_day_kept")
        old.execute("DROP INDEX interval_until_at_covering")
        old.execute("CREATE INDEX interval_until_at_covering ON interval (until_at, from_at, label)")
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert documents.table(flavors) == [{"flavor": "m8", "core_ms": 7}]
    with contextlib.closing(sqlite3.connect(path)) as now:
        plan = now.execute("EXPLAIN QUERY PLAN SELECT sum(core_ms), flavor FROM interval WHERE until_at > 1").fetchall()
        assert "COVERING INDEX interval_until_at_covering" in plan[0][-1]
        assert now.execute("SELECT flavor FROM boot_day").fetchall() == [("m8",)]
        assert not now.execute("SELECT name FROM sqlite_master WHERE name LIKE 'interval_day%'").fetchall()


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
STEPS = (5 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR)
CLOUDS = ("cern", "uvic")


def interval(number, begin_minutes, minutes, core_ms, cloud, version=1):
    from_at = AT + begin_minutes * MINUTE
    named = {"label": f"vm-{number}", "vm": f"vm-{number}", "cloud": cloud, "site": None, "group": None, "flavor": None}
    moments = {"from_at": from_at, "until_at": from_at + minutes * MINUTE}
    document = Interval(**dict.fromkeys(Interval.__struct_fields__, 0) | named | moments | {"core_ms": core_ms})
    return Write("interval", f"vm-{number}", version, document)


def expected(kept, query, step):
    """Add up, of every interval, the share of its time in each step."""
    epoch = query.from_at if step < HOUR else datetime(1970, 1, 1, tzinfo=UTC)
    cells = defaultdict(float)
    for one in kept:
        at = query.from_at
        while at < query.until_at:
            end = min(at + step - (at - epoch) % step, query.until_at)
            inside = min(one.until_at, end) - max(one.from_at, at)
            if inside > timedelta(0):
                cells[at, one.cloud] += one.core_ms * (inside / (one.until_at - one.from_at))
            at = end
    return cells


minutes_from_now = st.integers(-3_000, 3_000) | st.integers(-50, 50).map(lambda hours: 60 * hours)
drawn_intervals = st.lists(
    st.builds(
        interval,
        st.integers(0, 4),
        minutes_from_now,
        st.integers(1, 300) | st.integers(1, 4_000),
        st.integers(10**6, 10**9),
        st.sampled_from(CLOUDS),
    ),
    min_size=1,
    max_size=6,
)
drawn_windows = st.just((-4_000, 12_000)) | st.tuples(
    minutes_from_now, st.sampled_from([60, 1_440]) | st.integers(1, 4_000)
)


@given(
    st.lists(drawn_intervals, min_size=2, max_size=4),
    drawn_windows,
    st.sampled_from(STEPS),
    st.sampled_from([{}, {"cloud": ["uvic"]}, {"vm": ["vm-1", "vm-2"]}]),
)
def test_sums_are_those_of_the_intervals_as_they_are_whatever_was_kept_before(
    tmp_path_factory, rounds, shown, step, where
):
    begin = AT + shown[0] * MINUTE
    query = Query(
        index="interval",
        from_at=begin,
        until_at=begin + shown[1] * MINUTE,
        by=("cloud",),
        sums=("core_ms",),
        where=where,
    )
    whole_ms, version, now = 0.0, 0, {}
    with contextlib.closing(SqliteDocuments(tmp_path_factory.mktemp("sums") / "documents.sqlite")) as documents:
        for writes in rounds:
            for write in writes:
                version += 1
                documents.write([Write("interval", write.key, version, write.document)]).result()
                now[write.key] = write.document
            asked = [one for one in now.values() if all(getattr(one, name) in values for name, values in where.items())]
            cells = expected(asked, query, step)
            series = {(row["at"], row["cloud"]): row["core_ms"] for row in documents.series(query, step)}
            assert series.keys() >= {key for key, ms in cells.items() if ms >= 1}
            # A part of a whole number is a whole number: each edge that an interval crosses may take a millisecond to
            # its other side.
            assert series == pytest.approx({key: cells[key] for key in series}, abs=2 * len(asked) + 1e-3)
            whole_ms = sum(cells.values())
            assert sum(series.values()) == pytest.approx(whole_ms, abs=2 * len(asked) + 1e-3)
            table = {row["cloud"]: row["core_ms"] for row in documents.table(query)}
            assert table.keys() == {cloud for _, cloud in cells}
            assert sum(table.values()) == pytest.approx(whole_ms, abs=1e-3)


def test_an_hour_that_is_struck_out_between_keeping_and_reading_is_not_read(tmp_path):
    path, query = (
        tmp_path / "documents.sqlite",
        Query(index="interval", from_at=AT, until_at=AT + 9 * HOUR, by=("cloud",), sums=("core_ms",)),
    )
    with contextlib.closing(SqliteDocuments(path)) as documents:
        documents.write([interval(n, 60 * n, 60, 1_000, "uvic") for n in range(12)]).result()
        assert [row["core_ms"] for row in documents.series(query, HOUR)] == [1_000] * 9
        documents.write([interval(99, 60 * 4, 60, 5, "uvic")]).result()
        with contextlib.closing(sqlite3.connect(path)) as reader:
            reader.row_factory = sqlite3.Row
            assert len(reader.execute("SELECT DISTINCT hour FROM interval_hour").fetchall()) == 9
            assert [row["core_ms"] for row in hours.series(reader, query, HOUR)] == [1_000] * 4 + [1_005] + [1_000] * 4


def test_a_window_longer_than_all_that_is_known_keeps_no_more_than_that(tmp_path):
    path, ages = tmp_path / "documents.sqlite", (datetime(2000, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))
    query = Query(index="interval", from_at=ages[0], until_at=ages[1], by=("cloud",), sums=("core_ms",))
    with contextlib.closing(SqliteDocuments(path)) as documents:
        assert (documents.table(query), documents.series(query, 24 * HOUR)) == ([], [])
        documents.write([interval(n, 60 * n, 60, 1_000, "uvic") for n in range(48)]).result()
        assert [row["core_ms"] for row in documents.table(query)] == [48_000]
        assert [row["core_ms"] for row in documents.series(query, 24 * HOUR)] == [12_000, 24_000, 12_000]
    with contextlib.closing(sqlite3.connect(path)) as kept:
        counts = [
            kept.execute(f"SELECT COUNT(*) FROM {name}_kept").fetchone()[0] for name in ("boot_day", "interval_hour")
        ]
        assert counts[0] <= 3
        assert 0 < counts[1] <= 48
