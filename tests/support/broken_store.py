"""An object store with S3's face and a fault of choice, for what must be refused or be an outage.

::

    none
    ignores condition    writes whatever was there
    two winners          looks before the body is read, writes after
    late                 looks after the body is read, writes 10 ms later
    versioned            says that the bucket keeps versions
    clock                a minute late
    no clock             answers without a date
    refuses deletes      answers 404 NoSuchKey to a delete of what is not there
    no store             answers 404 to everything, as any other server does
    silent               takes a request and never answers
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

XML = '<?xml version="1.0" encoding="UTF-8"?>'
LATE_SECONDS = 0.01


class Store(ThreadingHTTPServer):
    """The objects, and the fault."""

    daemon_threads = True

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.over = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Enough of S3 for create, get, delete, list and the bucket's versioning."""

    protocol_version = "HTTP/1.1"
    server: Store

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:  # noqa: ARG002
        """Tell the time, rightly or not."""
        late = timedelta(minutes=1 if self.server.fault == "clock" else 0)
        return format_datetime(datetime.now(UTC) - late, usegmt=True)

    def parse_request(self) -> bool:
        """Take a request, unless this is no store."""
        taken = super().parse_request()
        if taken and self.server.fault == "silent":
            self.server.over.wait()
            self.close_connection = True
            return False
        if taken and self.server.fault == "no store":
            self.close_connection = True
            self._answer(404, "")
            return False
        return taken

    def do_PUT(self) -> None:
        key, asked = self._key(), self.headers.get("If-None-Match") == "*" and self.server.fault != "ignores condition"
        taken_before = key in self.server.objects
        data = self.rfile.read(int(self.headers["Content-Length"]))
        taken = taken_before if self.server.fault == "two winners" else self._write_if_free(key, data, asked)
        if self.server.fault == "two winners" and not taken:
            self.server.objects[key] = data
        self._answer(412 if asked and taken else 200, _error("PreconditionFailed") if asked and taken else "")

    def _write_if_free(self, key: str, data: bytes, asked: bool) -> bool:
        with self.server.lock:
            taken = key in self.server.objects
            if self.server.fault != "late" and not (asked and taken):
                self.server.objects[key] = data
        if self.server.fault == "late" and not taken:
            time.sleep(LATE_SECONDS)
            self.server.objects[key] = data
        return taken

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "versioning" in query:
            status = "<Status>Enabled</Status>" if self.server.fault == "versioned" else ""
            self._answer(200, f"{XML}<VersioningConfiguration>{status}</VersioningConfiguration>")
        elif "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            keys = sorted(key for key in self.server.objects if key.startswith(prefix))
            found = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys)
            self._answer(200, f"{XML}<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>")
        elif self._key() in self.server.objects:
            self._answer(200, self.server.objects[self._key()])
        else:
            self._answer(404, _error("NoSuchKey"))

    def do_DELETE(self) -> None:
        found = self.server.objects.pop(self._key(), None) is not None
        if self.server.fault == "refuses deletes" and not found:
            self._answer(404, _error("NoSuchKey"))
        else:
            self._answer(204, "")

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _answer(self, status: int, body: str | bytes) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response_only(status)
        if self.server.fault != "no clock":
            self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _error(code: str) -> str:
    return f"{XML}<Error><Code>{code}</Code></Error>"


@contextmanager
def broken_store(fault: str) -> Iterator[str]:
    """Run a store with a fault; yields its URL."""
    with Store(fault) as store:
        thread = threading.Thread(target=store.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{store.server_port}"
        finally:
            store.over.set()
            store.shutdown()
            thread.join()
