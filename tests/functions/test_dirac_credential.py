"""A robot's credential through its whole life: used, renewed,
refused, signed in again, and what people are told of it.
"""

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from skytally.app import wiring
from skytally.cli import cli
from skytally.core.documents import Alarm
from skytally.core.records import Caller
from skytally.jobs import heartbeats
from tests.support import builders
from tests.support.recording_server import json_reply, recording_server

CALLER = Caller(role="reporter", issued=0, expires=2**40, clouds=("uvic",))


class Dirac:
    """DiracX as far as its credentials go: a refresh token works once, and its second use ends the session."""

    def __init__(self, file):
        self.file, self.count, self.sent = file, 0, []

    def __call__(self, request):
        if request.path == "/api/auth/token":
            return self.renewal(request.body.decode())
        return self.search(request.headers["Authorization"])

    def sign_in(self):
        self.count += 1
        self.access, self.refresh = f"access-{self.count}", f"refresh-{self.count}"
        return {"access_token": self.access, "refresh_token": self.refresh}

    def renewal(self, form):
        self.sent.append(form.rpartition("refresh_token=")[2])
        if self.sent[-1] != self.refresh:
            self.refresh = None
            return json_reply({}, 401)
        return json_reply(self.sign_in())

    def search(self, authorization):
        return json_reply([]) if authorization == f"Bearer {self.access}" else json_reply({}, 401)


@pytest.fixture
def dirac(home, monkeypatch):
    dirac = Dirac(home / "robot")
    with recording_server(dirac) as server:
        monkeypatch.setenv("SKYTALLY_DIRAC_URL", server.url)
        monkeypatch.setenv("SKYTALLY_DIRAC_TOKEN_FILE", str(dirac.file))
        monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
        sign_in(dirac)
        wiring.close()
        yield dirac


def sign_in(server):
    server.file.unlink(missing_ok=True)
    server.file.write_text(json.dumps(server.sign_in()))
    server.file.chmod(0o444)


@pytest.fixture
def collect(client, dirac, monkeypatch):
    """Do a round in which something is asked, as a process that has just begun."""

    def round_at(at):
        monkeypatch.setattr("skytally.core.clock.now", lambda: at)
        wiring.close()
        heartbeats.record(
            builders.heartbeat(str(dirac.count + 1), vm="vm-1"), CALLER, wiring.documents(), at - timedelta(hours=2)
        )
        return client.post("dirac-collect")

    return round_at


@pytest.fixture
def credential_rows(client, reader):
    return lambda: [
        row
        for row in client.get("dashboard/data?view=health", headers=reader).json()["table"]
        if row["kind"] == "credential"
    ]


def doctor():
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).output)
    return [(one["state"], one["finding"]) for one in found if one["part"] == "credentials"]


def test_a_credential_s_life_and_what_people_are_told_of_it(collect, dirac, client, credential_rows, home, caplog):
    now = datetime.now(UTC).replace(microsecond=0)
    assert doctor()[0][0] == "ok"
    assert "the token file's own is used" in doctor()[0][1]
    assert collect(now).json()["asked"] == 1
    assert credential_rows()[0] | {"since": None} == {
        "kind": "credential",
        "subject": "dirac",
        "cloud": None,
        "state": "well",
        "since": None,
        "message": f"the token file's own is used, since {now:%Y-%m-%dT%H:%M:%SZ}",
        "period_seconds": None,
    }
    for minutes in (15, 30, 45):
        dirac.access = "over"
        assert collect(now + timedelta(minutes=minutes)).status_code == 200
        (row,) = credential_rows()
        assert (row["state"], row["message"].startswith("renewed")) == ("well", True)
        assert doctor() == [("ok", row["message"])]
    assert dirac.sent == ["refresh-1", "refresh-2", "refresh-3"]

    dirac.access, dirac.refresh = "over", "of a thief"
    late = now + timedelta(hours=3)
    for _ in range(3):
        answer = collect(late)
        assert (answer.status_code, "sign the robot in again" in answer.json()["error"]["message"]) == (503, True)
        late += timedelta(minutes=15)
    assert dirac.sent[3:] == ["refresh-4"]
    (row,) = credential_rows()
    assert (row["state"], "sign the robot in again" in row["message"]) == ("failing", True)
    assert doctor() == [("FAILED", row["message"])]
    client.post("alarm-raise")
    wiring.documents().refresh()
    raised = {
        alarm.subject: alarm.message for _, alarm in wiring.documents().find("alarm", Alarm, {"kind": ["stale_timer"]})
    }
    assert "sign the robot in again" in raised["dirac_collect"]

    sign_in(dirac)
    assert collect(late + timedelta(minutes=15)).status_code == 200
    assert credential_rows()[0]["state"] == "well"
    assert doctor()[0][0] == "ok"
    kept = b"".join(path.read_bytes() for path in home.rglob("documents.sqlite*"))
    assert not any(word in kept for word in (b"access-", b"refresh-"))
    assert "access-" not in caplog.text + json.dumps(credential_rows())


def test_a_site_without_diracx_has_no_credential(client, reader, credential_rows):
    assert credential_rows() == []
    assert doctor() == []


def test_a_file_that_is_missing_is_said_by_doctor(dirac):
    dirac.file.unlink()
    assert doctor() == [("FAILED", "SKYTALLY_DIRAC_TOKEN_FILE cannot be read, or holds no token")]
