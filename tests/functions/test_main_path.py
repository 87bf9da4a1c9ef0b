"""The straight path through the functions: deposit, claim, report, statement."""

import base64
from datetime import UTC, datetime, timedelta

import pytest

from skytally.core.months import month_start_at
from skytally.secrets import envelope
from tests.support import builders


def test_a_vm_takes_its_secret_reports_and_is_on_the_statement(client, scheduler, reader):
    deposit = client.post(
        "secret-deposit",
        json={"vm": "vm-1", "cloud": "uvic", "payload": base64.b64encode(b"hello").decode()},
        headers=scheduler,
    )
    assert deposit.status_code == 201
    answer = deposit.json()
    form = builders.claim_form(answer["token"], builders.public_key())
    bundle = client.post("secret-claim", data=form)
    assert bundle.status_code == 200, bundle.text
    claim, expires, secret = answer["token"].split(".")
    payload, reporter = envelope.open_bundle(bundle.content, secret.encode(), builders.SHARED_KEY, claim, int(expires))
    assert payload == b"hello"
    assert client.post("secret-claim", data=form).json()["error"]["code"] == "taken"

    now = datetime.now(UTC).replace(microsecond=0)
    vm = builders.FakeVm("vm-1", boot_at=now - timedelta(minutes=30))
    receipt = client.post(
        "usage-report", json={"samples": [vm.sample(now)]}, headers={"Authorization": f"Bearer {reporter}"}
    )
    assert receipt.json() | {"server_time": None} == {"accepted": 1, "stale": 0, "rejected": [], "server_time": None}

    month = f"{now:%Y-%m}"
    statement = client.get("statement", params={"month": month, "detail": "boots"}, headers=reader).json()
    # Of a boot that began in the month before, only this month's part counts.
    hours = (now - max(vm.boot_at, month_start_at(month))) / timedelta(hours=1)
    expected = [pytest.approx(part * hours, abs=1e-6) for part in (1, 8, 4)]
    assert [
        (c["cloud"], c["wall_hours"], c["core_hours"], c["cpu_hours"], c["coverage"]) for c in statement["clouds"]
    ] == [("uvic", *expected, 1.0)]
    assert statement["boots"][0]["document"] == f"vm-1-{vm.boot_at:%Y%m%dT%H%M%SZ}-{month}"
