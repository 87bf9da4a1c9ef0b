"""Everything that has a peer or an aim, in one table: `make bench`; the core of it in two minutes: `make bench-quick`.

Rounds are interleaved, and in each round contenders take turns at who begins. Figures are medians of the rounds; a
ratio counts, a rate alone does not. A part without what it needs says so in a line. One that fails is a line too, and
the exit code is 1; an aim that is missed changes no exit code.
"""

import argparse
import contextlib
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta

from localstack.server_process import Missing
from skytally.core.months import month_end_at
from tests.bench import (
    agent_cost,
    bench_jobs,
    bench_search,
    bench_search_reports,
    claim_contenders,
    figures,
    output,
    postgres,
    report_contenders,
)
from tests.bench.figures import Aim, Figure
from tests.bench.load import Load

Shape = tuple[int, int]
# Connections, samples a request, requests: about as long each on a machine of two cores.
SHAPES = ((1, 1, 1_500), (8, 1, 6_000), (16, 1, 8_000), (1, 1_000, 30), (4, 1_000, 80))
AIMS = {(1, 1): 1.0, (16, 1): 0.8, (1, 1_000): 1.0, (4, 1_000): 0.7}
AUDITOR, POSTGRES = "AUDITOR server", "PostgreSQL by psycopg"
SEARCH_AIMS = {(32, 1, 4_000): 1_500, (4, 1_000, 40): 15_000}
CLAIMS, CLAIM_CONNECTIONS, JOBS = 1_000, 16, 50_000


@dataclass(frozen=True)
class Plan:
    """How long to measure: how many rounds, and the share of each round's requests."""

    rounds: int
    share: float

    def count(self, requests: int) -> int:
        """Return how many requests to send of so many."""
        return max(4, int(requests * self.share))

    def turns(self, names: Iterable[str]) -> Iterator[list[str]]:
        """Yield the names for each round, in an order that begins with another one each time."""
        order = list(names)
        for n in range(self.rounds):
            shift = n % len(order)
            output.say(f"  round {n + 1} of {self.rounds}: {', '.join(order)}")
            yield order[shift:] + order[:shift]


def reports(plan: Plan) -> Iterator[Figure]:
    """Compare usage_report on SQLite with the AUDITOR server and with bare PostgreSQL."""
    with contextlib.ExitStack() as stack:
        measures = {"ours": stack.enter_context(report_contenders.ours())}
        with said_if_missing():
            cluster = stack.enter_context(postgres.cluster())
            output.say(f"PostgreSQL {cluster.version}")
            measures[POSTGRES] = stack.enter_context(report_contenders.postgres(cluster))
            measures[AUDITOR] = stack.enter_context(report_contenders.auditor(cluster))
        loads: dict[tuple[str, Shape], list[Load]] = {}
        for names in plan.turns(measures):
            for connections, per_request, requests in SHAPES:
                for name in names:
                    load = measures[name](connections, per_request, plan.count(requests))
                    loads.setdefault((name, (connections, per_request)), []).append(load)
    yield from _report_figures(loads)


def _report_figures(loads: dict[tuple[str, Shape], list[Load]]) -> Iterator[Figure]:
    peers = [peer for peer in (AUDITOR, POSTGRES) if (peer, (1, 1)) in loads]
    rates = {(name, shape): [load.per_second * shape[1] for load in rounds] for (name, shape), rounds in loads.items()}
    for connections, per_request, _ in SHAPES:
        shape, what = (connections, per_request), f"usage_report, {connections} × {per_request:,}"
        for peer in peers or [""]:
            aim = Aim(AIMS[shape], of_ratio=True) if peer == AUDITOR and shape in AIMS else None
            yield Figure(what, "samples/s", rates["ours", shape], peer, rates.get((peer, shape), ()), aim)
    four, one = rates["ours", (4, 1_000)], rates["ours", (1, 1_000)]
    yield Figure("usage_report, 4 × 1,000", "samples/s", four, "ours, 1 × 1,000", one, Aim(1.0, of_ratio=True))
    for shape in ((16, 1), (4, 1_000)):
        ours, *theirs = (
            [_cpu_us(load, shape[1]) for load in loads.get((name, shape), [])] for name in ("ours", *peers[:1])
        )
        what = f"CPU of the servers, {shape[0]} × {shape[1]:,}"
        yield Figure(what, "µs a sample", ours, *peers[:1], *theirs)


def _cpu_us(load: Load, per_request: int) -> float:
    return load.server_cpu_seconds / len(load.latencies_seconds) / per_request * 1e6


def search(plan: Plan) -> Iterator[Figure]:
    """Compare what Elasticsearch keeps for us with a raw `_bulk`, and measure usage_report on it."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(bench_search.serving("elasticsearch"))
        with bench_search.store(server, "raw") as documents:
            # A round's documents are of 33 days: each is about other months, so that its keys are fresh.
            ends = (month_end_at("2026-10") - timedelta(days=70 * n) for n in range(plan.rounds))
            bulks = plan.count(bench_search.ROUNDS)
            rounds = [bench_search.beside_raw({"es": documents}, until, bulks) for until in ends]
        ours, raw = ([rates["es", way] for rates in rounds] for way in ("skytally", "raw _bulk"))
        yield Figure("interval documents on Elasticsearch", "documents/s", ours, "raw _bulk", raw)
        loads = [(connections, per_request, plan.count(count)) for connections, per_request, count in SEARCH_AIMS]
        rows = bench_search_reports.measured(server, loads, plan.rounds)
    for (load, rounds), limit in zip(rows.items(), SEARCH_AIMS.values(), strict=True):
        what = f"usage_report on Elasticsearch, {load[0]} × {load[1]:,}"
        rates, raw_rates = ([row[name] for row in rounds] for name in ("rate", "raw_rate"))
        yield Figure(what, "samples/s", rates, "raw _bulk of the same", raw_rates, Aim(limit))


def secrets(plan: Plan) -> Iterator[Figure]:
    """Compare secret_claim on files with a plain one-time secret."""
    with contextlib.ExitStack() as stack:
        objects = stack.enter_context(tempfile.TemporaryDirectory(prefix="skytally-bench-objects-"))
        measures = {"ours": stack.enter_context(claim_contenders.ours({"SKYTALLY_OBJECTS": f"file://{objects}"}))}
        with said_if_missing():
            measures["peer"] = stack.enter_context(claim_contenders.one_time_secrets())
        rates: dict[str, list[float]] = {name: [] for name in measures}
        for names in plan.turns(measures):
            for name in names:
                rates[name].append(measures[name](CLAIM_CONNECTIONS, plan.count(CLAIMS)).per_second)
    what, peer = f"secret_claim on files, {CLAIM_CONNECTIONS} connections", "Flask and SQLite, nothing sealed"
    yield Figure(what, "claims/s", rates["ours"], peer, rates.get("peer", ()), Aim(500))


def jobs(plan: Plan) -> Iterator[Figure]:
    """Measure how many PanDA jobs a second of CPU time collects, joins and stores, on SQLite."""
    count = plan.count(JOBS)
    rates = [bench_jobs.collected_per_cpu_second(count) for _ in range(plan.rounds)]
    yield Figure("panda_collect", "jobs/CPU s", rates, aim=Aim(5_000))


def agent(plan: Plan) -> Iterator[Figure]:
    """Measure what a report costs a vm."""
    seconds = [agent_cost.seconds()["report"] for _ in range(plan.rounds)]
    yield Figure("vm.py, a report", "CPU s", seconds, aim=Aim(0.1, at_most=True))


PARTS: dict[str, Callable[[Plan], Iterator[Figure]]] = {
    "reports": reports,
    "search": search,
    "secrets": secrets,
    "jobs": jobs,
    "agent": agent,
}
QUICK = ("reports", "secrets", "jobs", "agent")


@contextlib.contextmanager
def said_if_missing() -> Iterator[None]:
    """Say in a line what this machine lacks, and go on without it."""
    try:
        yield
    except Missing as missing:
        output.say(str(missing))


def main() -> int:
    """Measure the parts one after another, print the table, keep it; return 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of each round, without Elasticsearch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="*", choices=PARTS)
    output.add_options(parser)
    options = parser.parse_args()
    plan = Plan(options.rounds, 0.3 if options.quick else 1.0)
    machine, lines, failed = output.machine(), [], []
    output.say(machine)
    for name in options.parts or (QUICK if options.quick else PARTS):
        output.say(f"measuring {name} …")
        try:
            with said_if_missing():
                lines += PARTS[name](plan)
        except Exception:  # noqa: BLE001  # One part that fails costs none of the others.
            traceback.print_exc()
            failed.append(name)
    title = f"medians of {plan.rounds} interleaved rounds; {machine}"
    output.show(title, figures.HEADERS, map(figures.cells, lines), as_markdown=options.markdown)
    kept = {"machine": machine, "rounds": plan.rounds, "share": plan.share, "failed": failed}
    kept["figures"] = [asdict(figure) | {"ratio": figure.ratio, "is_met": figure.is_met} for figure in lines]
    output.say(str(output.keep("bench", kept)), *(f"failed: {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
