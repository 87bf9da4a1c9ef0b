"""One `terraform apply` brings up the whole system on this machine's provider of OpenFaaS's API;
a change rolls, destroy leaves nothing.
"""

import json
import shutil
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from localstack.bigpanda import bigpanda
from tests.support.gateway import ROOT, SKYTALLY, TERRAFORM, Gateway, terraform_or_skip
from tests.support.local_server import fleet
from tests.support.vm_life import lives_through

CATALOG = json.loads((TERRAFORM / "functions" / "catalog.json").read_text())
QUEUE = "CA-IAAS-T3"


@pytest.fixture
def like():
    return "faas-netes"


in_both_manners = pytest.mark.parametrize("like", ["faas-netes", "faasd"])


@pytest.fixture
def gateway(tmp_path, like):
    terraform_or_skip()
    gateway = Gateway(tmp_path).start("--like", like)
    gateway.run(SKYTALLY, "keys", "init")
    gateway.terraform("init")
    yield gateway
    gateway.stop()


@in_both_manners
def test_everything_from_nothing_through_its_journeys_to_nothing(gateway, tmp_path, like):
    with bigpanda() as (monitor, panda_url):
        panda = {"panda-collect": {"SKYTALLY_PANDA_URL": panda_url, "SKYTALLY_PANDA_QUEUES": QUEUE}}
        gateway.terraform("apply", "-auto-approve", function_settings=panda)
        assert set(gateway.deployed()) == {function["service"] for function in CATALOG["functions"]}
        assert gateway.secrets() == {path.name for path in (tmp_path / "keys").iterdir()}

        a_fleet_is_exact(gateway)
        a_vm_lives_and_a_thief_gets_nothing(gateway, tmp_path)
        jobs_come_onto_their_clouds(gateway, monitor)
        timers_answer(gateway)

        gateway.terraform("plan", "-detailed-exitcode", function_settings=panda)
        a_change_rolls_one_function_and_loses_nothing(gateway, panda, keeps_old=like == "faas-netes")
        gateway.terraform("destroy", "-auto-approve")
    assert (gateway.deployed(), gateway.secrets(), gateway.replicas()) == ({}, set(), [])
    assert (tmp_path / "state" / "documents.sqlite").exists(), "what was accounted stays"


@in_both_manners
def test_a_wrong_setting_is_told_and_reaches_one_function_at_most(gateway, like):
    gateway.environment["SKYTALLY_DEPLOY_SECONDS"] = "15"
    gateway.terraform("apply", "-auto-approve")
    before = set(gateway.replicas())
    assert "setting SKYTALLY_TRUSTED_HOPS" in gateway.fails(
        "apply", "-auto-approve", settings={"SKYTALLY_TRUSTED_HOPS": "many"}
    )
    assert set(gateway.replicas()) == before, "what can be seen to be wrong reaches none"
    refused = gateway.fails("apply", "-auto-approve", settings={"SKYTALLY_DOCUMENTS_CA_FILE": "/nowhere"})
    assert "agent is not deployed" in refused
    assert "SKYTALLY_DOCUMENTS_CA_FILE" in refused
    others = {name for name in before if not name.startswith("agent-")}
    assert others <= set(gateway.replicas())
    assert gateway.call("agent/SHA256SUMS").status == (200 if like == "faas-netes" else 503)
    gateway.terraform("apply", "-auto-approve")
    assert gateway.call("agent/SHA256SUMS").status == 200
    gateway.terraform("plan", "-detailed-exitcode")


def test_what_was_lost_is_found_and_put_back_by_one_command(gateway, tmp_path):
    gateway.terraform("apply", "-auto-approve")
    wanted = json.dumps(json.loads(gateway.terraform_output())["deployment"]["value"])
    access = ["--gateway", gateway.base, "--password-file", gateway.password_file]
    rows = json.loads(gateway.run(SKYTALLY, "deploy", "status", *access, "--json", "-", input=wanted))
    assert {row["state"] for row in rows} == {"as wanted"}

    key = next(name for name in gateway.secrets() if name.startswith("token-"))
    gateway.system("functions", {"functionName": "statement"}, "DELETE")
    gateway.system("secrets", {"name": key}, "DELETE")
    by_hand = gateway.deployed()["agent"] | {
        "service": "agent",
        "envVars": {"FUNCTION_TARGET": "agent"},
        "annotations": {},
    }
    gateway.system("functions", {**by_hand, "secrets": []}, "PUT")
    command = [str(part) for part in (SKYTALLY, "deploy", "status", *access, "-")]
    found = subprocess.run(
        command, input=wanted, env=gateway.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 3, found.stdout + found.stderr
    lines = {line.split("│")[1].strip(): line for line in found.stdout.splitlines() if "│" in line}
    assert ("missing" in lines["statement"], "missing" in lines[key], "changed" in lines["agent"]) == (True, True, True)

    for service in gateway.deployed():
        gateway.system("functions", {"functionName": service}, "DELETE")
    for name in gateway.secrets():
        gateway.system("secrets", {"name": name}, "DELETE")
    gateway.run(SKYTALLY, "deploy", "apply", *access, "-", input=wanted)
    assert set(gateway.deployed()) == {function["service"] for function in CATALOG["functions"]}
    assert gateway.secrets() == {path.name for path in (tmp_path / "keys").iterdir()}
    gateway.terraform("plan", "-detailed-exitcode")


def a_fleet_is_exact(gateway):
    gateway.token("reader")
    done = fleet(gateway, "--vms", "20", "--days", "1", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree to the last digit" in done.stdout


def a_vm_lives_and_a_thief_gets_nothing(gateway, folder):
    (folder / "vm").mkdir()

    def read_user_data(_, step):
        if step == "deposit":
            shutil.copy(folder / "vm" / "claim", folder / "read-by-a-thief")

    life = lives_through(gateway, folder / "vm", read_user_data)
    (mine,) = [boot for boot in life.statement()["boots"] if boot["vm"] == "journey-1"]
    assert (mine["final"], mine["coverage"]) == (True, 1.0)
    command = [sys.executable, folder / "vm" / "vm.py", "boot", "--base", gateway.base, "--state", folder / "thief"]
    command += ["--claim-file", folder / "read-by-a-thief", "--payload", folder / "stolen"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, (folder / "stolen").exists()) == (3, False), done.stderr


def jobs_come_onto_their_clouds(gateway, monitor):
    now = datetime.now(UTC).replace(microsecond=0)
    began, ended = (f"{now - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S}" for minutes in (90, 30))
    row = json.loads((ROOT / "tests" / "recorded" / "bigpanda_jobs_full.json").read_text())["jobs"][0]
    times = {"starttime": began, "endtime": ended, "modificationtime": ended, "statechangetime": ended}
    monitor.rows = [
        row
        | times
        | {"jobstatus": "failed", "computingsite": QUEUE, "modificationhost": "slot1@worker-7", "batchid": "77.0"}
    ]
    vm = {"vm": "worker-7", "cloud": "lrz", "started_at": f"{now - timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}", "cores": 8}
    job = {"batch_id": "sched#77.0#1795467074", "vm": "slot1@worker-7", "started_at": f"{began}Z", "state": "running"}
    placed = gateway.call("placement-report", {"vms": [vm], "jobs": [job]}, token=gateway.token("scheduler"))
    assert (placed.status, placed.json["accepted"]) == (200, 2), placed.body
    done = gateway.call("panda-collect", b"", method="POST")
    assert (done.status, done.json["state"]) == (200, "done"), done.body
    table = gateway.call("dashboard/data?view=jobs&window=day", token=gateway.token("reader")).json["table"]
    assert [(row["cloud"], row["job_count"], row["failed_count"]) for row in table] == [("lrz", 1, 1)]


def timers_answer(gateway):
    """By their own schedules some may have begun a round just now."""
    for function in CATALOG["functions"]:
        if function["schedule"]:
            answer = gateway.call(function["service"], b"", method="POST")
            assert (answer.status, answer.json["state"] in {"done", "not_due", "busy", "off"}) == (200, True), (
                answer.body
            )


def a_change_rolls_one_function_and_loses_nothing(gateway, panda, *, keeps_old):
    untouched = {name for name in gateway.replicas() if not name.startswith("usage-report-")}
    changed = panda | {"usage-report": {"SKYTALLY_TRUSTED_HOPS": "1"}}
    reporters = [Reporter(gateway, f"rolled-{n}") for n in range(4)]
    for reporter in reporters:
        reporter.start()
    output = gateway.terraform("apply", "-auto-approve", function_settings=changed)
    for reporter in reporters:
        reporter.go_on_for(20)
    for reporter in reporters:
        reporter.stop()
    assert "1 added, 0 changed, 1 destroyed" in output
    assert "usage-report: deployed" in output
    assert gateway.environment_of("usage-report")["SKYTALLY_TRUSTED_HOPS"] == "1"
    assert untouched <= set(gateway.replicas()), "only the one function was started anew"
    gateway.terraform("plan", "-detailed-exitcode", function_settings=changed)

    statement = gateway.call(f"statement?month={reporters[0].month}&detail=boots", token=gateway.token("reader")).json
    found = {boot["vm"]: boot for boot in statement["boots"]}
    for reporter in reporters:
        assert reporter.statuses <= ({200} if keeps_old else {200, 503})
        boot = found[reporter.vm]
        assert (boot["wall_seconds"], boot["core_seconds"]) == (reporter.accepted, reporter.accepted * 4)
        assert boot["coverage"] == 1.0, "every interval that was accepted is there"


class Reporter(threading.Thread):
    """A vm that reports a second of its life in each request,
    again and again until it is told that the report is kept.
    """

    def __init__(self, gateway, vm):
        super().__init__()
        self._gateway, self.vm, self._over = gateway, vm, threading.Event()
        self._token = gateway.run(SKYTALLY, "token", "--role", "reporter", "--cloud", "uvic", "--vm", vm).strip()
        self._boot_id, self.month = str(uuid.uuid4()), f"{datetime.now(UTC):%Y-%m}"
        # All of it lies in this month, and in the past.
        self._boot_at = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        self.accepted, self.statuses = 0, set()

    def run(self):
        while not self._over.is_set() and self.accepted < 50_000:
            if self._boot_at + timedelta(seconds=self.accepted + 1) > datetime.now(UTC):
                time.sleep(0.1)  # The month is younger than what was reported.
                continue
            answer = self._gateway.call(
                "usage-report", {"samples": [self._sample(self.accepted + 1)]}, token=self._token
            )
            self.statuses.add(answer.status)
            if answer.status == 200:
                assert answer.json["accepted"] == 1, answer.body
                self.accepted += 1
            elif answer.status == 503:
                time.sleep(0.1)

    def go_on_for(self, reports):
        goal = self.accepted + reports
        while self.accepted < goal:
            assert self.is_alive()
            time.sleep(0.01)

    def stop(self):
        self._over.set()
        self.join()

    def _sample(self, second):
        identity = {
            "vm": self.vm,
            "boot_id": self._boot_id,
            "boot_at": f"{self._boot_at:%Y-%m-%dT%H:%M:%SZ}",
            "month": self.month,
        }
        return {
            **identity,
            "cores": 4,
            "month_start": counters(0),
            "previous": self._moment(second - 1),
            **self._moment(second),
        }

    def _moment(self, second):
        at = f"{self._boot_at + timedelta(seconds=second):%Y-%m-%dT%H:%M:%SZ}"
        return {"sampled_at": at, "uptime_seconds": second, "counters": counters(second)}


def counters(second):
    """Count what four cores, half of them busy, count."""
    return {
        f"{name}_seconds": second * share
        for name, share in (("wall", 1), ("core", 4), ("user", 2), ("system", 0), ("idle", 2))
    }


def test_a_rotated_key_is_handed_over_by_the_next_apply(gateway, tmp_path):
    gateway.terraform("apply", "-auto-approve")
    deposit = {"vm": "v", "cloud": "uvic", "payload": "eA=="}
    before = gateway.token("scheduler")
    gateway.run(SKYTALLY, "keys", "rotate", "--purpose", "token")
    gateway.terraform("apply", "-auto-approve")
    keys = {path.name for path in (tmp_path / "keys").iterdir()}
    assert (len(keys), gateway.secrets()) == (4, keys)
    assert gateway.deployed()["secret-deposit"]["secrets"] == sorted(keys)
    (tmp_path / "tokens" / "scheduler").unlink()
    for token in (before, gateway.token("scheduler")):
        assert gateway.call("secret-deposit", deposit, token=token).status == 201


def test_an_upgrade_and_its_roll_back_are_a_tag(gateway):
    for tag in ("skytally:2", "skytally:1"):
        gateway.terraform("apply", "-auto-approve", image=tag)
        assert {function["image"] for function in gateway.deployed().values()} == {tag}
        gateway.terraform("plan", "-detailed-exitcode", image=tag)
    assert gateway.call("statement?month=2026-11", token=gateway.token("reader")).status == 200


def test_nothing_secret_is_in_the_state(gateway, tmp_path):
    gateway.terraform("apply", "-auto-approve")
    state = (tmp_path / "terraform.tfstate").read_text()
    told = [path.read_text().strip() for path in ((tmp_path / "keys").iterdir())] + [gateway.password_file.read_text()]
    assert "master-" in state
    assert not any(secret in state for secret in told)


def test_the_catalog_that_terraform_reads_is_the_code():
    printed = subprocess.run(
        [SKYTALLY, "deploy", "catalog"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert json.loads(printed) == CATALOG


def test_a_wrong_password_or_a_gateway_that_is_away_says_what_to_do(gateway, tmp_path):
    (tmp_path / "wrong").write_text("wrong")
    for base, password, code, words in (
        (gateway.base, tmp_path / "wrong", 1, "password"),
        ("http://127.0.0.1:9", gateway.password_file, 5, "does not answer"),
    ):
        command = [SKYTALLY, "deploy", "remove", "statement", "--gateway", base, "--password-file", str(password)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_what_is_wanted_on_knative_is_told_as_a_description(tmp_path):
    """Nothing is deployed: the command that would do it is `true`."""
    terraform_or_skip()
    gateway, keys = Gateway(tmp_path), tmp_path / "keys"
    gateway.run(SKYTALLY, "keys", "init")
    command, state = (
        ["terraform", f"-chdir={TERRAFORM / 'examples' / 'knative'}"],
        f"-state={tmp_path / 'terraform.tfstate'}",
    )
    given = {"cli": "true", "image": "registry.example.org/skytally:1", "keys_folder": str(keys), "kubeconfig": "none"}
    told = [f"-var={name}={value}" for name, value in given.items()]
    gateway.run(*command, "init", "-input=false")
    gateway.run(*command, "apply", "-auto-approve", "-input=false", state, "-var=settings={}", *told)
    wanted = gateway.run(*command, "output", "-json", state, "deployment")
    printed = gateway.run(SKYTALLY, "deploy", "manifests", "-", input=wanted)
    assert printed.count("kind: CronJob") == len([one for one in CATALOG["functions"] if one["schedule"]])
