"""The page with more vms than a person reads at once: pages of rows, an order over all of them, and few bytes."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from tests.support import builders
from tests.support.page import number, table
from tests.support.site_of_strangers import Site

pytestmark = pytest.mark.browser
VMS = 230
ROWS = 100
MOST_BYTES = 150_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("many"))
    site.start()
    begin = site.now - timedelta(hours=1)
    site.report(
        "uvic", [builders.FakeVm(f"vm-{n}", boot_at=begin, cores=n).sample(site.now) for n in range(1, VMS + 1)]
    )
    yield site
    site.stop()


def open_vms(page, site):
    page.goto(f"{site.page}#view=usage&by=vm&until={site.now:%Y-%m-%dT%H:%M:%SZ}&token={site.reader()}")
    page.wait_for_selector("rect.bar")
    expect(page.locator("#shown")).to_have_attribute("aria-busy", "false")


def test_pages_of_rows_hold_each_vm_once(blank, site):
    open_vms(blank, site)
    seen = {}
    for first in range(0, VMS, ROWS):
        expect(blank.locator("#pager-span")).to_have_text(f"Rows {first + 1} to {min(first + ROWS, VMS)} of {VMS}")
        seen |= {name: row["core_hours"] for name, row in table(blank).items()}
        if first + ROWS < VMS:
            blank.get_by_role("button", name="Next").click()
    assert list(seen) == [f"vm-{n}" for n in range(1, VMS + 1)]
    assert list(seen.values()) == [number(n) for n in range(1, VMS + 1)]
    expect(blank.get_by_role("button", name="Next")).to_be_disabled()
    assert "offset=200" in blank.url
    blank.get_by_role("button", name="Previous").click()
    expect(blank.locator("#pager-span")).to_have_text(f"Rows 101 to 200 of {VMS}")


def test_an_order_is_over_all_rows_and_the_summary_of_all(blank, site):
    open_vms(blank, site)
    blank.get_by_role("button", name="Core hours").click()
    expect(blank.locator("tbody tr").first).to_contain_text(f"vm-{VMS}")
    assert list(table(blank)) == [f"vm-{n}" for n in range(VMS, VMS - ROWS, -1)]
    expect(blank.locator("#facts")).to_contain_text(f"{VMS * (VMS + 1) // 2:,}")
    with blank.expect_download() as held:
        blank.get_by_role("button", name="CSV").click()
    lines = held.value.path().read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [f"vm-{n}" for n in range(VMS, 0, -1)]


def test_a_first_visit_takes_few_bytes_and_a_later_one_hardly_any(blank, site):
    answers = []

    def hear(answer):
        answers.append(answer)

    blank.on("response", hear)
    open_vms(blank, site)
    assert sum(answer.request.sizes()["responseBodySize"] for answer in answers) < MOST_BYTES
    answers.clear()
    blank.goto("about:blank")
    open_vms(blank, site)
    fresh = {answer.url.removeprefix(site.page).partition("?")[0] for answer in answers if answer.status == 200}
    assert fresh <= {"", "/data", "/access"}
    assert sum(answer.request.sizes()["responseBodySize"] for answer in answers) < MOST_BYTES / 10
