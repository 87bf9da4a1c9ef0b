"""How people are told: each alarm until it is heard,
in the form that the receiver documents; and the real Alertmanager.
"""

import json
import queue
import re
import socket
import socketserver
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from email import message_from_string, policy
from pathlib import Path

import pytest

from localstack import servers
from skytally.adapters import alarms_webhook
from skytally.adapters.alarms_webhook import AlarmWebhook
from skytally.app import wiring
from skytally.core.documents import Alarm
from skytally.core.errors import Unavailable
from skytally.core.ports import Write

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.now(UTC).replace(microsecond=0)
pytestmark = pytest.mark.usefixtures("now")
LINK = "https://sky.example.org/function/dashboard#view=usage&by=vm&cloud=uvic&vm=vm-1"
HOSTILE = 'vm <!channel> @all & ![x](http://evil) "\\\u202e'


def no_link(_):
    """Link to nothing, as where the settings name no public URL."""


@pytest.fixture
def form(home, monkeypatch):
    """Choose the receiver's form in the site's data."""
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))

    def choose(name):
        (home / "clouds.toml").write_text(f'[alarms]\nform = "{name}"\n')
        wiring.close()

    return choose


def alarm(subject="vm-1", **fields):
    blank = {
        "kind": "silent_vm",
        "cloud": "uvic",
        "message": f"{subject} has not reported",
        "state": "raised",
        "told": None,
    }
    times = {"raised_at": NOW - timedelta(hours=1), "seen_at": NOW, "resolved_at": None}
    return Alarm(**blank | times | {"subject": subject} | fields)


def silent(client, bearer, count):
    """Let so many vms fall silent."""
    from tests.support import builders

    for n in range(count):
        vm = builders.FakeVm(f"vm-{n}", boot_at=NOW - timedelta(hours=5))
        client.post(
            "usage-report",
            json={"samples": [vm.sample(NOW - timedelta(hours=3))]},
            headers=bearer("reporter", clouds=("uvic",)),
        )


def test_a_chat_gets_text_alone_that_calls_nobody(webhook):
    AlarmWebhook(f"{webhook.url}/", "chat", no_link, NOW).tell(alarm(HOSTILE))
    (body,) = webhook.heard
    assert list(body) == ["text"]
    assert not re.search(r"[<>]|@\w|!\[|&(?!amp;|lt;|gt;)", body["text"])
    assert body["text"].startswith("raised silent_vm: vm &lt;!\u200bchannel&gt;")


def test_a_receiver_that_hangs_costs_one_request_s_time_however_often_it_is_tried(monkeypatch):
    monkeypatch.setattr(alarms_webhook, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(alarms_webhook, "REMINDED_AT_ONCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        notifier = AlarmWebhook(f"http://127.0.0.1:{deaf.getsockname()[1]}/", "alertmanager", no_link, NOW)
        for call in (lambda: notifier.tell(alarm()), lambda: notifier.remind([alarm("a"), alarm("b"), alarm("c")])):
            begin = time.monotonic()
            with pytest.raises(Unavailable, match="does not answer"):
                call()
            assert time.monotonic() - begin < 2


MARKUP = {
    "a call": ("@channel", r"@\w"),
    "a group": ("<!here>", r"[<>]"),
    "a link": ("[click](http://evil)", r"\]\(|://"),
    "a bare link": ("https://evil.example", r"://"),
    "a picture": ("![x](y)", r"!\["),
    "a style": ("*bold* ~no~ `code` _slanted_", r"[*~`_](?!\u200b)"),
    "a new line": ("x\n/close", r"\n"),
    "a turned name": ("\u202etxt.exe\u2066", r"[\u202e\u2066]"),
}


@pytest.mark.parametrize(("name", "forbidden"), MARKUP.values(), ids=MARKUP)
def test_no_name_is_markup_in_any_form(name, forbidden):
    one = alarm(name, cloud=name)
    assert not re.search(forbidden, alarms_webhook.chat(one, None, NOW)["text"].partition(": ")[2])
    for body in (alarms_webhook.plain(one, LINK, NOW), alarms_webhook.alert(one, LINK, NOW)):
        assert not re.search(r"[\x00-\x1f\u200e-\u200f\u2028-\u202e\u2066-\u2069]", "".join(_texts(body)))
    assert "belle_vm-1" in alarms_webhook.chat(alarm("belle_vm-1"), None, NOW)["text"]


def _texts(value):
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def test_alertmanager_gets_a_list_whose_labels_are_the_identity(webhook):
    notifier = AlarmWebhook(f"{webhook.url}/", "alertmanager", no_link, NOW)
    notifier.tell(alarm())
    notifier.tell(alarm(state="resolved", resolved_at=NOW, message="other words"))
    notifier.remind([alarm(f"vm-{n}", cloud=None) for n in range(alarms_webhook.REMINDED_AT_ONCE + 1)])
    raised, resolved, *reminders = webhook.heard
    assert [len(body) for body in (raised, resolved, *reminders)] == [1, 1, 500, 1]
    assert (
        raised[0]["labels"]
        == resolved[0]["labels"]
        == {"alertname": "silent_vm", "subject": "vm-1", "cloud": "uvic", "service": "skytally"}
    )
    assert raised[0]["startsAt"] == resolved[0]["startsAt"]
    assert datetime.fromisoformat(raised[0]["endsAt"]) > NOW
    assert datetime.fromisoformat(resolved[0]["endsAt"]) == NOW - alarms_webhook.CLOCKS_DIFFER
    assert "cloud" not in reminders[0][0]["labels"]


def test_every_round_reminds_an_alertmanager_and_nobody_else(client, bearer, webhook, form, round_at):
    form("alertmanager")
    silent(client, bearer, 3)
    round_at(NOW)
    round_at(NOW + timedelta(minutes=5))
    assert [len(body) for body in webhook.heard] == [1, 1, 1, 3]
    form("chat")
    round_at(NOW + timedelta(minutes=10))
    assert len(webhook.heard) == 4


@pytest.mark.parametrize(("status", "asked"), [(500, 3), (429, 3), (404, 1), (302, 1)])
def test_what_may_pass_is_tried_again_and_what_will_not_is_not(webhook, status, asked):
    webhook.status = status
    secret = f"{webhook.url}/services/T0/B0/s3cret"
    with pytest.raises(Unavailable, match=f"answered {status}: check SKYTALLY_ALARM_WEBHOOK") as refused:
        AlarmWebhook(secret, "skytally", no_link, NOW).tell(alarm())
    assert len(webhook.requests) == asked
    assert "s3cret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_nobody_there_is_an_outage():
    with pytest.raises(Unavailable, match="does not answer"):
        AlarmWebhook("http://127.0.0.1:9/s3cret", "skytally", no_link, NOW).tell(alarm())


def test_what_a_receiver_will_never_take_holds_up_no_other_alarm(client, bearer, webhook, round_at):
    webhook.refuses = lambda body: body["subject"].startswith("vm-1-")
    silent(client, bearer, 3)
    assert round_at(NOW)["error"]["code"] == "unavailable"
    assert sorted(body["subject"][:4] for body in webhook.heard) == ["vm-0", "vm-2"]
    assert round_at(NOW + timedelta(minutes=5))["error"]["message"].startswith("the alarm webhook answered 400")
    assert len(webhook.heard) == 2
    webhook.refuses = lambda _: False
    assert round_at(NOW + timedelta(minutes=10)) == {"state": "done", "open": 3, "raised": 1, "resolved": 0}


def test_a_dead_receiver_is_not_asked_about_every_alarm(client, bearer, webhook, round_at):
    webhook.status = 404
    silent(client, bearer, 5)
    round_at(NOW)
    assert len(webhook.requests) == 2


def test_one_round_tells_a_bounded_number_and_the_next_the_rest(client, bearer, webhook, round_at, monkeypatch):
    monkeypatch.setattr("skytally.alarms.alarm_round.MOST_TOLD", 2)
    silent(client, bearer, 3)
    assert round_at(NOW)["raised"] == 2
    assert round_at(NOW + timedelta(minutes=5))["raised"] == 1
    assert round_at(NOW + timedelta(minutes=10))["raised"] == 0
    assert len(webhook.heard) == 3


def test_what_cannot_be_looked_at_is_not_over_and_spoils_no_other_look(client, bearer, webhook, round_at, home):
    documents = wiring.documents()
    old = alarm("the disk", kind="store_nearly_full", told="raised", cloud=None, seen_at=NOW - timedelta(hours=1))
    documents.write([Write("alarm", "store_nearly_full:the disk", 1, old)]).result()
    silent(client, bearer, 1)
    documents.rooms = lambda: (_ for _ in ()).throw(Unavailable("the disks cannot be looked at"))
    assert round_at(NOW)["error"]["message"] == "the disks cannot be looked at"
    assert sorted((body["kind"], body["subject"][:4]) for body in webhook.heard) == [
        ("failed_check", "disk"),
        ("silent_vm", "vm-0"),
    ]
    del documents.rooms
    assert round_at(NOW + timedelta(minutes=5))["resolved"] == 2


@pytest.mark.servers
def test_the_real_alertmanager_shows_an_alarm_until_it_is_resolved(
    client, bearer, running, form, round_at, monkeypatch
):
    from tests.support import builders

    server = running["alertmanager"]
    monkeypatch.setenv("SKYTALLY_ALARM_WEBHOOK", server.settings["SKYTALLY_ALARM_WEBHOOK"])
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    form("alertmanager")
    vm = builders.FakeVm("vm ü \"'\\ <b>", boot_at=NOW - timedelta(hours=5))
    caller = bearer("reporter", clouds=("uvic",))
    client.post("usage-report", json={"samples": [vm.sample(NOW - timedelta(hours=3))]}, headers=caller)
    assert round_at(NOW - timedelta(minutes=10))["raised"] == 1
    (shown,) = alerts_of(server, 1)
    assert (shown["labels"]["alertname"], shown["labels"]["cloud"], shown["status"]["state"]) == (
        "silent_vm",
        "uvic",
        "active",
    )
    assert shown["labels"]["subject"].startswith("vm ü \"'\\ <b>-")
    assert "has not reported since" in shown["annotations"]["summary"]
    (told,) = json.loads(
        amtool("--alertmanager.url", server.url, "-o", "json", "alert", "query", "alertname=silent_vm", "cloud=uvic")
    )
    assert (told["labels"], told["annotations"]) == (shown["labels"], shown["annotations"])
    assert round_at(NOW - timedelta(minutes=5)) == {"state": "done", "open": 1, "raised": 0, "resolved": 0}
    assert len(alerts_of(server, 1)) == 1
    client.post("usage-report", json={"samples": [vm.sample(NOW)]}, headers=caller)
    assert round_at(NOW)["resolved"] == 1
    assert alerts_of(server, 0) == []


class Relay(socketserver.ThreadingTCPServer):
    """A mail relay that takes everything."""

    allow_reuse_address = daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Mail)
        self.mails = queue.Queue()


class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 relay\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            self.wfile.write({b"QUIT": b"221 bye\r\n", b"DATA": b"354 go on\r\n"}.get(word, b"250 ok\r\n"))
            if word == b"DATA":
                self.server.mails.put(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
                self.wfile.write(b"250 taken\r\n")


@pytest.mark.servers
def test_the_documented_configuration_mails_an_alarm(running, tmp_path):
    block = re.search(r"```yaml\n(route: .*?)```", (ROOT / "docs/alarms.md").read_text(), re.DOTALL)[1]
    with Relay() as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        host = f"127.0.0.1:{relay.server_address[1]}"
        config = (
            block.replace("relay.example.org:25", host)
            .replace("require_tls: true", "require_tls: false")
            .replace("30s", "0s")
        )
        (tmp_path / "alertmanager.yml").write_text(config)
        assert "SUCCESS" in amtool("check-config", str(tmp_path / "alertmanager.yml"))
        assert running["alertmanager"]
        with servers.alertmanager(tmp_path) as server:
            AlarmWebhook(server.settings["SKYTALLY_ALARM_WEBHOOK"], "alertmanager", lambda _: LINK, NOW).tell(
                alarm(HOSTILE)
            )
            mail = message_from_string(relay.mails.get(timeout=30), policy=policy.default)
        relay.shutdown()
        thread.join()
    assert (mail["To"], mail["From"]) == ("cloud-operators@example.org", "skytally@example.org")
    html = mail.get_body(("html",)).get_content()
    assert "silent_vm" in html
    assert "<!channel>" not in html
    assert "&lt;!channel&gt;" in html
    assert LINK.replace("&", "&amp;") in html


LINKS = {
    "skytally": lambda body: body["link"] or "",
    "chat": lambda body: body["text"].rpartition("still runs it")[2].strip(),
    "alertmanager": lambda body: body[0].get("generatorURL", ""),
}


@pytest.mark.parametrize("chosen", LINKS)
def test_without_a_public_url_no_form_has_a_link(client, bearer, webhook, form, round_at, chosen):
    form(chosen)
    silent(client, bearer, 1)
    round_at(NOW)
    assert LINKS[chosen](webhook.heard[0]) == ""


@pytest.fixture
def public_url(home, monkeypatch):
    monkeypatch.setenv("SKYTALLY_PUBLIC_URL", "https://sky.example.org/function/")


@pytest.mark.usefixtures("public_url")
@pytest.mark.parametrize("chosen", LINKS)
def test_with_a_public_url_every_form_links_to_the_evidence(client, bearer, webhook, form, round_at, chosen):
    form(chosen)
    silent(client, bearer, 1)
    round_at(NOW)
    address, _, fragment = LINKS[chosen](webhook.heard[0]).partition("#")
    assert address == "https://sky.example.org/function/dashboard"
    shown = client.get(f"dashboard/data?{fragment}", headers=bearer("reader", clouds=("uvic",))).json()
    assert [(row["cloud"], row["vm"]) for row in shown["table"]] == [("uvic", "vm-0")]


def amtool(*words):
    """Ask Alertmanager's own tool, as an operator does at night."""
    return subprocess.run(
        [servers.AMTOOL.path(), *words], capture_output=True, text=True, timeout=60, check=True
    ).stdout


def alerts_of(server, wanted):
    """Ask Alertmanager what is active until it shows so many, for ten seconds at most."""
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"{server.url}/api/v2/alerts?active=true", timeout=5) as answer:
            found = json.load(answer)
        if len(found) == wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
