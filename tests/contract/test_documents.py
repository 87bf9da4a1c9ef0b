"""The promises of the documents port, on every adapter and its real server."""

import multiprocessing
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from skytally.app.wiring import open_documents
from skytally.core.config import Config
from skytally.core.documents import Interval, Job, Label, Round, TimerSlot, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import Query, Write
from tests.support.documents import AT, HOUR, STALE, STORED, done, interval, label, usage, window

pytestmark = pytest.mark.servers


def test_what_was_stored_is_read_back_whole(any_documents):
    full = Round(
        name="x",
        started_at=AT,
        finished_at=AT + timedelta(milliseconds=1),
        succeeded_at=None,
        error='"quoted" ü 🦉\x00'[:-1],
    )
    assert done(any_documents, Write("round", "x", 1, full)) == [STORED]
    assert any_documents.get("round", "x", Round) == full
    assert any_documents.get("round", "y", Round) is None
    assert any_documents.get_many("round", ["y", "x", "y", "x"], Round) == [None, full, None, full]
    assert any_documents.get_many("round", [], Round) == []


def test_a_create_happens_once(any_documents):
    assert done(any_documents, label("a", "first", create=True)) == [STORED]
    assert done(any_documents, label("a", "second", create=True), label("b", "first", create=True)) == [STALE, STORED]
    assert any_documents.get("label", "a", Label).boot_id == "first"


def test_of_one_batch_the_first_creates(any_documents):
    assert done(any_documents, label("a", "1", create=True), label("a", "2", create=True)) == [STORED, STALE]
    assert any_documents.get("label", "a", Label).boot_id == "1"


def test_an_older_version_is_stale_an_equal_one_replaces(any_documents):
    for version, word, outcome in (
        (5, "five", STORED),
        (4, "four", STALE),
        (5, "five again", STORED),
        (6, "six", STORED),
        (1, "one", STALE),
    ):
        assert done(any_documents, label("k", word, version)) == [outcome]
    assert any_documents.get("label", "k", Label).boot_id == "six"


def test_a_put_after_a_create_goes_by_its_version(any_documents):
    done(any_documents, label("k", "created", create=True))
    assert done(any_documents, label("k", "put", 1_000)) == [STORED]
    assert done(any_documents, label("k", "older", 999)) == [STALE]
    assert any_documents.get("label", "k", Label).boot_id == "put"


def test_a_batch_keeps_its_order(any_documents):
    outcomes = done(any_documents, label("k", "2", 2), label("k", "1", 1), label("k", "3", 3), label("other", "x", 1))
    assert outcomes == [STORED, STALE, STORED, STORED]
    assert any_documents.get("label", "k", Label).boot_id == "3"
    assert done(any_documents) == []


@pytest.mark.parametrize(
    "key", ["🦉" * 255 + "-20261125T120000Z-2026-11", "a b/c?d#e%f", "-", '"', "x" * 2_000], ids=range(5)
)
def test_keys_may_be_what_people_call_their_vms(any_documents, key):
    assert done(any_documents, label(key, "here", 1)) == [STORED]
    assert any_documents.get("label", key, Label).boot_id == "here"
    assert any_documents.get("label", key + "x", Label) is None
    any_documents.refresh()
    assert [found for found, _ in any_documents.find("label", Label, {"boot_id": ["here"]})] == [key]


def test_what_has_its_moment_in_a_span_is_listed_in_its_order(any_documents):
    moments = [AT + timedelta(seconds=n % 3) for n in range(6_000)]
    done(
        any_documents,
        *(Write("turn", f"k{n:04}", 0, TimerSlot(taken_at=at), create=True) for n, at in enumerate(moments)),
    )
    any_documents.refresh()
    expected = sorted((at, f"k{n:04}") for n, at in enumerate(moments))
    span = AT, AT + timedelta(seconds=2)
    found = [(turn.taken_at, key) for key, turn in any_documents.during("turn", TimerSlot, "taken_at", span, {})]
    assert found == [(at, key) for at, key in expected if at < span[1]]
    done(any_documents, interval("v-1", AT, AT + HOUR, 8), interval("w-1", AT, AT + 2 * HOUR, 8, cloud="cern"))
    any_documents.refresh()
    theirs = any_documents.during("interval", Interval, "until_at", (AT, AT + 3 * HOUR), {"cloud": ["cern"]})
    assert [one.label for _, one in theirs] == ["w-1"]


def test_find_lists_all_that_match_in_key_order(any_documents):
    writes = [usage(f"{n:05}", "2026-11" if n % 3 else "2026-10", f"c{n % 2}") for n in range(2_500)]
    done(any_documents, *writes)
    any_documents.refresh()
    keys = [key for key, _ in any_documents.find("usage", Usage, {"month": ["2026-11"], "cloud": ["c1", "c7"]})]
    assert keys == [f"{n:05}" for n in range(2_500) if n % 3 and n % 2]
    found = dict(any_documents.find("usage", Usage, {"month": ["2026-10", "2026-11"]}))
    assert len(found) == 2_500
    assert found["00001"] == writes[1].document
    assert list(any_documents.find("usage", Usage, {"cloud": ["nobody"]})) == []


def test_sums_are_exact(any_documents):
    values = [3_599_999, 1, 2**40 + 7, 86_400_000]
    done(any_documents, *(interval(f"b{n}", AT - HOUR, AT, value) for n, value in enumerate(values)))
    assert window(any_documents, AT - HOUR, AT) == [{"cloud": "uvic", "core_ms": sum(values)}]


@pytest.mark.parametrize("at", [AT, AT + 10 * HOUR], ids=["within a day", "across midnight"])
def test_an_interval_counts_by_its_part_inside(any_documents, at):
    done(any_documents, interval("b", at, at + 4 * HOUR, 8_000))
    for from_hours, until_hours, core_ms in (
        (0, 4, 8_000),
        (1, 2, 2_000),
        (-5, 1, 2_000),
        (3, 9, 2_000),
        (1, 3, 4_000),
        (-1, 5, 8_000),
    ):
        rows = window(any_documents, at + from_hours * HOUR, at + until_hours * HOUR)
        assert rows == [{"cloud": "uvic", "core_ms": pytest.approx(core_ms)}]
    for from_hours, until_hours in ((-2, 0), (4, 6)):
        assert window(any_documents, at + from_hours * HOUR, at + until_hours * HOUR) == []


def test_rows_dimensions_filters_and_counts(any_documents):
    writes = [
        interval(f"b{n}", AT - HOUR, AT, 100 + n, cloud=f"c{n % 3}", vm=f"v{n % 4}", site="s" if n % 2 else None)
        for n in range(24)
    ]
    done(any_documents, *writes)
    rows = window(any_documents, AT - HOUR, AT, by=("cloud", "vm"), sums=("core_ms", "cores"))
    assert [(row["cloud"], row["vm"]) for row in rows] == [(f"c{c}", f"v{v}") for c in range(3) for v in range(4)]
    assert sum(row["core_ms"] for row in rows) == sum(100 + n for n in range(24))
    assert {row["cores"] for row in rows} == {16}
    counted = window(any_documents, AT - HOUR, AT, distinct=("vm",))
    assert [(row["cloud"], row["vm_count"]) for row in counted] == [("c0", 4), ("c1", 4), ("c2", 4)]
    some = window(any_documents, AT - HOUR, AT, where={"cloud": ["c0", "c2"], "vm": ["v1"]})
    assert [row["cloud"] for row in some] == ["c0", "c2"]
    assert window(any_documents, AT - HOUR, AT, by=("site",))[0]["site"] in {None, "s"}
    assert len(window(any_documents, AT - HOUR, AT, by=("site",))) == 2


def test_a_replaced_interval_counts_once(any_documents):
    done(any_documents, interval("b", AT - 2 * HOUR, AT - HOUR, 100))
    done(any_documents, interval("b", AT - 2 * HOUR, AT, 250))
    done(any_documents, interval("b", AT - 2 * HOUR, AT - HOUR, 100))
    assert window(any_documents, AT - 5 * HOUR, AT) == [{"cloud": "uvic", "core_ms": 250}]


def test_an_interval_that_moves_into_another_month_counts_once(any_documents):
    edge = datetime(2026, 11, 1, tzinfo=UTC)
    done(any_documents, interval("b", edge - HOUR, edge - HOUR / 2, 100))
    done(any_documents, interval("b", edge - HOUR, edge + HOUR, 400))
    assert window(any_documents, edge - HOUR, edge + HOUR) == [{"cloud": "uvic", "core_ms": 400}]
    assert window(any_documents, edge, edge + HOUR) == [{"cloud": "uvic", "core_ms": pytest.approx(200)}]


def test_series_are_the_table_step_by_step(any_documents):
    writes = [
        interval(f"b{n}", AT + n * HOUR / 3, AT + (n + 1) * HOUR / 3, 1_000 + n, cloud=f"c{n % 2}") for n in range(30)
    ]
    writes.append(interval("long", AT + HOUR / 2, AT + 7 * HOUR, 65_000, cloud="c0"))
    done(any_documents, *writes)
    any_documents.refresh()
    query = Query(index="interval", from_at=AT, until_at=AT + 9.5 * HOUR, by=("cloud",), sums=("core_ms",))
    series = any_documents.series(query, HOUR)
    assert [row["at"] for row in series] == sorted(row["at"] for row in series)
    for n in range(10):
        step = any_documents.table(
            Query(
                index="interval",
                from_at=AT + n * HOUR,
                until_at=AT + min(n + 1, 9.5) * HOUR,
                by=("cloud",),
                sums=("core_ms",),
            )
        )
        mine = [{k: v for k, v in row.items() if k != "at"} for row in series if row["at"] == AT + n * HOUR]
        assert mine == [{**row, "core_ms": pytest.approx(row["core_ms"])} for row in step]


def test_many_clouds_by_many_hours_are_all_there(any_documents):
    writes = [
        interval(f"{c}-{h}", AT + h * HOUR, AT + (h + 1) * HOUR, 10 * c + 1, cloud=f"c{c:02}")
        for c in range(50)
        for h in range(72)
    ]
    done(any_documents, *writes)
    any_documents.refresh()
    query = Query(index="interval", from_at=AT, until_at=AT + 72 * HOUR, by=("cloud",), sums=("core_ms",))
    series = any_documents.series(query, HOUR)
    assert len(series) == 50 * 72
    assert sum(row["core_ms"] for row in series) == sum(write.document.core_ms for write in writes)
    assert [row["core_ms"] for row in any_documents.table(query)] == [72 * (10 * c + 1) for c in range(50)]


def race(settings, names, barrier, won):
    documents = open_documents(Config.from_env(settings))
    for name in names:
        barrier.wait()
        me = f"{multiprocessing.current_process().pid}"
        if done(documents, label(name, me, create=True)) == [STORED]:
            won.put(name)
    won.put(None)
    documents.close()


def test_of_many_processes_one_creates_each(documents_settings, any_documents):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(3), context.Queue()
    names = [f"name-{n}" for n in range(25)]
    racers = [context.Process(target=race, args=(documents_settings, names, barrier, won)) for _ in range(3)]
    for racer in racers:
        racer.start()
    winners, ended = Counter(), 0
    while ended < len(racers):
        name = won.get(timeout=60)
        ended += name is None
        winners.update([name] if name else [])
    for racer in racers:
        racer.join()
    assert winners == dict.fromkeys(names, 1)


def test_many_small_writes_at_once_are_all_answered(any_documents):
    outcomes = []

    def write(n):
        for k in range(20):
            outcomes.extend(done(any_documents, label(f"{n}-{k}", "x", 1)))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [STORED] * 240


def test_a_caller_that_gave_up_harms_nobody(any_documents):
    futures = [any_documents.write([label(f"k{n}", "x", 1)]) for n in range(200)]
    for future in futures[::2]:
        future.cancel()
    assert all(future.result(timeout=60) == [STORED] for future in futures[1::2])


def test_after_closing_nothing_is_taken(documents_settings):
    other = open_documents(Config.from_env(documents_settings))
    other.close()
    with pytest.raises(Unavailable):
        done(other, label("k", "x"))


def test_what_is_stored_is_listed_with_its_version_from_any_key_on(any_documents):
    done(any_documents, *(label(f"{n:04}", f"b{n}", n) for n in range(5_300)))
    any_documents.refresh()
    assert any_documents.count("label") == 5_300
    found = list(any_documents.stored("label", Label, "0299"))
    assert [(key, version) for key, version, _ in found] == [(f"{n:04}", n) for n in range(300, 5_300)]
    assert found[0][2] == Label(boot_id="b300")
    assert list(any_documents.stored("label", Label, "9999")) == []


def test_what_is_old_is_forgotten_and_nothing_else(any_documents):
    done(any_documents, *(interval(f"b{n}", AT + n * HOUR, AT + (n + 1) * HOUR, 1) for n in range(50)))
    any_documents.refresh()
    assert any_documents.forget("interval", "until_at", AT + 20 * HOUR) == 19
    any_documents.refresh()
    assert (any_documents.count("interval"), any_documents.forget("interval", "until_at", AT + 20 * HOUR)) == (31, 0)
    assert window(any_documents, AT, AT + 99 * HOUR) == [{"cloud": "uvic", "core_ms": 31}]


def test_what_is_left_when_time_is_up_goes_the_next_time(any_documents, monkeypatch):
    for page in ("documents_sqlite.PAGE_ROWS", "documents_search.PAGE"):
        monkeypatch.setattr(f"skytally.adapters.{page}", 4)
    done(any_documents, *(Write("turn", f"t-{n}", 0, TimerSlot(taken_at=AT)) for n in range(10)))
    any_documents.refresh()
    assert any_documents.forget("turn", "taken_at", AT + HOUR, lambda: True) == 0
    looks = iter([False, False, True])
    assert any_documents.forget("turn", "taken_at", AT + HOUR, lambda: next(looks)) == 8
    any_documents.refresh()
    assert any_documents.forget("turn", "taken_at", AT + HOUR) == 2


def test_moments_are_counted_whole_where_they_lie(any_documents):
    ends = [AT + n * HOUR / 2 for n in range(10)]
    rounds = [
        Round(name=f"r{n % 2}", started_at=AT, finished_at=at, succeeded_at=None, error=None)
        for n, at in enumerate(ends)
    ]
    never = Round(name="r0", started_at=AT, finished_at=None, succeeded_at=None, error=None)
    done(any_documents, *(Write("round", f"{n}", 1, one) for n, one in enumerate([*rounds, never])))
    any_documents.refresh()
    query = Query(
        index="round", from_at=AT, until_at=AT + 4 * HOUR, by=("name",), sums=("count",), moment="finished_at"
    )
    assert any_documents.table(query) == [{"name": "r0", "count": 4}, {"name": "r1", "count": 4}]
    by_hour = any_documents.series(query, HOUR)
    assert [(row["at"], row["name"], row["count"]) for row in by_hour] == [
        (AT + n * HOUR, f"r{k}", 1) for n in range(4) for k in range(2)
    ]
    query = Query(
        index="round",
        from_at=AT,
        until_at=AT + HOUR,
        by=("name",),
        sums=("count", "count:finished_at"),
        moment="started_at",
    )
    assert any_documents.table(query) == [
        {"name": "r0", "count": 6, "count:finished_at": 5},
        {"name": "r1", "count": 5, "count:finished_at": 5},
    ]
    running = Query(
        index="round",
        from_at=AT,
        until_at=AT + HOUR,
        by=("name",),
        sums=("count",),
        moment="started_at",
        missing="finished_at",
    )
    assert any_documents.table(running) == [{"name": "r0", "count": 1}]


def test_numbers_and_what_is_not_known_are_dimensions_in_their_order(any_documents):
    blank = dict.fromkeys(Job.__struct_fields__) | {"system": "panda", "cloud": "uvic", "multicore": False}
    blank |= {"changed_at": AT, "seen_at": AT, "final_at": AT, "status": "finished"}
    blank |= dict.fromkeys(("cores", "wall_ms", "cpu_ms", "core_ms", "core_ms_with_cpu", "wasted_core_ms"), 0)
    values = [(9, 20), (10, 20), (3, 20), (19, 100), (0, 0), (21, 20), (20, 20)]
    jobs = [
        Job(**blank | {"job_id": str(n), "cpu_ms": cpu, "core_ms_with_cpu": core})
        for n, (cpu, core) in enumerate(values)
    ]
    done(any_documents, *(Write("job", f"panda/{job.job_id}", 1, job) for job in jobs))
    any_documents.refresh()
    query = Query(index="job", moment="final_at", from_at=AT, until_at=AT + HOUR, by=("efficiency_from",))
    sums = ("count", "finished_count", "failed_count")
    assert [tuple(row.values()) for row in any_documents.table(structs.replace(query, sums=sums))] == [
        (None, 1, 1, 0),
        (0.15, 2, 2, 0),
        (0.45, 1, 1, 0),
        (0.5, 1, 1, 0),
        (1.0, 2, 2, 0),
    ]


def test_the_disks_are_told(any_documents):
    for room in any_documents.rooms():
        assert 0 < room.free_bytes <= room.total_bytes
        assert 0 < room.needed_bytes < room.total_bytes
    stores = ("the documents", "Elasticsearch", "OpenSearch")
    assert [room.name.partition("'s ")[0] for room in any_documents.rooms()] in [
        [f"the disk of {store}"] for store in stores
    ]
