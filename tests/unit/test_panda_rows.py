"""BigPanDA's rows: recorded ones, and every trap that is known of them."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from skytally.core.config import Config
from skytally.core.documents import Job
from skytally.core.errors import Malformed, Misconfigured, Unavailable
from skytally.jobs import panda_errors, panda_rows, placement_join
from skytally.jobs.batch_id import host_of, number_of

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
NOW = datetime(2026, 11, 24, 5, tzinfo=UTC)
HOUR_MS = 3_600_000


def row(**fields):
    usual = {
        "pandaid": 1,
        "jobstatus": "failed",
        "modificationtime": "2026-11-24T04:00:00",
        "statechangetime": "2026-11-24T04:00:00",
    }
    ran = {
        "starttime": "2026-11-24T03:00:00",
        "endtime": "2026-11-24T03:50:00",
        "durationsec": 3000.0,
        "corecount": 8,
        "actualcorecount": 8,
    }
    return usual | ran | {"cpuconsumptiontime": 12_000.0} | fields


def job(**fields):
    return panda_rows.job(row(**fields), NOW)


def recorded():
    rows = json.loads((RECORDED / "bigpanda_jobs_full.json").read_text())["jobs"]
    return {row["pandaid"] % 10: panda_rows.job(row, NOW) for row in rows}


def test_recorded_jobs():
    jobs = recorded()
    done = jobs[1]
    assert (done.status, done.cores, done.wall_ms, done.cpu_ms) == ("finished", 8, 19_200_000, 140_000_000)
    assert done.core_ms == 8 * 19_200_000
    assert (done.max_pss_bytes, done.work_folder_bytes, done.output_bytes) == (
        10_340_177 * 1_024,
        1_650_688,
        987_654_321,
    )
    assert (done.batch_number, done.host, done.release) == ("1234.0", "atlas-vm-1.west-cloud", "Athena/23.0.14")
    assert (done.input_type, done.output_type, done.wasted_core_ms, done.error) == ("EVNT", "HITS", 0, None)
    failed = jobs[2]
    assert (failed.error, failed.error_category, failed.wasted_core_ms) == ("pilot 1099", "stage-in", 3_000_000)
    assert failed.error_message.startswith("Failed to stage-in file: [ServiceUnavailable()]")
    for never_began in (jobs[3], jobs[4]):
        assert (never_began.wall_ms, never_began.wasted_core_ms, never_began.host) == (0, 0, None)
        assert never_began.final_at == never_began.changed_at
    assert (jobs[3].error, jobs[4].error_category) == ("taskbuffer 100", "given up by the server")
    assert (jobs[5].status, jobs[5].final_at, jobs[5].cpu_ms) == ("running", None, 10_000)
    assert (jobs[6].status, jobs[6].final_at, jobs[6].wasted_core_ms) == ("holding", None, 0)


def test_nobody_s_name_is_kept():
    told = json.dumps([str(one) for one in recorded().values()])
    assert "atlas-mc" not in told


def test_a_job_as_panda_told_it_in_2017():
    """No `durationsec`, a batch id of digits alone, the CPU model in the unit, and the transformation as a URL."""
    made = panda_rows.job(
        {
            "pandaid": 1_700_000_001,
            "jobstatus": "finished",
            "corecount": 1,
            "actualcorecount": 1,
            "cpuconsumptiontime": 900,
            "cpuconsumptionunit": "s+Imaginary(R) CPU E5 @ 2.60GHz 20480 KB",
            "creationtime": "2017-06-05T06:00:00",
            "starttime": "2017-06-05T06:30:00",
            "endtime": "2017-06-05T06:50:00",
            "statechangetime": "2017-06-05T07:00:00",
            "modificationtime": "2017-06-05T07:00:00",
            "batchid": "12345678",
            "modificationhost": "node1.example.org",
            "transformation": "http://panda.example.org:25080/trf/user/runAthena-00-00-11",
            "piloterrorcode": 0,
        },
        NOW,
    )
    assert (made.job_id, made.cpu_ms / made.core_ms_with_cpu) == ("1700000001", 0.75)
    assert (made.wall_ms, made.doubt, made.error) == (1_200_000, None, None)
    assert (made.transformation, made.host, made.batch_number) == (
        "runAthena-00-00-11",
        "node1.example.org",
        "12345678.0",
    )


@pytest.mark.parametrize(
    ("fields", "doubt", "cpu_ms"),
    [
        ({"endtime": "2026-11-24T02:00:00"}, "ends before it begins", 0),
        ({"durationsec": 0}, "more CPU time than its cores have", 0),
        ({"cpuconsumptiontime": -1}, "negative CPU time", 0),
        ({"cpuconsumptiontime": 8 * 3_000 * 2 + 1}, "more CPU time than its cores have", 0),
        ({"cpuconsumptiontime": 0}, None, 0),
        ({"cpuconsumptiontime": "12000.0"}, None, 12_000_000),
        ({"cpuconsumptiontime": None}, None, 0),
    ],
)
def test_what_cannot_be_is_named_and_kept_out_of_efficiency(fields, doubt, cpu_ms):
    made = job(**fields)
    assert (made.doubt, made.cpu_ms) == (doubt, cpu_ms)
    assert (made.core_ms_with_cpu > 0) == (cpu_ms > 0)


@pytest.mark.parametrize(
    ("fields", "cores", "wasted_hours"),
    [
        ({"durationsec": 3_600}, 8, 8),
        ({"durationsec": 3_600, "actualcorecount": None}, 8, 8),
        ({"durationsec": 3_600, "actualcorecount": 4}, 4, 4),
        ({"durationsec": 3_600, "actualcorecount": None, "corecount": None}, 1, 1),
        ({"starttime": None, "durationsec": 0, "actualcorecount": None}, 8, 0),
        ({"starttime": None, "jobstatus": "closed"}, 8, 0),
        ({"starttime": None, "jobstatus": "cancelled"}, 8, 0),
        ({"durationsec": 3_600, "jobstatus": "finished"}, 8, 0),
        ({"durationsec": 3_600, "jobstatus": "subfinished"}, 8, 0),
        ({"durationsec": 3_600, "jobstatus": "cancelled"}, 8, 8),
        ({"durationsec": 3_600, "jobstatus": "holding"}, 8, 0),
    ],
)
def test_wasted_is_what_began_and_did_not_end_well(fields, cores, wasted_hours):
    made = job(**fields)
    assert (made.cores, made.wasted_core_ms) == (cores, wasted_hours * HOUR_MS)


@pytest.mark.parametrize("status", ["merging", "holding", "transferring", "running", "activated"])
def test_an_end_does_not_make_a_job_final(status):
    assert job(jobstatus=status).final_at is None


def test_a_job_with_a_loss_is_final_and_keeps_its_name():
    made = job(jobstatus="subfinished", jobsubstatus="fg_partial")
    assert (made.status, made.substatus, made.error) == ("subfinished", "fg_partial", None)
    assert made.final_at is not None


def test_the_later_of_two_stamps_is_the_version_and_the_window_stays():
    first, late = (
        job(),
        job(statechangetime="2026-11-24T04:30:00", superrorcode=2, superrordiag="Diag from worker : killed"),
    )
    assert late.final_at == first.final_at
    assert placement_join.version_of(late) > placement_join.version_of(first)
    assert placement_join.version_of(job(jobmetrics="workDirSize=7")) == placement_join.version_of(first)
    assert placement_join.version_of(
        job(modificationtime="2026-11-24T03:59:59", statechangetime=None)
    ) < placement_join.version_of(first)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "unknown"),
        ({"taskbuffererrorcode": 300}, "taskbuffer 300"),
        ({"taskbuffererrorcode": 300, "piloterrorcode": 1150}, "pilot 1150"),
        ({"ddmerrorcode": 200, "exeerrorcode": 65}, "executor 65"),
        ({"piloterrorcode": 1099, "exeerrorcode": 65, "transexitcode": "65"}, "pilot 1099"),
        ({"piloterrorcode": 1305, "exeerrorcode": 65}, "pilot 1305"),
        ({"superrorcode": 8970, "brokerageerrorcode": 7}, "brokerage 7"),
        ({"transexitcode": ""}, "unknown"),
        ({"transexitcode": "0"}, "unknown"),
        ({"transexitcode": None}, "unknown"),
        ({"transexitcode": "65"}, "transform 65"),
        ({"piloterrorcode": "1344"}, "pilot 1344"),
        ({"piloterrorcode": "what"}, "unknown"),
    ],
)
def test_the_first_failing_component(fields, error):
    assert job(**fields).error == error


LONG = {"code": 7, "diag": "word " * 1_000}


def test_the_whole_text_has_every_component_with_its_code():
    fields = {"piloterrorcode": 1099, "piloterrordiag": "no route to storage.example.org", "transexitcode": "65"}
    made = job(**fields, exeerrordiag="OK", ddmerrorcode=200, ddmerrordiag="bookkeeping", superrordiag="lost heartbeat")
    assert made.error_raw.split("\n") == [
        "pilot 1099: no route to storage.example.org",
        "transform 65",
        "ddm 200: bookkeeping",
        "supervisor: lost heartbeat",
    ]
    assert made.error_message == "no route to <HOST>"
    assert job().error_raw is None
    long = {f"{column}{end}": text for column in panda_errors.COMPONENTS.values() for end, text in LONG.items()}
    assert len(job(**long).error_raw) == 4_096


@pytest.mark.parametrize(
    ("pilot_id", "url"),
    [
        (
            "https://aipanda.example.org:25443/logs/grid.1.0.out|PR|3.7.0.36",
            "https://aipanda.example.org:25443/logs/grid.1.0.out",
        ),
        ("http://pilots.example.org", "http://pilots.example.org"),
        ("tpilot@server|PR", None),
        ("javascript:alert(1)|PR", None),
        ("https://robot:secret@pilots.example.org/log", None),
        ('https://pilots.example.org/"><script>', None),
        ("https://pilots.example.org/" + "x" * 500, None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_where_a_pilots_log_lies(pilot_id, url):
    assert job(pilotid=pilot_id).log_url == url


@pytest.mark.parametrize(
    ("fields", "category", "message"),
    [
        ({"piloterrorcode": 1327}, "network", "the network cannot be reached"),
        ({"piloterrorcode": 1325}, "node", "Singularity is not installed"),
        ({"piloterrorcode": 1332, "piloterrordiag": "read 17 bytes"}, "black hole", "read <N> bytes"),
        ({"taskbuffererrorcode": 106}, "given up by the server", "tried again by the server"),
        ({"piloterrorcode": 9999}, "other", "other"),
    ],
)
def test_what_a_code_means(fields, category, message):
    made = job(**fields)
    assert (made.error_category, made.error_message) == (category, message)


def test_every_component_of_the_table_is_one_of_panda_s():
    assert {component for component, _ in panda_errors.meanings()} <= set(panda_errors.COMPONENTS)
    assert len(panda_errors.meanings()) > 80


def test_the_same_trouble_has_the_same_words():
    words = (
        "Failed on wn{0}.site.example.org: /scratch/pilot_{0}/job_{0}/log.txt: {0} bytes at 0xdead{0}beef, guid "
        "{0}c2d3e4-{1}"
    )
    one, two = (words.format(n, "0000-1111-2222-333344445555") for n in (17, 99))
    assert (
        panda_errors.normalised(one)
        == panda_errors.normalised(two)
        == "Failed on <HOST>: <PATH>: <N> bytes at <ID>, guid <ID>"
    )


def test_foreign_words_are_harmless():
    diag = 'x\x00y\u202eevil "q" {"a": "<script>"} /DC=ch/DC=cern/OU=Users/CN=alice/CN=12 Alice B, then ' + "z" * 10_000
    made = job(piloterrorcode=1, piloterrordiag=diag)
    assert len(made.error_message) == 200
    assert len(made.error_raw) <= 1_020
    for text in (made.error_message, made.error_raw):
        assert "alice" not in text
        assert "\x00" not in text
        assert "\u202e" not in text
    assert '{"a": "<script>"}' in made.error_raw


@given(st.text(max_size=400))
def test_any_words_come_out_printable_and_the_same_again(text):
    once = panda_errors.normalised(text)
    assert len(once) <= 200
    assert panda_errors.cleaned(once) == once


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.lists(st.none(), max_size=2)
)
ODD = VALUES | st.sampled_from(
    [10**30, -(10**30), "9" * 400, "workDirSize=" + "9" * 50, "9999-12-31T23:59:59", "0001-01-01", "1e400"]
)


@given(st.dictionaries(st.sampled_from([*panda_rows.FIELDS]), ODD, max_size=12))
def test_no_row_breaks_the_collector(module_documents, fields):
    with suppress(Malformed):
        made = panda_rows.job(row(**fields), NOW)
        assert made.core_ms >= 0
        assert placement_join.store([made], module_documents) == []
        assert module_documents.get("job", placement_join.key_of(made), Job) is not None


@pytest.mark.parametrize(
    "fields",
    [
        *({"pandaid": wrong} for wrong in (None, True, 0, -1, 1.5, "1.0", "one", "", [1], 10**20, "9" * 5_000)),
        *(
            {"modificationtime": wrong}
            for wrong in (None, 5, "yesterday", "0000-00-00 00:00:00", "0001-01-01T00:00:00+09:00")
        ),
        *(
            {"modificationtime": wrong}
            for wrong in ("1999-12-31T23:59:59", "2026-11-25T05:00:01", "9999-12-31T23:59:59")
        ),
    ],
    ids=str,
)
def test_a_row_without_an_id_or_a_time_that_can_be_is_refused(fields):
    with pytest.raises(Malformed):
        job(**fields)


@pytest.mark.parametrize(
    "wrong", ["9999-12-31T23:59:59", "2026-11-25T05:00:01", "0000-00-00 00:00:00", "", None, 7, True, []]
)
@pytest.mark.parametrize("column", ["statechangetime", "creationtime", "starttime", "endtime"])
def test_a_time_that_cannot_be_is_as_if_it_were_not_told(column, wrong):
    """A statechangetime of 9999 would be newer than all that ever comes after it."""
    assert job(**{column: wrong}) == job(**{column: None})


def test_numbers_that_cannot_be_are_as_if_they_were_not_told():
    absurd = job(
        inputfilebytes=10**14,
        outputfilebytes=-1,
        maxpss=10**12,
        attemptnr=10**9,
        durationsec=10**12,
        actualcorecount=10**9,
    )
    assert (absurd.input_bytes, absurd.output_bytes, absurd.max_pss_bytes, absurd.attempt) == (None,) * 4
    assert absurd.core_ms <= panda_rows.MAX_SECONDS * 1_000 * panda_rows.MAX_CORES < 2**63 / 9_000


@pytest.mark.parametrize("queues", ["A*", "A|B", "!A", "A+B", "A#1", "A'", "A,B*", " , ", "A B", "A,,B"])
def test_queues_that_the_monitor_would_misread_are_refused_at_the_start(queues):
    with pytest.raises(Misconfigured, match="SKYTALLY_PANDA_QUEUES"):
        Config.from_env({"SKYTALLY_PANDA_QUEUES": queues})


def test_queues():
    told = Config.from_env({"SKYTALLY_PANDA_QUEUES": "CA-IAAS-T3, CA_VICTORIA.mcore,CA-IAAS-T3,"}).panda_queues
    assert panda_rows.queues_of(told) == ("CA-IAAS-T3", "CA_VICTORIA.mcore")
    with pytest.raises(Misconfigured, match="SKYTALLY_PANDA_QUEUES"):
        panda_rows.queues_of("")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("csv2a.heprc.uvic.ca#1234.0#1795467074", "1234.0"),
        ("sched.test@#2.0#1795609831", "2.0"),
        ("a#b#2.0#1", "2.0"),
        ("1237.0", "1237.0"),
        ("1237", "1237.0"),
        ("a#b", None),
        ("slurm-17", None),
        ("", None),
        ("#", None),
    ],
)
def test_batch_ids(text, number):
    assert number_of(text) == number


def test_hosts():
    assert host_of("slot1_2@host.example.org") == host_of("host.example.org") == "host.example.org"


class Table:
    """Jobs a second apart or all at once, cut as the monitor cuts."""

    def __init__(self, times, status="finished", queue="A", cut_at=None):
        self.jobs = [
            {"pandaid": n, "modificationtime": f"{at:%Y-%m-%dT%H:%M:%S}", "s": status, "q": queue}
            for n, at in enumerate(times)
        ]
        self.asked, self.cut_at = [], cut_at

    def rows(self, asked):
        self.asked.append(asked)
        inside = [
            j for j in self.jobs if panda_rows._inside(asked, j) and j["s"] in asked.statuses and j["q"] in asked.queues
        ]
        return inside[: min(asked.limit, self.cut_at or asked.limit)]


def asked(hours=1, limit=100):
    return panda_rows.Slice(
        queues=("A", "B"), statuses=panda_rows.FINAL, from_at=NOW, until_at=NOW + timedelta(hours=hours), limit=limit
    )


@given(st.lists(st.integers(0, 3_600), max_size=400))
def test_slices_are_split_until_nothing_is_cut(seconds):
    table = Table([NOW + timedelta(seconds=n) for n in sorted(seconds)])
    found = [row["pandaid"] for _, rows in panda_rows.whole(table, asked(limit=20)) for row in rows]
    assert sorted(found) == list(range(len(seconds)))


@pytest.mark.slow
def test_a_full_second_is_split_by_status_and_queue_and_then_asked_for_more():
    table = Table([NOW] * 30_000)
    found = [row["pandaid"] for _, rows in panda_rows.whole(table, asked(limit=5_000)) for row in rows]
    assert sorted(found) == list(range(30_000))
    assert (
        table.asked[-1].limit == panda_rows.RAISED_LIMIT
        or max(one.limit for one in table.asked) == panda_rows.RAISED_LIMIT
    )


@pytest.mark.slow
def test_more_than_any_limit_is_an_outage_and_never_silence():
    table = Table([NOW] * 50_001)
    with pytest.raises(Unavailable, match="in one second"):
        list(panda_rows.whole(table, asked(limit=5_000)))


def test_what_cannot_be_split_is_an_outage_when_it_may_have_been_cut():
    table = Table([NOW] * 100)
    assert len(panda_rows.across_archive(table, asked(limit=101))) == 100
    with pytest.raises(Unavailable, match="archive"):
        panda_rows.across_archive(table, asked(limit=100))


def test_a_late_word_is_looked_for_by_its_own_time():
    table = Table([NOW + timedelta(minutes=n) for n in range(50)])
    late = [
        {"pandaid": n, "statechangetime": job["modificationtime"], "s": "failed", "q": "A"}
        for n, job in enumerate(table.jobs)
    ]
    table.jobs = late
    asked_late = structs.replace(asked(limit=20), moment="statechangetime")
    assert sorted(row["pandaid"] for _, rows in panda_rows.whole(table, asked_late) for row in rows) == list(range(50))
