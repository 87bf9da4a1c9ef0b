"""A month's statement on the page and on paper: every number against the statement itself, its proof by the command
line, and the way there.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support import builders
from tests.support.page import SCREENSHOTS
from tests.support.site_of_strangers import Site

pytestmark = pytest.mark.browser
HOUR = timedelta(hours=1)
OWNER, CONTACT = "University of Victoria", "Cloud accounting <accounting@example.org>"
SITE_DATA = f"""
[operator]
contact = "{CONTACT}"
[clouds.uvic]
owner = "{OWNER}"
price_per_core_hour = 0.0115
currency = "CAD"
watts_per_core = 7.2
pue = 1.32
co2_grams_per_kwh = 12.0
[clouds.kek]
currency = "JPY"
price_per_core_hour = 1.3
"""
FIELDS = {
    "VMs": "vm_count",
    "Boots": "boot_count",
    "Wall hours": "wall_hours",
    "Core hours": "core_hours",
    "CPU hours": "cpu_hours",
    "Efficiency": "efficiency",
    "HS23 hours": "hs23_hours",
    "Core hours with HS23": "scored_core_hours",
    "Energy": "energy_kwh",
    "CO2": "co2_kg",
    "Cost": "cost",
    "Price per HS23 hour": "price_per_hs23_hour",
    "Coverage": "coverage",
    "Silent VMs": "silent_vms",
    "Estimated boots": "estimated_edges",
    "Anomalies": "anomalies",
    "Benchmarks set aside": "quarantined_benchmarks",
}
SHARES = {"efficiency", "coverage"}
SUMS = ("wall_hours", "core_hours", "cpu_hours", "hs23_hours", "energy_kwh", "co2_kg", "cost")
CONTROLS = ("Pause", "Print or save", "Files of this month", "All clouds", "Sign out", "‹", "CSV")
A4_POINTS, MARGIN_POINTS = (595.3, 841.9), 40


def _edge(at):
    return datetime(at.year, at.month, 1, tzinfo=UTC)


THIS_MONTH = f"{datetime.now(UTC):%Y-%m}"
LAST_MONTH = f"{_edge(datetime.now(UTC)) - HOUR:%Y-%m}"


@pytest.fixture(scope="module")
def closed_site(tmp_path_factory):
    """A site whose last month is closed, that of uvic in a second revision; this month is not over."""
    if shutil.which("pdftotext") is None and os.environ.get("CI") != "true":
        pytest.skip("without pdftotext: the statement's sheet is not read back from paper")
    home = tmp_path_factory.mktemp("site")
    (home / "clouds.toml").write_text(SITE_DATA)
    closed_site = Site(home, SKYTALLY_CLOUDS=str(home / "clouds.toml"))
    closed_site.start()
    fill(closed_site)
    yield closed_site
    closed_site.stop()


def fill(closed_site):
    edge = _edge(closed_site.now)
    scored = {"benchmark": {"kernel": "HEPscore23", "score_hs23": 15.3}}
    for cloud, vm, hours, more in (
        ("uvic", "vm-1", 333, scored),
        ("uvic", "vm-2", 71, {}),
        ("kek", "vm-3", 123, scored),
    ):
        run(closed_site, cloud, vm, edge - timedelta(days=9, minutes=17), hours, **more)
    closed_site.report("uvic", [builders.FakeVm("vm-now", closed_site.now - 2 * HOUR, cores=4).sample(closed_site.now)])
    (closed_site.home / "statement.pub").write_text(skytally(closed_site, "keygen"))
    skytally(closed_site, "close", "--month", LAST_MONTH)
    run(closed_site, "uvic", "vm-late", edge - timedelta(days=5), 29, **scored)
    skytally(closed_site, "close", "--month", LAST_MONTH)


def run(closed_site, cloud, name, boot_at, hours, **more):
    """Let a vm run for some tenths of an hour more than a whole number, so that its sums have decimals."""
    vm = builders.FakeVm(name, boot_at, cores=8, busy=0.37)
    closed_site.report(cloud, [vm.sample(boot_at + timedelta(hours=hours * 0.61, seconds=7), final=True, **more)])


def skytally(closed_site, *arguments):
    command = [str(Path(sys.executable).parent / "skytally"), "statement", *arguments]
    done = subprocess.run(command, env=closed_site.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(closed_site, path, **query):
    answer = httpx2.get(
        f"http://127.0.0.1:{closed_site.port}/function/{path}",
        params=query,
        headers={"Authorization": f"Bearer {closed_site.reader()}"},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def row_of(closed_site, month, cloud):
    """Return the statement's own row, and the price that only the page has."""
    (row,) = ask(closed_site, "statement", month=month, cloud=cloud)["clouds"]
    (shown,) = ask(closed_site, "dashboard/data", view="statement", month=month, cloud=cloud)["table"]
    return {**{name: shown[name] for name in ("price_per_hs23_hour", "changes")}, **row}


def print_sheet(page, path):
    """Print what is shown; return the paper's text as it is laid out, of all pages."""
    page.pdf(path=path, prefer_css_page_size=True)
    return subprocess.check_output(["pdftotext", "-layout", path, "-"], text=True)


def words_beside_the_page(path):
    """List the words that do not stand inside an A4 page's margins."""
    text = subprocess.check_output(["pdftotext", "-bbox", path, "-"], text=True)
    sizes = {tuple(map(float, size)) for size in re.findall(r'<page width="(\S+)" height="(\S+)"', text)}
    assert all(size == pytest.approx(A4_POINTS, abs=1) for size in sizes)
    words = re.findall(r'<word xMin="(\S+)" yMin="(\S+)" xMax="(\S+)" yMax="(\S+)">(.*?)</word>', text)
    assert len(words) > 100
    return [
        word
        for left, top, right, bottom, word in words
        if float(left) < MARGIN_POINTS
        or float(right) > A4_POINTS[0] - MARGIN_POINTS
        or float(top) < MARGIN_POINTS
        or float(bottom) > A4_POINTS[1] - MARGIN_POINTS
    ]


def number_of(words):
    return None if words == "not known" else float(words.replace(",", "").replace("−", "-"))


def numbers_on(text):
    """Return what stands beside each label: the number, and its unit."""
    found = {}
    for label, field in FIELDS.items():
        number = r"(≥ ?)?(not known|[\d.,]+)( ?%| ?h| ?kWh| ?kg| ?[A-Z]{3})?"
        match = re.search(rf"^ *{label} +{number}(?: {{2}}|\n)", text, re.MULTILINE)
        assert match, (label, text)
        value = number_of(match[2])
        found[field] = (value / 100 if field in SHARES else value, (match[3] or "").strip(), bool(match[1]))
    return found


def open_month(blank, closed_site, month, cloud):
    blank.goto(f"{closed_site.page}#view=statement&month={month}&cloud={cloud}&token={closed_site.reader()}")
    expect(blank.locator("#sheet h2")).to_contain_text(cloud)
    expect(blank.locator("#shown")).to_have_attribute("aria-busy", "false")


@pytest.mark.parametrize(
    ("month", "cloud", "state"),
    [
        (LAST_MONTH, "kek", "Closed: signed on"),
        (LAST_MONTH, "uvic", "Closed: revision 2, signed on"),
        (THIS_MONTH, "uvic", "Provisional: the month lasts until"),
    ],
    ids=["closed", "restated", "provisional"],
)
def test_a_printed_month_has_every_number_whole_and_nothing_is_cut(blank, closed_site, tmp_path, month, cloud, state):
    open_month(blank, closed_site, month, cloud)
    if "Closed" in state:
        expect(blank.locator("#sheet .proof")).to_be_visible()
    path = tmp_path / "month.pdf"
    text = print_sheet(blank, path)
    row = row_of(closed_site, month, cloud)
    for field, (value, unit, is_bound) in numbers_on(text).items():
        expected = row[field] if field not in SHARES or row[field] is None else pytest.approx(row[field], abs=1e-9)
        assert value == expected, field
        assert is_bound == (field == "hs23_hours" and row["hs23_complete"] is False and value is not None)
        if field == "cost" and value is not None:
            assert unit == row["currency"]
    assert state in text
    assert CONTACT in text
    assert (OWNER in text) == (cloud == "uvic")
    assert words_beside_the_page(path) == []
    assert [word for word in CONTROLS if word in text] == []
    definitions = ask(closed_site, "dashboard/data", view="statement", month=month, cloud=cloud)["definitions"]
    explained = [entry for entry in definitions if entry["name"] in FIELDS.values()]
    assert {word for entry in explained for word in entry["text"].split()} <= set(text.split())


def test_a_printed_revision_says_what_it_changes(blank, closed_site, tmp_path):
    open_month(blank, closed_site, LAST_MONTH, "uvic")
    text = print_sheet(blank, tmp_path / "month.pdf").partition("What revision 2 changes")[2]
    row = row_of(closed_site, LAST_MONTH, "uvic")
    labels = {field: label for label, field in FIELDS.items()}
    for field in SUMS:
        match = re.search(rf"^ *{labels[field]} +([\d.,]+) +([\d.,]+) +([+−][\d.,]+)", text, re.MULTILINE)
        assert match, field
        assert [number_of(words) for words in match.groups()] == [
            row["changes"]["before"][field],
            row[field],
            row["changes"][field],
        ]


def test_an_owner_prints_last_month_with_its_proof_in_three_clicks(blank, closed_site, tmp_path):
    blank.add_init_script("window.print = () => { window.isPrinted = true }")
    blank.goto(f"{closed_site.page}#token={closed_site.signed('reader', clouds=('uvic',))}")
    blank.get_by_role("link", name="Statements", exact=True).click()
    blank.get_by_role("link", name="‹").click()
    blank.get_by_role("button", name="Print or save as PDF").click()
    blank.wait_for_function("window.isPrinted")
    text = print_sheet(blank, tmp_path / "month.pdf")
    signed = ask(closed_site, "statement", month=LAST_MONTH, cloud="uvic", detail="signed")
    joined = re.sub(r"\s", "", text)
    assert signed["signature"] in joined
    assert sha256(signed["statement"].encode()).hexdigest() in joined
    assert re.sub(r"-----[^-]+-----|\s", "", (closed_site.home / "statement.pub").read_text()) in joined
    assert f"skytally statement verify uvic-{LAST_MONTH}.json --key statement.pub" in text


def test_the_signed_text_that_is_saved_passes_the_command_of_the_sheet(blank, closed_site):
    open_month(blank, closed_site, LAST_MONTH, "uvic")
    with blank.expect_download() as saved:
        blank.get_by_role("button", name="Signed text").click()
    assert saved.value.suggested_filename == f"uvic-{LAST_MONTH}.json"
    assert "revision:           2" in skytally(
        closed_site, "verify", str(saved.value.path()), "--key", str(closed_site.home / "statement.pub")
    )


def test_every_other_file_is_the_statements_own(blank, closed_site):
    open_month(blank, closed_site, LAST_MONTH, "uvic")
    for label, name in (
        ("JSON", f"statement-uvic-{LAST_MONTH}.json"),
        ("CSV", f"statement-uvic-{LAST_MONTH}.csv"),
        ("Boots as CSV", f"statement-uvic-{LAST_MONTH}-boots.csv"),
        ("Jobs as CSV", f"statement-uvic-{LAST_MONTH}-jobs.csv"),
        ("APEL cloud", f"statement-uvic-{LAST_MONTH}-apel-cloud.txt"),
    ):
        with blank.expect_download() as saved:
            blank.get_by_role("button", name=label, exact=True).click()
        assert saved.value.suggested_filename == name
        if label == "JSON":
            (row,) = json.loads(saved.value.path().read_text())["clouds"]
            assert (row["cloud"], row["revision"]) == ("uvic", 2)
        elif label != "APEL cloud":
            assert LAST_MONTH in saved.value.path().read_text() or label == "Jobs as CSV"


@pytest.mark.parametrize(
    "blank",
    [{"width": 1_400}, {"width": 1_024, "scheme": "dark"}, {"width": 400}],
    indirect=True,
    ids=["wide", "dark", "narrow"],
)
def test_all_clouds_of_a_month_stand_beside_one_another(blank, closed_site):
    blank.goto(f"{closed_site.page}#view=statement&month={LAST_MONTH}&token={closed_site.reader()}")
    expect(blank.locator("#rows tbody tr")).to_have_count(2)
    expect(blank.locator("#month .state")).to_have_text("closed and signed, some in revision 2")
    expect(blank.locator("#sheet")).to_be_hidden()
    assert blank.evaluate("document.documentElement.scrollWidth") <= blank.viewport_size["width"]
    blank.locator("#rows").get_by_role("link", name="uvic").click()
    expect(blank.locator("#sheet h2")).to_be_focused()
    expect(blank.locator("#sheet .proof")).to_be_visible()
    assert blank.evaluate("document.documentElement.scrollWidth") <= blank.viewport_size["width"]
    SCREENSHOTS.mkdir(exist_ok=True)
    blank.screenshot(path=SCREENSHOTS / f"statement-{blank.viewport_size['width']}.png", full_page=True)


def test_a_month_is_a_link_and_the_next_view_has_none_of_it(blank, closed_site):
    blank.goto(f"{closed_site.page}#view=statement&month={LAST_MONTH}&token={closed_site.reader()}")
    blank.get_by_role("link", name="›").click()
    expect(blank.locator("#month .state")).to_have_text("provisional")
    assert f"month={THIS_MONTH}" in blank.url
    blank.go_back()
    expect(blank.locator("#month .state")).to_contain_text("closed")
    blank.get_by_role("link", name="Usage", exact=True).click()
    expect(blank.locator("#month")).to_be_hidden()
    assert "month=" not in blank.url
