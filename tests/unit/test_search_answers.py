"""Answers of what is no search engine, such as a gateway's JSON: an outage, never a crash or "not found"."""

import contextlib
import http.server
import json
import threading

import pytest

from skytally.adapters.documents_search import SearchDocuments, connect
from skytally.core.documents import Closing, Label
from skytally.core.errors import Unavailable

ENGINE = {"version": {"distribution": "opensearch", "number": "2.19.0"}}
INSTALLED = {"x": {"mappings": {"_meta": {"skytally": 99}}}}
READS = {
    "get": lambda documents: documents.get("label", "k", Label),
    "get_many": lambda documents: documents.get_many("label", ["k"], Label),
    "find": lambda documents: list(documents.find("closing", Closing, {})),
    "count": lambda documents: documents.count("label"),
}


@contextlib.contextmanager
def gateway(answer):
    """Serve an engine whose data somebody else answers for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = {"/": ENGINE}
            body = json.dumps(known.get(self.path) or (INSTALLED if "_mapping" in self.path else answer)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = reply  # noqa: N815

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    documents = SearchDocuments(connect([f"http://127.0.0.1:{server.server_port}"], "", ""), "sky")
    try:
        yield documents
    finally:
        documents.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("answer", [{}, [], {"docs": []}, {"hits": {}}, {"status": "ok"}], ids=json.dumps)
def test_json_of_somebody_else_is_an_outage(answer):
    with gateway(answer) as documents:
        for name, read in READS.items():
            with pytest.raises(Unavailable):
                raise AssertionError(name, read(documents))
