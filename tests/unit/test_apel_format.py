"""APEL's messages: what we write its loader takes, and what it would refuse or believe wrongly never leaves."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytally.accounting import apel_format
from skytally.core.errors import Malformed
from tests.support.apel_server import ApelServer

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
EDGE = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())
START, END = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp()), int(NOW.timestamp())
CLOUD = {
    "VMUUID": "6f0c",
    "SiteName": "CA-VICTORIA",
    "StartTime": START,
    "RecordCreateTime": END,
    "WallDuration": END - START,
    "CpuDuration": 4 * (END - START),
    "CpuCount": 8,
}
JOBS = {
    "Site": "CA-VICTORIA",
    "Month": 11,
    "Year": 2026,
    "NodeCount": 1,
    "Processors": 8,
    "WallDuration": 10,
    "CpuDuration": 9,
    "NormalisedWallDuration": {"HEPscore23": 120},
    "NormalisedCpuDuration": {"HEPscore23": 110},
    "NumberOfJobs": 3,
}
SUMMARY = {"SiteName": "CA-VICTORIA", "Month": 11, "Year": 2026, "CpuCount": 8, "Benchmark": 0, "NumberOfVMs": 2}


def text_of(kind=apel_format.CLOUD, *records):
    return apel_format.message(kind, records)


def test_the_text_of_a_message():
    assert text_of(apel_format.JOB_SUMMARY, JOBS, {**JOBS, "VO": "belle"}) == (
        "APEL-normalised-summary-message: v0.4\n"
        "Site: CA-VICTORIA\nMonth: 11\nYear: 2026\nNodeCount: 1\nProcessors: 8\nWallDuration: 10\nCpuDuration: 9\n"
        "NormalisedWallDuration: {HEPscore23: 120}\nNormalisedCpuDuration: {HEPscore23: 110}\nNumberOfJobs: 3\n"
        "%%\n"
        "Site: CA-VICTORIA\nMonth: 11\nYear: 2026\nVO: belle\nNodeCount: 1\nProcessors: 8\nWallDuration: "
        "10\nCpuDuration: 9\n"
        "NormalisedWallDuration: {HEPscore23: 120}\nNormalisedCpuDuration: {HEPscore23: 110}\nNumberOfJobs: 3\n"
    )


@pytest.mark.parametrize(
    ("kind", "record"),
    [(apel_format.CLOUD, CLOUD), (apel_format.CLOUD_SUMMARY, SUMMARY), (apel_format.JOB_SUMMARY, JOBS)],
)
def test_what_is_right_passes(kind, record):
    assert apel_format.check(text_of(kind, record, record), NOW) == 2
    ApelServer().load(text_of(kind, record))
    assert apel_format.check(text_of(kind), NOW) == 0


REFUSED = {
    "an unknown key": (apel_format.CLOUD, CLOUD, {}, "Colour: blue\n", "no key Colour"),
    "a key twice": (apel_format.CLOUD, CLOUD, {}, "SiteName: CERN\n", "twice"),
    "a float for an int": (apel_format.CLOUD, CLOUD, {"WallDuration": 1.5}, "", "WallDuration is no int: 1.5"),
    "a null for what must be": (apel_format.CLOUD, CLOUD, {"SiteName": "None"}, "", "SiteName is missing"),
    "what must be, left out": (apel_format.CLOUD_SUMMARY, SUMMARY, {"NumberOfVMs": None}, "", "NumberOfVMs is missing"),
    "an end of 1970": (apel_format.CLOUD, CLOUD, {"EndTime": 0}, "", "EndTime is no moment"),
    "an end before its start": (
        apel_format.CLOUD,
        CLOUD,
        {"StartTime": START + 2, "EndTime": START + 1, "WallDuration": 0, "CpuDuration": 0},
        "",
        "before StartTime",
    ),
    "an end in the future": (apel_format.CLOUD, CLOUD, {"EndTime": END + 3 * 86_400}, "", "future"),
    "the month's edge for an end": (
        apel_format.CLOUD,
        CLOUD,
        {"EndTime": EDGE, "RecordCreateTime": EDGE},
        "",
        "several months",
    ),
    "a vm that is over without its end": (apel_format.CLOUD, CLOUD, {"Status": "completed"}, "", "EndTime is missing"),
    "a summary without a benchmark": (
        apel_format.CLOUD_SUMMARY,
        SUMMARY,
        {"Benchmark": None},
        "",
        "Benchmark is missing",
    ),
    "a summary without cores": (apel_format.CLOUD_SUMMARY, SUMMARY, {"CpuCount": None}, "", "CpuCount is missing"),
    "jobs on nobody knows how many cores": (
        apel_format.JOB_SUMMARY,
        JOBS,
        {"Processors": None},
        "",
        "Processors is missing",
    ),
    "a benchmark that no column holds": (apel_format.CLOUD, CLOUD, {"Benchmark": 1e8}, "", "Benchmark is absurd"),
    "more cores than there are": (apel_format.CLOUD, CLOUD, {"CpuCount": 70_000}, "", "CpuCount is absurd"),
    "usage of no vm": (
        apel_format.CLOUD_SUMMARY,
        SUMMARY,
        {"NumberOfVMs": 0, "WallDuration": 3_600},
        "",
        "longer than its vms",
    ),
    "a negative duration": (apel_format.CLOUD, CLOUD, {"WallDuration": -1}, "", "negative"),
    "a vm that ran longer than it was there": (
        apel_format.CLOUD,
        CLOUD,
        {"WallDuration": 2 * (END - START)},
        "",
        "longer than the vm ran",
    ),
    "more cpu than cores": (apel_format.CLOUD, CLOUD, {"CpuDuration": 9 * (END - START)}, "", "more than the cores"),
    "a month to come": (apel_format.CLOUD_SUMMARY, SUMMARY, {"Month": 12}, "", "future"),
    "no month": (apel_format.CLOUD_SUMMARY, SUMMARY, {"Month": 13, "Year": 2025}, "", "the month is none"),
    "no jobs at all": (apel_format.JOB_SUMMARY, JOBS, {"NumberOfJobs": 0}, "", "counts nothing"),
    "a normalised number without its benchmark": (
        apel_format.JOB_SUMMARY,
        JOBS,
        {"NormalisedWallDuration": 120},
        "",
        "is no levels",
    ),
    "a name that is too long": (apel_format.CLOUD, CLOUD, {}, f"MachineName: {'x' * 256}\n", "MachineName is no text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_apel_would_refuse_or_believe_wrongly_is_refused_here(name):
    kind, record, change, more, words = REFUSED[name]
    with pytest.raises(Malformed, match="record 2 of") as refusal:
        apel_format.check(text_of(kind, record, record | change) + more, NOW)
    assert words in refusal.value.message


def test_a_message_is_ascii_has_a_known_header_and_no_more_than_a_thousand_records():
    for text in ("", "APEL-cloud: v0.4\n", "APEL-cloud-message: v0.4\nSiteName: Zürich\n"):
        with pytest.raises(Malformed, match="no APEL message"):
            apel_format.check(text, NOW)
    with pytest.raises(Malformed, match="1001 records"):
        apel_format.check(text_of(apel_format.CLOUD, *[CLOUD] * 1_001), NOW)
    assert [len(part) for part in apel_format.parts([CLOUD] * 2_001)] == [1_000, 1_000, 1]
    assert apel_format.parts([]) == [[]]


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255), min_size=1, max_size=5)
)
def test_no_name_makes_another_record_or_key_of_it(names):
    text = text_of(apel_format.CLOUD, *({**CLOUD, "MachineName": name} for name in names))
    assert text.isascii()
    assert apel_format.check(text, NOW) == len(names)
    assert [line.partition(":")[0] for line in text.splitlines()].count("MachineName") == len(names)


def test_several_messages_are_asked_for_one_by_one():
    assert apel_format.part(["one"], None) == apel_format.part(["one"], "1") == "one"
    assert apel_format.part(["one", "two"], "2") == "two"
    for messages, part in ((["one", "two"], None), (["one"], "2"), (["one"], "0"), (["one"], "x"), (["one"], "²")):
        with pytest.raises(Malformed, match="part=1"):
            apel_format.part(messages, part)
