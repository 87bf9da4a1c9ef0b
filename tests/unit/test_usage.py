"""The rules of usage: what is refused, and that only the last sample counts whatever came before it."""

import asyncio
import itertools
import random
import sqlite3
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skytally.accounting import samples, usage
from skytally.accounting.boots import VM_BOOTS_AN_HOUR, Register, label_of, within
from skytally.accounting.closing import statement
from skytally.adapters.documents_search.templates import month_of_key
from skytally.adapters.documents_sqlite import SqliteDocuments, commits
from skytally.core import batch
from skytally.core.documents import Boot, BootBenchmark, Interval, Label, Usage
from skytally.core.errors import Malformed, Unavailable
from skytally.core.ports import Write
from skytally.core.records import Caller, Rejection
from skytally.core.site_data import Site
from skytally.core.timestamps import ms_of_seconds
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CALLER = Caller(
    role="reporter", issued=0, expires=2**40, vm="vm-1", clouds=("uvic",), site="Victoria", group="atlas", flavor="c8"
)
BOOT = NOW - timedelta(hours=3)
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12) | st.text("@%-Z2", min_size=1)


def sample(**change):
    return builders.FakeVm("vm-1", boot_at=BOOT).sample(NOW) | change


def codes(*reported, caller=CALLER, now=NOW):
    """Judge samples without keeping them."""
    items = samples.parse(msgspec.json.encode({"samples": reported}))
    refused = [item for item in items if isinstance(item, Rejection)]
    for index, item in enumerate(items):
        if not isinstance(item, Rejection):
            with batch.judging(index, refused):
                samples.check(item, caller, now)
    codes = {refusal.index: refusal.code for refusal in refused}
    return [codes.get(index) for index in range(len(items))]


def counters(**change):
    return {"counters": sample()["counters"] | change}


MINUTE = timedelta(minutes=1)
REFUSED = {
    "another vm": (sample(vm="vm-2"), "not_yours"),
    "another cloud": (sample(cloud="cern"), "not_yours"),
    "another site": (sample(site="CERN"), "not_yours"),
    "another group": (sample(group="belle"), "not_yours"),
    "another flavor": (sample(flavor="c16"), "not_yours"),
    "no vm": ({k: v for k, v in sample().items() if k != "vm"}, "malformed"),
    "an empty vm": (sample(vm=""), "malformed"),
    "a vm with a line break": (sample(vm="a\nb"), "malformed"),
    "no boot_id": (sample(boot_id="x"), "malformed"),
    "no zone": (sample(sampled_at="2026-11-25T12:00:00"), "malformed_time"),
    "no time": (sample(sampled_at="noon"), "malformed_time"),
    "no cores": (sample(cores=0), "malformed"),
    "absurd cores": (sample(cores=65_537), "malformed"),
    "absurd uptime": (sample(uptime_seconds=21 * 366 * 86_400), "malformed"),
    "negative uptime": (sample(uptime_seconds=-1), "malformed"),
    "negative time": (sample(**counters(user_seconds=-0.1)), "malformed"),
    "time as text": (sample(**counters(user_seconds="1")), "malformed"),
    "a missing counter": (sample(counters={"wall_seconds": 1}), "malformed"),
    "no baseline": (sample(month_start=None), "malformed"),
    "month 13": (sample(month="2026-13"), "malformed"),
    "boot after sample": (sample(boot_at=builders.stamp(NOW + MINUTE)), "malformed_time"),
    "before anybody": (sample(sampled_at="1999-01-01T00:00:00Z", boot_at="1998-01-01T00:00:00Z"), "malformed_time"),
    "a month that is over": (sample(month="2026-10"), "wrong_month"),
    "a month to come": (sample(month="2026-12"), "future_month"),
    "a baseline above": (sample(month_start=builders.counters(10**6)), "baseline_above_counters"),
    "another month's baseline": (
        sample(uptime_seconds=3e6, **counters(wall_seconds=2.9e6, core_seconds=2e7)),
        "wrong_baseline",
    ),
    "more wall than uptime": (sample(uptime_seconds=10_000), "wall_above_uptime"),
    "more suspended than uptime": (sample(**counters(suspended_seconds=1_000)), "wall_above_uptime"),
    "more CPU than cores": (sample(**counters(user_seconds=100_000)), "cpu_above_cores"),
    "more CPU in the month than its cores": (
        sample(
            month_start=builders.counters(9_000) | {"user_seconds": 0.0, "system_seconds": 0.0},
            **counters(user_seconds=40_000),
        ),
        "cpu_above_cores",
    ),
    "more CPU than cores since the sample before": (
        sample(
            previous={
                **builders.FakeVm(boot_at=BOOT).moment(NOW),
                "uptime_seconds": 10_000,
                "counters": builders.counters(10_700, busy=0.0),
            }
        ),
        "cpu_above_cores",
    ),
    "no core time": (
        sample(**counters(core_seconds=0, user_seconds=0, system_seconds=0, idle_seconds=0)),
        "no_core_time",
    ),
    "over a day ahead": (sample(sampled_at=builders.stamp(NOW + 25 * 60 * MINUTE)), "malformed_time"),
    "a sample before that is over a day ahead": (
        sample(
            previous=builders.FakeVm(boot_at=BOOT).moment(NOW) | {"sampled_at": builders.stamp(NOW + 25 * 60 * MINUTE)}
        ),
        "malformed_time",
    ),
    "the end of time": (sample(sampled_at="9999-12-31T23:59:59-14:00"), "malformed_time"),
    "the begin of time": (sample(boot_at="0001-01-01T00:00:00+14:00"), "malformed_time"),
    "a begin before time": (
        sample(previous=sample()["previous"] | {"sampled_at": "0001-01-01T00:00:00+14:00"}),
        "malformed_time",
    ),
    "a clock offset of ages": (sample(clock_offset_seconds=1e300), "malformed"),
    "more bytes than there are": (sample(**counters(network_sent_bytes=2**63)), "malformed"),
    "a previous that is later": (
        sample(previous=builders.FakeVm(boot_at=BOOT).moment(NOW + MINUTE)),
        "malformed_previous",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    bad, code = REFUSED[name]
    assert codes(sample(), bad, sample()) == [None, code, None]


@pytest.mark.parametrize(
    "good",
    [
        sample(cloud="uvic", site="Victoria", group="atlas", flavor="c8"),
        sample(**counters(suspended_seconds=100)),
        sample(previous=None),
        sample(sampled_at="2026-11-25T13:00:00+01:00"),
        sample(unknown_field=1, final=True, benchmark=None),
        sample(uptime_seconds=10_650),
        sample(sampled_at=builders.stamp(NOW + 23 * 60 * MINUTE)),
        sample(boot_at="2001-01-01T00:00:00Z"),
        sample(month_start=builders.counters(10_800)),
    ],
    ids=range(9),
)
def test_allowed(good):
    assert codes(good) == [None]


CORES = {
    "in all": (sample(**counters(core_seconds=90_000)), 8, "since the boot"),
    "in the month": (
        sample(month_start=builders.counters(9_000, cores=6), **counters(core_seconds=84_000)),
        8,
        "since month_start",
    ),
    "since the sample before": (
        sample(
            previous={
                **builders.FakeVm(boot_at=BOOT).moment(NOW),
                "uptime_seconds": 7_200,
                "counters": builders.counters(7_200, cores=4),
            }
        ),
        8,
        "since previous",
    ),
}


@pytest.mark.parametrize("name", CORES)
def test_more_core_time_than_the_cores_ever_seen_can_have_had_is_refused(name):
    bad, most_cores, since = CORES[name]
    (read,) = samples.parse(msgspec.json.encode({"samples": [bad]}))
    with pytest.raises(Malformed, match=f"times 8 cores {since}") as refusal:
        samples.check_cores(read, most_cores)
    assert refusal.value.code == "core_above_wall"
    samples.check_cores(read, 2 * most_cores)


def test_core_time_within_the_tolerance_is_allowed():
    most = (10_800 * 1.02 + 60) * 8
    for core_seconds, is_refused in ((most, False), (most + 1, True)):
        (read,) = samples.parse(msgspec.json.encode({"samples": [sample(**counters(core_seconds=core_seconds))]}))
        assert samples.exceeds(read, 8) == is_refused


@pytest.mark.parametrize("odd", [b'"\\ud800"', b"1e999", b'{"x": ["\\udfff"]}', b'{"\\ud800": 1}'])
def test_an_item_that_cannot_be_decoded_costs_itself(odd):
    good = msgspec.json.encode(sample())
    items = samples.parse(b'{"samples": [' + b", ".join([good, odd, good.replace(b'"vm-1"', odd, 1), good]) + b"]}")
    assert [isinstance(item, Rejection) for item in items] == [False, True, True, False]
    with pytest.raises(Malformed):
        samples.parse(b'{"samples": [' + good + b", " + odd)


def test_json_numbers_that_are_none_are_refused():
    body = msgspec.json.encode({"samples": [sample()]}).replace(
        b'"uptime_seconds":10800.0', b'"uptime_seconds":1e999', 1
    )
    (item,) = samples.parse(body)
    assert isinstance(item, Rejection)


@pytest.mark.parametrize(("seconds", "code"), [(-1, "wrong_month"), (0, None), (60, None), (61, "wrong_month")])
def test_a_closing_sample_is_of_the_edge(seconds, code):
    edge = datetime(2026, 11, 1, tzinfo=UTC)
    vm = builders.FakeVm("vm-1", boot_at=edge - timedelta(days=3))
    closing = vm.sample(edge + timedelta(seconds=seconds), month="2026-10" if seconds >= 0 else "2026-09")
    assert codes(closing) == [code]


def test_a_clock_ahead_is_placed_at_the_servers_time_and_flagged():
    ahead = samples.parse(
        msgspec.json.encode({"samples": [sample(sampled_at=builders.stamp(NOW + timedelta(hours=1)))]})
    )[0]
    boot = Boot(boot_id="b", label="l", vm="vm-1", cloud="uvic", site=None, group=None, flavor=None, boot_at=BOOT)
    counted = usage.whole(ahead.counters)
    document = usage.usage_document(ahead, counted, boot, NOW)
    assert (document.last_sampled_at, document.clock_ahead) == (NOW, True)
    interval = usage.interval_document(ahead, counted, ahead.previous, boot, NOW)
    assert (interval.from_at, interval.until_at) == (BOOT, NOW)


@pytest.mark.parametrize("apart_microseconds", [0, 1, 999])
def test_samples_within_a_millisecond_make_an_interval_as_long_as_their_uptimes_say(apart_microseconds):
    before = builders.FakeVm("vm-1", boot_at=BOOT).moment(NOW - timedelta(microseconds=apart_microseconds))
    before |= {
        "uptime_seconds": sample()["uptime_seconds"] - 0.005,
        "sampled_at": (NOW - timedelta(microseconds=apart_microseconds)).isoformat(),
    }
    read = samples.parse(msgspec.json.encode({"samples": [sample(previous=before)]}))[0]
    boot = Boot(boot_id="b", label="l", vm="vm-1", cloud="uvic", site=None, group=None, flavor=None, boot_at=BOOT)
    interval = usage.interval_document(read, usage.whole(read.counters), read.previous, boot, NOW)
    assert interval.until_at - interval.from_at == timedelta(milliseconds=5)


class Bench:
    """A store and a vm's samples, for properties."""

    def __init__(self, folder):
        self.documents = SqliteDocuments(folder / "documents.sqlite")
        self.register = Register(self.documents)

    def report(self, *reported):
        items = samples.parse(msgspec.json.encode({"samples": reported}))
        return asyncio.run(usage.record(items, CALLER, self.register, self.documents, NOW))

    def usages(self):
        return dict(self.documents.find("usage", Usage, {}))

    def intervals(self):
        return dict(self.documents.find("interval", Interval, {}))


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.documents.close()


def hourly(vm, hours):
    times = [vm.boot_at + timedelta(hours=n) for n in range(hours + 1)]
    return [vm.sample(at, before) for before, at in itertools.pairwise(times)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), lost=st.floats(0, 0.9))
def test_any_order_any_repetition_of_any_subset_with_the_last_gives_the_same_month(bench, seed, lost):
    dice = random.Random(seed)
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
    whole = hourly(vm, 12)
    arrived = [s for s in whole[:-1] if dice.random() > lost] + [whole[-1]]
    arrived += [dice.choice(arrived) for _ in range(dice.randrange(4))]
    dice.shuffle(arrived)
    while arrived:
        cut = dice.randrange(1, len(arrived) + 1)
        assert bench.report(*arrived[:cut]).rejected == []
        arrived = arrived[cut:]
    (document,) = (d for d in bench.usages().values() if d.boot_id == vm.boot_id)
    assert (document.wall_ms, document.core_ms) == (12 * 3_600_000, 96 * 3_600_000)
    assert document.last_sampled_at == NOW


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_coverage_is_one_exactly_when_nothing_is_missing(bench, seed):
    dice = random.Random(seed)
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
    whole = hourly(vm, 12)
    missing = set(dice.sample(range(11), dice.randrange(4)))
    bench.report(*[s for n, s in enumerate(whole) if n not in missing])
    boots = statement("2026-11", (), bench.documents, Site(), NOW)["boots"]
    (row,) = [boot for boot in boots if boot["boot_id"] == vm.boot_id]
    assert row["coverage"] == round((12 - len(missing)) / 12, 6)


@given(cuts=st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_differences_of_a_chain_add_up_to_the_last_digit(cuts):
    chain = [usage.whole(usage.Counters(**builders.counters(at))) for at in [0.0, *sorted(cuts)]]
    parts = [usage.difference(b, a) for a, b in itertools.pairwise(chain)]
    assert [sum(column) for column in zip(*parts, strict=True)] == usage.difference(chain[-1], chain[0])


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32))
def test_every_counter_and_label_is_in_the_field_of_its_name(seed):
    """Documents are built by position: each field is checked by its name here."""
    dice = random.Random(seed)
    numbers = dice.sample(range(1, 10**6), 40)
    taken = {name: float(numbers.pop()) for name in usage.Counters.__struct_fields__ if name.endswith("_seconds")}
    taken |= {name: numbers.pop() for name in usage.Counters.__struct_fields__ if name.endswith("_bytes")}
    texts = {"cpu_model": "cpu", "agent_version": "agent", "memory_bytes": 11, "disk_bytes": 12, "final": True}
    flags = {"estimated": False, "clock_offset_seconds": 0.5, "cores": 7}
    zero = builders.counters(0.0)
    before = builders.FakeVm("vm-1", boot_at=BOOT).moment(NOW - timedelta(hours=1)) | {"counters": zero}
    body = {"samples": [sample(counters=taken, month_start=zero, previous=before, **texts, **flags)]}
    (read,) = samples.parse(msgspec.json.encode(body))
    names = {"label": "l", "vm": "v", "cloud": "c", "site": "s", "group": "g", "flavor": "f"}
    boot = Boot(boot_id="b", boot_at=BOOT, **names)
    counted = {name.replace("_seconds", "_ms"): int(n) * (1 if "bytes" in name else 1_000) for name, n in taken.items()}
    month = {"month": read.month, "boot_id": "b", "boot_at": BOOT, "last_sampled_at": read.sampled_at}
    uptime = {"clock_ahead": False, "uptime_ms": ms_of_seconds(read.uptime_seconds)}
    whole = usage.whole(read.counters)
    document = usage.usage_document(read, whole, boot, NOW)
    assert msgspec.structs.asdict(document) == names | texts | flags | counted | month | uptime
    interval = usage.interval_document(read, whole, read.previous, boot, NOW)
    moments = {"from_at": read.previous.sampled_at, "until_at": read.sampled_at, "cores": 7}
    assert msgspec.structs.asdict(interval) == names | counted | moments


BAD_ITEMS = [b"null", b"{}", b"[]", b"1e999", b'"\\ud800"', b"[" * 60 + b"]" * 60, b"[" * 5_000 + b"]" * 5_000]


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.none() | st.sampled_from(BAD_ITEMS), min_size=1, max_size=8))
def test_a_report_read_in_one_pass_has_the_items_of_one_read_item_by_item(places):
    good = [msgspec.json.encode(sample(cores=n + 1)) for n in range(len(places))]
    bodies = [item if bad is None else bad for item, bad in zip(good, places, strict=True)]
    items = samples.parse(b'{"samples": [' + b", ".join(bodies) + b"]}")
    assert [type(item) for item in items] == [usage.Sample if bad is None else usage.Rejection for bad in places]
    assert [item.cores for item in items if isinstance(item, usage.Sample)] == [
        n + 1 for n, bad in enumerate(places) if bad is None
    ]
    assert [item.index for item in items if isinstance(item, usage.Rejection)] == [
        n for n, bad in enumerate(places) if bad is not None
    ]


# What may stand in a field that samples do not have, or take the place of one that they have.
ODD_VALUES = [
    b"null",
    b"1e999",
    b"-0",
    b"1.0",
    b"1e2",
    b'"\\ud800"',
    b'"\xff"',
    b"9" * 400,
    b"[" * 60 + b"]" * 60,
    b"tru",
]
ODD_NAMES = [
    b"vm",
    b"cores",
    b"uptime_seconds",
    b"counters",
    b"previous",
    b"benchmark",
    b"unknown",
    b"\\u0076m",
    b"\xff",
]


@settings(max_examples=200, deadline=None)
@given(
    fields=st.lists(st.tuples(st.sampled_from(ODD_NAMES), st.sampled_from(ODD_VALUES)), max_size=3),
    is_last=st.booleans(),
    end=st.sampled_from([b"", b" \n", b"}", b"\0", b",", b"{}"]),
)
def test_a_bad_item_changes_nothing_about_its_neighbour(fields, is_last, end):
    """A report of good samples is read in one pass, and one with a bad item beside them item by item."""
    good, odd = msgspec.json.encode(sample()), b"".join(b',"%s":%s' % field for field in fields)
    item = good[:-1] + odd + b"}" if is_last else b"{" + (odd[1:] + b"," if odd else b"") + good[1:]

    def read(*items):
        try:
            return samples.parse(b'{"samples":[%s]}%s' % (b",".join(items), end))
        except Malformed as error:
            return error.code

    alone, beside_null = read(item), read(item, b"null")
    assert beside_null == alone if isinstance(alone, str) else beside_null[:-1] == alone


def test_months_sum_to_the_last_counters(bench):
    vm = builders.FakeVm("vm-1", boot_at=datetime(2026, 8, 30, 7, 13, tzinfo=UTC))
    edges = [datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11)]
    closing = [
        vm.sample(edge, previous, month=f"2026-{edge.month - 1:02}")
        for previous, edge in zip([vm.boot_at, *edges], edges, strict=False)
    ]
    last = vm.sample(NOW, edges[-1])
    assert bench.report(*closing, last).accepted == 4
    total = sum(document.core_ms for document in bench.usages().values())
    assert total == ms_of_seconds(last["counters"]["core_seconds"])
    assert len(bench.usages()) == 4


@pytest.mark.slow
def test_ten_thousand_samples_in_one_report_and_no_more(bench):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(seconds=10_000))
    one = vm.sample(NOW)
    many = [one] * 10_000
    assert bench.report(*many).accepted == 10_000
    with pytest.raises(Malformed):
        samples.parse(msgspec.json.encode({"samples": [*many, one]}))
    with pytest.raises(Malformed):
        samples.parse(b'{"samples": []}')


GOOD_BENCHMARK = {"kernel": "skytally", "kernel_version": 1, "score_wall": 15.0, "measured_at": builders.stamp(NOW)}
BEYOND_FLOATS = 123.456789
BAD_BENCHMARKS = [
    "none",
    [],
    {},
    {"kernel": "k", "score_wall": -1},
    {"kernel": "k", "score_wall": BEYOND_FLOATS},
    {"kernel": "k", "score_wall": "15"},
    {"kernel": "k", "steal_fraction": -0.0003},
    {"kernel": "k", "copies": 0},
    {"kernel": "k", "kernel_version": "9" * 600},
    {"kernel": "k", "kernel_version": 2**64},
    {"kernel": "k", "duration_seconds": 1e20},
    {"kernel": "k", "measured_at": "0001-01-01T00:00:00+14:00"},
    {"kernel": "k", "measured_at": "2026-11-25T12:00:00"},
    {"kernel": "k", "measured_at": builders.stamp(NOW + timedelta(hours=25))},
]


@pytest.mark.parametrize("benchmark", BAD_BENCHMARKS, ids=range(len(BAD_BENCHMARKS)))
def test_a_bad_benchmark_costs_itself_and_the_sample_counts(bench, benchmark):
    body = msgspec.json.encode({"samples": [sample(benchmark=benchmark), sample(benchmark=GOOD_BENCHMARK)]})
    items = samples.parse(body.replace(b"123.456789", b"1e999"))
    receipt = asyncio.run(usage.record(items, CALLER, bench.register, bench.documents, NOW))
    assert (receipt.accepted, [(one.index, one.code) for one in receipt.rejected]) == (2, [(0, "malformed_benchmark")])
    assert (len(bench.usages()), len(list(bench.documents.find("benchmark", BootBenchmark, {})))) == (2, 1)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=st.lists(st.sampled_from([None, 10.0, 15.0]), min_size=1, max_size=12), data=st.data())
def test_the_newest_sample_s_benchmark_counts_in_any_order(bench, scores, data):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=len(scores)))
    whole = [
        one | {"benchmark": score and GOOD_BENCHMARK | {"score_wall": score}}
        for one, score in zip(hourly(vm, len(scores)), scores, strict=True)
    ]
    arrived = data.draw(st.permutations(whole))
    cut = data.draw(st.integers(0, len(arrived)))
    for part in filter(None, (arrived[:cut], arrived[cut:])):
        assert bench.report(*part).rejected == []
    (stored,) = bench.documents.get_many("benchmark", [vm.boot_id], BootBenchmark)
    assert (stored and stored.score_wall) == next((score for score in reversed(scores) if score), None)


def benchmark_version(bench):
    ((_, version, _),) = bench.documents.stored("benchmark", BootBenchmark)
    return timedelta(milliseconds=version)


def test_a_benchmark_that_every_sample_repeats_is_stored_once_a_day(bench):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=60))
    versions = []
    for one in hourly(vm, 60):
        assert bench.report(one | {"benchmark": GOOD_BENCHMARK}).accepted == 1
        versions.append(benchmark_version(bench))
    assert [version // timedelta(hours=1) for version in sorted(set(versions))] == [1, 25, 49]


def test_a_benchmark_that_was_lost_or_replaced_is_stored_again_within_a_day(tmp_path):
    ours, others = Bench(tmp_path), Bench(tmp_path)
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=60))
    samples_of_hours = hourly(vm, 60)
    ours.report(samples_of_hours[0] | {"benchmark": GOOD_BENCHMARK})
    others.report(samples_of_hours[1] | {"benchmark": GOOD_BENCHMARK | {"score_wall": 10.0}})
    for one in samples_of_hours[2:25]:
        ours.report(one | {"benchmark": GOOD_BENCHMARK})
    assert benchmark_version(ours) == timedelta(hours=25)
    for store in (ours, others):
        store.documents.close()


def test_a_benchmark_whose_commit_failed_does_not_count_as_stored(bench, monkeypatch):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=2))
    first, second = hourly(vm, 2)
    second |= {"benchmark": GOOD_BENCHMARK}
    assert bench.report(first).accepted == 1
    with monkeypatch.context() as broken:
        broken.setattr(commits, "apply", lambda *_: (_ for _ in ()).throw(sqlite3.OperationalError("disk I/O error")))
        with pytest.raises(Unavailable):
            bench.report(second)
    assert bench.report(second).accepted == 1
    assert benchmark_version(bench) == timedelta(hours=2)


def test_a_bad_benchmark_of_a_late_sample_is_refused_as_any_other_and_replaces_nothing(bench):
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=3))
    first, late, last = hourly(vm, 3)
    bench.report(first | {"benchmark": GOOD_BENCHMARK}, last | {"benchmark": GOOD_BENCHMARK})
    for one in (late, last):
        receipt = bench.report(one | {"benchmark": {"kernel": "k", "copies": 0}})
        assert [one.code for one in receipt.rejected] == ["malformed_benchmark"]
    version = benchmark_version(bench)
    bench.report(last | {"benchmark": GOOD_BENCHMARK})
    assert benchmark_version(bench) == version


def test_a_long_benchmark_is_not_kept_in_memory(bench):
    vms = [builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=n + 1)) for n in range(8)]
    long = GOOD_BENCHMARK | {"a field of a later version": "x" * 500_000}
    bench.report(sample())
    tracemalloc.start()
    for vm in vms:
        assert bench.report(vm.sample(NOW) | {"benchmark": long}).accepted == 1
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(list(bench.documents.find("benchmark", BootBenchmark, {}))) == len(vms)
    assert kept_bytes < 1_000_000


def test_a_crash_over_one_sample_is_its_own_rejection(bench, monkeypatch):
    """A fault of ours costs the item in which it shows; whoever sent it can name the incident."""
    judge = usage.usage_document

    def crash(one, *rest):
        if one.agent_version == "crashes":
            raise ZeroDivisionError("a secret of the body")
        return judge(one, *rest)

    monkeypatch.setattr(usage, "usage_document", crash)
    receipt = bench.report(sample(), sample(agent_version="crashes"), sample(vm="vm-2"))
    assert receipt.accepted == 1
    crashed, other = receipt.rejected
    assert (crashed.index, crashed.code, other.code) == (1, "internal", "not_yours")
    assert "incident" in crashed.message
    assert "secret" not in crashed.message


def test_the_most_cores_ever_seen_count_whoever_saw_them(tmp_path):
    """A vm that gave cores back keeps the core time that it had:
    also where another process, or an earlier one, saw the cores.
    """
    both = [Bench(tmp_path), Bench(tmp_path)]
    wide, narrow = builders.FakeVm("vm-1", boot_at=BOOT, cores=4), builders.FakeVm("vm-1", boot_at=BOOT, cores=16)
    narrow.boot_id = wide.boot_id
    assert both[0].report(wide.sample(BOOT + timedelta(hours=1))).accepted == 1
    assert both[0].report(narrow.sample(BOOT + timedelta(hours=2))).accepted == 1
    late = narrow.sample(NOW) | {"cores": 2}
    assert both[1].report(late).accepted == 1
    other = narrow.sample(NOW) | {"cores": 2, "boot_id": str(uuid.uuid4())}
    assert [one.code for one in both[1].report(other).rejected] == ["core_above_wall"]
    assert both[1].report(other | {"most_cores": 16}).accepted == 1
    for bench in both:
        bench.documents.close()


WRONG_CLOCKS = {
    "before 2020": ({"boot_at": "2001-09-09T01:46:40Z"}, BOOT),
    "far from its uptime": ({"boot_at": "2024-02-29T00:00:00Z"}, BOOT),
    "ahead": (
        {"boot_at": builders.stamp(NOW + timedelta(hours=9)), "sampled_at": builders.stamp(NOW + timedelta(hours=12))},
        BOOT,
    ),
    "right": ({}, BOOT),
    "a little off": ({"boot_at": builders.stamp(BOOT - timedelta(hours=3))}, BOOT - timedelta(hours=3)),
}


@pytest.mark.parametrize("name", WRONG_CLOCKS)
def test_a_boot_time_of_a_wrong_clock_is_told_by_the_uptime(bench, name):
    change, booted_at = WRONG_CLOCKS[name]
    assert bench.report(sample(**change)).accepted == 1
    (document,) = bench.usages().values()
    assert document.boot_at == booted_at
    assert list(bench.usages()) == [f"vm-1-{booted_at:%Y%m%dT%H%M%SZ}@uvic-2026-11"]


def test_an_uptime_beyond_the_age_of_its_boot_is_refused(bench):
    one = sample()
    assert bench.report(one).accepted == 1
    aged = sample(
        boot_id=one["boot_id"], uptime_seconds=10 * 365 * 86_400, **counters(suspended_seconds=9 * 365 * 86_400)
    )
    assert [one.code for one in bench.report(aged).rejected] == ["uptime_above_age"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boot_at=st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1)),
    uptime=st.floats(0, 20 * 365 * 86_400),
    data=st.data(),
)
def test_no_clock_makes_an_interval_of_a_month_to_come(bench, boot_at, uptime, data):
    """Whatever a vm says of its clock, what is kept lies between what it could have lived and now."""
    now_uptime = data.draw(st.floats(0, uptime))
    change = {
        "boot_id": str(uuid.uuid4()),
        "boot_at": f"{boot_at.isoformat()}Z",
        "uptime_seconds": uptime,
        "final": True,
    }
    before = {"sampled_at": builders.stamp(NOW), "uptime_seconds": now_uptime, "counters": builders.counters(0)}
    bench.report(sample(previous=before, **change))
    for key, interval in bench.intervals().items():
        assert interval.until_at <= NOW + timedelta(days=1)
        assert interval.until_at - interval.from_at <= timedelta(milliseconds=usage.LONGEST_INTERVAL_MS) + timedelta(
            days=1
        )
        assert month_of_key(key) == "other" or "2020-01" <= month_of_key(key) <= "2026-12"


@pytest.mark.parametrize("taker", ["cern", "uvic"])
def test_a_boot_gets_a_name_whoever_took_the_coming_ones(bench, taker):
    """Names that a token took of another cloud, or of its own, make no vm wait, and no document is shared."""
    labels = [
        Write(
            "label",
            label_of("uvic", "vm-1", BOOT + timedelta(seconds=n)),
            0,
            Label(boot_id=f"{taker}-{n}"),
            create=True,
        )
        for n in range(600)
    ]
    bench.documents.write(labels).result()
    first, second = builders.FakeVm("vm-1", boot_at=BOOT), builders.FakeVm("vm-1", boot_at=BOOT)
    assert bench.report(first.sample(NOW), second.sample(NOW)).accepted == 2
    assert bench.report(first.sample(NOW)).accepted == 1
    assert len(bench.usages()) == 2
    assert len({usage.label for usage in bench.usages().values()} & {write.key for write in labels}) == 0


def test_names_of_two_clouds_have_nothing_in_common(bench):
    """A cloud whose vm is called the same and boots in the same second changes nothing for another."""
    mine, other = builders.FakeVm("vm-1", boot_at=BOOT), builders.FakeVm("vm-1", boot_at=BOOT)
    report = samples.parse(msgspec.json.encode({"samples": [other.sample(NOW)]}))
    caller = msgspec.structs.replace(CALLER, clouds=("cern",))
    assert asyncio.run(usage.record(report, caller, bench.register, bench.documents, NOW)).accepted == 1
    assert bench.report(mine.sample(NOW)).accepted == 1
    assert {usage.label for usage in bench.usages().values()} == {
        label_of(cloud, "vm-1", BOOT) for cloud in ("cern", "uvic")
    }


@given(vm=NAMES, cloud=NAMES, other=NAMES)
@example(vm="a", cloud="c@d", other="c%40d")
@example(vm="a-20250101T000000Z@x", cloud="c-20240101T000000Z-5", other="c")
def test_a_name_belongs_to_one_cloud_and_tells_its_month(vm, cloud, other):
    name = label_of(cloud, vm, BOOT)
    assert within(cloud, f"{name}-2026-11") == f"{vm}-{BOOT:%Y%m%dT%H%M%SZ}-2026-11"
    assert cloud == other or name != label_of(other, vm, BOOT)
    assert month_of_key(f"{name}-{3_600_000}") == f"{BOOT + timedelta(hours=1):%Y-%m}"


def test_naming_boots_is_bounded_per_reporter_and_hour(bench):
    boots = [builders.FakeVm("vm-1", boot_at=BOOT).sample(NOW) for _ in range(VM_BOOTS_AN_HOUR + 1)]
    receipt = bench.report(*boots)
    assert (receipt.accepted, [one.code for one in receipt.rejected]) == (VM_BOOTS_AN_HOUR, ["too_many_boots"])
    assert bench.report(boots[0]).accepted == 1
    later = samples.parse(msgspec.json.encode({"samples": boots[-1:]}))
    assert (
        asyncio.run(usage.record(later, CALLER, bench.register, bench.documents, NOW + timedelta(hours=1))).accepted
        == 1
    )
    other = samples.parse(msgspec.json.encode({"samples": [builders.FakeVm("vm-2", boot_at=BOOT).sample(NOW)]}))
    caller = msgspec.structs.replace(CALLER, vm="vm-2")
    assert asyncio.run(usage.record(other, caller, bench.register, bench.documents, NOW)).accepted == 1


def test_the_mutant_without_versions_gets_the_month_wrong(bench, monkeypatch):
    """Let the last that arrives win, as peers do: the same check that holds above must fail."""
    monkeypatch.setattr(commits, "_is_old", lambda *_: True)
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
    newest, older = vm.sample(NOW), vm.sample(NOW - timedelta(hours=5))
    bench.report(newest)
    bench.report(older)
    (document,) = bench.usages().values()
    assert document.wall_ms != 12 * 3_600_000


def test_a_boot_is_named_once_by_all_processes(tmp_path):
    both = [Bench(tmp_path), Bench(tmp_path)]
    vm = builders.FakeVm("vm-1", boot_at=NOW - timedelta(hours=2))
    wobbled = vm.sample(NOW) | {"boot_at": builders.stamp(vm.boot_at + timedelta(seconds=2))}
    both[0].report(vm.sample(NOW - timedelta(hours=1)))
    both[1].report(wobbled)
    assert list(both[0].usages()) == [f"vm-1-{vm.boot_at:%Y%m%dT%H%M%SZ}@uvic-2026-11"]
    for bench in both:
        bench.documents.close()
