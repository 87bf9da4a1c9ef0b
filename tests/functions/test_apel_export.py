"""`skytally statement export`: a closed month into the spool of ssmsend,
read back by dirq and loaded into a model of APEL's server.
"""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from dirq.QueueSimple import QueueSimple

from skytally.accounting import apel_format
from skytally.app import wiring
from skytally.cli import cli
from skytally.core.documents import Job
from skytally.core.errors import Conflict, NotFound
from skytally.core.ports import Write
from skytally.operation import retention
from tests.support import builders
from tests.support.apel_server import ApelServer

EDGE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
SITE = """
[clouds.uvic]
apel_site = "CA-VICTORIA"
[clouds.cern]
apel_site = "CERN-PROD"
[clouds.lost]
owner = "nobody told its site"
[apel]
virtual_organisations = {{ atlas-vms = "atlas", uvic = "belle" }}
[calibration]
kernels = {{ zbs = {factor} }}
"""


class Fleet:
    """October of three clouds, one of which APEL does not know, on its way to APEL."""

    def __init__(self, client, bearer, home, monkeypatch):
        self.client, self.bearer, self.home = client, bearer, home
        self.spool, self.server = home / "outgoing", ApelServer()
        monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
        self.calibrate(2.0)
        for number, (cloud, group, cores, score) in enumerate(
            [
                ("uvic", None, 8, 5.0),
                ("uvic", None, 8, 6.25),
                ("uvic", "atlas-vms", 4, 5.0),
                ("uvic", "atlas-vms", 4, None),
                ("cern", "atlas-vms", 2, 7.5),
                ("lost", None, 1, None),
            ]
        ):
            boot_at = EDGE - timedelta(hours=100 + number, milliseconds=333)
            self.report(f"vm-{number}", cloud, group=group, boot_at=boot_at, cores=cores, score=score)

    def calibrate(self, factor):
        (self.home / "clouds.toml").write_text(SITE.format(factor=factor))
        wiring.close()

    def report(self, name, cloud, boot_at, group=None, cores=8, score=None):
        vm = builders.FakeVm(name, boot_at=boot_at, cores=cores)
        vm.boot_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        benchmark = {"kernel": "zbs", "kernel_version": "1", "score_wall": score, "score_cpu": score, "copies": cores}
        more = {"benchmark": benchmark} if score else {}
        sample = vm.sample(EDGE, month="2026-10", month_start=builders.counters(0, cores), **more)
        headers = self.bearer("reporter", clouds=(cloud,), group=group, issued=NOW)
        answer = self.client.post("usage-report", json={"samples": [sample]}, headers=headers)
        assert answer.json()["accepted"] == 1, answer.text

    def run(self, *words):
        return CliRunner().invoke(cli, ["statement", *map(str, words)])

    def close(self, *words):
        done = self.run("close", "--month", "2026-10", *words)
        assert done.exit_code == 0, done.output

    def export(self, form="apel-cloud", *words):
        return self.run("export", "--month", "2026-10", "--format", form, *(words or ("--spool", self.spool)))

    def sent(self):
        """Take the spool's messages out of it, as ssmsend does."""
        queue, texts = QueueSimple(str(self.spool)), []
        for name in queue:
            assert queue.lock(name)
            texts.append(queue.get(name).decode("ascii"))
            queue.remove(name)
        return texts

    def arrive(self, form):
        """Load what lies in the spool, and let the server sum up a day later."""
        for text in self.sent():
            apel_format.check(text, NOW)
            self.server.load(text)
        self.server.now += timedelta(days=1)
        if form == "apel-cloud":
            self.server.summarise()

    def boots(self):
        params = {"month": "2026-10", "detail": "boots"}
        return self.client.get("statement", params=params, headers=self.bearer("reader", issued=NOW)).json()["boots"]


@pytest.fixture(params=builders.DOCUMENT_STORES)
def fleet(request, home, document_settings, monkeypatch, client, bearer):
    for setting, value in ({"SKYTALLY_CLOUDS": str(home / "clouds.toml")} | document_settings(request.param)).items():
        monkeypatch.setenv(setting, value)
    fleet = Fleet(client, bearer, home, monkeypatch)
    fleet.run("keygen")
    return fleet


def assert_told(fleet):
    """Compare the server's tables with the statement: per cloud and virtual organisation, to the second."""
    wanted = {}
    for boot in fleet.boots():
        if boot["cloud"] != "lost":
            organisation = "atlas" if boot["group"] else "belle"
            total = wanted.setdefault((boot["cloud"], organisation, 2026, 10), [0.0, 0.0, 0.0, 0.0])
            core = boot["core_seconds"]
            for index, value in enumerate(
                (boot["wall_seconds"], boot["cpu_seconds"], core, core * (boot["hs23_per_core"] or 0))
            ):
                total[index] += value
    told = fleet.server.totals(("CloudComputeService", "VO", "Year", "Month"))
    assert told.keys() == wanted.keys()
    for key, total in told.items():
        wall, cpu, core, hs23 = wanted[key]
        assert abs(total.wall - wall) <= 1
        assert abs(total.cpu - cpu) <= 1
        # A second of a vm is a second of each of its cores.
        assert float(total.core) == pytest.approx(core, abs=2 * 8)
        assert float(total.hs23) == pytest.approx(hs23, abs=2 * 8 * 20)


@pytest.mark.parametrize("form", ["apel-cloud", "apel-cloud-summary"])
def test_a_month_that_is_sent_twice_restated_and_sent_again_is_the_statement(fleet, form):
    fleet.close()
    for _ in range(2):
        assert fleet.export(form).exit_code == 3
        fleet.arrive(form)
        assert_told(fleet)
    fleet.report("late", "uvic", EDGE - timedelta(hours=5), score=5.0)
    fleet.calibrate(2.5)
    fleet.close()
    assert fleet.export(form).exit_code == 3
    fleet.arrive(form)
    assert_told(fleet)


def test_what_was_left_out_is_named_and_is_exit_code_3(fleet):
    fleet.close()
    done = fleet.export()
    assert (done.exit_code, done.stdout) == (3, f"5 records in 1 message: {fleet.spool}\n")
    assert done.stderr.splitlines() == [
        "left out, by vms or jobs: 1",
        "      1  lost: the site data name no apel_site for it",
    ]
    assert len(fleet.sent()) == 1
    alone = fleet.export("apel-cloud", "--spool", fleet.spool, "--cloud", "uvic", "--cloud", "cern")
    assert (alone.exit_code, alone.stderr) == (0, "")
    nothing = fleet.export("apel-cloud", "--spool", fleet.home / "none", "--cloud", "lost")
    assert (nothing.exit_code, (fleet.home / "none").exists()) == (3, False)


def test_a_month_that_is_not_closed_is_not_sent_unless_asked_for_by_name(fleet):
    refused = fleet.export()
    assert isinstance(refused.exception, Conflict)
    assert "--provisional" in refused.exception.message
    assert not fleet.spool.exists()
    assert fleet.export("apel-cloud", "--spool", fleet.spool, "--provisional").exit_code == 3
    assert sum(text.count("VMUUID") for text in fleet.sent()) == 5
    fleet.close("--cloud", "cern")
    done = fleet.export()
    assert (done.exit_code, done.stdout) == (3, f"1 record in 1 message: {fleet.spool}\n")
    assert "uvic: its 2026-10 is not closed" in done.stderr
    answer = fleet.client.get(
        "statement", params={"month": "2026-10", "format": "apel-cloud"}, headers=fleet.bearer("reader", issued=NOW)
    )
    assert (answer.status_code, answer.text.count("VMUUID")) == (200, 5)


def test_a_cloud_that_nobody_knows_is_an_error_that_names_those_that_are_known(fleet):
    known = "known are cern, lost, uvic"
    for done in (
        fleet.run("close", "--month", "2026-10", "--cloud", "typo"),
        fleet.run("close", "--month", "2026-10", "--cloud", "uvic", "--cloud", "typo", "--dry-run"),
        fleet.export("apel-cloud", "--spool", fleet.spool, "--cloud", "typo"),
    ):
        assert isinstance(done.exception, NotFound)
        assert known in done.exception.message
    assert {
        row["state"]
        for row in fleet.client.get("statement?month=2026-10", headers=fleet.bearer("reader", issued=NOW)).json()[
            "clouds"
        ]
    } == {"provisional"}


def test_many_vms_are_several_messages_of_a_thousand(fleet):
    boot_at = EDGE - timedelta(hours=1)
    samples = [
        builders.FakeVm(f"many-{n}", boot_at=boot_at).sample(EDGE, month="2026-10", month_start=builders.counters(0))
        for n in range(1_200)
    ]
    answer = fleet.client.post(
        "usage-report", json={"samples": samples}, headers=fleet.bearer("reporter", clouds=("cern",), issued=NOW)
    )
    assert answer.json()["accepted"] == 1_200, answer.text
    fleet.close()
    done = fleet.export("apel-cloud", "--spool", fleet.spool, "--cloud", "cern")
    assert (done.exit_code, done.stdout) == (0, f"1201 records in 2 messages: {fleet.spool}\n")
    assert [apel_format.check(text, NOW) for text in fleet.sent()] == [1_000, 201]
    done = fleet.export("apel-cloud", "--output", fleet.home / "cern.txt", "--cloud", "cern")
    assert done.exit_code == 0
    assert [apel_format.check((fleet.home / f"cern-{n}.txt").read_text(), NOW) for n in (1, 2)] == [1_000, 201]


def test_a_file_may_be_written_instead(fleet):
    fleet.close()
    done = fleet.export("apel-cloud-summary", "--output", fleet.home / "month.txt")
    assert (done.exit_code, apel_format.check((fleet.home / "month.txt").read_text(), NOW)) == (3, 5)
    assert fleet.export("apel-cloud", "--output", fleet.home).exit_code == 2
    assert fleet.run("export", "--month", "2026-10", "--format", "apel-cloud").exit_code == 2
    assert fleet.export("apel-cloud", "--output", fleet.home / "no" / "folder.txt").exit_code == 1


def test_jobs_go_too_but_not_those_of_a_month_that_is_partly_forgotten_also_when_it_is_closed(fleet):
    blank = dict.fromkeys(Job.__struct_fields__) | {
        "system": "dirac",
        "status": "Done",
        "seen_at": NOW,
        "started_at": EDGE,
    }
    spent = {
        "cores": 8,
        "wall_ms": 3_600_000,
        "cpu_ms": 3_600_000,
        "core_ms": 8 * 3_600_000,
        "core_ms_with_cpu": 0,
        "wasted_core_ms": 0,
    }
    at = EDGE - timedelta(days=3)
    for number, cloud in enumerate(("uvic", "uvic", "lost")):
        job = Job(
            **blank
            | spent
            | {"multicore": True, "job_id": str(number), "cloud": cloud, "final_at": at, "changed_at": at}
        )
        wiring.documents().write([Write("job", f"dirac/{number}", 1, job)]).result()
    fleet.close()
    done = fleet.export("apel-job-summary")
    assert (done.exit_code, done.stdout) == (3, f"1 record in 1 message: {fleet.spool}\n")
    (text,) = fleet.sent()
    assert "VO: belle\n" in text
    assert "NumberOfJobs: 2\n" in text
    assert retention.forget(wiring.documents(), 6, NOW)["job"] == 3
    refused = fleet.export("apel-job-summary")
    assert (refused.exception.code, fleet.sent()) == ("forgotten", [])
    assert fleet.export("apel-cloud").exit_code == 3
