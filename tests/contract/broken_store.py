"""An object store with S3's face and a fault of choice, for what must be refused.

Faults: `none`, `ignores condition`, `two winners` (looks before the body is read, writes after), `versioned`, `clock`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

XML = '<?xml version="1.0" encoding="UTF-8"?>'


class Store(ThreadingHTTPServer):
    """The objects, and the fault."""

    daemon_threads = True

    def __init__(self, fault: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault = fault
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()


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

    def do_PUT(self) -> None:
        key, asked = self._key(), self.headers.get("If-None-Match") == "*" and self.server.fault != "ignores condition"
        taken_before = key in self.server.objects
        if self.headers.get("Expect") == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            taken = taken_before if self.server.fault == "two winners" else key in self.server.objects
            if not (asked and taken):
                self.server.objects[key] = data
        self._answer(412 if asked and taken else 200, _error("PreconditionFailed") if asked and taken else "")

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
        self.server.objects.pop(self._key(), None)
        self._answer(204, "")

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _answer(self, status: int, body: str | bytes) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
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
            store.shutdown()
            thread.join()
