"""No answer comes from some of the shards:
asked all the while a real node is killed and comes back, and a month is closed and opened.
"""

import contextlib
import itertools
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from localstack import search_server, servers
from skytally.accounting.closing import statement
from skytally.adapters.documents_search.answers import answering
from skytally.app.wiring import open_documents
from skytally.core.config import Config
from skytally.core.documents import Interval, Usage
from skytally.core.errors import Unavailable
from skytally.core.ports import Query, Write
from skytally.core.site_data import Site
from tests.support.builders import SEARCH_ENGINES
from tests.support.documents import HOUR, STORED, interval, usage
from tests.support.search import insist

pytestmark = pytest.mark.servers
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MONTHS = [f"{2026 + n // 12}-{n % 12 + 1:02}" for n in range(18)]
END = datetime(2027, 7, 1, tzinfo=UTC)
NOW = datetime(2027, 7, 2, tzinfo=UTC)
VMS = 5


def stored_months():
    """Write, of some vms, an hour of each month; each month's intervals lie in an index of their own."""
    for month in MONTHS:
        at = datetime(int(month[:4]), int(month[5:]), 2, tzinfo=UTC)
        for n in range(VMS):
            one = interval(f"vm{n}", at, at + HOUR, 10_000, vm=f"vm{n}").document
            yield Write("interval", f"vm{n}-{at:%Y%m%dT%H%M%S}Z-0", 1, one)
            yield usage(f"vm{n}-{month}", month, "uvic")


CUT = BEGIN + timedelta(days=1, minutes=30)  # within the first month's intervals
SPAN = Query(index="interval", from_at=BEGIN, until_at=END, sums=("core_ms", "wall_ms"))
KEYS = [write.key for write in stored_months() if write.index == "interval"]
QUESTIONS = {
    "table": lambda store: store.table(SPAN),
    "series": lambda store: store.series(SPAN, timedelta(days=28)),
    "cut window": lambda store: store.table(Query(index="interval", from_at=CUT, until_at=END, sums=("core_ms",))),
    "count": lambda store: (store.count("interval"), store.count("usage")),
    "find": lambda store: [key for key, _ in store.find("interval", Interval, {})],
    "during": lambda store: [key for key, _ in store.during("interval", Interval, "until_at", (BEGIN, END), {})],
    "stored": lambda store: [key for key, _, _ in store.stored("interval", Interval)],
    "get_many": lambda store: store.get_many("interval", KEYS, Interval),
    "usage": lambda store: dict(store.find("usage", Usage, {"month": MONTHS[:3]})),
    "statement": lambda store: {**statement(MONTHS[7], (), store, Site(), NOW), "generated_at": None},
}


class Askers:
    """Threads that ask a store the same questions all the while, and count what they are answered."""

    def __init__(self, store, questions):
        self.truths = {name: QUESTIONS[name](store) for name in questions}
        self.right, self.wrong, self.away = Counter(), Counter(), Counter()
        self._store, self._over = store, threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(questions[part::3],)) for part in range(3) if questions[part::3]
        ]

    def _ask(self, names):
        for name in itertools.cycle(names):
            if self._over.wait(0.03):
                return
            try:
                answer = QUESTIONS[name](self._store)
            except Unavailable:
                self.away[name] += 1
            else:
                (self.right if answer == self.truths[name] else self.wrong)[name] += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=60)

    def go_on(self, answers):
        """Wait until each question was answered so once more: `right` or `away`."""
        before = answers.copy()
        deadline = time.monotonic() + 100
        while any(answers[name] == before[name] for name in self.truths):
            assert time.monotonic() < deadline, f"only {answers - before}"
            time.sleep(0.05)


def as_once(store):
    """Make the mutant: it takes what some of the shards answer."""

    def searched(index="", **request):
        with answering():
            # Where no shard answers there is nothing of them.
            answer = store.client.perform("POST", f"/{index}/_search", {"allow_partial_search_results": True}, request)
            return {"aggregations": {"rows": {"buckets": []}}} | answer

    store._searched = searched
    return store


def close_and_open(store):
    """Close a year's months and open them again; their shards come back one after another."""
    names = ",".join(f"skytally-interval-{month}" for month in MONTHS[:12])
    store.client.perform("POST", f"/{names}/_close", {"wait_for_active_shards": 0})
    store.client.perform("POST", f"/{names}/_open", {"wait_for_active_shards": 0})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_every_answer_is_whole_or_an_outage(tmp_path, engine):
    one_by_one = {"cluster.routing.allocation.node_initial_primaries_recoveries": 2}
    try:
        with search_server.node(engine, tmp_path, **one_by_one) as node, contextlib.ExitStack() as stack:
            server = stack.enter_context(node.serving(tmp_path / "0.log"))
            settings = {"SKYTALLY_DOCUMENTS": server.url}
            good, mutant = (
                stack.enter_context(contextlib.closing(open_documents(Config.from_env(settings)))) for _ in range(2)
            )
            good.install(NOW)
            assert set(insist(good, *stored_months())) == {STORED}
            good.refresh()
            assert QUESTIONS["table"](good) == [
                {"core_ms": 10_000 * VMS * len(MONTHS), "wall_ms": 1_250 * VMS * len(MONTHS)}
            ]
            with Askers(good, list(QUESTIONS)) as askers, Askers(as_once(mutant), ["table", "count"]) as mutants:
                askers.go_on(askers.right)
                server.kill()
                askers.go_on(askers.away)
                stack.enter_context(node.serving(tmp_path / "1.log"))
                askers.go_on(askers.right)
                assert mutants.wrong["table"] + mutants.wrong["count"], "the same questions find it out"
                before = mutants.wrong.total()
                while mutants.wrong.total() == before:
                    close_and_open(good)
                    askers.go_on(askers.right)
            assert not askers.wrong
    except servers.Missing as missing:
        pytest.skip(str(missing))
