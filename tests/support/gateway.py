"""The provider of OpenFaaS's API as a gateway, with the operator's commands against it."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.local_server import Server

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "infra" / "terraform"
MIRRORS = ("/usr/share/terraform/plugins", "/usr/local/share/terraform/plugins", "~/.terraform.d/plugins")
SKYTALLY = Path(sys.executable).parent / "skytally"
COMMAND_SECONDS = 280


def terraform_or_skip():
    if shutil.which("terraform") is None and os.environ.get("CI") != "true":
        pytest.skip("without terraform: the deployment is not tested")


class Gateway(Server):
    """A provider that can be stopped and started again, keys, and what an operator says to both."""

    def __init__(self, home):
        self.home, self.port = home, free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.password_file = home / "provider" / "password"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SKYTALLY_", "TF_"))}
        self.environment = clean | {"SKYTALLY_KEYS": str(home / "keys"), "TF_DATA_DIR": str(home / "terraform")}
        self.environment |= {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}

    def start(self, *options):
        told = ["--port", str(self.port), "--state", str(self.home / "provider"), *options]
        with (self.home / "provider.log").open("a") as log:
            command = [sys.executable, "-m", "localstack.provider", *told]
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        for _ in range(400):
            try:
                return urllib.request.urlopen(f"{self.base}/healthz", timeout=5).close() or self
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.home / "provider.log").read_text())

    def stop(self):
        self._process.terminate()
        code = self._process.wait(timeout=60)
        self._process.stdout.close()
        return code

    def run(self, *command, **more):
        told = {"env": self.environment, "capture_output": True, "text": True, "timeout": COMMAND_SECONDS}
        done = subprocess.run([str(part) for part in command], check=False, **told, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def token(self, role):
        path = self.home / "tokens" / role
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            self.run(SKYTALLY, "token", "--role", role, "--out", path)
        return path.read_text().strip()

    def terraform(self, verb, *more, example="laptop", **variables):
        return self.run(*self._terraform(verb, *more, example=example, **variables))

    def fails(self, verb, *more, **variables):
        """Run Terraform where it must fail; return what it says."""
        command = [str(part) for part in self._terraform(verb, *more, example="laptop", **variables)]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert done.returncode != 0, done.stdout
        return done.stdout + done.stderr

    def terraform_output(self):
        return self.run(
            "terraform",
            f"-chdir={TERRAFORM / 'examples' / 'laptop'}",
            "output",
            "-json",
            f"-state={self.home / 'terraform.tfstate'}",
        )

    def _terraform(self, verb, *more, example, **variables):
        told = {
            "gateway_url": self.base,
            "password_file": str(self.password_file),
            "keys_folder": str(self.home / "keys"),
            **variables,
        }
        if example == "laptop":
            told |= {"state_folder": str(self.home / "state"), "cli": str(SKYTALLY)}
        (self.home / "variables.json").write_text(json.dumps(told))
        state = [f"-state={self.home / 'terraform.tfstate'}", f"-var-file={self.home / 'variables.json'}"]
        command = ["terraform", f"-chdir={TERRAFORM / 'examples' / example}", verb, "-no-color", "-input=false"]
        return [*command, *more, *(state if verb != "init" else [])]

    def use_mirror_or_skip(self):
        """Take providers from a folder of unpacked ones: where TF_PLUGIN_MIRROR says, or where they usually are."""
        told = os.environ.get("TF_PLUGIN_MIRROR")
        places = [Path(told)] if told else [*Path("/opt").glob("*"), *(Path(place).expanduser() for place in MIRRORS)]
        found = [place for place in places if any(place.glob("*/hashicorp/aws"))]
        if not found:
            pytest.skip(
                "without the aws provider in a folder of this machine (TF_PLUGIN_MIRROR): Terraform's S3 storage is "
                "not tested"
            )
        rules = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{found[0]}"\n  }}\n}}\n'
        (self.home / "terraformrc").write_text(rules)
        self.environment["TF_CLI_CONFIG_FILE"] = str(self.home / "terraformrc")

    def system(self, path, body=None, method=None):
        """Ask the gateway's own API as its administrator."""
        header = base64.b64encode(f"admin:{self.password_file.read_text()}".encode()).decode()
        headers = {"Authorization": f"Basic {header}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/system/{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return json.loads(text) if text[:1] in {"[", "{"} else text

    def deployed(self):
        return {function["name"]: function for function in self.system("functions")}

    def secrets(self):
        return {secret["name"] for secret in self.system("secrets")}

    def environment_of(self, name):
        """Read what the platform tells a function's process, which its API shows to nobody."""
        specs = json.loads((self.home / "provider" / "functions.json").read_text())
        return {spec["service"]: spec["envVars"] for spec in specs}[name]

    def replicas(self):
        """Name the folders of the processes that run."""
        folder = self.home / "provider" / "replicas"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(true, seconds=60):
    """Wait for what must come; a machine that is slow only makes it later."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
