"""What the page shows, read from its table, and a secret for it to show."""

import base64

import httpx2

from tests.support.site_of_strangers import RIGHT_TO_LEFT, ROOT

SCREENSHOTS = ROOT / "screenshots"


def table(page):
    """Return what each row says, by its name and column; a name is its whole title."""
    read = """rows => rows.map(r => [r.querySelector('th bdi')?.title ?? r.querySelector('th').textContent,
                                     [...r.cells].map(c => [c.dataset.column, c.textContent])])"""
    return {name: dict(cells) for name, cells in page.locator("#rows tbody tr").evaluate_all(read)}


def number(value):
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def leave_secret(site, vm):
    body = {"vm": vm, "cloud": RIGHT_TO_LEFT, "payload": base64.b64encode(b"x").decode()}
    scheduler = {"Authorization": f"Bearer {(site.home / 'tokens' / 'scheduler').read_text()}"}
    answer = httpx2.post(f"http://127.0.0.1:{site.port}/function/secret-deposit", json=body, headers=scheduler)
    assert answer.status_code == 201
