"""What nobody should have written costs itself alone, on every store:
a bad write, and a document that cannot be read.
"""

import contextlib
import itertools
import json
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.core import storable
from skytally.core.documents import Interval, Job, Label, Round, TimerSlot, Unreadable, Usage
from skytally.core.ports import Outcome, Query, Write
from tests.support.documents import AT, HOUR, STORED, done, interval, label, usage

pytestmark = pytest.mark.servers
REJECTED = Outcome.REJECTED
FAR_EAST = timezone(timedelta(hours=14))
DAY = timedelta(days=1)


def is_sqlite(documents):
    return hasattr(documents, "_path")


def changed(write, **fields):
    return Write(write.index, write.key, write.version, msgspec.structs.replace(write.document, **fields))


BAD = {
    "an integer beyond 64 bits": changed(usage("bad", "2026-11", "uvic"), core_ms=2**63),
    "an integer of a thousand bits": changed(usage("bad", "2026-11", "uvic"), core_ms=2**1_000),
    "no number": changed(usage("bad", "2026-11", "uvic"), clock_offset_seconds=float("nan")),
    "no end": changed(usage("bad", "2026-11", "uvic"), clock_offset_seconds=float("inf")),
    "a word for a number": changed(usage("bad", "2026-11", "uvic"), core_ms="many"),
    "half a surrogate pair": label("bad", "\ud800"),
    "half a surrogate pair in its key": label("bad\udfff", "a"),
    "no key": label("", "a"),
    "a negative version": label("bad", "a", -1),
    "a version beyond 64 bits": label("bad", "a", 2**63),
    "another index's record": Write("label", "bad", 1, TimerSlot(taken_at=AT)),
    "an index that is not": Write("nowhere", "bad", 1, Label(boot_id="a")),
    "the first moment": Write("turn", "bad", 0, TimerSlot(taken_at=datetime(1, 1, 1, tzinfo=FAR_EAST)), create=True),
    "the last moment": Write(
        "turn", "bad", 0, TimerSlot(taken_at=datetime.max.replace(tzinfo=timezone(-timedelta(hours=14))))
    ),
    "a moment without zone": Write("turn", "bad", 0, TimerSlot(taken_at=AT.replace(tzinfo=None))),
    "an end before the beginning": interval("bad", AT, AT - HOUR, 5),
}


def test_a_bad_write_costs_itself(any_documents):
    """Its neighbours in the batch, and the callers that share its commit, are kept."""
    batches = {
        name: [label(f"{name} before", "x", 1), bad, label(f"{name} after", "x", 1)] for name, bad in BAD.items()
    }
    futures = {name: any_documents.write(batch) for name, batch in batches.items()}
    answers = {name: future.result(timeout=60) for name, future in futures.items()}
    assert answers == {name: [STORED, REJECTED, STORED] for name in BAD}
    assert done(any_documents, *BAD.values(), interval("i", AT, AT + HOUR, 8)) == [REJECTED] * len(BAD) + [STORED]
    keys = [write.key for batch in batches.values() for write in batch]
    good = Label(boot_id="x")
    assert any_documents.get_many("label", keys, Label) == [good, None, good] * len(BAD)


@pytest.mark.parametrize("hours", [-23.9, -18.5, -14, 0, 14, 18.5, 23.9])
def test_a_moment_is_kept_whatever_its_zone_is(any_documents, hours):
    at = AT.astimezone(timezone(timedelta(hours=hours)))
    wanted = [Write("turn", f"k{hours}", 1, TimerSlot(taken_at=at)), interval(f"i{hours}", at, at + HOUR, 8)]
    assert done(any_documents, *wanted) == [STORED, STORED]
    assert [any_documents.get(one.index, one.key, type(one.document)) for one in wanted] == [
        one.document for one in wanted
    ]


moments = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([UTC, FAR_EAST, timezone(-timedelta(hours=14))])),
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC)),
).map(lambda at: at.replace(microsecond=at.microsecond // 1_000 * 1_000))
integers = st.integers() | st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 0])
texts = st.text(st.characters(codec=None, exclude_categories=[]), max_size=8)
values = st.one_of(st.none(), st.booleans(), integers, st.floats(), texts, moments, st.just([]), st.just({"a": 1}))
GOOD = (
    label("k", "a"),
    usage("k", "2026-11", "uvic"),
    interval("k", AT, AT + HOUR, 8),
    Write("round", "k", 1, Round(name="r", started_at=AT, finished_at=None, succeeded_at=None, error=None)),
)
numbers = itertools.count()


@st.composite
def writes(draw):
    good = draw(st.sampled_from(GOOD))
    names = draw(st.lists(st.sampled_from(good.document.__struct_fields__), max_size=2))
    document = msgspec.structs.replace(good.document, **{name: draw(values) for name in names})
    version = draw(st.just(1) | integers)
    return Write(good.index, draw(st.just("k") | texts) + f"-{next(numbers)}", version, document)


@given(st.lists(writes(), min_size=1, max_size=12))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read_back_as_it_was_or_rejected_by_itself(any_documents, drawn):
    outcomes = done(any_documents, label("before", "x", 1), *drawn, label("after", "x", 1))
    assert (outcomes[0], outcomes[-1]) == (STORED, STORED)
    for write, outcome in zip(drawn, outcomes[1:-1], strict=True):
        found = any_documents.get(write.index, write.key, type(write.document))
        assert (outcome, found) in ((STORED, write.document), (REJECTED, None))


def put_raw(documents, index, key, fields):
    """Write a document behind the adapter's back, as whoever holds the file or the cluster can."""
    if is_sqlite(documents):
        columns = {"key": key, "version": 1, **fields}
        with contextlib.closing(sqlite3.connect(documents._path)) as connection, connection:
            names = ", ".join(f'"{name}"' for name in columns)
            connection.execute(
                f"INSERT INTO {index} ({names}) VALUES ({', '.join('?' * len(columns))})", list(columns.values())
            )
        return
    name = f"{documents._prefix}-{index}{'-other' if index == 'interval' else ''}"
    documents.client.perform(
        "PUT", f"/{name}/_doc/{key}", body=msgspec.Raw(json.dumps({"key": key, **fields}).encode())
    )


def raw(documents, document, **fields):
    """Return a document's fields as the store holds them, some of them changed."""
    made = msgspec.structs.asdict(document)
    for name, value in made.items():
        if isinstance(value, datetime):
            made[name] = moment(documents, value)
    return made | fields


def moment(documents, at):
    return (at - storable.EARLIEST) // timedelta(milliseconds=1) if is_sqlite(documents) else at.isoformat()


def spoilt(documents):
    """Spoil a round in each way that the store lets through; return the fields by the key."""
    good = Round(name="r", started_at=AT, finished_at=None, succeeded_at=None, error=None)
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    changes = {
        "first": {"started_at": moment(documents, first)},
        "last": {"started_at": moment(documents, last)},
        "absent": {"started_at": None},
        "nameless": {"name": None},
    }
    if is_sqlite(documents):
        changes |= {"beyond": {"started_at": 2**62}, "before": {"started_at": -(2**62)}, "word": {"started_at": "soon"}}
        changes |= {"bytes": {"name": b"\xff\xfe"}, "real": {"started_at": 0.5}}
    else:
        changes |= {
            "list": {"name": ["r", "s"]},
            "half": {"name": "\ud800"},
            "number": {"started_at": 1_795_000_000_000},
            "naive": {"started_at": "2026-11-25T12:00:00"},
        }
    return {key: raw(documents, good, **change) for key, change in changes.items()}


def test_what_cannot_be_read_is_skipped_and_noted_and_stops_nothing(any_documents):
    good = {
        f"good-{n}": Round(name="r", started_at=AT, finished_at=None, succeeded_at=None, error=None) for n in range(3)
    }
    done(any_documents, *(Write("round", key, 1, one) for key, one in good.items()))
    bad = spoilt(any_documents)
    for key, fields in bad.items():
        put_raw(any_documents, "round", key, fields)
    any_documents.refresh()
    assert any_documents.get_many("round", [*good, *bad], Round) == [*good.values(), *([None] * len(bad))]
    assert all(any_documents.get("round", key, Round) is None for key in bad)
    assert dict(any_documents.find("round", Round, {})) == good
    assert dict(any_documents.find("round", Round, {"name": ["r"]})) == good
    assert (
        dict(
            any_documents.during(
                "round", Round, "started_at", (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)), {}
            )
        )
        == good
    )
    skipped = []
    assert {
        key: one for key, _, one in any_documents.stored("round", Round, skipped=lambda *about: skipped.append(about))
    } == good
    assert sorted(key for key, _ in skipped) == sorted(bad)
    assert any_documents.count("round") == len(good) + len(bad)
    noted = noted_keys(any_documents, len(bad))
    assert {one.key_text for one in noted} == set(bad)
    assert all((one.kind, one.source) == ("document", "round") and one.reason for one in noted)
    assert not any("soon" in one.reason or "9999" in one.reason for one in noted)
    # Written anew, it is as good as any.
    first = next(iter(bad))
    assert done(any_documents, Write("round", first, 2, good["good-0"])) == [STORED]
    assert any_documents.get("round", first, Round) == good["good-0"]


def noted_keys(documents, count):
    """Wait for the notes, for which nobody else waits."""
    while True:
        documents.refresh()
        noted = [one for _, one in documents.find("unreadable", Unreadable, {})]
        if len(noted) >= count:
            return noted


def test_a_page_of_nothing_but_junk_is_passed_over(any_documents):
    count = 5_200
    done(any_documents, *(label(f"a{n:04}", "x", 1) for n in range(3)), *(label(f"c{n:04}", "x", 1) for n in range(3)))
    if is_sqlite(any_documents):
        with contextlib.closing(sqlite3.connect(any_documents._path)) as connection, connection:
            connection.executemany("INSERT INTO label VALUES (?, 1, NULL)", [(f"b{n:04}",) for n in range(count)])
            connection.executemany("INSERT INTO label VALUES (?, 1, 'x')", [(None,), (b"d",)])
            connection.execute("INSERT INTO label VALUES (CAST(x'62ff' AS TEXT), 1, 'x')")
    else:
        lines = [line for n in range(count) for line in ({"index": {"_id": f"b{n:04}"}}, {"key": f"b{n:04}"})]
        lines += [{"index": {"_id": "keyless"}}, {"boot_id": "x"}]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        any_documents.client.perform("POST", f"/{any_documents._prefix}-label/_bulk", body=body)
    any_documents.refresh()
    readable = [f"a{n:04}" for n in range(3)] + [f"c{n:04}" for n in range(3)]
    assert [key for key, _ in any_documents.find("label", Label, {})] == readable
    assert [key for key, _, _ in any_documents.stored("label", Label)] == readable
    assert [key for key, _, _ in any_documents.stored("label", Label, "b0001")] == readable[3:]


def test_what_cannot_be_read_is_counted_and_forgotten_like_anything_else(any_documents):
    done(any_documents, interval("good", AT, AT + HOUR, 8))
    for n, at in enumerate((datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))):
        put_raw(
            any_documents,
            "interval",
            f"junk-{n}",
            raw(
                any_documents,
                interval("junk", AT, AT + HOUR, 8).document,
                from_at=moment(any_documents, at),
                until_at=moment(any_documents, at),
            ),
        )
    any_documents.refresh()
    assert any_documents.count("interval") == 3
    assert any_documents.forget("interval", "until_at", AT) == 1
    any_documents.refresh()
    assert any_documents.count("interval") == 2
    assert [one.label for _, one in any_documents.find("interval", Interval, {})] == ["good"]


WINDOWS = {
    "three days": (AT - 12 * HOUR, AT + 60 * HOUR),
    "cut": (AT + 1.25 * HOUR, AT + 30.5 * HOUR),
    "an hour": (AT + 3 * HOUR, AT + 4 * HOUR),
    "all that a person may ask for": (datetime(2000, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)),
}


def all_sums(documents):
    """Ask for what views, plots and statements ask for; rows that junk has a part in are named for it."""
    documents.refresh()
    found = {}
    for name, (from_at, until_at) in WINDOWS.items():
        query = Query(index="interval", from_at=from_at, until_at=until_at, sums=("core_ms", "wall_ms"))
        for by in (("cloud",), ("cloud", "vm", "label"), ("site", "label")):
            found[name, by] = documents.table(msgspec.structs.replace(query, by=by))
        found[name, "distinct"] = documents.table(msgspec.structs.replace(query, by=("cloud",), distinct=("vm",)))
        steps = (HOUR, 6 * HOUR, DAY) if until_at - from_at < 100 * DAY else (28 * DAY,)
        steps += (timedelta(minutes=5),) if until_at - from_at < 2 * DAY else ()
        for step in steps:
            found[name, step] = documents.series(msgspec.structs.replace(query, by=("cloud",)), step)
    return {
        name: [row for row in rows if "junk" not in {row.get("cloud"), row.get("label")}]
        for name, rows in found.items()
    }


def test_sums_of_all_else_are_what_they_were_whatever_junk_lies_beside_them(any_documents):
    good = [
        interval(
            f"v{n % 4}", AT + n * HOUR / 2, AT + (n + 1) * HOUR / 2, 1_000_000 + n, cloud=f"c{n % 2}", vm=f"v{n % 4}"
        )
        for n in range(100)
    ]
    good.append(interval("long", AT + HOUR / 3, AT + 50 * HOUR, 9_000_000, cloud="c0"))
    done(any_documents, *good)
    before = all_sums(any_documents)
    assert sum(row["core_ms"] for row in before["three days", ("cloud",)]) == pytest.approx(
        sum(one.document.core_ms for one in good)
    )
    junk = interval("junk", AT + HOUR, AT + 2 * HOUR, 10**15, cloud="junk", vm="junk").document
    first, last = (moment(any_documents, datetime(*day, tzinfo=UTC)) for day in ((1, 1, 1), (9999, 12, 31)))
    far, later = moment(any_documents, datetime(2190, 1, 1, tzinfo=UTC)), moment(any_documents, AT + 5 * HOUR)
    changes = [
        {"from_at": first},
        {"until_at": last},
        {"from_at": first, "until_at": last},
        {"from_at": last, "until_at": last},
        {"from_at": first, "until_at": first},
        {"from_at": last, "until_at": first},
        {"from_at": later},
        {"from_at": moment(any_documents, AT + 2 * DAY)},
        {"until_at": far},
        {"from_at": None},
        {"until_at": None},
        {"core_ms": 2**63 - 1},
        {"core_ms": 2**63 - 1},
        {"core_ms": None},
        # These bear the names of good ones.
        {"cloud": None, "label": "v1", "vm": "v1"},
        {"vm": None, "label": "v1", "cloud": "junk"},
        {"label": None, "cloud": "c1"},
    ]
    if is_sqlite(any_documents):
        changes += [
            {"from_at": "soon"},
            {"until_at": "soon"},
            {"core_ms": "many"},
            {"until_at": 2**63 - 1},
            {"from_at": -(2**63)},
        ]
        changes += [{"cloud": b"\xff", "label": "v1"}, {"from_at": b"\xff"}, {"vm": b"\xff", "label": "v2"}]
    for n, change in enumerate(changes):
        put_raw(any_documents, "interval", f"junk-{n}", raw(any_documents, junk, **change))
    after = all_sums(any_documents)
    assert after.keys() == before.keys()
    for name, rows in before.items():
        assert after[name] == rows, name
    # So they are once hours and days were kept.
    assert all_sums(any_documents) == before


LARGEST = 2**63 - 1


def exactly(documents, value):
    """SQLite adds up in integers, a search engine in floating point."""
    return value if is_sqlite(documents) else pytest.approx(value, rel=1e-12)


def test_no_sum_is_too_large(any_documents):
    large = [
        interval(f"big-{n % 2}", AT + n * HOUR / 8, AT + (n + 1) * HOUR / 8, LARGEST, cloud="big", wall_ms=LARGEST - n)
        for n in range(8)
    ]
    small = [interval(f"v{n}", AT + n * HOUR / 8, AT + (n + 1) * HOUR / 8, 100 + n) for n in range(8)]
    done(
        any_documents,
        *large,
        *small,
        interval("edge", AT - HOUR / 2, AT + HOUR / 2, -LARGEST, cloud="big", wall_ms=LARGEST),
    )
    any_documents.refresh()
    query = Query(
        index="interval", from_at=AT - HOUR, until_at=AT + 5 * HOUR, by=("cloud",), sums=("core_ms", "wall_ms")
    )
    for _ in range(2):
        big, usual = any_documents.table(query)
        assert big == {
            "cloud": "big",
            "core_ms": exactly(any_documents, 7 * LARGEST),
            "wall_ms": exactly(any_documents, 9 * LARGEST - 28),
        }
        assert usual == {"cloud": "uvic", "core_ms": 828, "wall_ms": sum(one.document.wall_ms for one in small)}
    by_label = any_documents.table(msgspec.structs.replace(query, by=("label",)))
    assert [row["wall_ms"] for row in by_label][:2] == [
        exactly(any_documents, 4 * LARGEST - 12),
        exactly(any_documents, 4 * LARGEST - 16),
    ]
    days = any_documents.table(msgspec.structs.replace(query, from_at=AT - 3 * DAY, until_at=AT + 3 * DAY))
    assert days == [big, usual]
    for step in (timedelta(minutes=5), HOUR, DAY):
        for _ in range(2):
            rows = any_documents.series(query, step)
            assert sum(row["wall_ms"] for row in rows if row["cloud"] == "big") == pytest.approx(9 * LARGEST, rel=1e-12)
            assert sum(row["core_ms"] for row in rows if row["cloud"] == "uvic") == 828


def job(number, **fields):
    blank = dict.fromkeys(Job.__struct_fields__) | {
        "system": "panda",
        "job_id": str(number),
        "status": "finished",
        "cloud": "uvic",
    }
    blank |= {"multicore": False, "changed_at": AT, "seen_at": AT, "final_at": AT}
    blank |= dict.fromkeys([name for name in blank if "_ms" in name] + ["cores"], 0)
    return Write("job", f"panda/{number}", 1, Job(**blank | fields))


def test_no_sum_of_moments_is_too_large_and_one_of_nothing_is_nought(any_documents):
    jobs = [job(n, wall_ms=LARGEST, max_pss_bytes=LARGEST - n) for n in range(5)]
    done(any_documents, *jobs, job(9, cloud="cern", wall_ms=7, final_at=AT + HOUR))
    any_documents.refresh()
    query = Query(
        index="job",
        from_at=AT,
        until_at=AT + 2 * HOUR,
        by=("cloud",),
        moment="final_at",
        sums=("count", "wall_ms", "max_pss_bytes"),
    )
    cern = {"cloud": "cern", "count": 1, "wall_ms": 7, "max_pss_bytes": 0}
    uvic = {
        "cloud": "uvic",
        "count": 5,
        "wall_ms": exactly(any_documents, 5 * LARGEST),
        "max_pss_bytes": exactly(any_documents, 5 * LARGEST - 10),
    }
    assert any_documents.table(query) == [cern, uvic]
    assert any_documents.series(query, HOUR) == [{"at": AT, **uvic}, {"at": AT + HOUR, **cern}]


def test_a_document_whose_month_is_beyond_reach_is_counted_where_it_lies(any_documents):
    """A name that no clock of ours gives is as good as any other."""
    keys = [
        f"vm-{year:04}0101T000000Z-{days * 86_400_000}"
        for year in (1, 1969, 2025, 2100, 9999)
        for days in (0, 20, 10**6)
    ]
    done(any_documents, *(Write("interval", key, 1, interval(key, AT, AT + HOUR, 10).document) for key in keys))
    any_documents.refresh()
    assert any_documents.table(Query(index="interval", from_at=AT, until_at=AT + HOUR, sums=("core_ms",))) == [
        {"core_ms": 10 * len(keys)}
    ]
    assert all(any_documents.get_many("interval", keys, Interval))
    assert any_documents.get("usage", "nobody", Usage) is None
