"""The page's views in a real Chromium: jobs, intervals, filters,
free ranges, files, and what it says that it does not know.
"""

import csv
import io
import json
import re
from datetime import timedelta
from urllib.parse import quote, unquote

import pytest
from playwright.sync_api import expect

from tests.support.page import leave_secret, number, table
from tests.support.site_of_strangers import (
    EMOJI,
    HOSTILE_MESSAGE,
    HOSTILE_SITE,
    HOSTILE_VM,
    JOBS,
    LIFE_HOURS,
    LONG,
    MARKUP,
    RIGHT_TO_LEFT,
    STRANGERS,
)

pytestmark = pytest.mark.browser
FAILED_SHARES = {LONG: "0.0 % well", MARKUP: "100.0 % few jobs", "unknown": "0.0 % few jobs", RIGHT_TO_LEFT: "–"}
READ_ROWS = (
    "rows => rows.map(r => Object.fromEntries([...r.cells].map(c => [c.dataset.column, "
    "c.querySelector('bdi')?.title ?? c.textContent])))"
)


def rows(page):
    return page.locator("#rows tbody tr:not(.detail)").evaluate_all(READ_ROWS)


def go(tab, site, fragment):
    tab.evaluate("to => { location.hash = to }", f"{fragment}&until={site.now:%Y-%m-%dT%H:%M:%SZ}")
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")


def facts(tab):
    return dict(
        tab.locator("#facts div").evaluate_all(
            "all => all.map(d => [d.children[0].textContent, d.children[1].textContent])"
        )
    )


def shapes(tab, figure, shape):
    """Return name and value of every shape of a figure."""
    return tab.locator(f"[data-figure={figure}] .{shape}").evaluate_all(
        "all => all.map(b => [b.dataset.name, +b.dataset.value])"
    )


@pytest.mark.parametrize("blank", [{"width": 1_400}, {"width": 400}], indirect=True, ids=str)
def test_every_number_of_the_jobs_is_the_truth(tab):
    tab.get_by_role("link", name="Jobs", exact=True).click()
    expect(tab).to_have_title(re.compile("^Jobs"))  # said once its table is drawn
    expect(tab.locator("#rows tbody tr")).to_have_count(len(JOBS))
    shown = {row.pop("cloud"): row for row in rows(tab)}
    for jobs in JOBS:
        assert shown[jobs.cloud] == {
            "failed_share": FAILED_SHARES[jobs.cloud],
            "job_count": str(jobs.count),
            "failed_count": str(jobs.count if jobs.status == "failed" else 0),
            "finished_count": str(jobs.count if jobs.status == "finished" else 0),
            "wall_hours": number(jobs.count),
            "core_hours": number(jobs.count * jobs.cores),
            "cpu_hours": number(jobs.count * jobs.cpu_hours) if jobs.cpu_hours else "0",
            "efficiency": f"{100 * jobs.cpu_hours / jobs.cores:.1f} %",
            "wasted_core_hours": number(jobs.wasted_core_hours) if jobs.wasted_core_hours else "0",
            "cancelled_count": "0",
            "closed_count": "0",
            "other_count": str(jobs.count if jobs.status == "running" else 0),
        }
    assert next(iter(shown)) == MARKUP
    cpu_hours, core_hours = (
        sum(j.count * v for j, v in zip(JOBS, values, strict=True))
        for values in zip(*((j.cpu_hours, j.cores) for j in JOBS), strict=True)
    )
    assert facts(tab) == {
        "Jobs": "11",
        "Failed share": "30.0 % failing",
        "Core hours": number(core_hours),
        "Wall hours": "11.0",
        "CPU hours": number(cpu_hours),
        "Efficiency": f"{int(1_000 * cpu_hours / core_hours) / 10} %",
        "Wasted core hours": number(sum(jobs.wasted_core_hours for jobs in JOBS)),
        "On a known cloud": "80.0 %",
    }
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    tab.get_by_label("Plot").select_option("job_count")
    found = shapes(tab, "measure", "bar")
    ended = {jobs.cloud: jobs.count for jobs in JOBS if jobs.status != "running"}
    assert {cloud: sum(value for name, value in found if name == cloud) for cloud, _ in found} == ended
    by_state = shapes(tab, "states", "bar")
    assert {state: sum(value for name, value in by_state if name == state) for state, _ in by_state} == {
        "finished": 7,
        "failed": 3,
    }
    assert set(map(tuple, shapes(tab, "map", "cell"))) == {(MARKUP, 1), (LONG, 0), ("unknown", 0)}
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


def test_from_a_faulty_cloud_to_its_errors_and_the_single_jobs(tab):
    tab.get_by_role("link", name="Jobs", exact=True).click()
    tab.locator("#rows").get_by_role("link", name=MARKUP).click()
    expect(tab.locator("tbody td[data-column=error_message]")).to_have_text([HOSTILE_MESSAGE])
    tab.get_by_role("link", name="pilot 1099").click()
    expect(tab.locator("tbody tr")).to_have_count(3)
    assert {(row["job_id"], row["vm"], row["wasted_core_hours"]) for row in rows(tab)} == {
        (str(100 + n), "vm-of-4", "4.00") for n in range(3)
    }
    assert {"cloud", "error"} & rows(tab)[0].keys() == set()
    expect(tab.locator("#listing-title")).to_be_focused()
    tab.get_by_role("link", name="error pilot 1099").click()
    expect(tab.locator("#trail .chip")).to_have_count(0)


def test_a_vm_shows_its_intervals_and_its_jobs(tab, site):
    tab.locator("#rows").get_by_role("link", name=LONG).click()
    tab.get_by_role("link", name="vm-of-16").click()
    expect(tab.locator("tbody tr")).to_have_count(24)
    for at, row in enumerate(rows(tab)):
        until_at = site.now - timedelta(hours=at)
        assert (row["from"], row["until"]) == tuple(
            f"{t:%Y-%m-%d %H:%M}" for t in (until_at - timedelta(hours=1), until_at)
        )
        assert (row["core_hours"], row["cpu_hours"], row["efficiency"], row["cores"]) == (
            "16.0",
            "8.00",
            "50.0 %",
            "16",
        )
    assert facts(tab)["Core hours"] == "384.0"
    tab.get_by_role("link", name="its jobs").click()
    expect(tab.locator("tbody tr")).to_have_count(5)
    assert [row["job_id"] for row in rows(tab)] == ["0", "1", "2", "3", "4"]
    tab.get_by_role("link", name="All clouds").click()
    expect(tab.locator("tbody tr")).to_have_count(len(JOBS))


def test_an_interval_that_the_window_cuts_counts_by_its_part(tab, site):
    begin = site.now - timedelta(hours=2, minutes=30)
    go(tab, site, f"view=usage&by=interval&cloud={LONG}&vm=vm-of-16&from={begin:%Y-%m-%dT%H:%M:%SZ}")
    assert [row["core_hours"] for row in rows(tab)] == ["16.0", "16.0", "8.00"]
    assert facts(tab)["Core hours"] == "40.0"


def test_filters_hold_all_that_is_shown(tab):
    tab.get_by_role("combobox", name="Site").select_option("Victoria")
    expect(tab.locator("tbody tr")).to_have_count(2)
    assert set(table(tab)) == {RIGHT_TO_LEFT, LONG}
    tab.get_by_role("combobox", name="Group").select_option("belle")
    expect(tab.locator("tbody tr")).to_have_count(1)
    assert facts(tab)["Core hours"] == "384.0"
    tab.get_by_role("combobox", name="Site").select_option(HOSTILE_SITE)
    expect(tab.locator("tbody th")).to_have_text([MARKUP])
    tab.get_by_role("combobox", name="Site").select_option("")
    tab.get_by_label("VM", exact=True).fill("vm-of-16")
    tab.keyboard.press("Enter")
    expect(tab.locator("tbody th")).to_have_text([LONG])
    tab.get_by_label("VM", exact=True).fill("vm-of")
    tab.keyboard.press("Enter")
    expect(tab.locator("#rows p")).to_contain_text(
        "Nothing in this window of group belle, vm vm-of. Names are whole and exact"
    )


def test_a_free_range(tab, site):
    begin = site.now - timedelta(hours=30)
    tab.get_by_label("From").fill(f"{begin:%Y-%m-%dT%H:%M}")
    expect(tab.get_by_label("Day", exact=True)).not_to_be_checked()
    expect(tab.locator("#age")).to_contain_text(f"{begin:%Y-%m-%d %H:%M} UTC – ")
    seconds = begin.second / 3_600
    for cloud, story in STRANGERS.items():
        assert float(table(tab)[cloud]["core_hours"]) == pytest.approx(
            (story.heard_hours(30) + seconds) * story.cores, abs=0.06
        )
    tab.expected_errors = ("400",)
    tab.get_by_label("Until").fill(f"{begin:%Y-%m-%dT%H:%M}")
    expect(tab.get_by_role("alert")).to_contain_text("from must be earlier than until")
    tab.get_by_label("Hour", exact=True).check()
    expect(tab.get_by_role("alert")).to_be_hidden()
    assert "from=" not in tab.url


def test_files_hold_exactly_what_is_shown(tab):
    tab.get_by_role("button", name="Core hours").click()
    expect(tab.get_by_role("columnheader", name="Core hours")).to_have_attribute("aria-sort", "ascending")
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    shown = [(cloud, row["core_hours"], row["cpu_hours"], row["silent_vms"]) for cloud, row in table(tab).items()]
    with tab.expect_download() as held:
        tab.get_by_role("button", name="CSV").click()
    assert held.value.suggested_filename.startswith("skytally-usage-cloud-20")
    lines = list(csv.DictReader(io.StringIO(held.value.path().read_text(encoding="utf-8", errors="strict"))))
    told = [
        (line["cloud"], number(float(line["core_hours"])), number(float(line["cpu_hours"])), line["silent_vms"])
        for line in lines
    ]
    assert told == shown
    with tab.expect_download() as held:
        tab.get_by_role("button", name="JSON").click()
    answer = json.loads(held.value.path().read_text())
    assert [
        (row["cloud"], number(row["core_hours"]), number(row["cpu_hours"]), str(row["silent_vms"]))
        for row in answer["table"]
    ] == shown
    expect(tab.locator("#shown")).to_have_attribute("aria-busy", "false")
    bars = tab.locator("[data-figure=effort] rect.bar").evaluate_all(
        "all => all.map(b => [b.dataset.name, b.dataset.at, +b.dataset.value])"
    )
    assert sorted(map(tuple, bars)) == sorted(
        (point["cloud"], point["at"], point["core_hours"]) for point in answer["series"] if point["core_hours"]
    )


def test_it_says_what_it_does_not_know(tab):
    short = tab.locator("#doubts-short")
    expect(short).to_contain_text(f"coverage {1_000 * 87 // 96 / 10} %")
    for words in ("1 silent vm", "clocks of 1 vm", "estimates of 1 vm", "HS23 of 3 vms", "the last hour"):
        expect(short).to_contain_text(words)
    tab.locator("#doubts summary").focus()
    tab.keyboard.press("Enter")
    silent = tab.locator("#doubts-long li", has_text="No report for two hours")
    expect(silent.get_by_role("link")).to_contain_text("vm-of-8")
    expect(tab.locator("#doubts-long li", has_text="differ from the server's")).to_contain_text("−340 s")
    silent.get_by_role("link").click()
    expect(tab.locator("tbody tr")).to_have_count(21)
    tab.get_by_role("link", name="Jobs", exact=True).click()
    tab.get_by_role("link", name="All clouds").click()
    expect(short).to_contain_text("the cloud of 2 jobs")


def test_hs23_hours_of_which_nothing_is_known_are_not_at_least_nothing(tab, site):
    go(tab, site, f"view=statement&month={site.now:%Y-%m}&cloud={quote(LONG)}")
    expect(tab.locator("#sheet")).to_be_visible()
    assert facts(tab)["HS23 hours"] == "–"


@pytest.mark.parametrize(
    "fragment",
    [
        "view=usage&by=vm",
        "view=jobs&by=error",
        "view=jobs&by=job",
        "view=jobs&by=queue",
        "view=secrets",
        "view=usage&by=interval&vm={vm}&cloud={cloud}",
    ],
)
def test_what_strangers_named_is_text_in_every_view(tab, site, fragment):
    leave_secret(site, HOSTILE_VM)
    go(tab, site, fragment.format(vm=HOSTILE_VM.replace('"', "%22"), cloud=EMOJI) if "{" in fragment else fragment)
    expect(tab.locator("tbody tr").first).to_be_visible()
    assert tab.locator("main :is(img, script, u)").count() == 0
    said = tab.locator("main").inner_text()
    wanted = {
        "view=usage&by=vm": HOSTILE_VM,
        "view=secrets": HOSTILE_VM,
        "view=jobs&by=error": HOSTILE_MESSAGE,
        "view=jobs&by=queue": "QUEUE<1>",
    }
    assert wanted.get(fragment, "") in said
    if "interval" in fragment:
        assert tab.locator("#trail bdi").all_text_contents()[:3] == ["All clouds", EMOJI, HOSTILE_VM]
        assert tab.get_by_label("VM", exact=True).input_value() == HOSTILE_VM
    assert tab.evaluate("document.documentElement.scrollWidth") <= tab.viewport_size["width"]


def test_no_name_turns_the_direction_of_what_stands_beside_it(tab, site):
    turned = "\u2069\u202etxt.exe"
    go(tab, site, f"view=usage&vm={quote(turned)}")
    expect(tab.locator("#rows p")).to_contain_text("of vm \\u2069\\u202etxt.exe. Names are whole")
    expect(tab).to_have_title("Usage · \\u2069\\u202etxt.exe · skytally")
    (said,) = tab.locator("#trail bdi").all_text_contents()[1:2]
    assert said == "\\u2069\u202etxt.exe"
    assert tab.locator("#trail bdi").nth(1).evaluate("one => getComputedStyle(one).unicodeBidi") == "isolate"
    assert tab.get_by_label("VM", exact=True).input_value() == turned


def test_the_whole_way_by_keyboard_and_a_link_that_reopens_it(tab, site):
    tab.locator("#rows").get_by_role("link", name=LONG).focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("#listing-title")).to_be_focused()
    tab.get_by_role("link", name="vm-of-16").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("tbody tr")).to_have_count(24)
    head = tab.get_by_role("button", name="Until")
    head.focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("columnheader", name="Until")).to_have_attribute("aria-sort", "descending")
    tab.get_by_label("Week", exact=True).focus()
    tab.keyboard.press("Space")
    expect(tab.locator("tbody tr")).to_have_count(LIFE_HOURS)
    link, shown = tab.url, rows(tab)
    assert site.reader() not in unquote(link)
    tab.goto("about:blank")
    tab.goto(link)
    expect(tab.locator("tbody tr")).to_have_count(LIFE_HOURS)
    assert rows(tab) == shown
