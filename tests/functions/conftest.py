"""What tests of the alarms share: a receiver, and rounds at any time."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from skytally.app import wiring


@pytest.fixture
def webhook(monkeypatch, home):
    """A receiver that hears, or is deaf for a while; `refuses` says which bodies it will never take."""

    class Receiver(HTTPServer):
        status, asked, refuses = 200, 0, staticmethod(lambda _: False)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked += 1
            status = 400 if self.server.refuses(body) else self.server.status
            if status == 200:
                self.server.heard.append(body)
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    receiver = Receiver(("127.0.0.1", 0), Handler)
    receiver.heard = []
    thread = threading.Thread(target=receiver.serve_forever)
    thread.start()
    monkeypatch.setenv("SKYTALLY_ALARM_WEBHOOK", f"http://127.0.0.1:{receiver.server_port}/hook")
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    yield receiver
    receiver.shutdown()
    thread.join()
    receiver.server_close()


@pytest.fixture
def now(request, monkeypatch):
    """Let the module's NOW be when its test begins:
    what the server does by its own clock may come long after the import.
    """
    monkeypatch.setattr(request.module, "NOW", datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def at(monkeypatch):
    def set_clock(moment):
        monkeypatch.setattr("skytally.core.clock.now", lambda: moment)

    return set_clock


@pytest.fixture
def round_at(client, at):
    """Do a round at a moment; return its counts."""

    def do(moment):
        at(moment)
        return client.post("alarm-raise").json()

    return do
