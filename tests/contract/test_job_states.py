"""DIRAC's two doors: the same port on a real DiracX, and on the classic command line's recorded output."""

import json
import os
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from localstack import classic_dirac
from localstack.diracx import diracx
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.adapters.jobs_dirac import HEADER, DiracCommandJobStates, parse_csv
from skytally.adapters.jobs_diracx import DiracxJobStates
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState, UnreadState
from tests.support.credential_lab import credential
from tests.support.recording_server import Reply, recording_server

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "dirac_cli_vs_classic_server.txt"


def now():
    return datetime.now(UTC).isoformat()


class Answers:
    """A DiracX that gives one answer for every page of a search, and one for every renewal."""

    status, headers, body, renewed = 200, {}, b"[]", b""
    renewal_status, renewed_count, pause_seconds = 200, 0, 0

    def says(self, what):
        self.body = what if isinstance(what, bytes) else json.dumps(what).encode()

    def __call__(self, request):
        is_renewal = request.path == "/api/auth/token"
        self.renewed_count += is_renewal
        time.sleep(self.pause_seconds)
        if is_renewal:
            return Reply(self.renewal_status, self.renewed, self.headers)
        return Reply(self.status, self.body, self.headers)


@pytest.fixture(scope="module")
def dirac(tmp_path_factory):
    with diracx(tmp_path_factory.mktemp("diracx")) as server:
        server.ids = server.submit(60)
        yield server


@pytest.fixture
def documents(tmp_path):
    documents = SqliteDocuments(tmp_path / "documents.sqlite")
    yield documents
    documents.close()


@pytest.fixture
def door_of(documents):
    """Make a door as another process would."""
    return lambda url, token_file: DiracxJobStates(url, credential(token_file, documents))


@pytest.fixture
def door(dirac, door_of, tmp_path):
    (tmp_path / "token").write_text(dirac.token())
    return door_of(dirac.url, tmp_path / "token")


@pytest.mark.servers
class TestDiracx:
    def test_a_job_is_as_dirac_says(self, dirac, door):
        job = dirac.ids[0]
        dirac.move(job, "LCG.Victoria.ca")
        dirac.set_state(
            job,
            now(),
            Status="Running",
            MinorStatus="Application",
            ApplicationStatus="Executing basf2; step=2; Status=Done; Site=X",
        )
        state = door.states([job])[job]
        assert (state.status, state.minor_status, state.site) == ("Running", "Application", "LCG.Victoria.ca")
        assert state.application_status == "Executing basf2; step=2; Status=Done; Site=X"
        assert state.reschedule_count == 0
        assert state.last_update_at.tzinfo is UTC

    def test_what_dirac_does_not_know_is_absent(self, dirac, door):
        assert set(door.states([*dirac.ids[:2], 10**9, 10**20, -1, 0])) == set(dirac.ids[:2])
        assert door.states([]) == {}

    def test_every_page_is_read(self, dirac, door, monkeypatch):
        monkeypatch.setattr("skytally.adapters.jobs_diracx.PAGE_JOBS", 7)
        assert set(door.states(dirac.ids)) == set(dirac.ids)
        assert set(door.states(dirac.ids[:7])) == set(dirac.ids[:7])

    def test_a_rescheduled_job_keeps_its_id(self, dirac, door):
        job = dirac.ids[1]
        dirac.set_state(job, now(), Status="Running", MinorStatus="Application")
        dirac.reschedule(job)
        state = door.states([job])[job]
        assert (state.minor_status, state.reschedule_count, state.site) == ("Job Rescheduled", 1, "ANY")

    def test_a_bad_token_without_a_refresh_token_is_an_outage(self, dirac, door_of, tmp_path):
        (tmp_path / "bare").write_text("e30.e30.x")
        with pytest.raises(Unavailable, match="cannot be renewed"):
            door_of(dirac.url, tmp_path / "bare").states(dirac.ids)
        (tmp_path / "pair").write_text(json.dumps({"access_token": "e30.e30.x", "refresh_token": "e30.e30.y"}))
        with pytest.raises(Unavailable, match="refuses to renew"):
            door_of(dirac.url, tmp_path / "pair").states(dirac.ids)


def stale(pair):
    """Make of a pair one whose access token is over."""
    return json.dumps(pair | {"access_token": "e30.e30.x"})


@pytest.mark.servers
class TestRenewal:
    """On the real server, with a file that nobody can write: a person's login, whose refresh token works once."""

    @pytest.fixture
    def token_file(self, dirac, tmp_path):
        token_file = tmp_path / "pair"
        token_file.write_text(stale(dirac.login_pair()))
        token_file.chmod(0o400)
        return token_file

    def test_what_is_renewed_is_found_by_the_next_process_and_the_file_stays(self, dirac, door_of, token_file):
        before = token_file.read_text()
        for _ in range(3):
            assert set(door_of(dirac.url, token_file).states(dirac.ids[:2])) == set(dirac.ids[:2])
        assert token_file.read_text() == before
        assert sorted(path.name for path in token_file.parent.glob("*pair*")) == ["pair"]

    def test_it_is_renewed_again_and_again_by_processes_in_turn(self, dirac, door_of, token_file, monkeypatch):
        doors = [door_of(dirac.url, token_file) for _ in range(2)]
        for n in range(6):
            assert doors[n % 2].states(dirac.ids[:1])
            self.spoil(doors[(n + 1) % 2], monkeypatch)

    def spoil(self, door, monkeypatch):
        """Let the server refuse the next token that a door shows, as if its time were over."""
        real = door._ask

        def refused(path, body, tokens, countdown):
            monkeypatch.setattr(door, "_ask", real)
            return real(path, body, structs.replace(tokens, access_token="e30.e30.x"), countdown)

        monkeypatch.setattr(door, "_ask", refused)

    def test_a_token_that_ends_between_two_pages_is_renewed_once_and_the_page_read_again(
        self, dirac, door_of, token_file, monkeypatch
    ):
        monkeypatch.setattr("skytally.adapters.jobs_diracx.PAGE_JOBS", 20)
        door, asked = door_of(dirac.url, token_file), []

        def request(path, how, countdown, real=door._request):
            asked.append(path)
            if len(asked) == 4:
                how["headers"]["Authorization"] = "Bearer e30.e30.x"
            return real(path, how, countdown)

        monkeypatch.setattr(door, "_request", request)
        assert set(door.states(dirac.ids)) == set(dirac.ids)
        assert [path.partition("?")[0] for path in asked].count("/api/auth/token") == 2

    def test_two_processes_at_the_same_moment_use_a_refresh_token_once(self, dirac, token_file, tmp_path):
        """Each is a process of its own; the server ends every session where it is used twice."""
        command = [
            sys.executable,
            "-c",
            ASKING,
            dirac.url,
            str(token_file),
            str(tmp_path / "documents.sqlite"),
            str(dirac.ids[0]),
        ]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        told = [process.communicate(timeout=60)[0].split() for process in processes]
        assert [words[-1] for words in told] == ["asked"] * 4
        assert sum(words.count("renewed") for words in told) == 1

    def test_a_person_s_new_login_counts_at_once(self, dirac, door_of, token_file):
        door = door_of(dirac.url, token_file)
        assert door.states(dirac.ids[:1])
        for _ in range(2):
            token_file.unlink()
            token_file.write_text(stale(dirac.login_pair()))
            assert door.states(dirac.ids[:1])
            assert door_of(dirac.url, token_file).states(dirac.ids[:1])

    def test_a_token_that_was_used_elsewhere_needs_a_person_and_is_sent_no_more(
        self, dirac, door_of, token_file, tmp_path, monkeypatch
    ):
        """Were it sent again the server would end the person's new session, too."""
        thief = SqliteDocuments(tmp_path / "elsewhere.sqlite")
        assert DiracxJobStates(dirac.url, credential(token_file, thief)).states(dirac.ids[:1])
        thief.close()
        door, asked = door_of(dirac.url, token_file), []
        real = door._request
        monkeypatch.setattr(door, "_request", lambda path, *how: asked.append(path) or real(path, *how))
        for _ in range(2):
            with pytest.raises(Unavailable, match="sign the robot in again"):
                door.states(dirac.ids[:1])
        assert [path for path in asked if "auth" in path] == ["/api/auth/token"]
        token_file.unlink()
        token_file.write_text(stale(dirac.login_pair()))
        assert door.states(dirac.ids[:1])

    def test_a_pair_that_the_server_does_not_replace_is_renewed_again_and_again(
        self, dirac, door_of, tmp_path, monkeypatch
    ):
        (tmp_path / "proxy").write_text(stale(dirac.token_pair()))
        for _ in range(3):
            door = door_of(dirac.url, tmp_path / "proxy")
            assert door.states(dirac.ids[:1])
            self.spoil(door, monkeypatch)
            assert door.states(dirac.ids[:1])


ASKING = """
import sys, time
from pathlib import Path
from tests.support.credential_lab import credential
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.adapters.jobs_diracx import DiracxJobStates
from skytally.core.errors import Unavailable

url, token_file, store, job_id = sys.argv[1:]
documents = SqliteDocuments(Path(store))
door = DiracxJobStates(url, credential(Path(token_file), documents))
real = door._exchange
door._exchange = lambda *asked: (real(*asked), print("renewed"))[0]
for _ in range(200):
    try:
        door.states([int(job_id)])
        print("asked")
        break
    except Unavailable as error:
        if "another process renews" not in error.message:
            raise
        time.sleep(0.1)
documents.close()
"""


def test_a_server_that_is_away_is_an_outage(door_of, tmp_path):
    (tmp_path / "token").write_text("x")
    with pytest.raises(Unavailable):
        door_of("http://127.0.0.1:9", tmp_path / "token").states([1])
    with pytest.raises(Unavailable):
        door_of("http://127.0.0.1:9", tmp_path / "nothing").states([1])


@pytest.fixture
def nonsense(door_of, tmp_path):
    """A server that answers each page of a search as it is told, and whatever else is asked with a token."""
    answers = Answers()
    with recording_server(answers) as answers.server:
        (tmp_path / "token").write_text(json.dumps({"access_token": "a", "refresh_token": "b"}))
        answers.door = door_of(answers.server.url, tmp_path / "token")
        yield answers


GOOD = {"JobID": 2, "Status": "Done", "EndExecTime": "2026-11-24T03:00:00Z"}


@pytest.mark.parametrize(
    "row",
    [
        {"JobID": 1},
        {"JobID": 1, "Status": None},
        {"JobID": 1, "Status": ["Done"]},
        {"JobID": 1, "Status": "Done", "RescheduleCounter": "many"},
        {"JobID": 1, "Status": "Done", "RescheduleCounter": -1},
        {"JobID": 1, "Status": "Done", "RescheduleCounter": 1, "RescheduleTime": "9999-12-31T23:59:59Z"},
    ],
    ids=str,
)
def test_a_job_that_cannot_be_read_costs_itself_and_is_not_unknown(nonsense, row):
    nonsense.says([row, GOOD])
    found = nonsense.door.states([1, 2, 3])
    assert (found[2].status, found[1].key) == ("Done", "1")
    assert 3 not in found


@pytest.mark.parametrize(
    "row",
    [
        {},
        None,
        [],
        "x",
        {"JobID": None, "Status": "Done"},
        {"JobID": 4, "Status": "Done"},
        {"JobID": True, "Status": "Done"},
    ],
)
def test_where_a_row_is_nobody_s_nobody_is_unknown(nonsense, row):
    nonsense.says([row, GOOD])
    found = nonsense.door.states([1, 2])
    assert found[2].status == "Done"
    assert isinstance(found[1], UnreadState)


@pytest.mark.parametrize(
    "wrong", ["noon", "0000-00-00 00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", 7, True, [], ""]
)
def test_a_time_that_cannot_be_is_as_if_it_were_not_told(nonsense, wrong):
    nonsense.says(
        [
            {
                "JobID": 1,
                "Status": "Done",
                "EndExecTime": wrong,
                "HeartBeatTime": wrong,
                "LastUpdateTime": "2026-11-24 03:00:00",
            }
        ]
    )
    state = nonsense.door.states([1])[1]
    assert (state.ended_at, state.heartbeat_at) == (None, None)
    assert state.last_update_at == datetime(2026, 11, 24, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    "answer", [b"<html>", b'[{"JobID": 1, "Sta', b'{"jobs": []}', b"null", b"", b"[" * 100_000, b"5", b"\xff\xfe"]
)
def test_an_answer_that_is_no_list_is_an_outage(nonsense, answer):
    nonsense.says(answer)
    with pytest.raises(Unavailable):
        nonsense.door.states([1])


def test_a_number_of_a_thousand_digits_costs_its_own_job(nonsense):
    nonsense.says(
        b'[{"JobID": 1, "Status": "Done", "RescheduleCounter": ' + b"9" * 5_000 + b'}, {"JobID": 2, "Status": "Done"}]'
    )
    assert nonsense.door.states([1, 2])[2].status == "Done"


@pytest.mark.parametrize("part", ["jobs 0-1/9999", "jobs 9-0/9999", "pages", ""])
def test_pages_without_an_end_are_an_outage(nonsense, part):
    nonsense.status, nonsense.headers = 206, {"content-range": part}
    nonsense.says([GOOD])
    with pytest.raises(Unavailable):
        nonsense.door.states([1, 2, 3])
    assert len(nonsense.server.requests) <= 4


@pytest.mark.parametrize(
    "token", ["", "{}", "{", '{"access_token": 5}', '{"access_token": "a\\nb"}', "two\nlines", "\u00fc"]
)
def test_a_file_without_a_token_is_an_outage(nonsense, tmp_path, token):
    (tmp_path / "token").write_text(token)
    with pytest.raises(Unavailable, match="SKYTALLY_DIRAC_TOKEN_FILE"):
        nonsense.door.states([1])


@pytest.mark.parametrize("renewed", [b"", b"<html>", b"[]", b"{}", b'{"access_token": null}'])
def test_a_renewal_that_brings_no_token_is_an_outage(nonsense, renewed):
    nonsense.status, nonsense.renewed = 401, renewed
    with pytest.raises(Unavailable):
        nonsense.door.states([1])


@pytest.mark.parametrize(
    ("status", "is_over"),
    [
        (400, True),
        (401, True),
        (403, True),
        (404, False),
        (429, False),
        (500, False),
        (503, False),
        (502, True),
        (504, True),
    ],
)
def test_a_renewal_that_fails_is_tried_again_where_the_token_still_holds(nonsense, documents, status, is_over):
    nonsense.status, nonsense.renewal_status = 401, status
    with pytest.raises(Unavailable):
        nonsense.door.states([1])
    nonsense.status, nonsense.renewed_count = 401, 0
    with pytest.raises(Unavailable):
        nonsense.door.states([1])
    assert nonsense.renewed_count == (0 if is_over else 1)


def test_a_server_that_takes_no_connection_for_a_renewal_leaves_the_token_as_it_is(nonsense, monkeypatch):
    nonsense.status = 401
    with monkeypatch.context() as away:
        real = nonsense.door._client.request
        away.setattr(nonsense.door._client, "request", lambda m, url, **how: real(m, url.replace(*PORT(url)), **how))
        with pytest.raises(Unavailable, match="does not answer"):
            nonsense.door.states([1])
    nonsense.renewed_count = 0
    with pytest.raises(Unavailable):
        nonsense.door.states([1])
    assert nonsense.renewed_count == 1


def PORT(url):
    """Return what to replace in a renewal's address so that nobody listens there."""
    address = url.partition("/api/")[0]
    return (address, "http://127.0.0.1:9") if url.endswith("/api/auth/token") else (address, address)


def test_all_requests_of_a_call_take_one_request_s_time_together(nonsense, monkeypatch):
    monkeypatch.setattr("skytally.adapters.jobs_diracx.REQUEST_SECONDS", 0.5)
    nonsense.pause_seconds, nonsense.status, nonsense.headers = 0.2, 206, {"content-range": "jobs 0-1/9999"}
    nonsense.says([GOOD])
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        nonsense.door.states(list(range(1, 100)))
    assert 0.4 < time.monotonic() - begin < 1.5


@pytest.fixture
def dstat(tmp_path):
    """A stand-in for the classic client: prints what it is told, and ends as it is told."""

    def make(output, code=0, seconds=0):
        path = tmp_path / "dstat"
        (tmp_path / "output").write_text(output)
        path.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nsleep {seconds}\ncat {tmp_path}/output\nexit {code}\n'
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return DiracCommandJobStates(str(path))

    return make


@pytest.fixture
def command_of(tmp_path):
    return DiracCommandJobStates(str(classic_dirac.set_up(tmp_path)))


NOTICE = "Running without remote configuration\n"
NOBODY = "a row that names no job that was asked about"
TABLE = (
    f"{NOTICE}{HEADER}\n"
    "1,Done,LCG.Victoria.ca,2026-11-24 04:42:58,2026-11-24 04:42:58,None,None,None,0,Execution Complete,Job Finished "
    "Successfully,\n"
    "2,Running,LCG.Victoria.ca,2026-11-24 04:42:58,None,None,None,2026-11-24 03:00:00,1,"
    "Application,Executing basf2; step=2, Status=Done,\n\n"
)


def told(folder, *arguments):
    done = subprocess.run([folder / "dstat", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class TestStandIn:
    """The stand-in is as the recorded session of the real command."""

    @pytest.fixture(autouse=True)
    def command(self, tmp_path):
        return classic_dirac.set_up(tmp_path)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("-a", "-f", "csv", "-F", "Status,Site,LastUpdateTime,HeartBeatTime,ApplicationStatus", "1,2,3"),
            ("-a", "-f", "json", "-F", "Status,MinorStatus,ApplicationStatus,Site,Owner", "1,2,3"),
        ],
    )
    def test_prints_what_was_recorded(self, tmp_path, arguments):
        code, output = told(tmp_path, *arguments)
        assert f"dstat {' '.join(arguments)}\n{output}" in RECORDED.read_text()
        assert code == 0

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (("-a", "-f", "json", "1,2,3"), 255),
            (("-a", "-f", "json", "-F", "Status,LastUpdateTime", "1,2,3"), 1),
            (("-a", "-f", "csv", "-F", "Status", "1,two"), 2),
        ],
    )
    def test_refuses_what_was_refused(self, tmp_path, arguments, code):
        assert told(tmp_path, *arguments)[0] == code

    def test_our_door_asks_what_it_takes(self, command):
        found = DiracCommandJobStates(str(command)).states([1, 2, 3, 99])
        assert {number: (one.status, one.site) for number, one in found.items()} == {
            1: ("Done", "LCG.Victoria.ca"),
            2: ("Running", "LCG.Victoria.ca"),
            3: ("Failed", "LCG.Victoria.ca"),
        }
        assert found[2].application_status == "Executing basf2; step=2"
        assert DiracCommandJobStates(str(command)).states([99]) == {}


def test_the_classic_table_is_read_whatever_the_application_says(dstat):
    found = dstat(TABLE).states([1, 2, 99])
    assert set(found) == {1, 2}
    assert (found[1].status, found[1].ended_at, found[1].reschedule_count) == ("Done", None, 0)
    assert found[2].rescheduled_at == datetime(2026, 11, 24, 3, tzinfo=UTC)
    assert found[1].last_update_at == datetime(2026, 11, 24, 4, 42, 58, tzinfo=UTC)
    assert (found[2].status, found[2].application_status) == ("Running", "Executing basf2; step=2, Status=Done")


def test_jobs_that_are_asked_about_alone_share_one_request_s_time_and_cost_nobody_else(dstat, monkeypatch):
    monkeypatch.setattr("skytally.adapters.jobs_dirac.REQUEST_SECONDS", 1)
    row = "{},Done,S,None,None,None,None,None,0,Minor,App,\n"
    doubled = "".join(row.format(n) * 2 for n in range(1, 9))
    begin = time.monotonic()
    found = dstat(f"{HEADER}\n{doubled}{row.format(9)}\n", seconds=0.4).states(list(range(1, 10)))
    assert time.monotonic() - begin < 2
    assert found[9].status == "Done"
    assert {type(found[n]) for n in range(3, 9)} == {UnreadState}


def test_none_known_is_an_empty_table(dstat):
    assert dstat(f"{NOTICE}{HEADER}\n\n").states([99]) == {}


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("1,,S,None,None,None,None,None,0,Minor,App,", {1: UnreadState("1", "a job without a status"), 2: "Running"}),
        (
            "1,Done,S,None,None,None,None,None,many,Minor,App,",
            {1: UnreadState("1", "a job whose RescheduleCounter is no count"), 2: "Running"},
        ),
        (
            "1,Done,S,None,None,None,None,noon,1,Minor,App,",
            {1: UnreadState("1", "a job whose RescheduleTime is no time"), 2: "Running"},
        ),
        ("1,Done,S,noon,9999-12-31 00:00:00,0000-00-00 00:00:00,None,None,0,Minor,App,", {1: "Done", 2: "Running"}),
        ("1,Done,S,", {1: UnreadState("1", "a job without a status"), 2: "Running"}),
        (
            "one,Done,S,None,None,None,None,None,0,Minor,App,",
            {1: UnreadState("row 0", NOBODY), 2: "Running", 9: UnreadState("row 0", NOBODY)},
        ),
        ("1,Done,S,None,None,None,None,None,0,Minor,two\nlines,\n\n3,,", {1: "Done", 2: "Running"}),
        ("1,Done,S,None,None,None,None,None,0,Two\nlines,App,", {1: "Done", 2: "Running"}),
        ("1,Done,S,None,None,None,None,None,0,Minor,\u2028\x0b\x85,", {1: "Done", 2: "Running"}),
        (f"1,Done,S,None,None,None,None,None,0,Minor,{'x' * 10**6},", {1: "Done", 2: "Running"}),
    ],
)
def test_a_row_of_the_classic_table_that_cannot_be_read_costs_itself(dstat, row, found):
    states = dstat(f"{NOTICE}{HEADER}\n{row}\n{TABLE.splitlines()[3]}\n\n").states([1, 2, 9])
    assert {job: state.status if isinstance(state, JobState) else state for job, state in states.items()} == found


def test_a_row_within_a_row_is_not_believed(command_of, tmp_path):
    """A job may set its application's status to anything, also to what looks like another job's end."""
    forged = "Failed,S,None,None,None,None,None,0,Minor,App"
    jobs = {number: classic_dirac.RECORDED_MORE | job for number, job in classic_dirac.RECORDED.items()}
    classic_dirac.tell(tmp_path, jobs | {"1": jobs["1"] | {"ApplicationStatus": f"x,\n2,{forged},\n3,{forged}"}})
    found = command_of.states([1, 2, 3])
    assert {number: state.status for number, state in found.items()} == {1: "Done", 2: "Running", 3: "Failed"}
    assert (found[3].minor_status, len(classic_dirac.calls(tmp_path))) == ("Application Finished With Errors", 3)


def test_more_forged_rows_than_can_be_asked_about_stay_as_they_are(command_of, tmp_path, monkeypatch):
    monkeypatch.setattr("skytally.adapters.jobs_dirac.MOST_ALONE", 1)
    jobs = {number: classic_dirac.RECORDED_MORE | job for number, job in classic_dirac.RECORDED.items()}
    forged = "\n".join(f"{number},Failed,S,None,None,None,None,None,0,Minor,App," for number in "23")
    classic_dirac.tell(tmp_path, jobs | {"1": jobs["1"] | {"ApplicationStatus": f"x,\n{forged}"}})
    found = command_of.states([1, 2, 3])
    assert (found[1].status, found[2].status, found[3].key) == ("Done", "Running", "3")


@pytest.mark.parametrize(("output", "code"), [("", 0), (NOTICE, 0), (TABLE, 1), (TABLE[:-40], 0)])
def test_partial_output_is_an_outage(dstat, output, code):
    with pytest.raises(Unavailable):
        dstat(output, code).states([1, 2])


def test_a_client_that_hangs_or_is_missing_is_an_outage(dstat, monkeypatch):
    monkeypatch.setattr("skytally.adapters.jobs_dirac.REQUEST_SECONDS", 0.2)
    with pytest.raises(Unavailable, match="did not end"):
        dstat(TABLE, seconds=5).states([1])
    with pytest.raises(Unavailable, match="cannot be run"):
        DiracCommandJobStates("/nonexistent/dstat").states([1])


def test_many_jobs_take_few_calls(dstat, tmp_path):
    dstat(TABLE).states(range(-5, 1_200))
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 3
    assert all(len(line) < 10_000 for line in asked)
    assert os.sep not in asked[0]


def test_the_csv_survives_windows_line_ends():
    assert [row["job_id"] for row in parse_csv(TABLE.replace("\n", "\r\n"))] == ["1", "2"]
