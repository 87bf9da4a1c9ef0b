"""The rules of usage: what is refused, and that only the last sample counts whatever came before it."""

import asyncio
import copy
import itertools
import random
from datetime import UTC, datetime, timedelta

import lab
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally import usage
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.adapters.documents_sqlite.tables import TABLES
from skytally.boot import Register
from skytally.closing import statement
from skytally.cloud import Site
from skytally.documents import Boot, Interval, Usage
from skytally.records import Caller, Rejection

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CALLER = Caller(role="reporter", issued=0, expires=2**40, vm="vm-1", clouds=("uvic",), site="Victoria", group="atlas", flavor="c8")
BOOT = NOW - timedelta(hours=3)


def sample(**change):
    return lab.FakeVm("vm-1", boot_at=BOOT).sample(NOW) | change


def codes(*samples, caller=CALLER, now=NOW):
    """Judge samples without keeping them."""
    items = usage.parse(msgspec.json.encode({"samples": samples}))
    refusals = [i if isinstance(i, Rejection) else usage._refusal(n, i, caller, now) for n, i in enumerate(items)]
    return [refusal.code if refusal else None for refusal in refusals]


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
    "boot after sample": (sample(boot_at=lab.stamp(NOW + MINUTE)), "malformed_time"),
    "before anybody": (sample(sampled_at="1999-01-01T00:00:00Z", boot_at="1998-01-01T00:00:00Z"), "malformed_time"),
    "a month that is over": (sample(month="2026-10"), "wrong_month"),
    "a month to come": (sample(month="2026-12"), "future_month"),
    "a baseline above": (sample(month_start=lab.counters(10**6)), "baseline_above_counters"),
    "another month's baseline": (sample(uptime_seconds=3e6, **counters(wall_seconds=2.9e6, core_seconds=2e7)), "wrong_baseline"),
    "more wall than uptime": (sample(uptime_seconds=10_000), "wall_above_uptime"),
    "more suspended than uptime": (sample(**counters(suspended_seconds=1_000)), "wall_above_uptime"),
    "more CPU than cores": (sample(**counters(user_seconds=100_000)), "cpu_above_cores"),
    "a previous that is later": (sample(previous=lab.FakeVm(boot_at=BOOT).moment(NOW + MINUTE)), "malformed_previous"),
    "a scoreless benchmark": (sample(benchmark={"kernel": "x", "score_wall": -1}), "malformed"),
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
    ],
    ids=range(6),
)
def test_allowed(good):
    assert codes(good) == [None]


def test_json_numbers_that_are_none_are_refused():
    body = msgspec.json.encode({"samples": [sample()]}).replace(b'"uptime_seconds":10800.0', b'"uptime_seconds":1e999', 1)
    (item,) = usage.parse(body)
    assert isinstance(item, Rejection)


@pytest.mark.parametrize(("seconds", "code"), [(-1, "wrong_month"), (0, None), (60, None), (61, "wrong_month")])
def test_a_closing_sample_is_of_the_edge(seconds, code):
    edge = datetime(2026, 11, 1, tzinfo=UTC)
    vm = lab.FakeVm("vm-1", boot_at=edge - timedelta(days=3))
    closing = vm.sample(edge + timedelta(seconds=seconds), month="2026-10" if seconds >= 0 else "2026-09")
    assert codes(closing) == [code]


def test_a_clock_ahead_is_placed_at_the_servers_time_and_flagged():
    ahead = usage.parse(msgspec.json.encode({"samples": [sample(sampled_at=lab.stamp(NOW + timedelta(hours=1)))]}))[0]
    boot = Boot(boot_id="b", label="l", vm="vm-1", cloud="uvic", site=None, group=None, flavor=None, boot_at=BOOT)
    document = usage.usage_document(ahead, boot, NOW)
    assert (document.last_sampled_at, document.clock_ahead) == (NOW, True)
    interval = usage.interval_document(ahead, ahead.previous, boot, NOW)
    assert (interval.from_at, interval.until_at) == (BOOT, NOW)


@pytest.mark.parametrize("apart_microseconds", [0, 1, 999])
def test_samples_within_a_millisecond_make_an_interval_as_long_as_their_uptimes_say(apart_microseconds):
    before = lab.FakeVm("vm-1", boot_at=BOOT).moment(NOW - timedelta(microseconds=apart_microseconds))
    before |= {
        "uptime_seconds": sample()["uptime_seconds"] - 0.005,
        "sampled_at": (NOW - timedelta(microseconds=apart_microseconds)).isoformat(),
    }
    read = usage.parse(msgspec.json.encode({"samples": [sample(previous=before)]}))[0]
    boot = Boot(boot_id="b", label="l", vm="vm-1", cloud="uvic", site=None, group=None, flavor=None, boot_at=BOOT)
    interval = usage.interval_document(read, read.previous, boot, NOW)
    assert interval.until_at - interval.from_at == timedelta(milliseconds=5)


class Bench:
    """A store and a vm's samples, for properties."""

    def __init__(self, folder):
        self.documents = SqliteDocuments(folder / "documents.sqlite")
        self.register = Register(self.documents)

    def report(self, *samples):
        items = usage.parse(msgspec.json.encode({"samples": samples}))
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
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
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
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
    whole = hourly(vm, 12)
    missing = set(dice.sample(range(11), dice.randrange(4)))
    bench.report(*[s for n, s in enumerate(whole) if n not in missing])
    boots = statement("2026-11", (), bench.documents, Site(), NOW)["boots"]
    (row,) = [boot for boot in boots if boot["boot_id"] == vm.boot_id]
    assert row["coverage"] == round((12 - len(missing)) / 12, 6)


@given(cuts=st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_differences_of_a_chain_add_up_to_the_last_digit(cuts):
    chain = [usage.Counters(**lab.counters(at)) for at in [0.0, *sorted(cuts)]]
    parts = [usage.difference(b, a) for a, b in itertools.pairwise(chain)]
    whole = usage.difference(chain[-1], chain[0])
    assert {name: sum(part[name] for part in parts) for name in whole} == whole


def test_months_sum_to_the_last_counters(bench):
    vm = lab.FakeVm("vm-1", boot_at=datetime(2026, 8, 30, 7, 13, tzinfo=UTC))
    edges = [datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11)]
    samples = [
        vm.sample(edge, previous, month=f"2026-{edge.month - 1:02}") for previous, edge in zip([vm.boot_at, *edges], edges, strict=False)
    ]
    last = vm.sample(NOW, edges[-1])
    assert bench.report(*samples, last).accepted == 4
    total = sum(document.core_ms for document in bench.usages().values())
    assert total == usage.ms(last["counters"]["core_seconds"])
    assert len(bench.usages()) == 4


def test_ten_thousand_samples_in_one_report_and_no_more(bench):
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(seconds=10_000))
    one = vm.sample(NOW)
    many = [one] * 10_000
    assert bench.report(*many).accepted == 10_000
    with pytest.raises(usage.Malformed):
        usage.parse(msgspec.json.encode({"samples": [*many, one]}))
    with pytest.raises(usage.Malformed):
        usage.parse(b'{"samples": []}')


def test_the_mutant_without_versions_gets_the_month_wrong(bench, monkeypatch):
    """Let the last that arrives win, as peers do: the same check that holds above must fail."""
    table = copy.copy(TABLES["usage"])
    table.put = table.put.partition(" WHERE excluded")[0]
    monkeypatch.setitem(TABLES, "usage", table)
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=12))
    newest, older = vm.sample(NOW), vm.sample(NOW - timedelta(hours=5))
    bench.report(newest)
    bench.report(older)
    (document,) = bench.usages().values()
    assert document.wall_ms != 12 * 3_600_000


def test_a_boot_is_named_once_by_all_processes(tmp_path):
    both = [Bench(tmp_path), Bench(tmp_path)]
    vm = lab.FakeVm("vm-1", boot_at=NOW - timedelta(hours=2))
    wobbled = vm.sample(NOW) | {"boot_at": lab.stamp(vm.boot_at + timedelta(seconds=2))}
    both[0].report(vm.sample(NOW - timedelta(hours=1)))
    both[1].report(wobbled)
    assert list(both[0].usages()) == [f"vm-1-{vm.boot_at:%Y%m%dT%H%M%SZ}-2026-11"]
    for bench in both:
        bench.documents.close()
