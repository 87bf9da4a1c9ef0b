"""Small inputs that broke everything for everybody: each costs itself, on every document store."""

import json

import pytest
from click.testing import CliRunner

from skytally.app import wiring
from skytally.cli import cli
from skytally.core.documents import PlacedVm, Placement
from skytally.deployment.catalog import service_of
from tests.properties.deployment import APEL, DAY, MINUTE, NOW, TIMERS
from tests.support.builders import DOCUMENT_STORES, SEARCH_ENGINES, FakeVm

MONTH = "2026-11"
HOUR_OF_4_CORES = {
    "wall_seconds": 3_600.0,
    "core_seconds": 14_400.0,
    "user_seconds": 6_480.0,
    "system_seconds": 720.0,
    "idle_seconds": 7_200.0,
}
ZEROS = dict.fromkeys(HOUR_OF_4_CORES, 0.0)
SCORES = {
    "kernel": "bar",
    "kernel_version": "1",
    "score_wall": 20.0,
    "score_cpu": 20.0,
    "score_hs23": 20.0,
    "copies": 4,
}
VIEWS = ("usage", "jobs", "secrets", "health")


def sample(vm="bad", boot_id="6c58f80c-9716-4d09-a0ae-2c377f444afb", **fields):
    """Write a sample of a vm of four cores that booted an hour before it."""
    return {
        "vm": vm,
        "boot_id": boot_id,
        "boot_at": "2026-11-28T00:00:00Z",
        "sampled_at": "2026-11-28T01:00:00Z",
        "uptime_seconds": 3_600.0,
        "final": False,
        "month": MONTH,
        "counters": HOUR_OF_4_CORES,
        "month_start": ZEROS,
        "previous": {"sampled_at": "2026-11-28T00:00:00Z", "uptime_seconds": 0.0, "counters": ZEROS},
        "cores": 4,
        "memory_bytes": 2**33,
        "agent_version": "bar",
        "benchmark": SCORES,
        **fields,
    }


def numbered(n):
    """Write a boot_id."""
    return f"00000000-0000-4000-8000-{n:012}"


class Clouds:
    """A site where `evil` sends small inputs, and `good` has a vm that is well."""

    def __init__(self, client, bearer):
        self._client, self._bearer = client, bearer
        assert self.report(sample("good", numbered(1)), cloud="good")["accepted"] == 1

    def report(self, *samples, cloud="evil"):
        answer = self.post("usage-report", {"samples": samples}, "reporter", cloud)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def place(self, body, cloud="evil"):
        answer = self.post("placement-report", body, "scheduler", cloud)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, function, body, role, cloud="evil"):
        return self._client.post(function, json=body, headers=self._bearer(role, clouds=(cloud,), issued=NOW))

    def get(self, path, *clouds):
        """Read something, which must be there."""
        answer = self._client.get(path, headers=self._bearer("reader", clouds=clouds, issued=NOW))
        assert answer.status_code == 200, (path, answer.text)
        return answer

    def cloud(self, name):
        """Return a cloud's row of the statement, or None."""
        return next(iter(self.get(f"statement?month={MONTH}", name).json()["clouds"]), None)

    def seen_by_good(self):
        """Read all that the other cloud sees, after a round of each timer; whoever sees everything must see it, too."""
        for timer in TIMERS:
            assert self._client.post(service_of(timer)).status_code == 200, timer
        paths = [f"dashboard/data?view={view}&window={window}" for view in VIEWS for window in ("day", "month")]
        paths += [
            f"statement?month={MONTH}",
            f"statement?month={MONTH}&detail=boots",
            f"statement?month={MONTH}&detail=jobs",
        ]
        paths += [f"statement?month={MONTH}&format={form}" for form in APEL]
        for path in paths:
            self.get(path)
        return {path: self.get(path, "good").text for path in paths}


@pytest.fixture(autouse=True)
def _now(monkeypatch):
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)


@pytest.fixture
def clouds_on(home, client, bearer, document_settings, monkeypatch):
    """Make a site on a document store, both of whose clouds APEL knows."""
    known = "".join(f'[clouds.{name}]\napel_site = "{name.upper()}"\n' for name in ("good", "evil"))
    (home / "clouds.toml").write_text(known)

    def make(store):
        settings = {"SKYTALLY_TIMER_MIN_SECONDS": "0", "SKYTALLY_CLOUDS": str(home / "clouds.toml")}
        for setting, value in {**document_settings(store), **settings}.items():
            monkeypatch.setenv(setting, value)
        wiring.close()
        return Clouds(client, bearer)

    return make


@pytest.fixture(params=DOCUMENT_STORES)
def clouds(request, clouds_on):
    return clouds_on(request.param)


def kept(kind, index):
    """Return what an index holds."""
    wiring.documents().refresh()
    return [document for _, document in wiring.documents().find(index, kind, {})]


def copies_whole(folder):
    """Copy all documents, as a backup does."""
    command = [
        "copy",
        "--from",
        wiring.config().documents_url,
        "--to",
        f"sqlite:///{folder}/copied.sqlite",
    ]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output or done.exception


@pytest.mark.parametrize(
    "benchmark",
    [
        {"kernel": "k", "score_wall": 10.0, "measured_at": "0001-01-01T00:00:00+14:00"},
        {"kernel": "k", "score_wall": 10.0, "measured_at": "9999-12-31T23:59:59-14:00"},
        SCORES | {"steal_fraction": -0.0003},
        {"score_wall": 10.0},
        "fast",
    ],
    ids=["measured in year 1", "measured in year 9999", "steal ran back", "without its kernel", "no benchmark"],
)
def test_an_odd_benchmark_is_refused_and_its_sample_counts(clouds, tmp_path, benchmark):
    before = clouds.seen_by_good()
    receipt = clouds.report(sample(benchmark=benchmark))
    assert receipt["accepted"] == 1
    assert [(one["index"], one["code"]) for one in receipt["rejected"]] == [(0, "malformed_benchmark")]
    assert clouds.cloud("evil")["core_hours"] == 4.0
    assert clouds.seen_by_good() == before
    copies_whole(tmp_path)


def test_a_bad_sample_leaves_the_good_one_beside_it(clouds):
    bad = sample("vm-1", numbered(2), boot_at="0001-01-01T00:00:00+14:00")
    good = sample("vm-1", numbered(3))
    receipt = clouds.report(bad, good)
    assert (receipt["accepted"], [(one["index"], one["code"]) for one in receipt["rejected"]]) == (
        1,
        [(0, "malformed_time")],
    )
    assert clouds.cloud("evil")["boot_count"] == 1


@pytest.mark.parametrize(
    "times",
    [
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"started_at": "2026-11-29T09:00:00Z", "ended_at": "9999-12-31T23:59:59-14:00"},
    ],
    ids=["year 1", "year 9999"],
)
def test_a_placement_at_the_end_of_time_is_refused_and_nothing_is_kept_of_it(clouds, times):
    before = clouds.seen_by_good()
    job = {"batch_id": "x#1.0#1", "vm": "vm-1", "cloud": "evil", "state": "ended", **times}
    vm = {"vm": "vm-1", "cloud": "evil", **times}
    receipt = clouds.place({"vms": [vm], "jobs": [job]})
    assert [(one["index"], one["code"]) for one in receipt["rejected"]] == [
        (0, "malformed_time"),
        (1, "malformed_time"),
    ]
    assert (kept(PlacedVm, "placed_vm"), kept(Placement, "placement")) == ([], [])
    assert clouds.place({"jobs": [job | {"started_at": "2026-11-29T09:00:00Z", "ended_at": None}]})["accepted"] == 1
    assert clouds.seen_by_good() == before


def test_more_core_time_than_cores_is_refused(clouds):
    before = clouds.seen_by_good()
    absurd = HOUR_OF_4_CORES | {"core_seconds": 4e13, "user_seconds": 3e13}
    receipt = clouds.report(*(sample(f"bad-{n}", numbered(n), counters=absurd) for n in range(10, 311)))
    assert (receipt["accepted"], len(receipt["rejected"])) == (0, 301)
    assert clouds.cloud("evil") is None
    assert clouds.seen_by_good() == before


def test_no_core_time_is_refused_or_left_out_of_apel_by_name(clouds):
    before = clouds.seen_by_good()
    receipt = clouds.report(sample(counters=ZEROS | {"wall_seconds": 3_600.0}))
    assert clouds.seen_by_good() == before
    everything = clouds.get(f"statement?month={MONTH}&format=apel-cloud")
    assert "MachineName: good" in everything.text
    assert receipt["rejected"] or "bad" in everything.headers["X-Skytally-Left-Out"]


@pytest.mark.servers
@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_a_cluster_at_its_shard_limit_is_an_outage_and_refuses_nothing(clouds_on, engine):
    clouds, client = clouds_on(engine), wiring.documents().client
    # Its interval begins in a month that has no index yet.
    body = {"samples": [FakeVm("vm-1", boot_at=NOW - 31 * DAY).sample(NOW - MINUTE)]}
    client.perform("PUT", "/_cluster/settings", body={"persistent": {"cluster.max_shards_per_node": 1}})
    try:
        answer = clouds.post("usage-report", body, "reporter")
    finally:
        client.perform("PUT", "/_cluster/settings", body={"persistent": {"cluster.max_shards_per_node": None}})
    assert (answer.status_code, int(answer.headers.get("retry-after", 0)) > 0) == (503, True), answer.text
    assert clouds.report(*body["samples"])["accepted"] == 1


@pytest.fixture
def site_data(home, monkeypatch):
    """Site data that may be broken while functions go on."""
    path = home / "clouds.toml"
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(path))
    wiring.close()
    return path


BROKEN = '[clouds.uvic]\nowner = "UVic\n'


def test_a_forgotten_quote_goes_on_with_the_last_good_data_and_is_shown(site_data, client, bearer):
    site_data.write_text('[clouds.good]\nprice_per_core_hour = 2.0\ncurrency = "CAD"\n')
    clouds = Clouds(client, bearer)
    site_data.write_text(BROKEN)
    assert clouds.report(sample("good", numbered(2)), cloud="good")["accepted"] == 1
    assert clouds.cloud("good")["cost"] == 16.0
    rows = clouds.get("dashboard/data?view=health").json()["table"]
    assert [
        row for row in rows if row["state"] == "failing" and "clouds.toml" in f"{row['subject']} {row['message']}"
    ], rows
    assert "UVic" not in json.dumps(rows)


def test_a_forgotten_quote_is_an_outage_where_there_were_no_good_data(site_data, client, bearer):
    site_data.write_text(BROKEN)
    answer = client.post(
        "usage-report", json={"samples": [sample()]}, headers=bearer("reporter", clouds=("evil",), issued=NOW)
    )
    assert (answer.status_code, answer.json()["error"]["code"], "UVic" in answer.text) == (503, "unavailable", False)
    assert int(answer.headers["retry-after"]) > 0
