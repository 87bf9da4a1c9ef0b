"""DIRAC's two doors: the same port on a real DiracX, and on the classic command line's recorded output."""

import json
import os
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import classic_dirac
import pytest

from localstack.diracx import diracx
from skytally.adapters.jobs_dirac import HEADER, DiracCommandJobStates, parse_csv
from skytally.adapters.jobs_diracx import DiracxJobStates, parse_state
from skytally.errors import Unavailable

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "dirac_cli_vs_classic_server.txt"


def now():
    return datetime.now(UTC).isoformat()


@pytest.fixture(scope="module")
def dirac(tmp_path_factory):
    with diracx(tmp_path_factory.mktemp("diracx")) as server:
        server.ids = server.submit(60)
        yield server


@pytest.fixture
def door(dirac, tmp_path):
    (tmp_path / "token").write_text(dirac.token())
    return DiracxJobStates(dirac.url, tmp_path / "token")


@pytest.mark.servers
class TestDiracx:
    def test_a_job_is_as_dirac_says(self, dirac, door):
        job = dirac.ids[0]
        dirac.move(job, "LCG.Victoria.ca")
        dirac.set_state(
            job, now(), Status="Running", MinorStatus="Application", ApplicationStatus="Executing basf2; step=2; Status=Done; Site=X"
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

    def test_a_bad_token_without_a_refresh_token_is_an_outage(self, dirac, tmp_path):
        (tmp_path / "bare").write_text("e30.e30.x")
        with pytest.raises(Unavailable, match="cannot be renewed"):
            DiracxJobStates(dirac.url, tmp_path / "bare").states(dirac.ids)
        (tmp_path / "pair").write_text(json.dumps({"access_token": "e30.e30.x", "refresh_token": "e30.e30.y"}))
        with pytest.raises(Unavailable, match="refuses to renew"):
            DiracxJobStates(dirac.url, tmp_path / "pair").states(dirac.ids)


@pytest.mark.servers
class TestRenewal:
    @pytest.fixture
    def token_file(self, dirac, tmp_path):
        token_file = tmp_path / "pair"
        token_file.write_text(json.dumps(dirac.token_pair() | {"access_token": "e30.e30.x"}))
        token_file.chmod(0o600)
        return token_file

    def test_a_refused_token_is_renewed_and_the_new_one_kept_for_the_next_process(self, dirac, token_file):
        assert set(DiracxJobStates(dirac.url, token_file).states(dirac.ids[:2])) == set(dirac.ids[:2])
        kept = json.loads(token_file.read_text())
        assert kept["access_token"] != "e30.e30.x"
        assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
        token_file.write_text(json.dumps({"access_token": kept["access_token"]}))
        assert DiracxJobStates(dirac.url, token_file).states(dirac.ids[:1])

    def test_it_is_renewed_again_and_again(self, dirac, token_file):
        door = DiracxJobStates(dirac.url, token_file)
        for _ in range(3):
            assert door.states(dirac.ids[:1])
            door._tokens = door._read_tokens() | {"access_token": "e30.e30.x"}

    def test_a_token_that_ends_between_two_pages_is_renewed_once_and_the_page_read_again(self, dirac, token_file, monkeypatch):
        monkeypatch.setattr("skytally.adapters.jobs_diracx.PAGE_JOBS", 20)
        door, asked = DiracxJobStates(dirac.url, token_file), []

        def request(path, how, real=door._request):
            asked.append(path)
            if len(asked) == 4:
                how["headers"]["Authorization"] = "Bearer e30.e30.x"
            return real(path, how)

        door._request = request
        assert set(door.states(dirac.ids)) == set(dirac.ids)
        assert [path.partition("?")[0] for path in asked].count("/api/auth/token") == 2

    def test_a_file_that_cannot_be_written_costs_nothing_now(self, dirac, token_file, monkeypatch):
        def refuse(*_):
            raise PermissionError

        monkeypatch.setattr(Path, "replace", refuse)
        assert DiracxJobStates(dirac.url, token_file).states(dirac.ids[:1])


def test_a_server_that_is_away_is_an_outage(tmp_path):
    (tmp_path / "token").write_text("x")
    with pytest.raises(Unavailable):
        DiracxJobStates("http://127.0.0.1:9", tmp_path / "token").states([1])
    with pytest.raises(Unavailable):
        DiracxJobStates("http://127.0.0.1:9", tmp_path / "nothing").states([1])


@pytest.mark.parametrize("row", [{}, {"JobID": 1}, {"JobID": 1, "Status": "Done", "EndExecTime": "noon"}, None, []])
def test_a_job_that_cannot_be_read_is_an_outage(row):
    with pytest.raises(Unavailable):
        parse_state(row)


@pytest.fixture
def dstat(tmp_path):
    """A stand-in for the classic client: prints what it is told, and ends as it is told."""

    def make(output, code=0, seconds=0):
        path = tmp_path / "dstat"
        (tmp_path / "output").write_text(output)
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nsleep {seconds}\ncat {tmp_path}/output\nexit {code}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return DiracCommandJobStates(str(path))

    return make


NOTICE = "Running without remote configuration\n"
TABLE = (
    f"{NOTICE}{HEADER}\n"
    "1,Done,LCG.Victoria.ca,2026-11-24 04:42:58,2026-11-24 04:42:58,None,None,None,0,Execution Complete,Job Finished Successfully,\n"
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


def test_none_known_is_an_empty_table(dstat):
    assert dstat(f"{NOTICE}{HEADER}\n\n").states([99]) == {}


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("", 0),
        (NOTICE, 0),
        (TABLE, 1),
        (TABLE[:-40], 0),
        (TABLE.replace("1,Done", "one,Done"), 0),
        (TABLE.replace("2026-11-24", "noon"), 0),
    ],
)
def test_partial_output_is_an_outage(dstat, output, code):
    with pytest.raises(Unavailable):
        dstat(output, code).states([1, 2])


def test_a_client_that_hangs_or_is_missing_is_an_outage(dstat, monkeypatch):
    monkeypatch.setattr("skytally.adapters.jobs_dirac.SECONDS", 0.2)
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
    assert [state.job_id for state in parse_csv(TABLE.replace("\n", "\r\n"))] == [1, 2]
