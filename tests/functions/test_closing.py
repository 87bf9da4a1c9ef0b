"""Closing a month: what was signed is what is shown for ever,
and what comes later is a new revision that says what it changes.
"""

import csv
import io
import json
import re
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec import structs

from skytally.accounting import closing, signature
from skytally.accounting.definitions import DEFINITIONS
from skytally.app import wiring
from skytally.cli import cli
from skytally.core.documents import Anomaly, Closing, PlacedVm, Usage
from skytally.core.errors import Changed, Conflict, Malformed, NotFound
from skytally.core.ports import Write
from skytally.operation import retention
from tests.support import builders

EDGE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
SITE = "[clouds.uvic]\napel_site = 'CA-VICTORIA'\nprice_per_core_hour = {price}\ncurrency = 'CAD'\n"
RECORDED = json.loads((Path(__file__).parent.parent / "recorded" / "statement_format_1.json").read_text())


class Month:
    """October, a vm that is late, and everything that may be done with them."""

    def __init__(self, client, bearer, home, monkeypatch):
        self.client, self.bearer, self.home, self._monkeypatch = client, bearer, home, monkeypatch
        self.now(NOW)
        self.late = builders.FakeVm("vm-late", boot_at=EDGE - timedelta(hours=5), cores=2)

    def now(self, at):
        self._monkeypatch.setattr("skytally.core.clock.now", lambda: at)

    def price(self, price):
        (self.home / "clouds.toml").write_text(SITE.format(price=price))
        wiring.close()

    def report(self, vm, cloud="uvic", **more):
        body = {"samples": [vm.sample(EDGE, month="2026-10", month_start=builders.counters(0, vm.cores), **more)]}
        answer = self.client.post(
            "usage-report", json=body, headers=self.bearer("reporter", clouds=(cloud,), issued=NOW)
        )
        assert answer.json()["accepted"] == 1, answer.text

    def get(self, clouds=(), **query):
        headers = self.bearer("reader", issued=NOW, clouds=clouds)
        return self.client.get("statement", params={"month": "2026-10", **query}, headers=headers)

    def rows(self, **query):
        return {row["cloud"]: row for row in self.get(**query).json()["clouds"]}

    def run(self, *words):
        return CliRunner().invoke(cli, ["statement", *map(str, words)])

    def close(self, *words):
        done = self.run("close", "--month", "2026-10", "--json", *words)
        assert done.exit_code == 0, done.output
        return (
            {row["cloud"]: row for row in json.loads(done.stdout or "[]")}
            if "nothing is new" not in done.output
            else {}
        )


@pytest.fixture
def stated(home, monkeypatch, client, bearer):
    """A month without a report, and everything that may be done with it."""
    (home / "clouds.toml").write_text(SITE.format(price=0.5))
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()
    stated = Month(client, bearer, home, monkeypatch)
    stated.run("keygen")
    return stated


@pytest.fixture(params=builders.DOCUMENT_STORES)
def month(request, home, document_settings, monkeypatch, client, bearer):
    for setting, value in ({"SKYTALLY_CLOUDS": str(home / "clouds.toml")} | document_settings(request.param)).items():
        monkeypatch.setenv(setting, value)
    (home / "clouds.toml").write_text(SITE.format(price=0.5))
    wiring.close()
    month = Month(client, bearer, home, monkeypatch)
    for cloud, hours in (("uvic", 20), ("cern", 10)):
        month.report(builders.FakeVm("vm-1", boot_at=EDGE - timedelta(hours=hours)), cloud)
    (home / "statement.pub").write_text(month.run("keygen").stdout)
    return month


def test_a_month_is_closed_once_it_is_over_and_what_is_not_new_is_not_signed_again(month):
    month.now(EDGE - timedelta(seconds=1))
    early = month.run("close", "--month", "2026-10")
    assert isinstance(early.exception, Conflict)
    assert "from 2026-11-01T00:00:00Z on" in early.exception.message
    month.now(NOW)
    before = month.get(detail="boots").json()
    assert (before["state"], before["revision"], before["clouds"][0]["unsettled_vms"]) == ("provisional", 0, None)
    dry = month.run("close", "--month", "2026-10", "--dry-run", "--json")
    assert [row["revision"] for row in json.loads(dry.stdout)] == [1, 1]
    assert month.get().json()["state"] == "provisional"
    assert {cloud: row["revision"] for cloud, row in month.close("--cloud", "uvic").items()} == {"uvic": 1}
    assert (month.get().json()["state"], month.get(cloud="uvic").json()["state"]) == ("provisional", "final")
    assert set(month.close()) == {"cern"}
    after = month.get(detail="boots").json()
    assert (after["state"], after["revision"]) == ("final", 1)
    assert after["boots"] == before["boots"]
    settled = {
        "state": "final",
        "revision": 1,
        "unsettled_core_hours": 0.0,
        "unsettled_hs23_hours": None,
        "unsettled_vms": 0,
    }
    priced = {"uvic": {"unsettled_cost": 0.0}}
    assert after["clouds"] == [row | settled | priced.get(row["cloud"], {}) for row in before["clouds"]]
    assert month.close() == {}


def test_what_comes_late_is_shown_as_not_settled_until_a_new_revision_has_it(month):
    month.close()
    first = month.get(detail="boots", cloud="uvic").json()
    month.report(month.late)
    row = month.rows()["uvic"]
    assert (row["core_hours"], row["unsettled_core_hours"], row["unsettled_vms"]) == (160.0, 10.0, 1)
    assert month.get(detail="boots", cloud="uvic").json()["boots"] == first["boots"]
    (made,) = month.close().values()
    assert (made["cloud"], made["revision"], made["restated"]) == (
        "uvic",
        2,
        "core hours +6.2 %, cost +6.2 %, 1 vm",
    )
    rows = month.rows()
    assert (rows["uvic"]["core_hours"], rows["uvic"]["revision"], rows["uvic"]["unsettled_core_hours"]) == (
        170.0,
        2,
        0.0,
    )
    assert rows["cern"]["revision"] == 1
    signed = json.loads(month.get(detail="signed", cloud="uvic").json()["statement"])
    before = signed["changes"]["before"]
    assert before | {"cpu_hours": None} == {"wall_hours": 20.0, "core_hours": 160.0, "cpu_hours": None, "cost": 80.0}
    assert signed["changes"] | {"cpu_hours": None} == {
        "wall_hours": 5.0,
        "core_hours": 10.0,
        "cpu_hours": None,
        "hs23_hours": None,
        "energy_kwh": None,
        "co2_kg": None,
        "cost": 5.0,
        "core_hours_share": 0.0625,
        "vm_count": 1,
        "before": before,
    }
    assert month.rows(revision=1)["uvic"]["core_hours"] == 160.0
    assert month.get(detail="boots", cloud="uvic", revision=1).json()["boots"] == first["boots"]
    assert month.get(cloud="uvic", revision=3).json()["error"]["code"] == "unknown"


def signed_text(month, **query):
    return json.loads(month.get(detail="signed", cloud="uvic", **query).json()["statement"])


def test_a_signed_statement_says_whose_it_is_what_it_rests_on_and_what_its_numbers_mean(month):
    site = (
        "[operator]\ncontact = 'help@example.org'\n[clouds.uvic]\nowner = 'University of "
        "Victoria'\nprice_per_core_hour = 0.011\n"
    )
    site += "currency = 'CAD'\nwatts_per_core = 7.5\npue = 1.2\n"
    site += "[calibration]\nkernels = { zbs = 1.5, other = 2.0 }\ncpu_models = { fast = 20.0, rare = 30.0 }\n"
    (month.home / "clouds.toml").write_text(site)
    wiring.close()
    benchmark = {"kernel": "zbs", "kernel_version": "1", "score_wall": 10.0, "score_cpu": 10.0, "copies": 8}
    for name, more in (
        ("by-kernel", {}),
        ("by-model", {"kernel": "other", "cpu_model": "fast"}),
        ("by-itself", {"score_hs23": 12.0}),
    ):
        month.report(builders.FakeVm(name, boot_at=EDGE - timedelta(hours=1)), benchmark=benchmark | more)
    month.close()
    signed = signed_text(month)
    assert (signed["format"], signed["from"], signed["until"]) == (
        "skytally statement 2",
        "2026-10-01T00:00:00Z",
        "2026-11-01T00:00:00Z",
    )
    assert (signed["owner"], signed["contact"]) == ("University of Victoria", "help@example.org")
    rates = {
        "price_per_core_hour": 0.011,
        "currency": "CAD",
        "watts_per_core": 7.5,
        "pue": 1.2,
        "co2_grams_per_kwh": None,
    }
    assert signed["rates"] == rates
    assert signed["calibration"] == {"kernels": {"zbs": 1.5}, "cpu_models": {"fast": 20.0}}
    assert signed["definitions"] == DEFINITIONS
    assert signed["definitions"]["totals"].keys() == signed["totals"].keys()
    assert signed["definitions"]["boots"].keys() == signed["boots"][0].keys()
    month.report(month.late)
    month.close()
    changes = signed_text(month)["changes"]
    assert (
        signed["definitions"]["changes"].keys()
        <= changes.keys()
        <= DEFINITIONS["totals"].keys() | DEFINITIONS["changes"].keys()
    )


def test_hs23_hours_that_are_of_a_part_say_so_everywhere(month, tmp_path):
    (month.home / "clouds.toml").write_text(SITE.format(price=0.5) + "[calibration]\nkernels = { zbs = 1.5 }\n")
    wiring.close()
    benchmark = {"kernel": "zbs", "kernel_version": "1", "score_wall": 10.0, "score_cpu": 10.0, "copies": 8}
    month.report(builders.FakeVm("scored", boot_at=EDGE - timedelta(hours=4)), benchmark=benchmark)
    month.report(builders.FakeVm("scored", boot_at=EDGE - timedelta(hours=4)), "whole", benchmark=benchmark)
    names = ("hs23_hours", "scored_core_hours", "hs23_complete")
    shown = {cloud: tuple(row[name] for name in names) for cloud, row in month.rows().items()}
    assert shown == {"uvic": (480.0, 32.0, False), "whole": (480.0, 32.0, True), "cern": (None, 0.0, None)}
    told = {row["cloud"]: row for row in csv.DictReader(io.StringIO(month.get(format="csv").text))}
    assert {cloud: tuple(row[name] for name in names) for cloud, row in told.items()} == {
        "uvic": ("480.0", "32.0", "False"),
        "whole": ("480.0", "32.0", "True"),
        "cern": ("", "0.0", ""),
    }
    for words in (("close", "--month", "2026-10", "--dry-run"), ("close", "--month", "2026-10")):
        said = month.run(*words).stdout
        assert (said.count("480.000"), said.count("≥ 480.000"), "True" in said) == (2, 1, False), said
    for cloud, bound in (("uvic", True), ("whole", False)):
        (tmp_path / "signed.json").write_text(month.get(detail="signed", cloud=cloud).text)
        said = month.run("verify", tmp_path / "signed.json").stdout
        assert ("480.000" in said, "≥ 480.000" in said) == (True, bound)
        assert json.loads(month.run("verify", tmp_path / "signed.json", "--json").stdout)["hs23_complete"] is not bound


def test_a_statement_of_format_1_is_read_verified_and_not_closed_again(stated, client, bearer, home, monkeypatch):
    """The statement and its samples were recorded with the version that wrote format 1."""
    (home / "clouds.toml").write_text(RECORDED["site"])
    wiring.close()
    headers = bearer("reporter", clouds=("uvic",), issued=NOW)
    assert client.post("usage-report", json={"samples": RECORDED["samples"]}, headers=headers).json()["accepted"] == 3
    signed = RECORDED["signed"]
    fields = {"text": signed["statement"], "signature": signed["signature"], "public_key": signed["public_key"]}
    old = Closing(month="2026-10", cloud="uvic", revision=1, closed_at=NOW, **fields)
    wiring.documents().write([Write("closing", closing.key_of(old), 0, old, create=True)]).result()
    assert stated.close() == {}
    assert stated.get(detail="signed", cloud="uvic").json() == signed
    stated.report(builders.FakeVm("vm-1", boot_at=EDGE - timedelta(hours=1)), "open")
    for detail, count in ((None, 2), ("boots", 4)):
        lines = list(
            csv.DictReader(io.StringIO(stated.get(format="csv", **({"detail": detail} if detail else {})).text))
        )
        assert (len(lines), {None} & {key for line in lines for key in line}) == (count, set())
    row = stated.rows()["uvic"]
    assert (row["core_hours"], row["cost"], row["hs23_complete"], row["unsettled_core_hours"]) == (
        230.670833,
        2.7,
        False,
        0.0,
    )
    (home / "signed.json").write_text(json.dumps(signed))
    said = stated.run("verify", home / "signed.json").stdout
    assert "≥ 2,353.777" in said
    late = builders.FakeVm("vm-late", boot_at=EDGE - timedelta(seconds=1_001), cores=1)
    stated.report(late)
    assert stated.close()["uvic"]["revision"] == 2
    assert (
        json.loads(stated.get(detail="signed", cloud="uvic").json()["statement"])["changes"]["core_hours"] == 0.278056
    )
    assert round(stated.rows()["uvic"]["core_hours"] - row["core_hours"], 6) == 0.278056


def test_numbers_have_at_most_six_decimals_and_money_those_of_its_currency(month):
    month.report(builders.FakeVm("thirds", boot_at=EDGE - timedelta(seconds=19_201), cores=7))
    for currency, cost, written in (("JPY", 1.0, "1"), ("KWD", 1.464, "1.464"), ("CAD", 1.46, "1.46")):
        (month.home / "clouds.toml").write_text(
            f"[clouds.uvic]\nprice_per_core_hour = 0.00742\ncurrency = '{currency}'\n"
        )
        wiring.close()
        row = month.rows(cloud="uvic")["uvic"]
        assert (row["cost"], row["core_hours"]) == (cost, 197.335278)
        (line,) = csv.DictReader(io.StringIO(month.get(cloud="uvic", format="csv").text))
        assert (line["cost"], line["core_hours"], line["currency"]) == (written, "197.335278", currency)
    month.close()
    texts = [month.get(format=form, **more).text for form in ("json", "csv") for more in ({}, {"detail": "boots"})]
    texts += [
        month.get(detail="signed", cloud="uvic").json()["statement"],
        month.run("close", "--month", "2026-10", "--dry-run").output,
    ]
    assert [re.findall(r"\d\.\d{7,}", text) for text in texts] == [[]] * 6


@pytest.mark.parametrize("part", ["clouds", "boots"])
def test_a_file_of_a_month_without_vms_has_its_header(stated, part):
    detail = {} if part == "clouds" else {"detail": part}
    empty = stated.get(format="csv", **detail).text
    stated.report(stated.late)
    head, row = stated.get(format="csv", **detail).text.splitlines()
    assert (empty, row.partition(",")[0]) == (f"{head}\r\n", "2026-10")
    assert tuple(stated.get(**detail).json()[part][0]) == closing.COLUMNS[part]


def test_a_cloud_that_nobody_knows_cannot_be_closed(month):
    unknown = month.run("close", "--month", "2026-10", "--cloud", "uvci").exception
    assert isinstance(unknown, NotFound)
    assert unknown.message == "there is no cloud 'uvci': known are cern, uvic"


def test_apel_is_told_what_was_signed(month):
    month.close()
    month.report(month.late)
    names = [
        line
        for line in month.get(cloud="uvic", format="apel-cloud").text.splitlines()
        if line.startswith("MachineName")
    ]
    assert names == ["MachineName: vm-1"]
    first = month.get(format="apel-cloud-summary").text
    assert re.findall(r"WallDuration: (\d+)", first) == [str(20 * 3_600)]
    month.close()
    assert re.findall(r"WallDuration: (\d+)", month.get(format="apel-cloud-summary").text) == [
        str(5 * 3_600),
        str(20 * 3_600),
    ]
    again = month.get(format="apel-cloud-summary", revision=1).text
    assert again.startswith(first)
    assert re.findall(r"WallDuration: (\d+)", again) == [str(20 * 3_600), "0"]


def test_another_price_is_another_revision_and_both_are_kept(month):
    month.close()
    month.price(0.75)
    row = month.rows()["uvic"]
    assert (row["cost"], row["unsettled_cost"], row["unsettled_core_hours"], row["unsettled_vms"]) == (
        80.0,
        40.0,
        0.0,
        0,
    )
    assert row["unsettled"] == "cost +50.0 %, 0 vms"
    (line,) = csv.DictReader(io.StringIO(month.get(cloud="uvic", format="csv").text))
    assert (line["unsettled_cost"], line["unsettled"]) == ("40.00", "cost +50.0 %, 0 vms")
    assert month.close()["uvic"]["restated"] == "cost +50.0 %, 0 vms"
    assert (month.rows()["uvic"]["cost"], month.rows(revision=1)["uvic"]["cost"]) == (120.0, 80.0)


def test_another_calibration_is_named_with_its_hs23_hours(stated):
    calibrated = SITE.format(price=0.5) + "[calibration]\nkernels = {{ zbs = {factor} }}\n"
    (stated.home / "clouds.toml").write_text(calibrated.format(factor=1.5))
    wiring.close()
    benchmark = {"kernel": "zbs", "kernel_version": "1", "score_wall": 10.0, "score_cpu": 10.0, "copies": 8}
    stated.report(builders.FakeVm("scored", boot_at=EDGE - timedelta(hours=4)), benchmark=benchmark)
    stated.close()
    (stated.home / "clouds.toml").write_text(calibrated.format(factor=1.65))
    wiring.close()
    row = stated.rows()["uvic"]
    assert (row["hs23_hours"], row["unsettled_hs23_hours"], row["unsettled"]) == (
        480.0,
        48.0,
        "HS23 hours +10.0 %, 1 vm",
    )
    assert stated.close()["uvic"]["restated"] == "HS23 hours +10.0 %, 1 vm"
    stated.price(0.5)
    assert stated.rows()["uvic"]["unsettled"] == "HS23 hours no longer known, 1 vm"
    assert stated.close()["uvic"]["restated"] == "HS23 hours no longer known, 1 vm"


def test_another_currency_is_another_revision_and_another_owner_is_none(month):
    month.close()
    (month.home / "clouds.toml").write_text(SITE.format(price=0.5) + "owner = 'somebody else'\n")
    wiring.close()
    assert month.close() == {}
    (month.home / "clouds.toml").write_text(SITE.format(price=70).replace("CAD", "JPY"))
    wiring.close()
    row = month.rows()["uvic"]
    assert (row["cost"], row["currency"], row["unsettled_cost"]) == (80.0, "CAD", None)
    assert row["unsettled"] == "currency changed from CAD to JPY, 0 vms"
    assert month.close()["uvic"]["restated"] == "currency changed from CAD to JPY, 0 vms"
    changes = signed_text(month)["changes"]
    assert (changes["cost"], changes["before"]) == (None, {"cost": 80.0, "currency": "CAD"})


def test_a_first_price_and_a_price_that_is_gone_are_named(month):
    month.close()
    (month.home / "clouds.toml").write_text(
        SITE.format(price=0.5) + "[clouds.cern]\nprice_per_core_hour = 1\ncurrency = 'CHF'\n"
    )
    wiring.close()
    assert month.close()["cern"]["restated"] == "cost not known before, currency changed from unknown to CHF, 0 vms"
    month.price(0.5)
    assert month.close()["cern"]["restated"] == "cost no longer known, currency changed from CHF to unknown, 0 vms"


def test_the_rule_of_rounding_makes_no_new_revision_of_what_was_signed_by_another(month):
    """80 core hours at 0.03125 are 2.5 of a currency without parts:
    2 where halves went to the even, 3 by today's rule.
    """
    (month.home / "clouds.toml").write_text("[clouds.cern]\nprice_per_core_hour = 0.03125\ncurrency = 'JPY'\n")
    wiring.close()
    assert month.rows()["cern"]["cost"] == 3.0
    month.close("--cloud", "cern")
    documents = wiring.documents()
    documents.refresh()
    ((_, made),) = documents.find("closing", Closing, {})
    even = structs.replace(
        made, revision=2, text=made.text.replace('"cost": 3.0', '"cost": 2.0').replace('"revision": 1', '"revision": 2')
    )
    assert even.text != made.text
    documents.write([Write("closing", closing.key_of(even), 0, even, create=True)]).result()
    row = month.rows()["cern"]
    assert (row["revision"], row["cost"], row["unsettled_cost"], row["unsettled"]) == (2, 2.0, 0.0, None)
    assert month.close("--cloud", "cern") == {}
    month.report(month.late, "cern")
    (restated,) = month.close("--cloud", "cern").values()
    assert (restated["revision"], restated["cost"]) == (3, 3.0)


def test_that_details_were_forgotten_is_no_news(month):
    uptime_went_back()
    month.close()
    row = month.rows()["uvic"]
    assert (row["anomalies"], row["coverage"]) == (1, 0.8)
    forgotten = retention.forget(wiring.documents(), 1, NOW + timedelta(days=800))
    assert (forgotten["interval"], forgotten["anomaly"]) == (2, 1)
    assert month.close() == {}
    assert month.rows()["uvic"] == row


def uptime_went_back():
    """Let the month document of one vm hold 16 of its 20 hours, the rest of which an anomaly alone has seen."""
    documents = wiring.documents()
    documents.refresh()
    ((key, usage),) = documents.find("usage", Usage, {"cloud": ["uvic"]})
    hour_ms, edge_at = 3_600_000, EDGE - timedelta(hours=4)
    short = structs.replace(usage, last_sampled_at=edge_at, wall_ms=16 * hour_ms)
    gone = {name: getattr(usage, name) for name in ("label", "vm", "cloud", "month")}
    anomaly = Anomaly(**gone, at=EDGE, uptime_ms=4 * hour_ms, known_uptime_ms=usage.uptime_ms)
    writes = [Write("usage", key, usage.uptime_ms, short), Write("anomaly", key, 1, anomaly)]
    documents.write(writes).result()
    documents.refresh()


def test_of_many_who_close_at_once_one_does(month):
    month.report(month.late)
    documents, site = wiring.documents(), wiring.site()
    key = signature.new_key()

    def close(_):
        try:
            return closing.close("2026-10", (), documents, site, lambda text: signature.sign(text, key), NOW)
        except Conflict:
            return []

    with ThreadPoolExecutor(8) as threads:
        made = [one for several in threads.map(close, range(8)) for one in several]
    documents.refresh()
    kept = closing.closings("2026-10", (), documents)
    assert {cloud: [one.revision for one in revisions] for cloud, revisions in kept.items()} == {
        "cern": [1],
        "uvic": [1],
    }
    for revisions in kept.values():
        signature.verify(revisions[0].text, revisions[0].signature, revisions[0].public_key)
    assert len(made) <= 2


def test_anybody_can_check_what_was_signed(month, tmp_path):
    month.close()
    answer = month.get(detail="signed", cloud="uvic")
    file, public = tmp_path / "uvic.json", month.home / "statement.pub"
    file.write_text(answer.text)
    good = month.run("verify", file, "--key", public, "--unpack", tmp_path)
    assert (good.exit_code, "uvic" in good.stdout, "160.000" in good.stdout) == (0, True, True)
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin"]
    check += ["-in", tmp_path / "statement.json", "-sigfile", tmp_path / "statement.sig"]
    assert b"Verified Successfully" in subprocess.run(check, check=True, capture_output=True).stdout
    assert "not whose key" in month.run("verify", file).stderr
    told = answer.json()
    for spoilt in (
        told | {"statement": told["statement"].replace("160.0", "161.0")},
        told | {"signature": told["signature"][::-1]},
        told | {"signature": month.get(detail="signed", cloud="cern").json()["signature"]},
    ):
        file.write_text(json.dumps(spoilt))
        assert isinstance(month.run("verify", file, "--key", public).exception, Changed)
    file.write_text(answer.text)
    other = tmp_path / "other.pub"
    other.write_text(month.run("keygen", "--key", tmp_path / "other.pem").stdout)
    assert isinstance(month.run("verify", file, "--key", other).exception, Changed)


def test_a_cloud_owner_gets_his_own_signed_statement_and_nobody_else_s(month):
    month.close("--cloud", "uvic")
    assert month.get(clouds=("uvic",), detail="signed", cloud="uvic").status_code == 200
    assert month.get(clouds=("cern",), detail="signed", cloud="uvic").json()["error"]["code"] == "not_yours"
    assert month.get(detail="signed", cloud="cern").json()["error"]["code"] == "unknown"
    for wrong in ({"detail": "signed"}, {"detail": "jobs", "revision": 1}, {"cloud": "uvic", "revision": 0}):
        assert month.get(**wrong).status_code == 400, wrong
    for wrong in ("0", "10000", "1.5", "newest", ""):
        error = month.get(cloud="uvic", revision=wrong).json()["error"]
        assert (error["field"], error["message"]) == ("revision", "revision must be a whole number from 1 to 9999")
    assert set(month.rows(clouds=("cern",))) == {"cern"}


def test_three_views_of_a_month_stand_side_by_side(month, tmp_path):
    at = {"started_at": EDGE - timedelta(hours=22), "ended_at": EDGE + timedelta(hours=3), "reported_at": NOW}
    lives = [
        PlacedVm(vm="vm-1", cloud="uvic", site=None, flavor=None, cores=8, state="gone", joined=True, **at),
        PlacedVm(vm="vm-1", cloud="cern", site=None, flavor=None, cores=None, state="gone", joined=True, **at),
        PlacedVm(
            vm="lost",
            cloud="silent",
            site=None,
            flavor=None,
            cores=2,
            state="up",
            joined=True,
            **at | {"ended_at": None},
        ),
        PlacedVm(
            vm="new",
            cloud="uvic",
            site=None,
            flavor=None,
            cores=8,
            state="up",
            joined=True,
            **at | {"started_at": EDGE},
        ),
    ]
    wiring.documents().write([Write("placed_vm", f"{n}", 1, life) for n, life in enumerate(lives)]).result()
    bill = tmp_path / "bill.csv"
    bill.write_text("cloud,core_hours,what\nuvic,100,vms\nuvic,50,more\n")
    rows = json.loads(month.run("compare", "--month", "2026-10", "--bill", bill, "--json").stdout)
    assert [tuple(row.values()) for row in rows] == [
        ("cern", 80.0, None, None, None, None),
        ("silent", None, 44.0, -1.0, None, None),
        ("uvic", 160.0, 176.0, -0.090909, 150.0, 0.066667),
    ]
    assert "beyond bill" in month.run("compare", "--month", "2026-10", "--bill", bill).stdout
    bill.write_text("cloud,core_hours,cost,currency\nuvic,150,10,CAD\ncern,160,10,CHF\n")
    by_cloud = {
        row["cloud"]: row
        for row in json.loads(month.run("compare", "--month", "2026-10", "--bill", bill, "--json").stdout)
    }
    assert by_cloud["uvic"]["cost_beyond_bill"] == pytest.approx(by_cloud["uvic"]["cost"] / 10 - 1)
    assert (
        by_cloud["cern"]["billed_cost"],
        by_cloud["cern"]["billed_currency"],
        by_cloud["cern"]["cost_beyond_bill"],
    ) == (10, "CHF", None)
    assert by_cloud["silent"]["billed_cost"] is None
    ambiguous = "cloud;core_hours\nuvic;1,234\n"
    for text, words in (
        ("cloud,hours\n", "core_hours among them"),
        (ambiguous, "line 2, column core_hours of the bill"),
    ):
        bill.write_text(text)
        assert words in month.run("compare", "--month", "2026-10", "--bill", bill).exception.message
    rows = json.loads(month.run("compare", "--month", "2026-10", "--bill", bill, "--decimal", ".", "--json").stdout)
    assert [row["billed_core_hours"] for row in rows] == [None, None, 1234]


def test_keys_and_files_that_are_none(month, tmp_path):
    assert "YYYY-MM" in month.run("close", "--month", "2026-13").exception.message
    key = month.home / "keys" / "statement.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    again = month.run("keygen")
    assert isinstance(again.exception, Malformed)
    key.write_text("nonsense")
    assert isinstance(month.run("close", "--month", "2026-10").exception, Malformed)
    key.unlink()
    missing = month.run("close", "--month", "2026-10").exception
    assert "keygen" in missing.message
    (tmp_path / "x.json").write_text("{}")
    assert "detail=signed" in month.run("verify", tmp_path / "x.json").exception.message
    for bad in (
        "nonsense",
        subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout,
    ):
        with pytest.raises(Malformed):
            signature.sign("text", bad)
        with pytest.raises(Malformed):
            signature.verify("text", "", bad)
