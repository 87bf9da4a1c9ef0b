"""usage_report on a search engine beside a raw `_bulk` of the very same documents, in interleaved rounds.

The raw bulk is the engine's ceiling: the lines are made beforehand, and each request is as durable as ours. Server,
engine and generator share the machine's cores, so only ratios of one run mean anything.
"""

import asyncio
import contextlib
import json
import statistics
import time
from datetime import UTC, datetime, timedelta

from rich.table import Table

from localstack import fleet
from skytally.accounting import samples, usage
from skytally.accounting.boots import Register
from skytally.adapters.documents_search import SearchDocuments, connect
from skytally.core.ports import Outcome
from skytally.core.records import Caller
from tests.bench.serving import cpu_seconds, serving

# Connections, samples a request, requests a round.
LOADS = ((1, 1, 300), (8, 1, 1_500), (32, 1, 3_000), (1, 1_000, 10), (4, 1_000, 16))
ROUNDS = 3
VMS, HOURS = 2_016, 99
LAST_CHUNK = b"\r\n0\r\n\r\n"
COLUMNS = (
    "connections",
    "samples a request",
    "ours /s",
    "raw _bulk /s",
    "ratio",
    "p50 ms",
    "p99 ms",
    "our CPU µs a sample",
    "engine CPU µs a sample",
    "and with raw",
    "bulks a report",
)


def until_at():
    """Return now, or the month's start where the vms' whole lives would not fit into this month."""
    now = datetime.now(UTC).replace(microsecond=0)
    start = now.replace(day=1, hour=0, minute=0, second=0)
    return now if now - start > timedelta(hours=HOURS + 2) else start


def bodies(name, connections, count, per_request, until):
    """Make requests: an hour each of many vms, whose reports all come over one connection and so in order.

    The first request enrols the vms.
    """
    vms = [
        fleet.Vm(f"{name}-{n}", "uvic", 8, 80, until - timedelta(hours=HOURS + 1, seconds=n), None) for n in range(VMS)
    ]
    hours, own_count = dict.fromkeys(range(VMS), 0), VMS // connections
    sent_by = [0] * connections

    def sample(n):
        begin = vms[n].boot_at + timedelta(hours=hours[n])
        hours[n] += 1
        return vms[n].sample(begin + timedelta(hours=1), begin, f"{begin:%Y-%m}")

    def request(connection):
        first = sent_by[connection]
        sent_by[connection] += per_request
        return [sample(connection * own_count + n % own_count) for n in range(first, first + per_request)]

    requests = [[sample(n) for n in range(VMS)], *(request(n % connections) for n in range(count))]
    return [json.dumps({"samples": samples}).encode() for samples in requests]


class Lines(SearchDocuments):
    """The adapter that hands out the lines of usage and interval documents instead of sending them."""

    def __init__(self, client, prefix):
        super().__init__(client, prefix)
        self.made = []

    def _commit(self, lines):
        ours = [
            any(f'"{self._prefix}-{index}'.encode() in line[:80] for index in ("usage", "interval")) for line in lines
        ]
        if not any(ours):
            return super()._commit(lines)
        assert all(ours)
        self.made += lines
        return [Outcome.STORED] * len(lines)


def raw_bodies(url, prefix, requests, now):
    """Return a bulk for each request, by the rules themselves."""
    documents = Lines(connect([url], "", ""), prefix)
    register, caller = Register(documents), Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))
    bulks = []
    for request in requests:
        receipt = asyncio.run(usage.record(samples.parse(request), caller, register, documents, now))
        assert not receipt.rejected, receipt
        bulks.append(b"".join(documents.made))
        documents.made.clear()
    documents.close()
    return bulks[1:]


async def send(port, head, requests, times, check):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in requests:
        began = time.perf_counter()
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length: ")[2].partition(b"\r")[0]
        received = await (reader.readexactly(int(length)) if length else reader.readuntil(LAST_CHUNK))
        times.append(time.perf_counter() - began)
        assert answer.startswith(b"http/1.1 200"), (answer, received)
        assert check(received), received
    writer.close()


def sent(port, head, requests, connections, check):
    """Send all requests over some connections; return the seconds that it took, and each request's."""
    times = []

    async def all_of_them():
        await asyncio.gather(*(send(port, head, requests[n::connections], times, check) for n in range(connections)))

    began = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - began, times


class Round:
    """One round of one load: what was measured of ours and of the raw bulk."""

    def __init__(self, ours, engine, prefix):
        self._ours, self._engine, self._prefix = ours, engine, prefix
        self._pid = int(engine.worker.read_text())
        self._port = int(engine.url.rpartition(":")[2])
        self._client = connect([engine.url], "", "")
        token = fleet.reporter_tokens(ours.home, ["uvic"])["uvic"]
        self._ours_head = (
            f"POST /function/usage-report HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        ).encode()
        self._raw_head = (
            b"POST /_bulk?filter_path=errors,items.*.error HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/x-ndjson\r\n"
        )

    def _bulks(self):
        """Return how many shard bulks were made: two to a bulk of usage and interval documents."""
        stats = self._client.perform("GET", f"/{self._prefix}-interval*/_stats/bulk")["_all"]["primaries"]
        return stats["bulk"]["total_operations"]

    def of_ours(self, connections, requests, per_request):
        """Return what a load costs through usage_report."""
        sent(self._ours.port, self._ours_head, requests[:1], 1, lambda answer: b'"rejected":[]' in answer)
        requests, accepted = requests[1:], f'"accepted":{per_request},'.encode()
        before = self._bulks(), cpu_seconds(self._ours.pid), cpu_seconds(self._pid)
        took, times = sent(self._ours.port, self._ours_head, requests, connections, lambda answer: accepted in answer)
        after = self._bulks(), cpu_seconds(self._ours.pid), cpu_seconds(self._pid)
        bulks, ours, engine = (b - a for a, b in zip(before, after, strict=True))
        count = len(requests) * per_request
        times.sort()
        return {
            "rate": count / took,
            "p50": times[len(times) // 2] * 1e3,
            "p99": times[len(times) * 99 // 100] * 1e3,
            "our_cpu": ours / count * 1e6,
            "engine_cpu": engine / count * 1e6,
            "bulks": bulks / len(requests),
        }

    def of_raw(self, connections, bulks, per_request):
        """Return what the same documents cost as a raw bulk a request."""
        before = cpu_seconds(self._pid)
        took, _ = sent(self._port, self._raw_head, bulks, connections, lambda answer: b'"errors":false' in answer)
        count = len(bulks) * per_request
        return {"raw_rate": count / took, "raw_cpu": (cpu_seconds(self._pid) - before) / count * 1e6}


def measured(engine, loads=LOADS, rounds=ROUNDS, prefix="skytally"):
    """Return the median row of each load, ours and raw in turn, after a round that only warms up."""
    with contextlib.closing(SearchDocuments(connect([engine.url], "", ""), prefix)) as documents:
        documents.install(datetime.now(UTC))
    rows = {load: [] for load in loads}
    with serving(SKYTALLY_DOCUMENTS=engine.url) as ours:
        run, until = Round(ours, engine, prefix), until_at()
        for n in range(rounds + 1):
            for load in loads:
                connections, per_request, count = load
                name = f"{n}-{connections}-{per_request}"
                raw = raw_bodies(
                    engine.url, prefix, bodies(f"raw-{name}", connections, count, per_request, until), until
                )
                row = run.of_raw(connections, raw, per_request)
                row |= run.of_ours(
                    connections, bodies(f"ours-{name}", connections, count, per_request, until), per_request
                )
                rows[load] += [row] if n else []
    return {
        load: {name: statistics.median(row[name] for row in rows[load]) for name in rows[load][0]} for load in loads
    }


def table(title, measured_rows):
    """Show the rows."""
    shown = Table(title=title)
    for column in COLUMNS:
        shown.add_column(column, justify="right")
    for (connections, per_request, _), row in measured_rows.items():
        shown.add_row(
            str(connections),
            f"{per_request:,}",
            f"{row['rate']:,.0f}",
            f"{row['raw_rate']:,.0f}",
            f"{row['rate'] / row['raw_rate']:.2f}",
            *(f"{row[name]:,.1f}" for name in ("p50", "p99")),
            *(f"{row[name]:,.0f}" for name in ("our_cpu", "engine_cpu", "raw_cpu")),
            f"{row['bulks']:.2f}",
        )
    return shown
