"""Queries: whatever stands in a field of one, it is answered or refused as the caller's, and at once."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.app import wiring
from skytally.dashboard.time_range import NAMES
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EDGES = [
    "2000-01-01T00:00:00Z",
    "2100-01-01T00:00:00Z",
    "9998-12-31T00:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "0001-01-01T00:00:00+14:00",
]
WORDS = [
    "",
    "usage",
    "jobs",
    "secrets",
    "health",
    "hour",
    "month",
    "this_month",
    "distribution",
    "efficiency",
    "job",
    "interval",
    "boots",
    "signed",
    "csv",
    "apel-cloud",
    "vm-1",
    "uvic",
    "vm-up",
]
NUMBERS = [
    "0",
    "1",
    "-1",
    "9" * 9,
    "9" * 10,
    "9" * 5_000,
    "1e3",
    "٣",
    "0x1",
    " 1",
    "1_0",
    "2026-11",
    "2099-12",
    "2000-01",
    "2026-13",
    "20٢6-11",
]
DATA = (
    "view",
    "by",
    "window",
    "from",
    "until",
    "cloud",
    "site",
    "group",
    "vm",
    "queue",
    "error",
    "status",
    "task",
    "of",
    "sort",
    "limit",
    "offset",
    "part",
    "format",
)
STATEMENT = ("month", "cloud", "detail", "format", "revision", "part")
texts = st.sampled_from([*EDGES, *WORDS, *NUMBERS]) | st.text(max_size=20)


@pytest.fixture(params=builders.DOCUMENT_STORES)
def ask(request, document_settings, client, bearer, monkeypatch):
    """Let two vms report, and answer how they are asked about, on each store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    issued = NOW - timedelta(minutes=1)
    for n in range(1, 3):
        vm = builders.FakeVm(f"vm-{n}", boot_at=NOW - timedelta(hours=2))
        token = bearer("reporter", clouds=("uvic",), issued=issued)
        assert client.post("usage-report", json={"samples": [vm.sample(NOW)]}, headers=token).json()["accepted"] == 1
    headers = bearer("reader", issued=issued)
    return lambda path, **query: client.get(path, params=query, headers=headers)


@pytest.mark.parametrize(
    ("path", "names", "needed"), [("dashboard/data", DATA, {}), ("statement", STATEMENT, {"month": "2026-11"})]
)
def test_whatever_is_asked_is_answered_or_refused_as_the_callers(ask, path, names, needed):
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.dictionaries(st.sampled_from(names), texts, max_size=4))
    def asked(query):
        answer = ask(path, **needed | query)
        assert answer.status_code in {200, 400, 404, 409}, (query, answer.text)

    asked()


def test_the_widest_windows_are_answered_at_once(ask):
    for view in ("usage", "jobs", "secrets"):
        began = time.monotonic()
        answer = ask("dashboard/data", view=view, **{"from": EDGES[0], "until": EDGES[1]})
        assert (answer.status_code, time.monotonic() - began < 5) == (200, True)
        assert len(answer.json()["series"]) < 1_400
    for window in NAMES:
        for until in EDGES[:2]:
            assert ask("dashboard/data", window=window, until=until).status_code == 200


@pytest.mark.parametrize("query", [{}, {"by": "vm"}, {"by": "interval", "vm": "vm-1"}, {"view": "health"}], ids=str)
def test_every_column_is_an_order(ask, query):
    rows = ask("dashboard/data", **query).json()["table"]
    assert rows
    for column in rows[0]:
        for way in ("up", "down"):
            ordered = ask("dashboard/data", sort=f"{column}-{way}", **query).json()["table"]
            assert sorted(map(str, ordered)) == sorted(map(str, rows))
