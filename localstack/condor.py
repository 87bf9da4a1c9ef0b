"""A real HTCondor pool of one machine:
Debian's package in a folder of its own (root only), with short cycles and small history files.

Made once by debootstrap (some minutes, 600 MB) and kept where the daemons' own user can reach it. Debian's archive keys
vouch for every package. `with pool() as one: one.submit("sleep 1")`.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from localstack.server_process import Missing

SUITE = "trixie"
KEPT = Path("/var/tmp/skytally") / f"condor-{SUITE}"  # noqa: S108  root's home is closed to the daemons
SPOOL = "var/spool/condor"
USER = "alice"
CLOUD = "west-cloud"
BUILD_SECONDS, READY_SECONDS, STOP_SECONDS = 1_500, 90, 10
# At much less than 60 kB a burst rotates twice in a second, and HTCondor itself overwrites the first of the two files.
CONFIGURATION = f"""
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
CONDOR_HOST = 127.0.0.1
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
COLLECTOR_HOST = 127.0.0.1:{{port}}
SHARED_PORT_PORT = {{port}}
SCHEDD_NAME = sched.test@
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
ALLOW_ADMINISTRATOR = *
ALLOW_ADVERTISE_STARTD = *
ALLOW_ADVERTISE_SCHEDD = *
ALLOW_ADVERTISE_MASTER = *
SEC_DEFAULT_AUTHENTICATION_METHODS = FS, CLAIMTOBE
NUM_CPUS = 4
MEMORY = 2048
cloud_name = "{CLOUD}"
flavor = "c4"
STARTD_ATTRS = $(STARTD_ATTRS) cloud_name flavor
SYSTEM_JOB_MACHINE_ATTRS = $(SYSTEM_JOB_MACHINE_ATTRS) cloud_name Machine
NEGOTIATOR_INTERVAL = 2
SCHEDD_INTERVAL = 2
UPDATE_INTERVAL = 2
MAX_HISTORY_LOG = 60000
MAX_HISTORY_ROTATIONS = 40
JOB_EPOCH_HISTORY = $(SPOOL)/epoch_history
BASE_CGROUP =
DISCARD_SESSION_KEYRING_ON_STARTUP = False
"""


class Pool:
    """A running pool; commands run inside its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def inside(self, *words: str, check: bool = True) -> str:
        """Run a command in the pool's folder and answer what it printed."""
        command = ["chroot", str(self.root), *words]
        return subprocess.run(
            command, check=check, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        ).stdout

    def submit(self, script: str, count: int = 1, *, more: str = "") -> str:
        """Submit jobs that run a line of shell; return their cluster."""
        description = (
            f"executable=/bin/sh\narguments=\"-c '{script}'\"\nrequest_cpus=1\nrequest_memory=64\n{more}\nqueue "
            f"{count}\n"
        )
        (self.root / "home" / USER / "job.sub").write_text(description)
        return self.inside("su", USER, "-c", "cd && condor_submit -terse job.sub").split(".")[0]

    def wait(self, cluster: str, status: str | None, seconds: float = 90) -> None:
        """Wait until a cluster's first job has a status, or for None until the cluster has left the queue."""

        def there() -> bool:
            states = self.inside("condor_q", "-allusers", cluster, "-af", "JobStatus", check=False).split()
            return states[:1] == ([] if status is None else [status])

        self.wait_for(there, f"cluster {cluster} never came to {status or 'its end'}", seconds)

    def wait_for(self, true: Callable[[], bool], otherwise: str = "that never came", seconds: float = 90) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise RuntimeError(otherwise)
            time.sleep(0.3)

    def commands(self, folder: Path) -> Path:
        """Make the pool's commands callable from outside; return the folder to put into PATH."""
        folder.mkdir()
        for name in ("condor_q", "condor_status", "condor_history", "condor_config_val"):
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {shutil.which("chroot")} "{self.root}" {name} "$@"\n')
            script.chmod(0o755)
        return folder


@contextlib.contextmanager
def pool(port: int) -> Iterator[Pool]:
    """Run a pool with an empty queue and history until the caller is done,
    after any other caller; raises Missing where that cannot be.
    """
    with _alone():
        root = _root()
        _empty(root, port)
        running = Pool(root)
        with _mounted(root):
            running.inside("condor_master")
            try:
                running.wait_for(
                    lambda: running.inside("condor_status", "-af", "Name", check=False).strip() != "",
                    "the pool has no slot",
                    READY_SECONDS,
                )
                yield running
            finally:
                _stop(running)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for the one folder: a second pool in it would empty the first one's."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None or shutil.which("chroot") is None:
        raise Missing("without root and debootstrap: HTCondor is not tested")
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    with KEPT.with_name(f"{KEPT.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _empty(root: Path, port: int) -> None:
    for path in (root / SPOOL).glob("*"):  # condor_master makes the folder at its first start
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / "etc/condor/config.d/99-pool").write_text(CONFIGURATION.format(port=port))


def _root() -> Path:
    """Return the folder, making it the first time."""
    if not KEPT.exists():
        print("making a pool of HTCondor (some minutes, once)", flush=True)
        part = KEPT.with_name(f"{KEPT.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        environment = {"PATH": os.environ["PATH"], "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["debootstrap", "--variant=minbase", SUITE, str(part)],
            ["chroot", str(part), "apt-get", "update", "-qq"],
            ["chroot", str(part), "apt-get", "install", "-y", "-qq", "--no-install-recommends", "condor"],
            ["chroot", str(part), "useradd", "-m", USER],
        ):
            _build(command, environment)
        part.rename(KEPT)
    return KEPT


def _build(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    if done.returncode:
        raise Missing(
            f"{command[0]} failed, so HTCondor is not tested: {' '.join((done.stdout + done.stderr).split())[-300:]}"
        )


@contextlib.contextmanager
def _mounted(root: Path) -> Iterator[None]:
    """Mount what the daemons need; the folder on itself, without which the starter's private mounts fail."""
    mounts = [
        (["--bind", str(root)], root),
        (["-t", "proc", "proc"], root / "proc"),
        (["--bind", "/dev"], root / "dev"),
    ]
    with contextlib.ExitStack() as stack:
        for words, target in mounts:
            subprocess.run(["mount", *words, str(target)], check=True)
            stack.callback(_unmount, target)
            subprocess.run(["mount", "--make-private", str(target)], check=True)
        yield


def _unmount(target: Path) -> None:
    """Unmount once the daemons let go."""
    for _ in range(STOP_SECONDS * 2):
        if subprocess.run(["umount", str(target)], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.5)
    subprocess.run(["umount", "--lazy", str(target)], check=False)


def _stop(running: Pool) -> None:
    """End the daemons and everything that they started, however they take it: the mounts are theirs until then."""
    running.inside("condor_off", "-fast", "-master", check=False)
    deadline = time.monotonic() + STOP_SECONDS
    while left := _processes(running.root):
        if time.monotonic() > deadline:
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.2)


def _processes(root: Path) -> list[int]:
    """Return the processes that live in a folder."""
    process_ids = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (path / "root").readlink() == root:
                process_ids.append(int(path.name))
    return process_ids
