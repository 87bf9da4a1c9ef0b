"""A stand-in for the BigPanDA monitor: its rules for parameters, tables, limits and times, over jobs of a test, with faults on demand.

What is known of the real one: `|` means or and a comma and, so several queues by comma are nobody's; with several statuses the tables of
active jobs know no time; the archive is asked only for windows that reach back 72 hours, and by statechangetime; each table is cut to
`limit`, newest modification first; `fields` is taken literally; bad values are 400; times are naive UTC.
"""

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Row = dict[str, Any]
ENDED = ("finished", "failed", "cancelled", "closed")
ARCHIVED_AFTER = timedelta(hours=72)
FAULTS = ("500", "truncated", "login page", "redirect", "hang", "no jobs key", "null jobs")


class Refused(Exception):
    """A parameter that the monitor answers with 400."""


class Monitor:
    """The jobs that the stand-in knows, and how it misbehaves."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.now = lambda: datetime.now(UTC).replace(tzinfo=None)
        self.fault_share, self.doubled_share, self.random = 0.0, 0.0, random.Random(1)
        self.next_faults: list[str] = []
        self.requests = self.bytes_sent = 0
        self.queries: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def answer(self, query: dict[str, str]) -> list[Row]:
        """Select rows as the real one does; raises Refused."""
        for name, value in query.items():
            if value == "" and name != "json":
                raise Refused(f"Empty value '' for {name}")
        for name in ("hours", "days", "limit"):
            if not query.get(name, "0").isdigit():
                raise Refused(f"Illegal value '{query[name]}' for {name}")
        rows = [row for row in self.rows if _is_named(row, "computingsite", query) and _is_named(row, "jobstatus", query)]
        found: list[Row] = []
        for table in ("active", "archived4", "archived"):
            found += self._of_table(table, [row for row in rows if self._table(row) == table], query)
        fields = query.get("fields")
        names = fields.split(",") if fields else None
        rows = [row if names is None else {name: row[name] for name in names if name in row} for row in found]
        return rows + [row for row in rows if self.random.random() < self.doubled_share]

    def _table(self, row: Row) -> str:
        if row["jobstatus"] not in ENDED or row.get("table") == "active":
            return "active"
        return "archived" if self.now() - _moment(row["modificationtime"]) >= ARCHIVED_AFTER else "archived4"

    def _of_table(self, table: str, rows: list[Row], query: dict[str, str]) -> list[Row]:
        window, column = _window(query)
        if table == "archived":
            if column != "modificationtime" or min(window) > self.now() - ARCHIVED_AFTER:
                return []
            column = "statechangetime"
        if not (table == "active" and "|" in query.get("jobstatus", "")):
            rows = [row for row in rows if row[column] is not None and window[0] <= _moment(row[column]) <= window[1]]
        return sorted(rows, key=lambda row: row["modificationtime"], reverse=True)[: int(query.get("limit", 20_000))]


def _is_named(row: Row, column: str, query: dict[str, str]) -> bool:
    return column not in query or str(row[column]).lower() in query[column].lower().split("|")


def _window(query: dict[str, str]) -> tuple[tuple[datetime, datetime], str]:
    for name, value in query.items():
        if name.endswith("range"):
            begin, _, end = value.partition("|")
            return (_moment(begin), _moment(end)), name.removesuffix("range")
    return (_moment(query["date_from"]), _moment(query["date_to"])), "modificationtime"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise TypeError("can't compare offset-naive and offset-aware datetimes")
    return moment


class Handler(BaseHTTPRequestHandler):
    """One request at a time, as robots are asked to send them."""

    monitor: Monitor

    def do_GET(self) -> None:
        """Answer jobs, or a fault."""
        monitor = self.monitor
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        with monitor.lock:
            monitor.requests += 1
            monitor.queries.append(query)
            fault = self._fault()
            try:
                body = json.dumps({"selectionsummary": [], "jobs": monitor.answer(query), "errsByCount": []}).encode()
                status = 200
            except Refused as refused:
                body, status = json.dumps({"error": str(refused)}).encode(), 400
            except (TypeError, KeyError, ValueError):
                body, status = b"<h1>Server Error (500)</h1>", 500
        self._send(status, body) if fault is None else self._misbehave(fault, body)

    def _fault(self) -> str | None:
        if self.monitor.next_faults:
            return self.monitor.next_faults.pop(0)
        return self.monitor.random.choice(FAULTS) if self.monitor.random.random() < self.monitor.fault_share else None

    def _misbehave(self, fault: str, body: bytes) -> None:
        if fault == "hang":
            time.sleep(0.5)
            self.close_connection = True
        elif fault == "redirect":
            self._send(302, b"", Location="/oauth/login/")
        else:
            bodies = {"500": b"<h1>Server Error (500)</h1>", "truncated": body[: len(body) // 2], "login page": b"<html>Sign in</html>"}
            bodies |= {"no jobs key": b"{}", "null jobs": b'{"jobs": null}'}
            self._send(500 if fault == "500" else 200, bodies[fault])

    def _send(self, status: int, body: bytes, **headers: str) -> None:
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
    """Run a monitor on a free port until the caller is done; answers it and its base URL."""
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
