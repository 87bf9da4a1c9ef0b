"""Whatever lies in the store as a closing's text costs that closing alone; every other cloud is answered as before."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skytally.accounting import closing, frozen, restatement, signature
from skytally.accounting.definitions import BOOTS, CHANGES, TOTALS
from skytally.accounting.frozen import Before, BootRow, Changes, Totals
from skytally.app import wiring
from skytally.core.documents import Closing, Unreadable
from skytally.core.ports import Write
from tests.support import builders

EDGE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
SITE = """
apel.virtual_organisations = { good = "atlas", bad = "atlas" }
clouds.good = { price_per_core_hour = 0.5, currency = "CAD", apel_site = "GOOD" }
clouds.bad = { price_per_core_hour = 0.5, currency = "CAD", apel_site = "BAD" }
"""
FORMS = ("json", "csv", "apel-cloud", "apel-cloud-summary", "apel-job-summary")
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([10**400, -(10**400), 2**63, 1e308, -1e308, 1e-320, 0, -1, True])
)
TEXTS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-10-31T00:00:00", "good"]),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)


@pytest.fixture
def closed(home, monkeypatch, client, bearer):
    """Let vms of two clouds report, and close and restate `bad`;
    return its newest closing and what asks for the month.
    """
    (home / "clouds.toml").write_text(SITE)
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    wiring.close()
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    documents, key = wiring.documents(), signature.new_key()

    def close():
        return closing.close("2026-10", ["bad"], documents, wiring.site(), lambda text: signature.sign(text, key), NOW)

    for vm, cloud in (("vm-1", "good"), ("vm-1", "bad"), ("vm-2", "bad")):
        sample = builders.FakeVm(vm, boot_at=EDGE - timedelta(hours=20)).sample(
            EDGE, month="2026-10", month_start=builders.counters(0, 8)
        )
        answer = client.post(
            "usage-report", json={"samples": [sample]}, headers=bearer("reporter", clouds=(cloud,), issued=NOW)
        )
        assert answer.json()["accepted"] == 1
        made = close() if cloud == "bad" else []
    headers = bearer("reader", issued=NOW)

    def ask(form, **query):
        return client.get("statement", params={"month": "2026-10", "format": form, **query}, headers=headers)

    assert made[0].revision == 2
    return made[0], ask


def of_good(answer, form):
    """Return what an answer says of the good cloud."""
    if form == "json":
        return [row for row in answer.json()["clouds"] if row["cloud"] == "good"]
    records = answer.text.splitlines() if form == "csv" else re.sub(r"^APEL.*\n", "", answer.text).split("%%")
    return [
        record.strip()
        for record in records
        if re.search(r"^2026-10,good,|^CloudComputeService: good$", record, re.MULTILINE)
    ]


def places(value, path=()):
    """List the paths of all values of a JSON."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from places(part, (*path, name))


def replaced(value, path, other):
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


def keep(made, text):
    """Put a text into the store in place of one that was signed."""
    documents = wiring.documents()
    version = keep.version = getattr(keep, "version", 0) + 1
    write = Write("closing", closing.key_of(made), version, msgspec.structs.replace(made, text=text))
    documents.write([write]).result()


def test_any_json_in_any_field_costs_its_own_cloud_at_most(closed):
    made, ask = closed
    whole = json.loads(made.text)
    before = {form: of_good(ask(form), form) for form in FORMS}
    assert all(before[form] for form in FORMS[:4])

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(list(places(whole))), ANYTHING)
    @example(("totals", "core_hours"), "many")
    @example(("totals", "cost"), 10**400)
    @example(("totals", "cloud"), "good")
    @example(("boots", 0, "document"), [])
    @example(("boots", 0, "cloud"), "good")
    @example(("boots", 0, "boot_at"), "9999-12-31T23:59:59")
    @example(("boots", 0, "boot_id"), "none")
    @example(("boots", 0, "wall_seconds"), 1e300)
    @example(("boots", 0, "core_seconds"), -576_000)
    @example(("revision",), 2**63)
    @example((), [])
    def check(path, value):
        keep(made, json.dumps(replaced(whole, path, value)))
        for form in FORMS:
            answer = ask(form)
            assert answer.status_code == 200, (form, answer.text)
            assert of_good(answer, form) == before[form]

    check()


def test_a_text_that_is_older_than_some_columns_is_shown_and_sent(closed):
    made, ask = closed
    text = json.loads(made.text)
    for row, kind in [(text["totals"], Totals), *((boot, BootRow) for boot in text["boots"])]:
        for column in msgspec.structs.fields(kind):
            if not column.required:
                del row[column.name]
    before = {form: ask(form).text for form in FORMS}
    keep(made, json.dumps(text))
    (bad,) = (row for row in ask("json").json()["clouds"] if row["cloud"] == "bad")
    assert (bad["revision"], bad["unsettled_vms"], bad["hs23_complete"]) == (2, 0, None)
    assert {form: ask(form).text for form in FORMS if form.startswith("apel")} == {
        form: answer for form, answer in before.items() if form.startswith("apel")
    }


def test_a_text_that_cannot_be_read_is_named_and_the_revision_before_is_shown(closed):
    made, ask = closed
    text = json.loads(made.text)
    keep(made, json.dumps(text | {"totals": text["totals"] | {"core_hours": "many"}}))
    (bad,) = (row for row in ask("json").json()["clouds"] if row["cloud"] == "bad")
    assert (bad["revision"], bad["core_hours"], bad["unsettled_vms"]) == (1, 160.0, 1)
    assert json.loads(ask("json", detail="signed", cloud="bad").json()["statement"])["revision"] == 1
    documents, deadline, notes = wiring.documents(), time.monotonic() + 10, []
    # Whoever notes something waits for no store.
    while not notes and time.monotonic() < deadline:
        documents.refresh()
        notes = [note for _, note in documents.find("unreadable", Unreadable, {})]
    assert [(note.source, note.key_text) for note in notes] == [("closing", closing.key_of(made))]
    assert "core_hours" not in notes[0].key_text
    assert "Expected" in notes[0].reason
    again = closing.close("2026-10", ["bad"], documents, wiring.site(), lambda _: ("", ""), NOW)
    assert [each.revision for each in again] == [3]


def test_the_columns_that_are_checked_are_those_that_are_defined(closed):
    made, _ = closed
    text = frozen.read(made.text)
    assert (set(Totals.__struct_fields__), set(BootRow.__struct_fields__)) == (TOTALS.keys(), BOOTS.keys())
    assert set(Changes.__struct_fields__) == text.changes.keys() >= CHANGES.keys()
    assert {*Before.__struct_fields__} >= text.changes["before"].keys()
    assert isinstance(made, Closing)


def test_what_a_text_without_before_changes_is_said_by_its_differences(closed):
    made, _ = closed
    text = json.loads(made.text)
    assert text["changes"].pop("before")["core_hours"] == 160.0
    older = frozen.read(json.dumps(text))
    assert restatement.sentence(older) == "core hours +100.0 %, cost +100.0 %, 1 vm"
    assert restatement.sentence(msgspec.structs.replace(older, changes=None)) is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (100.0, 100.4, "cost +0.4 %"),
        (100_000.0, 100_001.0, "cost +0.001 %"),
        (100_000.0, 100_000.01, "cost up by less than 0.001 %"),
        (100_000.0, 99_999.99, "cost down by less than 0.001 %"),
        (1.0, 2_001.0, "cost +200,000.0 %"),
        (-10.0, -5.0, "cost +50.0 %"),
        (0.0, 12.5, "cost +12.50"),
    ],
)
def test_a_change_is_said_as_a_share_of_what_it_was(before, after, words):
    assert restatement.words({"vm_count": 0, "before": {"cost": before}}, {"cost": after}) == f"{words}, 0 vms"
