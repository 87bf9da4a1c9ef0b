"""Every scenario of tests/scenarios: what arrived, in its order, must end in the totals that are known."""

from datetime import UTC, datetime

import pytest

from tests.support import scenario
from tests.support.scenario import FOLDER


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_scenario(path, document_store, client, bearer, reader):
    story = scenario.load(path)
    for report in story["report"]:
        life = story["lives"][report["vm"]]
        caller = bearer(
            "reporter",
            vm=None if report.get("cloud_token") else life.vm,
            clouds=(life.cloud,),
            flavor=report.get("flavor"),
        )
        for _ in range(report.get("times", 1)):
            answer = client.post(
                "usage-report", json={"samples": scenario.samples(life, report)}, headers=caller
            ).json()
            told = {
                "accepted": answer["accepted"],
                "stale": answer["stale"],
                "rejected": [r["code"] for r in answer["rejected"]],
            }
            wanted = {"accepted": len(report["at"]), "stale": 0, "rejected": []} | report.get("expect", {})
            assert told == wanted, (report, answer["rejected"])
    check_boots(story, client, reader)
    check_clouds(story, client, reader)


def check_boots(story, client, reader):
    months = {key[-7:] for key in story.get("boots", {})}
    for month in months | set(story.get("clouds", {})):
        boots = client.get("statement", params={"month": month, "detail": "boots"}, headers=reader).json()["boots"]
        found = {boot["document"]: boot for boot in boots}
        wanted = {key: row for key, row in story.get("boots", {}).items() if key.endswith(month)}
        if wanted:
            assert set(found) == set(wanted)
        for key, row in wanted.items():
            same(found[key], row, key)


def check_clouds(story, client, reader):
    for month, clouds in story.get("clouds", {}).items():
        rows = client.get("statement", params={"month": month}, headers=reader).json()["clouds"]
        found = {row["cloud"]: row for row in rows}
        assert set(found) == set(clouds)
        for name, row in clouds.items():
            same(found[name], row, (month, name))
        page_agrees(month, found, client, reader)


def page_agrees(month, found, client, reader):
    """Where nothing is missing, the page of the same window has the statement's numbers to the last digit."""
    year, number = int(month[:4]), int(month[5:])
    until = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC).isoformat()
    table = client.get("dashboard/data", params={"window": "month", "until": until}, headers=reader).json()["table"]
    for row in table:
        if found.get(row["cloud"], {}).get("coverage") == 1 and row["coverage"] == 1:
            for name in ("core_hours", "cpu_hours", "wall_hours", "hs23_hours"):
                assert row[name] == found[row["cloud"]][name], (name, row)


def same(found, wanted, where):
    for name, value in wanted.items():
        got = found[name.removesuffix("_hours") + "_seconds"] / 3_600 if name not in found else found[name]
        expected = None if value == "unknown" else value
        assert got == (pytest.approx(expected, abs=1e-6) if isinstance(expected, float) else expected), (where, name)
