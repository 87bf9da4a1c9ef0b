"""The page over time in a real Chromium: its token, its address, its reloads, and what it says when something fails."""

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta
from urllib.parse import quote

import httpx2
import pytest
from playwright.sync_api import expect

from skytally.http import page_files
from tests.support.page import SCREENSHOTS, leave_secret, table
from tests.support.site_of_strangers import LONG, ROOT, STRANGERS

pytestmark = pytest.mark.browser
PAGE = ROOT / "functions" / "dashboard" / "page"
LIBRARY = PAGE.parent / "plot"
STYLES = f"'self' '{page_files.PLOT_STYLE}'"
RELOAD_MS = 60_000


def test_a_bad_token_is_told_and_asked_for_again(blank, site):
    blank.expected_errors = ("401",)
    blank.goto(site.page)
    blank.get_by_label("Reader token").fill("nonsense")
    blank.keyboard.press("Enter")
    expect(blank.get_by_role("alert")).to_contain_text("none of ours")
    expect(blank.get_by_label("Reader token")).to_be_visible()
    assert blank.evaluate("localStorage.length") == 0


def test_a_token_in_the_fragment_moves_into_the_tab_and_leaves_the_address(blank, site):
    blank.goto(f"{site.page}#view=usage&by=vm&token={site.reader()}&window=week")
    blank.wait_for_selector("tbody tr")
    assert blank.url == f"{site.page}#view=usage&by=vm&window=week"
    assert blank.evaluate("[Object.values(localStorage)[0], history.length]") == [site.reader(), 2]


@pytest.mark.parametrize("token", ["“quoted”", "with space", ""])
def test_what_can_be_no_token_is_not_taken_for_one(blank, site, token):
    blank.goto(f"{site.page}#token={token}")
    expect(blank.get_by_label("Reader token")).to_be_visible()
    assert "token" not in blank.url
    blank.get_by_label("Reader token").fill(token)
    blank.keyboard.press("Enter")
    expect(blank.get_by_label("Reader token")).to_be_visible()
    assert blank.evaluate("localStorage.length") == 0


def test_a_token_that_is_refused_later_leaves_the_last_data(tab):
    tab.expected_errors = ("401",)
    tab.evaluate("for (const key of Object.keys(localStorage)) localStorage.setItem(key, 'no-longer-good')")
    tab.get_by_label("Week", exact=True).check()
    expect(tab.get_by_role("alert")).to_contain_text("none of ours")
    expect(tab.get_by_label("Reader token")).to_be_visible()
    assert set(table(tab)) == set(STRANGERS)


@pytest.mark.parametrize(
    "fragment",
    ["view=__proto__", "view=constructor&sort=toString-up", "sort=-&measure=__proto__", "until=&vm=<b>", "%%%&&=&view"],
)
def test_an_address_that_makes_no_sense_shows_a_page_all_the_same(blank, site, fragment):
    blank.goto(f"{site.page}#{fragment}&token={site.reader()}")
    blank.wait_for_selector("#rows > *")
    assert blank.get_by_role("link", name="Overview").get_attribute("aria-current") == "page"


def test_a_link_to_a_cloud_that_nobody_knows_says_so_and_leads_back(blank, site):
    blank.expected_errors = ("404",)
    blank.goto(f"{site.page}#view=usage&cloud=<b>&token={site.reader()}")
    expect(blank.get_by_role("alert")).to_contain_text("there is no cloud '<b>'")
    blank.get_by_role("link", name="All clouds").click()
    expect(blank.get_by_role("alert")).to_be_hidden()
    assert set(table(blank)) == set(STRANGERS)


def test_a_choice_that_the_server_refuses_is_told(tab):
    tab.expected_errors = ("400",)
    tab.evaluate("location.hash = 'view=usage&window=year'")
    expect(tab.get_by_role("alert")).to_contain_text("window must be one of")
    tab.get_by_label("Day", exact=True).check()
    expect(tab.get_by_role("alert")).to_be_hidden()


def test_reloads_by_itself_in_place_and_only_while_it_is_seen(blank, site):
    leave_secret(site, "first")
    blank.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.away === true })")
    blank.clock.install()
    blank.goto(f"{site.page}#view=secrets&token={site.reader()}")
    row = blank.locator("tbody tr", has_text="first")
    row.evaluate("row => { window.kept = row }")
    head = blank.get_by_role("button", name="State")
    head.focus()
    leave_secret(site, "second")
    asked = []
    blank.on("request", lambda request: asked.append(request.url))
    blank.evaluate("window.away = true")
    blank.clock.fast_forward(2 * RELOAD_MS)
    assert asked == []
    expect(blank.locator("#age")).to_contain_text("loaded 2 min ago")
    blank.evaluate("window.away = false")
    blank.clock.fast_forward(RELOAD_MS)
    expect(blank.locator("tbody tr")).to_have_count(2)
    expect(head).to_be_focused()
    assert row.evaluate("row => row === window.kept")
    assert len(asked) == 1


def test_only_the_last_of_quick_choices_is_shown(tab):
    held = []

    def hold(route):
        held.append(route)

    tab.route("**/data?*", hold)
    for count, window in enumerate(("Week", "Hour"), start=1):
        with tab.expect_request("**/data?*"):
            tab.get_by_label(window, exact=True).check()
        assert len(held) == count
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "true")
    expect(tab.get_by_role("alert")).to_be_hidden()
    for route in reversed(held):
        route.continue_()
    expect(tab.locator("tbody tr", has_text=LONG).locator("td[data-column=core_hours]")).to_have_text("16.0")
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    expect(tab.get_by_role("alert")).to_be_hidden()


def test_an_order_that_is_chosen_while_a_window_loads_leaves_no_plot_of_another_time(tab):
    held = []

    def hold(route):
        held.append(route)

    tab.route("**/data?*", hold)
    with tab.expect_request("**/data?*"):
        tab.get_by_label("Week", exact=True).check()
    with tab.expect_request("**/data?*"):
        tab.get_by_role("button", name="Core hours").click()
    held[-1].continue_()
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    expect(tab.locator("th[data-column=core_hours]")).to_have_attribute("aria-sort", "ascending")
    expect(tab.locator("[data-figure=effort] .note")).to_contain_text("6 h")


def test_a_server_that_goes_away_is_told_and_the_last_data_stay(tab, site):
    tab.expected_errors = (
        "ERR_CONNECTION_REFUSED",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
        "ERR_SOCKET_NOT_CONNECTED",
    )
    site.stop()
    tab.get_by_label("Week", exact=True).check()
    expect(tab.get_by_role("alert")).to_contain_text("does not answer")
    assert set(table(tab)) == set(STRANGERS)
    site.start()
    tab.get_by_label("Day", exact=True).check()
    expect(tab.get_by_role("alert")).to_be_hidden()


def test_a_token_that_has_expired_is_told(blank, site):
    blank.expected_errors = ("401",)
    blank.goto(f"{site.page}#view=usage&token={site.signed('reader', lives_seconds=-1)}")
    expect(blank.get_by_role("alert")).to_contain_text("expired")
    expect(blank.get_by_label("Reader token")).to_be_visible()
    blank.get_by_label("Reader token").fill(site.reader())
    blank.keyboard.press("Enter")
    expect(blank.get_by_role("alert")).to_be_hidden()
    expect(blank.locator("#rows tbody tr")).to_have_count(len(STRANGERS))


def test_a_store_that_is_away_is_told_and_the_last_data_stay(tab, site):
    tab.expected_errors = ("503",)
    with closing(sqlite3.connect(site.home / "documents.sqlite", isolation_level=None)) as store:
        store.execute("ALTER TABLE usage RENAME TO usage_that_is_away")
        tab.get_by_label("Week", exact=True).check()
        expect(tab.get_by_role("alert")).to_contain_text("The store is away")
        expect(tab.get_by_role("alert")).to_contain_text("asks again every minute")
        assert set(table(tab)) == set(STRANGERS)
        expect(tab.locator("[data-figure=effort] .note")).to_contain_text("a step is 1 h")
        SCREENSHOTS.mkdir(exist_ok=True)
        tab.screenshot(path=SCREENSHOTS / "store-away-1400-light.png", full_page=True)
        store.execute("ALTER TABLE usage_that_is_away RENAME TO usage")
    tab.get_by_label("Day", exact=True).check()
    expect(tab.get_by_role("alert")).to_be_hidden()


def test_a_slow_server_is_told_and_the_old_numbers_are_marked(tab, site):
    held = []

    def hold(route):
        held.append(route)

    tab.route("**/data?*", hold)
    tab.get_by_label("Week", exact=True).check()
    slow = tab.locator("#slow")
    expect(slow).to_contain_text("The server is slow to answer. The numbers below are old: of 20")
    expect(slow).to_contain_text(f" to {site.now:%Y-%m-%d %H:%M} UTC")
    expect(tab.locator("#shown")).to_have_class(re.compile("old"))
    held[0].continue_()
    expect(slow).to_be_hidden()
    expect(tab.locator("#shown")).not_to_have_class(re.compile("old"))


def test_signing_in_once_serves_all_tabs_and_signing_out_ends_all(chromium, site):
    context = chromium.new_context()
    first, second = context.new_page(), context.new_page()
    for page in (first, second):
        page.goto(f"{site.page}#view=usage")
        expect(page.get_by_label("Reader token")).to_be_visible()
    first.get_by_label("Reader token").fill(site.reader())
    first.get_by_role("button", name="Show").click()
    for page in (first, second):
        expect(page.locator("#rows tbody tr")).to_have_count(len(STRANGERS))
    third = context.new_page()
    third.goto(f"{site.page}#view=jobs")
    expect(third.locator("#rows tbody tr").first).to_be_visible()
    third.get_by_role("button", name="Sign out").click()
    for page in (first, second, third):
        expect(page.get_by_label("Reader token")).to_be_visible()
        assert page.evaluate("localStorage.length") == 0
    context.close()


def test_times_are_in_the_readers_own_zone_where_that_is_chosen(chromium, site):
    context = chromium.new_context(timezone_id="Asia/Kolkata")
    page = context.new_page()
    page.goto(f"{site.page}#view=usage&until={site.now:%Y-%m-%dT%H:%M:%SZ}&token={site.reader()}")
    expect(page.locator("#age")).to_contain_text(f"– {site.now:%Y-%m-%d %H:%M} UTC")
    page.get_by_role("combobox", name="Time zone").select_option("own")
    there = site.now + timedelta(hours=5, minutes=30)
    expect(page.locator("#age")).to_contain_text(f"– {there:%Y-%m-%d %H:%M} Asia/")
    assert page.get_by_label("Until").input_value() == f"{there:%Y-%m-%dT%H:%M}"
    page.get_by_label("From").fill(f"{there - timedelta(hours=3):%Y-%m-%dT%H:%M}")
    page.wait_for_url(f"**from={quote(f'{site.now - timedelta(hours=3):%Y-%m-%dT%H:%M}', safe='')}*")
    page.goto(f"{site.page}#view=usage&by=interval&cloud={LONG}&vm=vm-of-16")
    expect(page.get_by_role("columnheader", name="Until").first).to_contain_text("Until (Asia/")
    context.close()


def test_a_paused_page_does_not_load_anew(blank, site):
    blank.clock.install()
    blank.goto(f"{site.page}#view=secrets&token={site.reader()}")
    expect(blank.locator("#shown")).to_have_attribute("aria-busy", "false")
    blank.get_by_role("button", name="Pause").click()
    requests = []
    blank.on("request", lambda request: requests.append(request.url))
    blank.clock.fast_forward(2 * RELOAD_MS)
    expect(blank.locator("#age")).to_contain_text("paused")
    assert requests == []
    with blank.expect_request("**/data?*"):
        blank.get_by_role("button", name="Pause").click()


def test_what_is_typed_is_completed(tab):
    tab.get_by_role("link", name="VMs", exact=True).click()
    expect(tab.locator("#all-vm option")).to_have_count(len(STRANGERS))
    values = tab.locator("#all-vm option").evaluate_all("all => all.map(o => o.value)")
    assert set(values) == {story.vm for story in STRANGERS.values()}


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_page_works_with_and_without_a_slash(blank, site, slash):
    blank.goto(f"{site.page}{slash}#token={site.reader()}")
    blank.wait_for_selector("tbody tr")


def test_the_policy_forbids_all_but_its_own_files(site):
    for name in ("", "/", *(f"/{path.name}" for path in PAGE.iterdir())):
        answer = httpx2.get(site.page + name)
        policy = dict(part.split(maxsplit=1) for part in answer.headers["Content-Security-Policy"].split("; "))
        assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", STYLES)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_plot_library_is_what_its_pinned_packages_make(tmp_path):
    if shutil.which("npm") is None and os.environ.get("CI") != "true":
        pytest.skip("without npm: the library cannot be made again")
    made = [PAGE / "plot.min.js", PAGE.parent / "plot.LICENSE"]
    for path in LIBRARY.iterdir():
        shutil.copy(path, tmp_path)
    subprocess.run(["npm", "ci", "--silent"], cwd=tmp_path, check=True, timeout=120)
    subprocess.run(["node", "build.mjs", *(path.name for path in made)], cwd=tmp_path, check=True, timeout=60)
    assert [(tmp_path / path.name).read_bytes() for path in made] == [path.read_bytes() for path in made]
