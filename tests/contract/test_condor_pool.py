"""scheduler.py on a real HTCondor pool, telling real functions,
while history rotates and it is killed: every run on its vm and cloud.
"""

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from localstack.condor import CLOUD, SPOOL, pool
from localstack.replicas import free_port
from localstack.server_process import Missing
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import PlacedVm, Placement
from tests.support.local_server import Server

pytestmark = [pytest.mark.servers, pytest.mark.slow]
SCRIPT = Path(__file__).resolve().parents[2] / "functions" / "agent" / "scheduler.py"


@pytest.fixture(scope="module")
def condor():
    try:
        with pool(free_port()) as condor:
            yield condor
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


class Reporter:
    """The real script beside the pool, telling a server of its own;
    without `files` it has HTCondor's commands alone.
    """

    def __init__(self, condor, folder, server):
        spool = condor.root / SPOOL
        self.files = ["--history", spool / "history", "--epoch-history", spool / "epoch_history"]
        self.words = [
            "report",
            "--base",
            server.base,
            "--token-file",
            folder / "tokens" / "scheduler",
            "--state",
            folder / "state",
        ]
        self.environment = {**os.environ, "PATH": f"{condor.commands(folder / 'bin')}:{os.environ['PATH']}"}
        self.documents = folder / "documents.sqlite"

    def start(self, *more):
        command = [sys.executable, str(SCRIPT), *map(str, [*self.words, *more])]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def send(self, *more):
        """Report to the end; return the exit code and what was said."""
        with self.start(*more) as process:
            _, said = process.communicate(timeout=120)
            return process.returncode, said

    def die(self, seconds):
        """Report until killed."""
        with self.start(*self.files) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            process.kill()

    def told(self):
        """Return the runs and the vms that the server has."""
        documents = SqliteDocuments(self.documents)
        runs, vms = (
            [one for _, one in documents.find(index, kind, {})]
            for index, kind in (("placement", Placement), ("placed_vm", PlacedVm))
        )
        documents.close()
        return runs, vms


@pytest.fixture
def reporter(condor, tmp_path):
    server = Server(tmp_path).start()
    yield Reporter(condor, tmp_path, server)
    server.stop()


def burst(condor):
    """Run jobs of no length until history has rotated several times, and the awkward ones among them."""
    clusters = {
        "burst": [condor.submit("true", 18) for _ in range(3)],
        "exit": condor.submit("exit 3"),
        "long": condor.submit("sleep 300"),
    }
    condor.wait(clusters["long"], "2")
    clusters["removed running"] = condor.submit("sleep 300")
    condor.wait(clusters["removed running"], "2")
    condor.inside("condor_rm", clusters["removed running"])
    clusters["removed idle"] = condor.submit("true", more='requirements = cloud_name == "nowhere"')
    condor.inside("condor_rm", clusters["removed idle"])
    clusters["evicted"] = condor.submit("sleep 8")
    condor.wait(clusters["evicted"], "2")
    condor.inside("condor_vacate_job", clusters["evicted"])
    for cluster in (
        *clusters["burst"],
        clusters["exit"],
        clusters["removed running"],
        clusters["removed idle"],
        clusters["evicted"],
    ):
        condor.wait(cluster, None)
    return clusters


def runs_of(runs, cluster):
    return sorted((run for run in runs if run.batch_number == f"{cluster}.0"), key=lambda run: run.started_at)


def that_ran(condor):
    return {
        ad["GlobalJobId"] for ad in json.loads(condor.inside("condor_history", "-json")) if ad.get("LastRemoteHost")
    }


def test_every_run_is_told_while_history_rotates(condor, reporter):
    made, over, chance = {}, threading.Event(), random.Random(9)

    def work():
        try:
            made.update(burst(condor))
        finally:
            over.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not over.wait(0.3):
        reporter.die(chance.random() * 0.6)
        assert reporter.send(*reporter.files) == (0, "")
    worker.join()
    assert reporter.send(*reporter.files) == (0, "")
    assert len(list((condor.root / SPOOL).glob("history.*"))) >= 2
    runs, vms = reporter.told()
    assert {run.batch_id for run in runs} - {run.batch_id for run in runs_of(runs, made["long"])} == that_ran(condor)
    assert {run.cloud for run in runs} == {CLOUD}
    assert [run.exit_code for run in runs_of(runs, made["exit"])] == [3]
    assert [run.ended_at for run in runs_of(runs, made["long"])] == [None]
    assert [run.ended_at is not None for run in runs_of(runs, made["removed running"])] == [True]
    assert len(runs_of(runs, made["evicted"])) == 2
    assert not runs_of(runs, made["removed idle"])
    assert {(vm.cloud, vm.flavor, vm.cores) for vm in vms} == {(CLOUD, "c4", 4)}
    assert len(vms) == 1, [vm.started_at for vm in vms]


def test_a_job_held_between_two_runs_while_the_schedd_restarts(condor, reporter):
    cluster = condor.submit("sleep 300")
    condor.wait(cluster, "2")
    condor.inside("condor_hold", cluster)
    condor.wait(cluster, "5")
    assert reporter.send(*reporter.files) == (0, "")
    (held,) = runs_of(reporter.told()[0], cluster)
    assert (held.state, held.ended_at is not None) == ("held", True)
    condor.inside("condor_restart", "-fast", "-subsystem", "schedd")
    condor.wait_for(lambda: not condor.inside("condor_q", "-allusers", "-af", "ClusterId", check=False))
    code, said = reporter.send(*reporter.files)
    assert (code, "condor_q failed" in said) == (5, True)
    condor.wait(cluster, "5")
    condor.inside("condor_release", cluster)
    condor.wait(cluster, "2")
    assert reporter.send(*reporter.files) == (0, "")
    first, second = runs_of(reporter.told()[0], cluster)
    assert (first, second.state, second.ended_at, second.wall_seconds) == (held, "running", None, None)
    condor.inside("condor_hold", cluster)
    condor.wait(cluster, "5")
    time.sleep(3)
    condor.inside("condor_rm", cluster)
    condor.wait(cluster, None)
    assert reporter.send(*reporter.files) == (0, "")
    first, second = runs_of(reporter.told()[0], cluster)
    assert first.ended_at == held.ended_at
    assert (second.state, (second.ended_at - second.started_at).total_seconds()) == ("removed", second.wall_seconds)


def test_by_command_where_the_files_are_closed(condor, reporter):
    code, said = reporter.send()
    assert (code, "only the last run is told" in said) == (0, True)
    assert that_ran(condor) <= {run.batch_id for run in reporter.told()[0]}
    condor.wait(condor.submit("true", 3), None)
    assert reporter.send()[0] == 0
    assert that_ran(condor) <= {run.batch_id for run in reporter.told()[0]}
