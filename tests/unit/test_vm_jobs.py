"""`vm.py jobs` as it is run: the file itself, on real processes that look like pilots,
wrappers and payloads, as root and as nobody.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.agent_lab import VM_PY
from tests.support.recording_server import json_reply, recording_server

IS_ROOT = os.geteuid() == 0
SLEEPS = "import sys, time\nprint('up', flush=True)\ntime.sleep(60)\n"
OPTIONS = ("-o", "LogLevel=INFO", "-o", "/DIRAC/Security/UseServerCertificate=no")
RECEIPT = {"accepted": 0, "stale": 0, "rejected": [], "server_time": "2026-11-25T10:00:00Z"}
WRAPPED, PAYLOAD, NINE, BATCH, PILOT, AGENT = "31415926", "27182818", "16180339", "14142135", "17320508", "22360679"
# One that an ordinary user may run too.
PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
NEEDS_ROOT = pytest.mark.skipif(
    not IS_ROOT or not shutil.which("unshare"), reason="only root sees as root and becomes nobody"
)


@pytest.fixture
def server():
    """The far end, which takes every report."""
    with recording_server(lambda _: json_reply(RECEIPT)) as server:
        yield server


@pytest.fixture
def folder(tmp_path_factory):
    """A place that nobody else's rights hide from an ordinary user."""
    folder = tmp_path_factory.mktemp("jobs")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    (folder / "token").write_text("t0\n")
    shutil.copy(VM_PY, folder / "vm.py")
    state = folder / "state"
    state.mkdir()
    state.chmod(0o777)
    for name in ("pilot/job/Wrapper/Wrapper_" + WRAPPED, "pilot/dirac-pilot.py", "pilot/agent.py", "payload.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SLEEPS)
    yield folder
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    Path(f"/run/skytally-{sha256((boot_id + str(state)).encode()).hexdigest()[:16]}.json").unlink(missing_ok=True)


@contextlib.contextmanager
def running(folder, *commands):
    """Run scripts with environments of their own, until all are up."""
    children = [
        subprocess.Popen(
            [PYTHON, folder / script, *more], stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"], **environment}
        )
        for script, more, environment in commands
    ]
    try:
        for child in children:
            assert child.stdout.readline() == b"up\n"
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


NODE = (
    ("pilot/job/Wrapper/Wrapper_" + WRAPPED, OPTIONS, {"DIRACSITE": "LCG.Victoria.ca"}),
    ("payload.py", ("steering.py",), {"DIRACJOBID": PAYLOAD, "DIRACSITE": "LCG.Victoria.ca", "JOBID": BATCH}),
    ("payload.py", ("steering.py",), {"DIRACJOBID": PAYLOAD, "DIRACSITE": "LCG.Victoria.ca"}),
    ("payload.py", (), {"JOBID": NINE, "DIRACSITE": "LCG.Victoria.ca", "DIRAC_PROCESSORS": "1"}),
    ("payload.py", (), {"JOBID": BATCH}),
    (
        "pilot/dirac-pilot.py",
        ("-S", "Belle"),
        {"JOBID": PILOT, "DIRACSITE": "LCG.Victoria.ca", "HTCONDOR_JOBID": "9.0"},
    ),
    (
        "pilot/agent.py",
        (),
        {"HTCONDOR_JOBID": AGENT, "CONDOR_JOBID": AGENT, "PILOT_UUID": AGENT, "DIRACSITE": "LCG.Victoria.ca"},
    ),
)
OURS = {WRAPPED, PAYLOAD, NINE, BATCH, PILOT, AGENT}


def jobs(folder, server, *more, before=(), **how):
    """Run `vm.py jobs`; return which of this test's ids it named, and what it could read."""
    told = {
        "--base": server.url,
        "--state": folder / "state",
        "--token-file": folder / "token",
        "--vm": "vm-1",
    }
    command = [
        *before,
        PYTHON,
        "-B",
        folder / "vm.py",
        "jobs",
        *(word for pair in told.items() for word in pair),
        "--patience",
        "1",
        *more,
    ]
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=60, **how
    )
    assert done.returncode == 0, done.stderr
    assert all("the state is not kept" in line for line in done.stderr.splitlines()), done.stderr
    beat = json.loads(server.requests.pop().body)
    return set(beat["jobs"]) & OURS, beat["sources"]


@NEEDS_ROOT
def test_root_sees_wrappers_and_payloads_and_no_pilot(folder, server):
    with running(folder, *NODE):
        named, sources = jobs(folder, server)
    assert named == {WRAPPED, PAYLOAD, NINE}
    assert sources["processes"] >= sources["environ"] >= len(NODE)


@NEEDS_ROOT
def test_an_ordinary_user_sees_wrappers_by_their_command_line_and_says_what_it_could_not_read(folder, server):
    with running(folder, *NODE):
        named, sources = jobs(folder, server, user="nobody", group="nogroup", extra_groups=[])
    assert named == {WRAPPED}
    assert sources["cmdline"] - sources["environ"] >= len(NODE)


def test_a_user_sees_its_own_payloads(folder, server):
    with running(folder, *NODE):
        named, _ = jobs(folder, server)
    assert named == {WRAPPED, PAYLOAD, NINE}


@NEEDS_ROOT
def test_a_hidden_proc_is_no_error(folder, server):
    hidden = folder / "proc"
    hidden.mkdir()
    inside = (
        f'mount -t proc -o hidepid=2 proc {hidden} && exec setpriv --reuid nobody --regid nogroup --clear-groups "$@"'
    )
    with running(folder, *NODE):
        named, sources = jobs(folder, server, "--proc", hidden, before=("unshare", "--mount", "sh", "-c", inside, "sh"))
        there = len([path for path in Path("/proc").iterdir() if path.name.isdigit()])
    assert named == set()
    assert sources["processes"] <= there - len(NODE)


@NEEDS_ROOT
def test_a_payload_in_a_container_is_seen_from_outside(folder, server):
    """In its own namespaces it has another pid, root folder and /proc, and the same environment."""
    inside = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--uts", "--ipc", PYTHON, folder / "payload.py")
    environment = {"PATH": os.environ["PATH"], "DIRACJOBID": PAYLOAD}
    with subprocess.Popen(inside, stdout=subprocess.PIPE, env=environment, start_new_session=True) as child:
        try:
            assert child.stdout.readline() == b"up\n"
            named, _ = jobs(folder, server)
        finally:
            os.killpg(child.pid, 9)
    assert named == {PAYLOAD}


def test_processes_that_end_while_they_are_read_are_no_error(folder, server):
    ended = threading.Event()

    def churn():
        while not ended.is_set():
            subprocess.run(["true"], check=True, env={"DIRACJOBID": PAYLOAD})

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(5):
            jobs(folder, server)
    finally:
        ended.set()
        thread.join()


def test_one_job_in_many_processes_is_named_once(folder, server):
    with running(folder, *[("payload.py", (), {"DIRACJOBID": PAYLOAD})] * 5):
        named, _ = jobs(folder, server)
    assert named == {PAYLOAD}
