"""The real image, built and run as a platform does:
every function from a read-only root, as nobody, with its own secrets.
"""

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from localstack import image as images
from localstack.server_process import Missing
from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.core.records import Caller
from skytally.deployment.catalog import FUNCTIONS
from tests.support import builders

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(900)]
TIMERS = {function.name for function in FUNCTIONS if function.schedule}
# The modules that every function loads, and whether their bytecode is there and taken as it is: its flags are 1, a hash
# that nobody checks.
LOADED = """
import pathlib, struct, sys
import skytally.app.asgi, skytally.app.wiring
modules = list(sys.modules.values())
cached = [pathlib.Path(module.__cached__) for module in modules if getattr(module, "__cached__", None)]
bad = [str(path) for path in cached if not path.is_file() or struct.unpack("<I", path.read_bytes()[4:8]) != (1,)]
print(len(cached), *bad, sep="\\n")
"""
WRITE = """
import os, pathlib
print(os.getuid(), os.getgid(), os.getgroups())
for folder in ("/", "/app", "/opt/skytally", "/tmp", "/var/openfaas/secrets"):
    try:
        pathlib.Path(folder, "file").write_text("x")
        print(folder)
    except OSError as error:
        assert error.errno == 30, error
"""
BUILDERS = (
    "import importlib.util as found\nprint([name for name in ('pip', 'setuptools', 'ensurepip') if "
    "found.find_spec(name)])"
)
PAYLOADS = """
from importlib.resources import files
from pathlib import Path
from skytally.core import errors
from skytally.secrets import vm_payload
print((files("skytally") / "data" / "vm.py").read_bytes() == Path("/app/functions/agent/vm.py").read_bytes())
try:
    vm_payload.plain_tar(b"hunter2")
except errors.Malformed as refusal:
    print(str(refusal).partition(",")[0])
"""
CREDENTIALS = (
    "import boto3\nprint([boto3.client(name, region_name='x').meta.service_model.service_name for name in ('s3', "
    "'sts', 'sso')])"
)


@pytest.fixture(scope="module")
def image():
    try:
        with images.image() as built:
            yield built
    except Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def secrets_of(tmp_path_factory):
    """Return the folder of a function's own secrets: root's files, which everybody reads."""
    keys, none = tmp_path_factory.mktemp("keys"), tmp_path_factory.mktemp("none")
    for path in KeyFiles(keys, lambda: datetime.now(UTC)).init():
        path.chmod(0o644)
    for folder in (keys, none):
        folder.chmod(0o755)
    return lambda name: keys if any(function.keys for function in FUNCTIONS if function.name == name) else none


@pytest.fixture(scope="module")
def issue(secrets_of):
    def issue(role, **fields):
        now = datetime.now(UTC)
        times = {"issued": int(now.timestamp()), "expires": int((now + timedelta(days=1)).timestamp())}
        return tokens.issue(
            Caller(role=role, **times, **fields), KeyFiles(secrets_of("statement"), lambda: now).keyring().token
        )

    return issue


def calls(issue):
    """Return for each function a call and the status that the contract says."""
    scheduler, reporter = issue("scheduler"), issue("reporter", vm="vm-1", clouds=("uvic",))
    sample = builders.FakeVm("vm-1").sample(datetime.now(UTC).replace(microsecond=0))
    return {
        "agent": (("/SHA256SUMS",), 200),
        "dashboard": (("/",), 200),
        "statement": (("/?month=2026-11", None, issue("reader")), 200),
        "usage_report": (("/", json.dumps({"samples": [sample]}).encode(), reporter), 200),
        "job_heartbeat": (("/", b'{"vm": "vm-1", "jobs": ["5"]}', reporter), 200),
        "placement_report": (("/", b'{"vms": [], "jobs": []}', scheduler), 200),
        "secret_deposit": (("/", b'{"vm": "vm-1", "cloud": "uvic", "payload": "eA=="}', scheduler), 201),
        "secret_claim": (("/", b"{}"), 400),
        "secret_revoke": (("/", b"{}"), 401),
        **dict.fromkeys(TIMERS, (("/", b""), 200)),
    }


def test_every_function_is_ready_answers_and_ends(image, secrets_of, issue, tmp_path):
    expected = calls(issue)
    assert expected.keys() == {function.name for function in FUNCTIONS}
    with contextlib.ExitStack() as stack:
        running = {
            name: stack.enter_context(image.running(name, {}, secrets_of(name), tmp_path / f"{name}.log"))
            for name in sorted(expected)
        }
        for function in running.values():
            function.wait_until_ready()
        assert {
            name: running[name].call(path)[0] for name in running for path in ("/healthz", "/_/health")
        } == dict.fromkeys(running, 200)
        answers = {name: running[name].call(*call) for name, (call, _) in expected.items()}
        assert {name: status for name, (status, _) in answers.items()} == {
            name: status for name, (_, status) in expected.items()
        }, answers
        with ThreadPoolExecutor(len(running)) as platform:
            codes = platform.map(images.Function.stop, running.values())
            assert dict(zip(running, codes, strict=True)) == dict.fromkeys(running, 0)


@pytest.mark.parametrize(
    ("name", "settings", "setting"),
    [
        ("agent", {"SKYTALLY_TRUSTED_HOPS": "many"}, "SKYTALLY_TRUSTED_HOPS"),
        ("nothing", {}, "FUNCTION_TARGET"),
        ("usage_report", {"SKYTALLY_KEYS": "/nowhere"}, "SKYTALLY_KEYS"),
    ],
)
def test_a_wrong_setting_ends_it_with_one_sentence(image, secrets_of, tmp_path, name, settings, setting):
    with image.running(name, settings, secrets_of(name), tmp_path / "log") as function:
        assert function.process.wait(images.READY_SECONDS) == os.EX_CONFIG
        assert (function.said().count("\n"), setting in function.said()) == (1, True)


def test_nobody_writes_anything_but_tmp(image, secrets_of):
    assert inside(image, secrets_of, WRITE).splitlines() == ["10001 10001 [10001]", "/tmp"]


def test_bytecode_of_everything_is_there_and_unchecked(image, secrets_of):
    count, *bad = inside(image, secrets_of, LOADED).splitlines()
    assert (int(count) > 300, bad) == (True, [])


def test_what_installs_packages_is_not_there(image, secrets_of):
    assert inside(image, secrets_of, BUILDERS) == "[]\n"


def test_a_bucket_and_its_credentials_need_no_service_that_was_left_out(image, secrets_of):
    assert inside(image, secrets_of, CREDENTIALS) == "['s3', 'sts', 'sso']\n"


def test_payloads_are_checked_by_the_vm_py_that_the_image_serves(image, secrets_of):
    assert inside(image, secrets_of, PAYLOADS) == "True\nvm.py would refuse the payload\n"


def test_keys_and_leftovers_stay_out_of_the_build(image, tmp_path):
    context, tag = tmp_path / "checkout", "localhost/skytally-context:test"
    wanted = ["LICENSE", "functions/agent/main.py", "layers/skytally/py.typed", "requirements.lock"]
    unwanted = [
        ".git/config",
        ".skytally/keys/master-20261101000000",
        ".venv/pyvenv.cfg",
        "layers/skytally/__pycache__/x.pyc",
        "keys/x",
        "key",
    ]
    for name in (*wanted, *unwanted):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("x")
    (context / ".dockerignore").write_bytes((images.ROOT / ".dockerignore").read_bytes())
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    images.build(context, tmp_path / "Dockerfile", tag)
    with images.mounted(tag) as root:
        assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == wanted


def inside(image, secrets_of, script):
    """Run a script inside and return what it printed."""
    done = image.run(["python", "-c", script], {}, secrets_of("usage_report"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_image_says_what_is_missing(tmp_path):
    for tool in ("make", "sh", "grep", "env"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(
        ["make", "image"], cwd=images.ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "no docker, podman or buildah works here" in done.stderr) == (2, True), done.stderr
