"""Documents that can be read and say what cannot be: every view,
the statement and the metrics answer for the others as before.
"""

import math
import time
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from skytally.accounting import closing, frozen, signature
from skytally.app import wiring
from skytally.core.documents import Alarm, Anomaly, BootBenchmark, Closing, Cursor, Interval, Usage
from skytally.core.ports import Write
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT
from tests.support import builders

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LARGE = 2**52
SITE = """
clouds.good = { price_per_core_hour = 0.5, currency = "CAD" }
clouds.bad = { price_per_core_hour = 1e6, currency = "CAD", watts_per_core = 1e9 }
calibration.kernels = { zbs = 1e9 }
"""


@pytest.fixture(params=builders.DOCUMENT_STORES)
def ask(request, document_settings, client, bearer, home, monkeypatch):
    """Let vms of a cloud report for an hour, and answer how they are asked about, on each store in turn."""
    for setting, value in document_settings(request.param).items():
        monkeypatch.setenv(setting, value)
    (home / "clouds.toml").write_text(SITE)
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    monkeypatch.setenv("SKYTALLY_TIMER_MIN_SECONDS", "0")
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    issued = NOW - timedelta(minutes=1)
    benchmark = {"kernel": "zbs", "score_hs23": 14.5}
    for n in range(1, 4):
        vm = builders.FakeVm(f"vm-{n}", boot_at=NOW - timedelta(hours=2), cores=n)
        samples = [vm.sample(NOW - timedelta(hours=1)), vm.sample(NOW, NOW - timedelta(hours=1), benchmark=benchmark)]
        token = bearer("reporter", clouds=("good",), issued=issued)
        assert client.post("usage-report", json={"samples": samples}, headers=token).json()["accepted"] == 2
    headers = bearer("reader", issued=issued)
    return lambda path, **query: client.get(path, params=query, headers=headers)


def absurd():
    """Make documents of another cloud, each of which its type allows."""
    wiring.documents().refresh()
    (known,) = (usage for _, usage in wiring.documents().find("usage", Usage, {"vm": ["vm-1"]}))
    (interval, *_) = (one for _, one in wiring.documents().find("interval", Interval, {"vm": ["vm-1"]}))
    counts = dict.fromkeys(
        ("wall_ms", "core_ms", "user_ms", "nice_ms", "system_ms", "idle_ms", "steal_ms", "network_sent_bytes"), LARGE
    )
    for number, (boot_at, last_at) in enumerate(
        [
            (EARLIEST_MOMENT, LATEST_MOMENT),
            (LATEST_MOMENT, EARLIEST_MOMENT),
            (NOW, NOW),
            (NOW - timedelta(hours=1), NOW),
        ]
    ):
        label = f"odd-{number}"
        times = {"boot_at": boot_at, "last_sampled_at": last_at}
        odd = {
            "label": label,
            "boot_id": label,
            "vm": label,
            "cloud": "bad",
            "clock_offset_seconds": (-1) ** number * 1e300,
        }
        yield Write(
            "usage",
            f"{label}-2026-11",
            1,
            structs.replace(known, **odd, **times, **counts, cores=65_536, uptime_ms=LARGE),
        )
        span = {"from_at": NOW - timedelta(minutes=30), "until_at": NOW - timedelta(minutes=30 - number)}
        where = {name: odd[name] for name in ("label", "vm", "cloud")}
        yield Write("interval", f"{label}-{number}", 1, structs.replace(interval, **where, **span, **counts))
        blank = dict.fromkeys(BootBenchmark.__struct_fields__)
        score = {"boot_id": label, "cloud": "bad", "kernel": "zbs", "score_wall": (1e6, 1e-300, 5e-324, 1e6)[number]}
        yield Write("benchmark", label, 1, BootBenchmark(**blank | score))
    yield Write(
        "anomaly",
        "x",
        1,
        Anomaly(label="x", vm="x", cloud="bad", month="2026-11", at=NOW, uptime_ms=0, known_uptime_ms=LARGE),
    )
    for number, text in enumerate(["", "[" * 10_000, "{}", '"\\ud800"']):
        closing = Closing(
            month="2026-11", cloud="bad", revision=number + 1, closed_at=NOW, text=text, signature="", public_key=""
        )
        yield Write("closing", f"2026-11/000{number + 1}/bad", 0, closing)
    yield Write("cursor", "odd", 1, Cursor(stands_at=EARLIEST_MOMENT, asked_at=LATEST_MOMENT, error="x" * 10_000))
    times = {"raised_at": EARLIEST_MOMENT, "seen_at": LATEST_MOMENT, "resolved_at": None}
    alarm = Alarm(
        kind="no kind", subject="\u202e", cloud="bad", message="x" * 10_000, state="raised", told="raised", **times
    )
    yield Write("alarm", "no kind:odd", 1, alarm)


QUERIES = {
    "usage": {},
    "vms": {"by": "vm"},
    "intervals": {"by": "interval", "vm": "vm-1"},
    "the widest": {"from": "2000-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z", "by": "vm"},
    "jobs": {"view": "jobs"},
    "secrets": {"view": "secrets"},
}


def told(ask):
    """Ask for everything; answer the good cloud's part of it, and all numbers."""
    rows = {name: ask("dashboard/data", **query).json() for name, query in QUERIES.items()}
    statement = ask("statement", month="2026-11", detail="boots").json()
    rows |= {"statement": {"table": statement["clouds"]}, "boots": {"table": statement["boots"], "series": []}}
    good = {
        name: [one for part in ("table", "series") for one in answer.get(part, []) if one.get("cloud") == "good"]
        for name, answer in rows.items()
    }
    csv = ask("statement", month="2026-11", format="csv").text
    return good | {"csv": [line for line in csv.splitlines() if line.startswith("2026-11,good")]}, [
        *rows.values(),
        statement,
    ]


def numbers(value):
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, int | float) else []


def test_what_one_cloud_says_makes_no_number_of_another_wrong(ask):
    before, _ = told(ask)
    assert all(before[name] for name in ("usage", "vms", "intervals", "the widest", "statement", "boots", "csv"))
    assert wiring.documents().write(list(absurd())).result()
    after, whole = told(ask)
    assert after == before
    assert all(map(math.isfinite, numbers(whole)))
    totals = ask("dashboard/data").json()["totals"]
    assert None not in {totals[name] for name in ("core_hours", "cpu_hours", "efficiency", "hs23_hours", "coverage")}
    (bad,) = (row for row in ask("statement", month="2026-11").json()["clouds"] if row["cloud"] == "bad")
    assert None not in {bad[name] for name in ("core_hours", "efficiency", "energy_kwh", "cost")}
    assert bad["hs23_hours"] is None, "no core is worth what its scores say"


def test_timers_health_and_metrics_go_on(ask, client, round_at):
    assert wiring.documents().write(list(absurd())).result()
    assert round_at(NOW)["state"] == "done"
    assert round_at(NOW + timedelta(minutes=5))["state"] == "done"
    rows = ask("dashboard/data", view="health").json()["table"]
    assert not [row for row in rows if row["kind"] == "failed_check"]
    assert ask("dashboard/metrics").status_code == 200


def test_what_was_closed_of_absurd_documents_can_be_read_and_is_not_closed_again(ask):
    assert wiring.documents().write(list(absurd())).result()
    key, after = signature.new_key(), NOW + timedelta(days=10)

    def close():
        return closing.close(
            "2026-11", ["bad"], wiring.documents(), wiring.site(), lambda text: signature.sign(text, key), after
        )

    (made,) = close()
    assert (made.revision, frozen.read(made.text).cloud) == (5, "bad"), "four that cannot be read keep their numbers"
    assert close() == []


def test_a_closing_that_cannot_be_read_is_noted_and_hides_no_cloud(ask, client, reader, at):
    wiring.documents().write(list(absurd())).result()
    rows = {row["cloud"]: row["state"] for row in ask("statement", month="2026-11").json()["clouds"]}
    assert rows == {"bad": "provisional", "good": "provisional"}
    at(datetime.now(UTC))
    shown, deadline = [], time.monotonic() + 10
    # Whoever notes something waits for no store.
    while shown != [("document of closing", "4")] and time.monotonic() < deadline:
        rows = client.get("dashboard/data?view=health", headers=reader).json()["table"]
        shown = [(row["subject"], row["message"].partition(" ")[0]) for row in rows if row["kind"] == "unreadable"]
    assert shown == [("document of closing", "4")]
