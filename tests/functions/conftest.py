"""What tests of the alarms share: a receiver, and rounds at any time."""

import json
from datetime import UTC, datetime

import pytest

from skytally.app import wiring
from tests.support.builders import DOCUMENT_STORES
from tests.support.recording_server import Reply, recording_server


@pytest.fixture
def webhook(monkeypatch, home):
    """A receiver that hears, or is deaf for a while; `refuses` says which bodies it will never take."""

    with recording_server() as server:
        server.heard, server.status, server.refuses = [], 200, lambda _: False

        def respond(request):
            body = json.loads(request.body)
            status = 400 if server.refuses(body) else server.status
            if status == 200:
                server.heard.append(body)
            return Reply(status, headers={"Location": "/elsewhere"} if status == 302 else {})

        server.respond = respond
        monkeypatch.setenv("SKYTALLY_ALARM_WEBHOOK", f"{server.url}/hook")
        monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
        wiring.close()
        yield server


@pytest.fixture(params=DOCUMENT_STORES)
def document_store(request, home, document_settings, monkeypatch):
    """Let the functions keep their documents in each store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()


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
