"""The page in a real Chromium: every number is the truth,
at every width, and nothing that a stranger named becomes markup.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from skytally.deployment.catalog import FUNCTIONS
from tests.support.page import SCREENSHOTS, leave_secret, number, table
from tests.support.site_of_strangers import EMOJI, LIFE_HOURS, LONG, MARKUP, RIGHT_TO_LEFT, STRANGERS

pytestmark = pytest.mark.browser
AXE = ("axe-core@4.10.3", "axe.min.js", "880970c081707360e64f34cea25ff91892f5bc95675b0776925b9709dd8a68bb")
SIZES = [{"width": width} for width in (1_400, 400)]
LOOKS = [size | {"scheme": scheme} for size in SIZES for scheme in ("light", "dark")]
UNKNOWN = "–"
VM_OF_16 = f"cloud={quote(LONG)}&vm=vm-of-16"
VIEWS = {
    "signin": "",
    "overview": "view=overview",
    "usage": "view=usage",
    "vms": "view=usage&by=vm&window=week",
    "intervals": f"view=usage&by=interval&{VM_OF_16}",
    "jobs": "view=jobs",
    "errors": "view=jobs&by=error",
    "kinds": "view=jobs&by=kind",
    "distributions": "view=jobs&by=distribution",
    "jobs-of-status": "view=jobs&by=job&status=failed",
    "vm-jobs": f"view=jobs&by=job&{VM_OF_16}",
    "nothing": "view=usage&by=vm&vm=nobody",
    "secrets": "view=secrets&window=week",
    "health": "view=health",
}


def bars(page):
    """Return (name, value, height) of every bar, and the height of one unit of the axis on their left."""
    expect(page.locator("#shown")).to_have_attribute("aria-busy", "false")
    found = page.locator("[data-figure=effort] rect.bar").evaluate_all(
        "all => all.map(b => [b.dataset.name, +b.dataset.value, +b.getAttribute('height')])"
    )
    ticks = page.locator("[data-figure=effort] [data-part='y-axis tick label'] text").evaluate_all(
        "all => all.map(t => [+t.textContent, t.transform.baseVal[0].matrix.f])"
    )
    (low, low_y), *_, (high, high_y) = ticks
    return found, (low_y - high_y) / (high - low)


@pytest.mark.parametrize("blank", SIZES, indirect=True, ids=str)
def test_every_row_is_the_truth(tab):
    shown = table(tab)
    assert set(shown) == set(STRANGERS)
    for cloud, story in STRANGERS.items():
        core_hours = story.heard_hours(24) * story.cores
        assert shown[cloud] | {"cloud": ""} == {
            "cloud": "",
            "vm_count": "1",
            "core_hours": number(core_hours),
            "cpu_hours": number(core_hours / 2),
            "efficiency": "50.0 %",
            "hs23_hours": f"{core_hours * story.hs23:,.0f}" if story.hs23 else UNKNOWN,
            "coverage": f"{100 * story.heard_hours(24) / 24:.1f} %",
            "silent_vms": "1" if story.silent_hours else "0",
        }
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


@pytest.mark.parametrize("blank", SIZES, indirect=True, ids=str)
@pytest.mark.parametrize(("measure", "share"), [("core_hours", 1), ("cpu_hours", 0.5)])
def test_every_bar_is_the_truth(tab, measure, share):
    tab.get_by_label("Plot").select_option(measure)
    found, unit_height = bars(tab)
    for cloud, story in STRANGERS.items():
        mine = [(value, height) for name, value, height in found if name == cloud]
        hour, heard = story.cores * share, story.heard_hours(24)
        assert sum(value for value, _ in mine) == pytest.approx(heard * hour, rel=1e-3)
        # Bars are UTC's hours: where hearing began or ended within one, it counts by what was heard of it.
        assert sum(value == pytest.approx(hour, rel=1e-3) for value, _ in mine) >= heard - 3
        assert max(value for value, _ in mine) <= hour * 1.001
        assert [height for _, height in mine] == pytest.approx(
            [value * unit_height for value, _ in mine], rel=0.01, abs=0.5
        )
    picture = tab.locator("[data-figure=effort]").get_by_role("img")
    assert picture.get_attribute("aria-label").startswith(
        "C" + measure[1:].replace("_", " ").replace("pu", "PU") + " by cloud, 20"
    )


def test_the_summary_is_the_truth(tab):
    facts = dict(
        tab.locator("#facts div").evaluate_all(
            "all => all.map(d => [d.children[0].textContent, d.children[1].textContent])"
        )
    )
    heard = [story.heard_hours(24) for story in STRANGERS.values()]
    core_hours = sum(story.heard_hours(24) * story.cores for story in STRANGERS.values())
    coverage = 1_000 * sum(heard) // (24 * len(STRANGERS)) / 10
    assert facts == {
        "Core hours": number(core_hours),
        "CPU hours": number(core_hours / 2),
        "Efficiency": "50.0 %",
        "HS23 hours": "≥ 1,440",
        "VMs": "4",
        "Silent VMs": "1",
        "Coverage": f"{coverage} %",
    }
    expect(tab.locator("#age")).to_contain_text("newest report")
    expect(tab.locator("#age")).to_contain_text("loaded 0 s ago")


def test_what_is_not_known_is_never_zero(tab):
    unknown = tab.locator("td.unknown").first
    assert (unknown.text_content(), unknown.get_attribute("title")) == (UNKNOWN, "not known")


def test_names_of_strangers_are_text(tab):
    assert set(table(tab)) == {MARKUP, RIGHT_TO_LEFT, EMOJI, LONG}
    assert tab.locator("main img").count() == 0
    assert set(tab.locator("tbody th").all_text_contents()) == set(
        tab.locator("[data-figure=effort] .legend li").all_text_contents()
    )
    assert set(tab.get_by_role("combobox", name="Cloud").locator("option").all_text_contents()) == {
        "all clouds",
        *STRANGERS,
    }
    cut = tab.locator("tbody bdi", has_text="🦉")
    assert cut.bounding_box()["width"] < 400
    assert (
        cut.evaluate("name => name.scrollWidth > name.clientWidth && getComputedStyle(name).textOverflow") == "ellipsis"
    )


def test_sixteen_clouds_have_colours_of_their_own_and_keep_them(tab):
    before = tab.locator("[data-figure=effort] .legend rect").evaluate_all(
        "all => all.map(r => r.getAttribute('fill'))"
    )
    colours = (
        "async names => { const { colourOf } = await import('./dashboard/colours.js'); return names.map(n => "
        "colourOf(n)); }"
    )
    names = [*sorted(STRANGERS), *(f"cloud-{n}" for n in range(16 - len(STRANGERS)))]
    given = tab.evaluate(colours, names)
    assert len(set(given)) == 16
    assert set(before) == set(given[: len(STRANGERS)])
    hatches = [colour.removeprefix("url(").removesuffix(")") for colour in given if colour.startswith("url(")]
    assert len(hatches) == 8
    assert all(tab.locator(hatch).count() == 1 for hatch in hatches)


@pytest.mark.parametrize(("window", "hours"), [("Hour", 1), ("Week", LIFE_HOURS), ("Month", LIFE_HOURS)])
def test_windows(tab, window, hours):
    tab.get_by_label(window, exact=True).check()
    core_hours = {cloud: story.heard_hours(hours) * story.cores for cloud, story in STRANGERS.items()}
    wanted = {cloud: number(value) if value else "0" for cloud, value in core_hours.items()}
    expect(tab.locator("tbody tr", has_text=LONG).locator("td[data-column=core_hours]")).to_have_text(wanted[LONG])
    assert {cloud: row["core_hours"] for cloud, row in table(tab).items()} == wanted
    assert f"window={window.lower()}" in tab.url


def test_one_cloud_and_a_link_that_reopens_it(tab, site):
    tab.get_by_role("combobox", name="Cloud").select_option(RIGHT_TO_LEFT)
    tab.get_by_role("combobox", name="Plot").select_option("cpu_hours")
    expect(tab.locator("tbody tr")).to_have_count(1)
    link = tab.url
    assert site.reader() not in link
    tab.goto("about:blank")
    tab.goto(link)
    tab.wait_for_selector("tbody tr")
    assert list(table(tab)) == [RIGHT_TO_LEFT]
    assert tab.get_by_role("combobox", name="Cloud").input_value() == RIGHT_TO_LEFT
    assert tab.locator("#title-effort").text_content() == f"CPU hours by cloud, of cloud {RIGHT_TO_LEFT}"
    assert {name for name, _, _ in bars(tab)[0]} == {RIGHT_TO_LEFT}
    tab.get_by_role("combobox", name="Cloud").select_option("all clouds")
    expect(tab.locator("tbody tr")).to_have_count(len(STRANGERS))


def test_a_cloud_opens_its_vms_and_back_returns(tab):
    tab.locator("#rows").get_by_role("link", name=LONG).click()
    expect(tab.locator("tbody tr")).to_have_count(1)
    vm = table(tab)["vm-of-16"]
    assert (vm["core_hours"], vm["silent_vms"], vm["estimated_edges"], "cloud" in vm) == ("384.0", "no", "1", False)
    tab.go_back()
    expect(tab.locator("tbody tr")).to_have_count(len(STRANGERS))


def test_a_window_that_ends_as_a_day_begins(tab, site):
    tab.get_by_label("Until").fill(f"{site.now:%Y-%m-%d}T00:00")
    expect(tab.locator("#age")).to_contain_text(f"– {site.now:%Y-%m-%d} 00:00 UTC")
    assert f"until={site.now:%Y-%m-%d}T00%3A00%3A00Z" in tab.url
    tab.get_by_label("Until").fill("")
    tab.wait_for_url(lambda url: "until" not in url)


def test_sorting_by_keyboard_keeps_the_focus(tab):
    truth = sorted(story.heard_hours(24) * story.cores for story in STRANGERS.values())
    head = tab.get_by_role("button", name="Core hours")
    head.focus()
    for way, wanted in (("ascending", truth), ("descending", truth[::-1])):
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("columnheader", name="Core hours")).to_have_attribute("aria-sort", way)
        assert [float(row["core_hours"]) for row in table(tab).values()] == wanted
        expect(head).to_be_focused()
    tab.get_by_role("button", name="HS23 hours").click()
    expect(tab.get_by_role("columnheader", name="HS23 hours")).to_have_attribute("aria-sort", "descending")
    assert [row["hs23_hours"] for row in table(tab).values()] == ["1,440", UNKNOWN, UNKNOWN, UNKNOWN]


def test_the_secrets_view_says_who_has_what(tab, site):
    leave_secret(site, "<b>vm</b>")
    tab.get_by_role("link", name="Secrets").click()
    row = tab.locator("tbody tr", has_text="<b>vm</b>")
    expect(row).to_have_count(1)
    assert row.locator("td[data-column=state]").text_content() == "waiting"
    assert "view=secrets" in tab.url
    tab.get_by_role("link", name="Usage").click()
    expect(tab.locator("rect.bar").last).to_be_visible()


def test_the_health_view_names_every_timer(tab):
    tab.get_by_role("link", name="Health").click()
    expect(tab.locator("#rows tbody td[data-column=kind]").first).to_be_visible()
    timers = {name for name, row in table(tab).items() if row["kind"] == "timer"}
    assert timers == {function.name for function in FUNCTIONS if function.schedule}


@pytest.mark.parametrize("blank", LOOKS, indirect=True, ids=str)
def test_no_barrier_in_any_view_and_a_screenshot_of_each(blank, site, request):
    leave_secret(site, "vm-that-waits")
    script, look = axe(), request.node.callspec.params["blank"]
    SCREENSHOTS.mkdir(exist_ok=True)
    for view, fragment in VIEWS.items():
        blank.goto("about:blank")
        blank.goto(site.page if view == "signin" else f"{site.page}#{fragment}&token={site.reader()}")
        blank.wait_for_selector("#signin button" if view == "signin" else "#rows > *")
        expect(blank.locator("#shown")).not_to_have_attribute("aria-busy", "true")
        if view == "usage":
            blank.locator("#doubts summary").click()
        blank.screenshot(path=SCREENSHOTS / f"{view}-{look['width']}-{look['scheme']}.png", full_page=True)
        assert blank.evaluate("document.documentElement.scrollWidth") <= look["width"]
        blank.evaluate(script)
        found = blank.evaluate("axe.run()")["violations"]
        assert [
            (v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found if v["impact"] in {"serious", "critical"}
        ] == []


def axe():
    """Return axe-core's script, fetched once by npm and kept, pinned by its digest."""
    package, name, sha256 = AXE
    kept = Path.home() / ".cache" / "skytally" / package
    if not (kept / name).is_file():
        if shutil.which("npm") is None and os.environ.get("CI") != "true":
            pytest.skip("without npm: accessibility is not tested")
        kept.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", package, "--silent"], cwd=kept, check=True, timeout=120, stdout=subprocess.DEVNULL
        )
        (archive,) = kept.glob("*.tgz")
        subprocess.run(
            ["tar", "xzf", archive, "--strip-components=1", f"package/{name}"], cwd=kept, check=True, timeout=60
        )
    script = (kept / name).read_bytes()
    assert hashlib.sha256(script).hexdigest() == sha256
    return script.decode()
