"""A stand-in for the BigPanDA monitor: its rules for parameters,
tables, limits and times, over jobs of a test, with faults on demand.

What is known of the real one: `|` means or; a comma means and, so several queues by comma are nobody's, and several
statuses by comma keep the archive from being asked; `*` and a leading `!` are operators, `+ ' #` do not survive. With
several statuses the tables of active jobs know no time. The archive is asked only for windows that reach back 72 hours,
and by statechangetime. Each table is cut to `limit`, newest modification first. `fields` is taken literally; one task
is answered by other rules; bad values are 400; times are naive UTC; the same question again is answered from a cache
for ten minutes.
"""

import gzip
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Row = dict[str, Any]
Query = dict[str, str]
ENDED = ("finished", "failed", "cancelled", "closed")
DEFINED = ("pending", "defined", "waiting", "assigned")
TABLES = ("defined", "active", "archived4", "archived")
ARCHIVED_AFTER, CACHED_FOR = timedelta(hours=72), timedelta(minutes=10)
USUAL_HOURS, BATCH_ID_HOURS, TASK_HOURS = 12, 96, 180 * 24
USUAL_LIMIT, TASK_LIMIT = 20_000, 999_999
SELECTORS = ("computingsite", "jobstatus", "batchid", "jeditaskid", "pandaid")
FAULTS = ("500", "401", "truncated", "login page", "redirect", "hang", "no jobs key", "null jobs")
FAULTY_BODIES = {
    "500": (500, b"<h1>Server Error (500)</h1>"),
    "401": (401, b'{"detail": "Invalid token."}'),
    "login page": (200, b"<html>Sign in</html>"),
    "no jobs key": (200, b"{}"),
    "null jobs": (200, b'{"jobs": null}'),
}
HANGS_SECONDS = 0.5


class Refused(Exception):
    """A parameter that the monitor answers with 400."""


class Monitor:
    """The jobs that the stand-in knows, and how it misbehaves; a row's own `table` is where it lies, whatever its age.

    `nonsense` are rows that come with every answer.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.now = lambda: datetime.now(UTC).replace(tzinfo=None)
        self.key: str | None = None
        self.packs = False
        self.fault_share, self.doubled_share, self.random = 0.0, 0.0, random.Random(1)
        self.next_faults: list[str] = []
        self.nonsense: list[Any] = []
        self.faulty_queues: set[str] = set()
        self.requests = self.bytes_sent = 0
        self.cpu_seconds = 0.0
        self.queries: list[Query] = []
        self.cache: dict[str, tuple[datetime, bytes]] = {}
        self.lock = threading.Lock()

    def page(self, query: Query) -> dict[str, Any]:
        """Return what the monitor would; raise Refused, and anything else where the real one fails."""
        _check(query)
        named = {column: query[column].lower() for column in SELECTORS if column in query}
        rows = [
            row
            for row in self.rows
            if all(_is_named(str(row.get(name)).lower(), name, pattern) for name, pattern in named.items())
        ]
        by_panda_id: dict[int, Row] = {}
        in_table: dict[str, list[Row]] = {table: [] for table in TABLES}
        now = self.now()
        for row in rows:
            in_table[_table(row, now)].append(row)
        for table in TABLES:
            for row in self._of_table(table, in_table[table], query):
                by_panda_id.setdefault(row["pandaid"], row)
        if "jeditaskid" in query and query.get("mode") != "nodrop":
            by_panda_id = _without_retried(by_panda_id)
        if "sortby" in query and any(row[query["sortby"]] is None for row in by_panda_id.values()):
            raise TypeError("'<' not supported between instances of 'NoneType' and 'str'")
        answer_rows = [_answer_row(row, query) for row in by_panda_id.values()]
        answer_rows += [row for row in answer_rows if self.random.random() < self.doubled_share] + self.nonsense
        aside = (
            []
            if query.get("outputs") == "jobs"
            else [{"field": "jobstatus", "list": sorted({row["jobstatus"] for row in rows})}]
        )
        return {"selectionsummary": aside, "jobs": answer_rows, "errsByCount": []}

    def _of_table(self, table: str, rows: list[Row], query: Query) -> list[Row]:
        begin, end, column = self._window(query)
        if table == "archived":
            if column != "modificationtime" or begin > self.now() - ARCHIVED_AFTER or "," in query.get("jobstatus", ""):
                return []
            column = "statechangetime"
        if table in {"archived4", "archived"} or not _knows_no_time(query):
            rows = [row for row in rows if row.get(column) is not None and begin <= _moment(row[column]) <= end]
        limit = int(query.get("limit", TASK_LIMIT if "jeditaskid" in query else USUAL_LIMIT))
        return sorted(rows, key=lambda row: str(row["modificationtime"]), reverse=True)[:limit]

    def _window(self, query: Query) -> tuple[datetime, datetime, str]:
        for name, value in query.items():
            if name.endswith("range"):
                first, _, last = value.partition("|")
                return _moment(first), _moment(last), name.removesuffix("range")
        usual = TASK_HOURS if "jeditaskid" in query else BATCH_ID_HOURS if "batchid" in query else USUAL_HOURS
        hours = int(query["hours"]) if "hours" in query else 24 * int(query["days"]) if "days" in query else usual
        end = _moment(query["date_to"]) if "date_to" in query else self.now()
        return (
            _moment(query["date_from"]) if "date_from" in query else end - timedelta(hours=hours),
            end,
            "modificationtime",
        )


def _table(row: Row, now: datetime) -> str:
    if "table" in row:
        return str(row["table"])
    if row["jobstatus"] not in ENDED:
        return "defined" if row["jobstatus"] in DEFINED else "active"
    return "archived" if now - _moment(row["modificationtime"]) >= ARCHIVED_AFTER else "archived4"


def _check(query: Query) -> None:
    for name, value in query.items():
        if value == "" and name != "json":
            raise Refused(f"Empty value '' for {name}")
    for name in ("hours", "days", "limit"):
        if not query.get(name, "0").isdigit():
            raise Refused(f"Illegal value '{query[name]}' for {name}")


@lru_cache(maxsize=4_096)
def _is_named(value: str, column: str, pattern: str) -> bool:
    """Return whether a column's value is asked for, by the operators of that column."""
    if column != "batchid":
        pattern = pattern.replace("+", " ").replace("'", "").replace("#", "")
    if column == "jobstatus":
        return value in pattern.replace(",", "|").split("|")
    return all(any(_fits(value, alternative) for alternative in part.split("|")) for part in pattern.split(","))


def _fits(value: str, pattern: str) -> bool:
    return not _fits(value, pattern[1:]) if pattern.startswith("!") else fnmatchcase(value, pattern)


def _knows_no_time(query: Query) -> bool:
    """Return whether the tables of active jobs are asked without a time filter."""
    return "|" in query.get("jobstatus", "") or "days" in query or ("date_from" in query and "date_to" not in query)


def _without_retried(by_panda_id: dict[int, Row]) -> dict[int, Row]:
    retried = {row.get("parentid") for row in by_panda_id.values()}
    return {number: row for number, row in by_panda_id.items() if number not in retried}


def _answer_row(row: Row, query: Query) -> Row:
    names = query["fields"].split(",") if "fields" in query else [name for name in row if name != "table"]
    fields = {name: row[name] for name in names if name in row}
    if "jeditaskid" in query and fields.get("maxpss") is not None:
        fields["maxpss"] = f"{fields['maxpss'] / 1_024:.2f}"
    return fields


@lru_cache(maxsize=200_000)
def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise TypeError("can't compare offset-naive and offset-aware datetimes")
    return moment


class Handler(BaseHTTPRequestHandler):
    """One request at a time, as robots are asked to send them."""

    monitor: Monitor

    def do_GET(self) -> None:
        """Return jobs, or a fault, and count the CPU time."""
        began = time.thread_time()
        self._serve()
        with self.monitor.lock:
            self.monitor.cpu_seconds += time.thread_time() - began

    def _serve(self) -> None:
        monitor = self.monitor
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        with monitor.lock:
            monitor.requests += 1
            monitor.queries.append(query)
            fault = self._fault(query)
            status, body = self._answer(query)
        if fault is not None:
            self._misbehave(fault, body)
        elif "json" not in query and self.headers["Accept"] != "application/json":
            self._misbehave("redirect", b"")
        else:
            self._send(status, body)

    def _answer(self, query: Query) -> tuple[int, bytes]:
        monitor, now = self.monitor, self.monitor.now()
        cached_at, body = monitor.cache.get(self.path, (datetime.min, b""))
        if now - cached_at < CACHED_FOR:
            return 200, body
        try:
            body = json.dumps(monitor.page(query)).encode()
        except Refused as refused:
            return 400, json.dumps({"error": str(refused)}).encode()
        except (TypeError, KeyError, ValueError):
            return FAULTY_BODIES["500"]
        monitor.cache = {path: kept for path, kept in monitor.cache.items() if now - kept[0] < CACHED_FOR} | {
            self.path: (now, body)
        }
        return 200, body

    def _fault(self, query: Query) -> str | None:
        monitor = self.monitor
        if monitor.next_faults:
            return monitor.next_faults.pop(0)
        if monitor.key is not None and self.headers["Authorization"] != f"Token {monitor.key}":
            return "401"
        if monitor.faulty_queues & set(query.get("computingsite", "").split("|")):
            return "500"
        return monitor.random.choice(FAULTS) if monitor.random.random() < monitor.fault_share else None

    def _misbehave(self, fault: str, body: bytes) -> None:
        if fault == "hang":
            time.sleep(HANGS_SECONDS)
            self.close_connection = True
        elif fault == "redirect":
            self._send(302, b"", Location="/oauth/login/")
        else:
            self._send(*FAULTY_BODIES.get(fault, (200, body[: len(body) // 2])))

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        if self.monitor.packs and "gzip" in self.headers["Accept-Encoding"]:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.monitor.bytes_sent += len(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def bigpanda() -> Iterator[tuple[Monitor, str]]:
    """Run a monitor on a free port until the caller is done; return it and its base URL."""
    monitor = Monitor()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"monitor": monitor}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield monitor, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
