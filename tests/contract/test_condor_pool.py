"""scheduler.py on a real HTCondor pool, reporting to real functions, while history rotates: every run on its vm and cloud, once."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from running import Server

from localstack.condor import CLOUD, SPOOL, pool
from localstack.replicas import free_port
from localstack.server_process import Missing
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.documents import PlacedVm, Placement

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


@pytest.fixture
def report(condor, tmp_path):
    """Answer how a report is sent: it ends well and says nothing on standard error."""
    server = Server(tmp_path).start()
    path = f"{condor.commands(tmp_path / 'bin')}:{os.environ['PATH']}"
    spool = condor.root / SPOOL
    words = ["report", "--base", server.base, "--token-file", tmp_path / "tokens" / "scheduler", "--state", tmp_path / "state"]
    words += ["--history", spool / "history", "--epoch-history", spool / "epoch_history"]

    def send():
        command = [sys.executable, str(SCRIPT), *map(str, words)]
        done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    yield send
    server.stop()


def burst(condor):
    """Run jobs of no length until history has rotated several times, and the awkward ones among them."""
    clusters = {"burst": [condor.submit("true", 18) for _ in range(3)], "exit": condor.submit("exit 3"), "long": condor.submit("sleep 300")}
    condor.wait(clusters["long"], "2")
    clusters["removed running"] = condor.submit("sleep 300")
    condor.wait(clusters["removed running"], "2")
    condor.inside("condor_rm", clusters["removed running"])
    clusters["removed idle"] = condor.submit("true", more='requirements = cloud_name == "nowhere"')
    condor.inside("condor_rm", clusters["removed idle"])
    clusters["evicted"] = condor.submit("sleep 8")
    condor.wait(clusters["evicted"], "2")
    condor.inside("condor_vacate_job", clusters["evicted"])
    for cluster in (*clusters["burst"], clusters["exit"], clusters["removed running"], clusters["removed idle"], clusters["evicted"]):
        condor.wait(cluster, None)
    return clusters


def test_every_run_is_told_while_history_rotates(condor, report, tmp_path):
    made, over = {}, threading.Event()

    def work():
        try:
            made.update(burst(condor))
        finally:
            over.set()

    worker = threading.Thread(target=work)
    worker.start()
    while not over.wait(0.5):
        report()
    worker.join()
    report()
    assert len(list((condor.root / SPOOL).glob("history.*"))) >= 2
    documents = SqliteDocuments(tmp_path / "documents.sqlite")
    runs = [run for _, run in documents.find("placement", Placement, {})]
    vms = [vm for _, vm in documents.find("placed_vm", PlacedVm, {})]
    documents.close()
    ran = {ad["GlobalJobId"] for ad in json.loads(condor.inside("condor_history", "-json")) if ad.get("LastRemoteHost")}
    of = {name: [run for run in runs if run.batch_number == f"{made[name]}.0"] for name in ("exit", "long", "removed running", "evicted")}
    assert {run.batch_id for run in runs} - {run.batch_id for run in of["long"]} == ran
    assert {run.cloud for run in runs} == {CLOUD}
    assert [run.exit_code for run in of["exit"]] == [3]
    assert [run.ended_at for run in of["long"]] == [None]
    assert [run.ended_at is not None for run in of["removed running"]] == [True]
    assert len(of["evicted"]) == 2
    assert not [run for run in runs if run.batch_number == f"{made['removed idle']}.0"]
    assert {(vm.cloud, vm.flavor, vm.cores) for vm in vms} == {(CLOUD, "c4", 4)}
    assert len(vms) == 1, [vm.started_at for vm in vms]
