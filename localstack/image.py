"""The functions' image as this checkout makes it, built by buildah and run without a container's daemon (root only).

No registry of images is asked: the base is Debian's own Python, made once by debootstrap (a minute, 270 MB) and kept
with buildah's layers under /var/tmp/skytally, so that a build repeats only what changed. `with image() as built,
built.running("agent", {}, folder) as one:`.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from localstack.replicas import free_port
from localstack.server_process import Missing
from skytally.deployment.descriptions import SECRETS_FOLDER

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path("/var/tmp/skytally")  # noqa: S108  layers are worth keeping, and must lie where overlayfs can
SUITE = "trixie"
PACKAGES = "ca-certificates,python-is-python3,python3,python3-venv"
BASE = f"localhost/skytally-base:{SUITE}-{sha256(PACKAGES.encode()).hexdigest()[:12]}"
TAG = "localhost/skytally:test"
BUILD_SECONDS, READY_SECONDS, STOP_SECONDS = 1_200, 60, 30
MOST_IMAGES = 300  # a dozen are one build, and 70 MB
# What a platform does with an image: a root that nobody can write, a /tmp, the secrets as files, and a user without any
# right.
ENTER = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount -t tmpfs tmpfs "$1/tmp"
mount --bind "$2" "$1$3"
mount -o remount,bind,ro "$1$3"
mount -o remount,bind,ro "$1"
root=$1 user=$4 folder=$5
shift 5
exec chroot --userspec="$user" "$root" env --chdir="$folder" "$@"
"""


class Function:
    """A running function of the image."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.base, self._log = process, f"http://127.0.0.1:{port}", log

    def call(self, path: str, body: bytes | None = None, token: str = "") -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        request = urllib.request.Request(f"{self.base}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=READY_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait_until_ready(self) -> None:
        """Wait for the first 200 of `/_/ready`; a process that ends or never is ready shows its log."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.call("/_/ready")[0] == 200:
                    return
            time.sleep(0.002)
        raise RuntimeError(f"it is not ready: {self.said()}")

    def said(self) -> str:
        """Return what it wrote to its streams."""
        return self._log.read_text(errors="replace")

    def memory_bytes(self) -> int:
        """Return the proportional set size."""
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1_024

    def cpu_seconds(self) -> float:
        """Return the processor time that it took so far."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it as a platform does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


class Image:
    """A built image: its file system, and what it says about how it is run."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root, self.config = root, config

    def command(self, words: list[str], settings: Mapping[str, str], secrets: Path) -> list[str]:
        """Return the command that runs words inside, as the image's user and with its environment."""
        environment = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        user, folder = self.config["User"], self.config["WorkingDir"]
        place = ["sh", "-c", ENTER, "sh", str(self.root), str(secrets), SECRETS_FOLDER, user, folder]
        return ["unshare", "--mount", "--propagation", "private", *place, "-i", *environment, *words]

    def run(self, words: list[str], settings: Mapping[str, str], secrets: Path) -> "subprocess.CompletedProcess[str]":
        """Run words inside to their end."""
        command = self.command(words, settings, secrets)
        return subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=READY_SECONDS
        )

    @contextlib.contextmanager
    def running(self, name: str, settings: Mapping[str, str], secrets: Path, log: Path) -> Iterator[Function]:
        """Run a function until the caller is done;
        the settings put its state into its own /tmp where they name no other.
        """
        port = free_port()
        here = {"FUNCTION_TARGET": name, "PORT": str(port), "SKYTALLY_HOST": "127.0.0.1", "SKYTALLY_HOME": "/tmp"}  # noqa: S108
        command = self.command(self.config["Cmd"], here | {"SKYTALLY_KEYS": SECRETS_FOLDER} | dict(settings), secrets)
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            yield Function(process, port, log)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def image() -> Iterator[Image]:
    """Build the image, or what changed of it, and hold its file system until the caller is done;
    raises Missing where that cannot be.
    """
    missing = [tool for tool in ("buildah", "debootstrap", "unshare", "chroot") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        raise Missing(f"without {' and '.join(missing) or 'root'}: the image is not tested")
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _buildah("rm", "--all")  # Whoever was killed while it held the lock left its container.
        _base()
        build(ROOT, ROOT / "functions" / "Dockerfile", TAG)
        with mounted(TAG) as root:
            (root / SECRETS_FOLDER[1:]).mkdir(parents=True, exist_ok=True)
            yield Image(root, json.loads(_buildah("inspect", "--type", "image", TAG))["OCIv1"]["config"])


def build(context: Path, dockerfile: Path, tag: str) -> None:
    """Build an image from a folder; its steps fetch packages as this machine does."""
    lent = [path for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf") if Path(path).is_file()]
    volumes = [f"--volume={path}:{path}:ro" for path in lent]
    how = ["--isolation=chroot", "--network=host", "--pull-never", "--layers", f"--build-arg=BASE={BASE}", *volumes]
    _buildah("build", *how, f"--file={dockerfile}", f"--tag={tag}", str(context))


@contextlib.contextmanager
def mounted(tag: str) -> Iterator[Path]:
    """Lay an image's file system open for as long as the caller needs it."""
    container = _buildah("from", "--pull-never", tag)
    try:
        yield Path(_buildah("mount", container))
    finally:
        _buildah("rm", container)


def save(path: Path, name: str) -> None:
    """Write the image as an archive that a container runtime imports under a name; it was built before."""
    path.unlink(missing_ok=True)
    _buildah("push", "--quiet", TAG, f"oci-archive:{path}:{name}")


def _base() -> None:
    """Make what the Dockerfile begins from, once."""
    if len(_buildah("images", "--all", "--quiet").split()) > MOST_IMAGES:
        _buildah("rmi", "--prune")
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    print("making the base of the image (a minute or two, once)", flush=True)
    part = KEPT / "image-base.part"
    shutil.rmtree(part, ignore_errors=True)
    _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(part))
    for leftover in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
        shutil.rmtree(part / leftover)
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, str(part), "/")
    _buildah("config", "--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
    _buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(part)


def _buildah(*words: str) -> str:
    storage = KEPT / "image-layers"
    return _run("buildah", f"--root={storage}", f"--runroot={storage}-run", f"--storage-driver={_driver()}", *words)


def _driver() -> str:
    """Return the storage driver: overlayfs cannot lie on an overlayfs,
    where copies of whole file systems have to do.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", str(KEPT)], check=True, capture_output=True, text=True
    ).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def _run(*words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        words,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
    )
    if done.returncode:
        raise Missing(
            f"{words[0]} failed, so the image is not tested: {' '.join((done.stdout + done.stderr).split())[-600:]}"
        )
    return done.stdout.strip()
