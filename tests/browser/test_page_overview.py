"""The overview in a real Chromium: what is broken is named without a click, and its evidence is two clicks away."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import expect

from tests.support.page import table
from tests.support.site_of_strangers import (
    EMOJI,
    LONG,
    MARKUP,
    RIGHT_TO_LEFT,
    Jobs,
    Site,
    fleet,
    job_documents,
    raw_error,
)

pytestmark = pytest.mark.browser
BROKEN = Jobs(MARKUP, "failed", 40, 4, 0.2, vm="vm-of-4", error="pilot 1151", minutes_apart=1)
SOUND = (
    Jobs(MARKUP, "finished", 8, 4, 3.0, vm="vm-of-4", minutes_apart=5),
    Jobs(LONG, "finished", 50, 16, 12.0, vm="vm-of-16", minutes_apart=1),
    Jobs(RIGHT_TO_LEFT, "finished", 45, 8, 6.0, vm="vm-of-8", minutes_apart=1),
    Jobs(RIGHT_TO_LEFT, "failed", 5, 8, 6.0, vm="vm-of-8", error="pilot 1305", minutes_apart=7),
    Jobs(EMOJI, "finished", 2, 2, 1.0, minutes_apart=1),
    Jobs(EMOJI, "cancelled", 6, 2, 0.0, minutes_apart=1),
)
VIEWS = ("Usage", "Jobs", "Secrets", "Health")


@pytest.fixture(scope="module")
def broken_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A fleet on one of whose clouds 40 of 48 jobs of the last hour failed, which has been noticed."""
    broken_site = Site(tmp_path_factory.mktemp("broken"))
    broken_site.start()
    fleet(broken_site, broken_site.now)
    stories = (BROKEN, *SOUND)
    broken_site.keep(
        [job for number, jobs in enumerate(stories, 10) for job in job_documents(jobs, 1_000 * number, broken_site.now)]
    )
    answer = httpx2.post(f"http://127.0.0.1:{broken_site.port}/function/alarm-raise", json={}, timeout=60)
    assert answer.json()["state"] == "done"
    yield broken_site
    broken_site.stop()


def open_page(page, broken_site, fragment=""):
    page.goto(f"{broken_site.page}#{fragment}&until={broken_site.now:%Y-%m-%dT%H:%M:%SZ}&token={broken_site.reader()}")
    page.wait_for_selector("#rows tbody tr")
    expect(page.locator("#shown")).to_have_attribute("aria-busy", "false")


@pytest.mark.parametrize("blank", [{"width": 1_400}, {"width": 400}], indirect=True, ids=str)
def test_the_broken_cloud_is_named_on_the_first_screen(blank, broken_site):
    open_page(blank, broken_site)
    alarm = blank.locator("#alarms a", has_text=MARKUP).first
    box = alarm.bounding_box()
    assert box["y"] + 20 < blank.viewport_size["height"]
    assert "jobs fail on" in alarm.text_content()
    assert next(iter(table(blank))) == MARKUP
    row = table(blank)[MARKUP]
    assert (row["failed_share"], row["job_count"]) == ("84.0 % failing", "50")
    assert blank.locator("#rows tbody tr").first.locator("td[data-column=failed_share]").get_attribute("class") == "bad"
    assert blank.evaluate("document.documentElement.scrollWidth") <= blank.viewport_size["width"]


def test_every_cloud_of_the_overview_is_the_truth(blank, broken_site):
    open_page(blank, broken_site)
    rows = table(blank)
    assert rows[RIGHT_TO_LEFT]["failed_share"] == "10.0 % raised"
    assert (rows[RIGHT_TO_LEFT]["silent_vms"], rows[RIGHT_TO_LEFT]["reporting_vms"]) == ("1", "0")
    assert (rows[LONG]["failed_share"], rows[LONG]["core_hours"], rows[LONG]["efficiency"]) == (
        "0.0 % well",
        "16.0",
        "50.0 %",
    )
    assert rows[MARKUP]["commonest_error"] == "pilot 1151 (40)"
    assert (rows[EMOJI]["failed_share"], rows[EMOJI]["job_count"]) == ("0.0 % few jobs", "8")
    assert blank.locator("#rows tbody tr td[data-column=curve] svg").count() >= 3
    late = blank.locator("#late tbody th").all_text_contents()
    assert "documents_forget" in late
    assert "alarm_raise" not in late


def test_a_curve_is_of_a_whole_day_and_stays_in_every_order(blank, broken_site):
    open_page(blank, broken_site)
    curve = blank.locator("#rows tbody tr", has_text=LONG).locator("td[data-column=curve] svg")
    left = "svg => Math.min(...[...svg.querySelectorAll('path')].map(p => p.getBBox().x)) / svg.width.baseVal.value"
    assert curve.evaluate(left) > 20 / 24
    blank.get_by_role("button", name="Jobs", exact=True).click()
    expect(blank.locator("#rows th[data-column=job_count]")).to_have_attribute("aria-sort", "descending")
    expect(blank.locator("#shown")).to_have_attribute("aria-busy", "false")
    assert curve.evaluate(left) > 20 / 24


def test_from_an_alarm_to_the_text_of_an_error_in_two_clicks(blank, broken_site):
    open_page(blank, broken_site)
    blank.locator("#alarms a", has_text=MARKUP).first.click()
    opener = blank.locator("#rows .opener", has_text="10000")
    opener.click()
    expect(opener).to_have_attribute("aria-expanded", "true")
    expect(blank.locator("#rows .raw")).to_have_text(raw_error("pilot 1151", 10_000))
    detail = blank.locator("#rows .detail")
    expect(detail.get_by_role("link", name="log")).to_have_attribute("href", "https://logs.example/10000")
    assert {row.split("\n")[0] for row in detail.locator("dl div").all_inner_texts()} >= {"Job", "Batch id", "Task"}
    link = blank.url
    assert broken_site.reader() not in link
    blank.goto("about:blank")
    blank.goto(link)
    expect(blank.locator("#rows .raw")).to_have_text(raw_error("pilot 1151", 10_000))
    blank.locator("#rows .opener", has_text="10000").click()
    expect(blank.locator("#rows .raw")).to_have_count(0)


def test_open_alarms_are_counted_on_every_view(blank, broken_site):
    open_page(blank, broken_site)
    (number,) = blank.locator(".badge").all_text_contents()
    assert int(number) >= 1
    for view in VIEWS:
        blank.get_by_role("link", name=view, exact=True).click()
        expect(blank.locator(f"#views a[aria-current]:has-text('{view}')")).to_be_visible()
        expect(blank.locator("#shown")).to_have_attribute("aria-busy", "false")
        expect(blank.locator(".badge")).to_have_text(number)
        assert blank.title().startswith(f"({number}) {view}")


def test_the_past_of_alarms_is_in_health(blank, broken_site):
    open_page(blank, broken_site, "view=health")
    past = blank.locator("#history tbody tr", has_text=MARKUP).first
    expect(past.get_by_role("link")).to_be_visible()
    assert blank.locator("#rows tbody tr", has_text="dirac_collect").locator(
        "td[data-column=state]"
    ).text_content() == ("off")


def test_a_filter_that_a_view_does_not_have_is_dropped(blank, broken_site):
    open_page(blank, broken_site, f"view=jobs&status=failed&cloud={MARKUP}&error=pilot 1151&by=cloud")
    blank.get_by_role("link", name="Usage", exact=True).click()
    expect(blank.locator("#rows tbody th")).to_have_text([MARKUP])
    assert "status=" not in blank.url
    assert "error=" not in blank.url
