"""One `terraform apply` brings up the whole system on this machine's provider of OpenFaaS's API; a change rolls, destroy leaves nothing."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from running import Server
from test_vm_life import lives_through

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = ROOT / "infra" / "terraform" / "examples" / "laptop"
SKYTALLY = Path(sys.executable).parent / "skytally"


def terraform_or_skip():
    if shutil.which("terraform") is None and os.environ.get("CI") != "true":
        pytest.skip("without terraform: the deployment is not tested")


class Gateway(Server):
    """The provider as a gateway, with the operator's commands against it."""

    def __init__(self, home):
        self.home, self.port = home, free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.password_file = home / "provider" / "password"
        self.environment = {**os.environ, "SKYTALLY_KEYS": str(home / "keys"), "TF_DATA_DIR": str(home / "terraform")}
        self.environment |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": ""}

    def start(self):
        command = [sys.executable, "-m", "localstack.provider", "--port", str(self.port), "--state", str(self.home / "provider")]
        with (self.home / "provider.log").open("a") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        for _ in range(200):
            try:
                return urllib.request.urlopen(f"{self.base}/healthz", timeout=5).close() or self
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.home / "provider.log").read_text())

    def run(self, *command, **more):
        done = subprocess.run(
            [str(part) for part in command], env=self.environment, capture_output=True, text=True, timeout=120, check=False, **more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def token(self, role):
        return self.run(SKYTALLY, "token", "--role", role).strip()

    def terraform(self, verb, *more, **function_settings):
        variables = {
            "gateway_url": self.base,
            "password_file": str(self.password_file),
            "state_folder": str(self.home / "state"),
            "cli": str(SKYTALLY),
            "secrets": sorted(path.name for path in (self.home / "keys").iterdir()),
            "function_settings": function_settings,
        }
        (self.home / "variables.json").write_text(json.dumps(variables))
        state = [f"-state={self.home / 'terraform.tfstate'}", f"-var-file={self.home / 'variables.json'}"]
        return self.run("terraform", f"-chdir={LAPTOP}", verb, "-no-color", "-input=false", *more, *(state if verb != "init" else []))

    def deployed(self):
        header = base64.b64encode(f"admin:{self.password_file.read_text()}".encode()).decode()
        request = urllib.request.Request(f"{self.base}/system/functions", headers={"Authorization": f"Basic {header}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return {function["name"]: function for function in json.load(answer)}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def gateway(tmp_path):
    terraform_or_skip()
    gateway = Gateway(tmp_path).start()
    gateway.run(SKYTALLY, "keys", "init")
    gateway.run(SKYTALLY, "deploy", "secrets", tmp_path / "keys", "--gateway", gateway.base, "--password-file", gateway.password_file)
    yield gateway
    gateway.stop()


def test_apply_live_change_destroy(gateway, tmp_path):
    gateway.terraform("init")
    gateway.terraform("apply", "-auto-approve")
    catalog = json.loads((ROOT / "infra" / "terraform" / "functions" / "catalog.json").read_text())["functions"]
    assert set(gateway.deployed()) == {function["service"] for function in catalog}

    (tmp_path / "vm").mkdir()
    life = lives_through(gateway, tmp_path / "vm", lambda *_: None)
    assert [boot["vm"] for boot in life.statement()["boots"]] == ["journey-1"]
    gateway.terraform("plan", "-detailed-exitcode")

    with Load(gateway) as load:
        changed = {"statement": {"SKYTALLY_TRUSTED_HOPS": "1"}}
        output = gateway.terraform("apply", "-auto-approve", **changed)
        assert "1 added, 0 changed, 1 destroyed" in output
        assert gateway.deployed()["statement"]["envVars"]["SKYTALLY_TRUSTED_HOPS"] == "1"
        gateway.terraform("plan", "-detailed-exitcode", **changed)
    assert load.statuses == {200}
    assert load.count > 10

    gateway.terraform("destroy", "-auto-approve")
    assert gateway.deployed() == {}
    assert list((tmp_path / "provider" / "replicas").iterdir()) == []


class Load:
    """Ask for a statement again and again while something changes; every answer counts."""

    def __init__(self, gateway):
        self._gateway, self._token = gateway, gateway.token("reader")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.statuses, self.count = set(), 0

    def _ask(self):
        while not self._over.is_set() and self.count < 5_000:
            self.statuses.add(self._gateway.call("statement?month=2026-11", token=self._token).status)
            self.count += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def test_the_catalog_that_terraform_reads_is_the_code():
    printed = subprocess.run([SKYTALLY, "deploy", "catalog"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert json.loads(printed) == json.loads((ROOT / "infra" / "terraform" / "functions" / "catalog.json").read_text())


def test_a_wrong_password_or_a_gateway_that_is_away_says_what_to_do(gateway, tmp_path):
    (tmp_path / "wrong").write_text("wrong")
    for base, password, code, words in (
        (gateway.base, tmp_path / "wrong", 1, "password"),
        ("http://127.0.0.1:9", gateway.password_file, 5, "does not answer"),
    ):
        command = [SKYTALLY, "deploy", "remove", "statement", "--gateway", base, "--password-file", str(password)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
