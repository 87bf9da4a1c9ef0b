"""The page's pictures in a real Chromium: they are read out, filter by a click, zoom by a drag, and become files."""

import xml.etree.ElementTree as ET
from collections import Counter
from datetime import datetime, timedelta
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

from tests.support.site_of_strangers import JOBS, LONG, MARKUP, STRANGERS

pytestmark = pytest.mark.browser


def params(page):
    return {name: values[0] for name, values in parse_qs(page.url.partition("#")[2]).items()}


def show(tab, site, fragment, *, figure):
    tab.evaluate("to => { location.hash = to }", f"{fragment}&until={site.now:%Y-%m-%dT%H:%M:%SZ}")
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    expect(tab.locator(f"[data-figure={figure}] .picture svg")).to_be_visible()


def hover(tab, figure, at):
    """Point at the middle of the bar of a moment; return what is read out, name by name."""
    bars = tab.locator(f"[data-figure={figure}] .bar[data-at='{at}']")
    box = bars.first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 1)
    readout = tab.locator(f"[data-figure={figure}] .readout")
    expect(readout).to_be_visible()
    lines = readout.locator("div").evaluate_all(
        "all => all.map(d => [d.querySelector('bdi').title, d.querySelector('strong').textContent])"
    )
    return dict(lines), readout.locator("small").all_text_contents()


def busiest(tab, figure):
    """Return the moment of a figure whose bars are the highest together."""
    bars = tab.locator(f"[data-figure={figure}] .bar").evaluate_all(
        "all => all.map(b => [b.dataset.at, +b.dataset.value])"
    )
    sums = Counter()
    for at, value in bars:
        sums[at] += value
    return sums.most_common(1)[0][0]


def test_a_moment_is_read_out_with_all_its_values_and_their_sum(tab):
    at = busiest(tab, "effort")
    values, (total,) = hover(tab, "effort", at)
    assert set(values) == set(STRANGERS)
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        {cloud: story.cores for cloud, story in STRANGERS.items()}, abs=0.01
    )
    assert total == f"sum {sum(story.cores for story in STRANGERS.values()):.1f} core hours"
    tab.mouse.move(1, 1)
    expect(tab.locator("[data-figure=effort] .readout")).to_be_hidden()


def test_the_arrow_keys_read_it_out_too(tab):
    plot = tab.locator("[data-figure=effort] .plot")
    plot.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowRight")
    third = plot.locator(".readout b").text_content()
    tab.keyboard.press("ArrowLeft")
    assert datetime.fromisoformat(plot.locator(".readout b").text_content()[:16]) == datetime.fromisoformat(
        third[:16]
    ) - timedelta(hours=1)
    tab.keyboard.press("Escape")
    expect(plot.locator(".readout")).to_be_hidden()


def test_a_click_on_a_bar_or_a_legend_entry_filters_and_back_returns(tab):
    tab.locator("[data-figure=effort] .bar[data-name^=research]").nth(5).click()
    expect(tab.locator("#rows tbody tr")).to_have_count(1)
    assert params(tab)["cloud"] == LONG
    expect(tab.locator("#title-effort")).to_have_text(f"Core hours by cloud, of cloud {LONG}")
    tab.locator("[data-figure=effort] .legend a").click()
    expect(tab.locator("#rows tbody tr")).to_have_count(len(STRANGERS))
    assert "cloud" not in params(tab)
    tab.go_back()
    expect(tab.locator("#rows tbody tr")).to_have_count(1)


def test_a_click_on_a_state_filters_the_jobs_by_it(tab, site):
    show(tab, site, "view=jobs", figure="states")
    tab.locator("[data-figure=states] .bar[data-name=failed]").last.click()
    expect(tab.locator("#rows tbody tr")).to_have_count(1)
    assert params(tab)["status"] == "failed"
    assert tab.get_by_role("combobox", name="Status").input_value() == "failed"


def test_a_click_near_a_line_filters_by_its_cloud(tab, site):
    show(tab, site, "view=jobs", figure="measure")
    box = tab.locator(f"[data-figure=measure] .dot[data-name='{MARKUP}']").last.bounding_box()
    tab.mouse.click(box["x"] + 5, box["y"] + 8)
    expect(tab.locator("#title-measure")).to_contain_text("of cloud <img")
    assert params(tab)["cloud"] == MARKUP


def test_a_cell_of_the_map_opens_the_errors_of_its_cloud_and_hour(tab, site):
    show(tab, site, "view=jobs", figure="map")
    cell = tab.locator(f"[data-figure=map] .cell[data-name='{MARKUP}']").first
    at = cell.get_attribute("data-at")
    cell.click()
    expect(tab.locator("#rows tbody tr")).to_have_count(1)
    chosen = params(tab)
    assert (chosen["by"], chosen["cloud"], chosen["from"]) == ("error", MARKUP, at)
    hour = datetime.fromisoformat(chosen["until"]) - datetime.fromisoformat(chosen["from"])
    assert timedelta() < hour <= timedelta(hours=1)


def test_a_drag_zooms_into_whole_steps(tab):
    box = tab.locator("[data-figure=effort] .picture").bounding_box()
    tab.mouse.move(box["x"] + 300, box["y"] + 100)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 500, box["y"] + 120, steps=5)
    tab.mouse.up()
    tab.wait_for_url("**from=**")
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    chosen = params(tab)
    begin, end = (datetime.fromisoformat(chosen[name]) for name in ("from", "until"))
    assert (begin.minute, begin.second, end.minute, end.second) == (0, 0, 0, 0)
    assert timedelta(hours=2) <= end - begin <= timedelta(hours=12)
    tab.go_back()
    expect(tab.get_by_label("Day", exact=True)).to_be_checked()


def test_the_errors_are_ranked_and_a_bar_opens_their_jobs(tab, site):
    show(tab, site, "view=jobs&by=error", figure="ranking")
    bar = tab.locator("[data-figure=ranking] .bar")
    assert bar.evaluate_all("all => all.map(b => [b.dataset.name, +b.dataset.value])") == [["failed", 3]]
    bar.click()
    expect(tab.locator("#rows tbody tr")).to_have_count(3)
    assert (params(tab)["by"], params(tab)["error"], params(tab)["cloud"]) == ("job", "pilot 1099", MARKUP)


def test_the_distributions_are_those_of_the_jobs(tab, site):
    show(tab, site, "view=jobs&by=distribution", figure="run_seconds")
    counts = tab.locator("[data-figure=run_seconds] .bar").evaluate_all(
        "all => all.map(b => [b.dataset.name, +b.dataset.value])"
    )
    assert sorted(counts) == [["failed", 3], ["finished", 7]]
    row = tab.locator("#rows tbody tr", has_text="Run time")
    expect(row.locator("[data-column=size]")).to_have_text("1 h to 1.5 h")
    efficiencies = tab.locator("[data-figure=efficiency] .bar").evaluate_all("all => all.map(b => +b.dataset.value)")
    assert sum(efficiencies) == sum(jobs.count for jobs in JOBS if jobs.status != "running")


def test_a_picture_is_a_file_that_stands_by_itself(tab):
    with tab.expect_download() as held:
        tab.locator("[data-figure=effort]").get_by_role("button", name="SVG").click()
    assert held.value.suggested_filename == "skytally-effort.svg"
    root = ET.parse(held.value.path()).getroot()
    words = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {*STRANGERS, "Core hours by cloud (core hours, a step is 1 h)"} <= words
    bars = [node for node in root.iter() if node.get("class") == "bar"]
    assert len(bars) == tab.locator("[data-figure=effort] .bar").count()
    assert all(bar.get("fill").startswith("rgb(") for bar in bars)
