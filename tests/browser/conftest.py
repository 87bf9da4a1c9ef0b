"""A real headless Chromium on a real server."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.site_of_strangers import Site, fleet

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


# Playwright keeps an event loop running in this thread for as long as it is open: no longer than this module's tests.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("without chromium: the page is not tested in a browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.start()
    fleet(site, site.now)
    yield site
    if site.process.poll() is None:
        site.stop()


@pytest.fixture
def blank(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty tab, of a width and a scheme;
    what a page in it logs as an error, and what its policy forbade, fails the test.

    A test that provokes errors names in `page.expected_errors` what they contain.
    """
    options = {"width": 1_400, "scheme": "light"} | getattr(request, "param", {})
    page = chromium.new_page(viewport={"width": options["width"], "height": 900}, color_scheme=options["scheme"])
    page.errors, page.expected_errors = [], ()
    page.on(
        "console", lambda message: page.errors.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()
    assert [text for text in page.errors if not any(part in text for part in page.expected_errors)] == []


@pytest.fixture
def tab(blank: Page, site: Site) -> Page:
    """The page, signed in by hand, at the moment until which the fleet's story is known."""
    blank.goto(f"{site.page}#view=usage&until={site.now:%Y-%m-%dT%H:%M:%SZ}")
    blank.get_by_label("Reader token").fill(site.reader())
    blank.get_by_role("button", name="Show").click()
    blank.wait_for_selector("#rows tbody tr")
    expect(blank.locator("#shown")).to_have_attribute("aria-busy", "false")
    return blank
