"""Take the documentation's pictures of a demo that runs, by a headless Chromium.

make demo                                                    in another terminal
python -m localstack.pictures http://127.0.0.1:8080/function/dashboard
"""

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from localstack.demo_months import last_month

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 1_200
# Each picture's name, the view's address, and how much of the page it shows.
PICTURES = (
    ("overview", "view=overview", 800),
    ("usage", "view=usage", 900),
    ("jobs", "view=jobs", 890),
    ("statement", "view=statement&cloud=uvic&month={month}", 740),
)


def take(browser: Browser, page: str, name: str, address: str, height: int) -> None:
    """Write a picture of a view once all of it has arrived."""
    tab = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
    tab.goto(f"{page}#{address.format(month=last_month(datetime.now(UTC)))}")
    tab.wait_for_selector("#shown[aria-busy=false] :is(#rows tbody tr, #sheet .proof)", state="attached")
    tab.wait_for_load_state("networkidle")
    tab.screenshot(path=DOCS / f"{name}.png")
    tab.close()


def main() -> None:
    """Take every picture of the page that the command line names."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, address, height in PICTURES:
            take(browser, sys.argv[1], name, address, height)
        browser.close()


if __name__ == "__main__":
    main()
