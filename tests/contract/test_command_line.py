"""The operator's commands against a real server and a real gateway: what they print, how they end, and what they never show."""

import base64
import json
import stat
import subprocess
import sys

import lab
import pytest
import yaml
from click.testing import CliRunner
from running import Server
from test_terraform import Gateway

from skytally import cli as command_line
from skytally import deployment
from skytally.catalog import FUNCTIONS
from skytally.cli import cli

pytestmark = pytest.mark.servers


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def run(server, monkeypatch):
    """Run a command as the operator of this server; answers the result."""
    monkeypatch.setenv("SKYTALLY_HOME", str(server.home))
    from skytally import wiring

    wiring.close()

    def do(*arguments, **how):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], **how)

    yield do
    wiring.close()


def leaving(server, *more):
    """Write the arguments with which a secret is left."""
    return ["--base", server.base, "--token-file", server.home / "tokens" / "scheduler", "--cloud", "uvic", *more]


def test_a_deposit_is_taken_once_and_listed(server, run, tmp_path):
    done = run("deposit", *leaving(server, "--vm", "vm-1", "--payload", "-", "--out", tmp_path / "claim"), input="hunter2")
    assert done.exit_code == 0, done.output
    assert "hunter2" not in done.output
    assert stat.S_IMODE((tmp_path / "claim").stat().st_mode) == 0o600
    token = (tmp_path / "claim").read_text().strip()
    assert token not in done.output
    assert "waiting" in run("secrets", "list").output
    form = lab.claim_form(token, lab.public_key())
    taken = server.call("secret_claim", json.dumps(form).encode())
    assert taken.status == 200
    (one,) = json.loads(run("secrets", "list", "--json", "--state", "delivered").output)
    assert (one["vm"], one["cloud"], one["address"]) == ("vm-1", "uvic", "127.0.0.1")
    assert json.loads(run("secrets", "show", one["claim"]).output)[0]["state"] == "delivered"
    assert run("secrets", "list", "--state", "unreported").output.count("vm-1") == 0


def test_user_data_are_cloud_configs_that_name_no_secret_in_a_command(server, run, tmp_path):
    (tmp_path / "payload").write_bytes(b"x")
    names = ["--vm", "host-1", "--vm", "host-2"]
    done = run("userdata", *leaving(server, *names, "--payload", tmp_path / "payload", "--unpack", "/etc/condor", "--owner", "condor"))
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("#cloud-config\n")
    assert "unencrypted" in done.stderr
    told = yaml.safe_load(done.stdout)
    claim, script = told["write_files"]
    assert claim["permissions"] == "0600"
    secret = claim["content"].split(".")[2]
    assert len(secret) == 64
    first_boot = base64.b64decode(script["content"]).decode()
    assert secret not in first_boot + json.dumps(told["runcmd"])
    vm_py = server.call("agent/vm.py").body
    digest = subprocess.run(["sha256sum"], input=vm_py, capture_output=True, check=True).stdout.split()[0].decode()
    assert digest in first_boot
    assert '--vm "$(hostname -s)"' in first_boot
    subprocess.run(["sh", "-n"], input=first_boot.encode(), check=True)


def test_what_is_wrong_is_one_line_and_an_exit_code(server, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "payload").write_bytes(b"x")
    (tmp_path / "bad").write_text("none-of-ours")
    good = leaving(server, "--vm", "v", "--payload", tmp_path / "payload")
    cases = {
        (
            "deposit",
            "--base",
            server.base,
            "--token-file",
            tmp_path / "bad",
            "--cloud",
            "c",
            "--vm",
            "v",
            "--payload",
            tmp_path / "payload",
        ): (1, "none of ours"),
        ("deposit", *leaving(server, "--vm", "a\nb", "--payload", tmp_path / "payload")): (1, "malformed"),
        ("deposit", "--base", "http://127.0.0.1:9", *good[2:]): (5, "does not answer"),
        ("userdata", "--base", f"{server.base}/nowhere", *good[2:]): (1, "no such function"),
        ("secrets", "show", "nothing"): (1, "no such claim"),
    }
    for arguments, (code, words) in cases.items():
        monkeypatch.setattr(sys, "argv", ["skytally", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        (said,) = (line for line in capsys.readouterr().err.splitlines() if "unencrypted" not in line)
        assert (end.value.code, words in said) == (code, True), (arguments, said)
    assert run("deposit", "--vm", "v").exit_code == 2


@pytest.fixture
def gateway(tmp_path):
    gateway = Gateway(tmp_path).start()
    yield gateway
    gateway.stop()


def test_functions_come_stay_change_and_go(gateway, tmp_path):
    access = ["--gateway", gateway.base, "--password-file", str(gateway.password_file)]
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "token-20260101000000").write_text("ab" * 32)

    def run(*arguments, **how):
        done = CliRunner().invoke(cli, ["deploy", *map(str, arguments), *access], **how)
        assert done.exit_code == 0, done.output + str(done.exception)
        assert "ab" * 32 not in done.output
        return done.output

    for _ in range(2):
        assert "token-20260101000000: kept" in run("secrets", keys)
    (agent,) = [function for function in FUNCTIONS if function.name == "agent"]
    spec = deployment.specification(agent, "x:1", {"SKYTALLY_TRUSTED_HOPS": "1"}, ["token-20260101000000"])
    assert run("function", input=json.dumps(spec)) == "agent: deployed\n"
    assert run("function", input=json.dumps(spec)) == "agent: unchanged\n"
    assert gateway.call("agent/SHA256SUMS").status == 200
    spec["envVars"]["SKYTALLY_TRUSTED_HOPS"] = "2"
    assert run("function", input=json.dumps(spec)) == "agent: deployed\n"
    assert gateway.call("agent/nothing").json["error"]["code"] == "unknown"
    assert run("remove", "agent") == "agent: removed\n"
    assert run("remove", "agent") == "agent: was not there\n"
    assert gateway.call("agent/SHA256SUMS").status == 404


def test_a_gateway_says_no(gateway, tmp_path):
    (tmp_path / "wrong").write_text("wrong")
    access = ["--gateway", gateway.base, "--password-file"]
    refused = CliRunner().invoke(cli, ["deploy", "remove", "x", *access, str(tmp_path / "wrong")])
    assert "password" in refused.exception.message
    unsound = CliRunner().invoke(cli, ["deploy", "function", *access, str(gateway.password_file)], input="{}")
    assert "standard input" in unsound.exception.message
    spec = deployment.specification(FUNCTIONS[0], "x:1", {}, ["nothing"])
    missing = CliRunner().invoke(cli, ["deploy", "function", *access, str(gateway.password_file)], input=json.dumps(spec))
    assert "secrets are missing: nothing" in missing.exception.message
    away = CliRunner().invoke(cli, ["deploy", "remove", "x", "--gateway", "http://127.0.0.1:9", "--password-file", str(tmp_path / "wrong")])
    assert away.exception.code == "unavailable"


def test_the_catalog_is_what_terraform_reads():
    assert {f["name"] for f in json.loads(CliRunner().invoke(cli, ["deploy", "catalog"]).output)["functions"]} == {
        f.name for f in FUNCTIONS
    }
