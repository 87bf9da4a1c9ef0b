"""The server's own settings and site data:
what is wrong with them is a 503 that names no more than the setting, no caller's fault.
"""

import logging
from datetime import UTC, datetime

import pytest

from skytally.app import wiring
from skytally.deployment.catalog import FUNCTIONS
from tests.support import builders

SECRET = "s3cret"
# What needs no site data: whoever claims proves it by the token, and these timers look at none.
WITHOUT_SITE = {"secret_claim", "secret_sweep", "panda_collect", "dirac_collect", "documents_forget"}
BROKEN = {
    "no number": {"SKYTALLY_CALLS_PER_SECOND": SECRET},
    "a prefix that is none": {"SKYTALLY_DOCUMENTS_PREFIX": f"{SECRET}!"},
    "documents by another scheme": {"SKYTALLY_DOCUMENTS": f"ftp://{SECRET}"},
    "documents without a host": {"SKYTALLY_DOCUMENTS": "http://"},
    "documents at half an address": {"SKYTALLY_DOCUMENTS": f"http://[{SECRET}"},
    "documents at a port that is none": {"SKYTALLY_DOCUMENTS": f"http://127.0.0.1:{SECRET}"},
    "documents where nothing can be": {"SKYTALLY_DOCUMENTS": f"sqlite:////dev/null/{SECRET}"},
    "an API key that is not there": {
        "SKYTALLY_DOCUMENTS": "http://127.0.0.1:9",
        "SKYTALLY_DOCUMENTS_API_KEY_FILE": f"/{SECRET}",
    },
    "a CA that is not there": {"SKYTALLY_DOCUMENTS": "https://127.0.0.1:9", "SKYTALLY_DOCUMENTS_CA_FILE": f"/{SECRET}"},
    "objects by another scheme": {"SKYTALLY_OBJECTS": f"swift://{SECRET}"},
    "objects where nothing can be": {"SKYTALLY_OBJECTS": f"file:///dev/null/{SECRET}"},
    "a bucket whose name is none": {"SKYTALLY_OBJECTS": f"s3://{SECRET} {SECRET}"},
    "an S3 at half an address": {"SKYTALLY_OBJECTS": "s3://bucket", "SKYTALLY_S3_ENDPOINT": f"http://[{SECRET}"},
    "no keys": {"SKYTALLY_KEYS": f"/{SECRET}"},
    "no site data": {"SKYTALLY_CLOUDS": f"/{SECRET}"},
    "site data nowhere": {"SKYTALLY_CLOUDS": f"swift://{SECRET}/{SECRET}"},
    "queues without a name": {"SKYTALLY_PANDA_URL": "http://127.0.0.1:9", "SKYTALLY_PANDA_QUEUES": ","},
    "a DIRAC at half an address": {
        "SKYTALLY_DIRAC_URL": f"http://[{SECRET}",
        "SKYTALLY_DIRAC_TOKEN_FILE": f"/{SECRET}",
    },
}


@pytest.fixture
def calls(client, scheduler, reader, bearer, settled):
    """Call every function with good requests; return their replies by name."""
    reporter, sample = bearer("reporter", vm="vm-1", clouds=("uvic",)), builders.FakeVm("vm-1").sample(settled)

    def call_all():
        token = f"{'c' * 26}.4102444800.{'0' * 64}"
        replies = {
            "secret_deposit": client.post(
                "secret-deposit", json={"vm": "vm-1", "cloud": "uvic", "payload": "eA=="}, headers=scheduler
            ),
            "secret_claim": client.post("secret-claim", data=builders.claim_form(token, builders.public_key())),
            "secret_revoke": client.post(
                "secret-revoke", json={"claim": "c" * 26, "expires": 4_102_444_800}, headers=scheduler
            ),
            "usage_report": client.post("usage-report", json={"samples": [sample]}, headers=reporter),
            "job_heartbeat": client.post("job-heartbeat", json={"vm": "vm-1", "jobs": ["5"]}, headers=reporter),
            "placement_report": client.post("placement-report", json={"vms": [], "jobs": []}, headers=scheduler),
            "statement": client.get(f"statement?month={settled:%Y-%m}", headers=reader),
            "statement as csv": client.get(f"statement?month={settled:%Y-%m}&format=csv", headers=reader),
            "metrics": client.get("dashboard/metrics", headers=reader),
        }
        replies |= {
            view: client.get(f"dashboard/data?view={view}", headers=reader)
            for view in ("usage", "jobs", "secrets", "health")
        }
        return replies | {function.name: client.post(function.service) for function in FUNCTIONS if function.schedule}

    return call_all


@pytest.fixture
def settled(monkeypatch):
    """Let timers be due at every call, and say when it is."""
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    return datetime.now(UTC).replace(microsecond=0)


@pytest.mark.parametrize("settings", BROKEN.values(), ids=BROKEN)
def test_a_broken_setting_is_a_503_that_shows_nothing_of_it(calls, settings, monkeypatch, caplog):
    before = {name: reply.status_code for name, reply in calls().items()}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    wiring.close()
    with caplog.at_level(logging.ERROR, "skytally"):
        replies = calls()
    wiring.close()
    changed = {name: reply for name, reply in replies.items() if reply.status_code != before[name]}
    assert changed
    for name, reply in changed.items():
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable"), (name, reply.text)
        assert reply.headers["Retry-After"]
    for name, reply in replies.items():
        assert SECRET not in reply.text, name


def test_site_data_that_break_while_everything_runs(calls, home, monkeypatch, reader, client):
    path, broken = home / "clouds.toml", '[clouds.uvic]\nowner = "UVic\n'
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(path))
    wiring.close()
    path.write_text(broken)
    without = calls()
    path.write_text(f'[clouds.uvic]\nowner = "{SECRET}"\nprice_per_core_hour = 0.5\ncurrency = "CAD"\n')
    good = calls()
    path.write_text(broken)
    since = calls()
    path.write_text("# what a disk leaves that was full\n")
    empty = calls()
    path.unlink()
    gone = calls()
    path.write_text("[deny]\n")
    mended = calls()
    assert {reply.status_code for name, reply in without.items() if name not in WITHOUT_SITE} == {503}
    for later in (since, empty, gone, mended):
        assert {name: reply.status_code for name, reply in later.items()} == {
            name: reply.status_code for name, reply in good.items()
        }
    for name, reply in (without | since | empty | gone).items():
        assert SECRET not in reply.text, name
        assert str(path) not in reply.text, name
    costs = [[row["cost"] for row in replies["statement"].json()["clouds"]] for replies in (good, since, gone, mended)]
    assert costs[1] != [None]
    assert (costs[1], costs[2], costs[3]) == (costs[0], costs[0], [None])
