"""What the search engines for tests have in common:
a server fetched from Maven, pinned by checksum, one node with folders of its own.

Engines refuse to run as root, so root's are kept and run where another user may read them.
"""

import base64
import contextlib
import json
import os
import pwd
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from localstack.replicas import free_port
from localstack.server_process import CACHE, Missing, MissingOptional, Server, alone, running

MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
IS_ROOT = os.geteuid() == 0
# Whoever runs the server cannot read root's home.
KEPT_IN = Path("/var/tmp/skytally") if IS_ROOT else CACHE  # noqa: S108
OTHER_USER = "nobody"
HEAP = "512m"
READY_SECONDS = 120
JAVAS = Path("/usr/lib/jvm")
# The newest that Debian's stable release has.
DEBIAN_JAVA = 21


@dataclass(frozen=True)
class Archive:
    """A zip on Maven: its coordinates and the SHA-256 of the file."""

    artifact: str
    checksum: str

    def unpack(self, into: Path) -> Path:
        """Download and unpack it into a folder, and return that; any other content than the pinned is refused."""
        _, name, version, _ = self.artifact.split(":")
        into.mkdir(exist_ok=True)
        run(
            "mvn",
            "-B",
            "-q",
            MAVEN_COPY,
            f"-Dartifact={self.artifact}",
            f"-DoutputDirectory={into}",
            f"-Dmaven.repo.local={into}/maven",
        )
        archive = into / f"{name}-{version}.zip"
        digest = sha256(archive.read_bytes()).hexdigest()
        if digest != self.checksum:
            raise RuntimeError(f"{archive.name} has checksum {digest}, not {self.checksum}")
        shutil.unpack_archive(archive, into)
        archive.unlink()
        shutil.rmtree(into / "maven")
        return into


def java_home(least: int, server: str) -> Path:
    """Return the oldest Java of this machine that is new enough; raises Missing where there is none.

    A Java that Debian lacks is MissingOptional.
    """
    homes = [Path(os.environ[name]) for name in ("JAVA_HOME",) if name in os.environ]
    on_path = shutil.which("java")
    homes += [Path(on_path).resolve().parent.parent] if on_path else []
    homes += sorted(JAVAS.iterdir()) if JAVAS.is_dir() else []
    releases = {home: _java_release(home) for home in homes}
    usable = [home for home in releases if releases[home] >= least]
    if not usable:
        raise (Missing if least <= DEBIAN_JAVA else MissingOptional)(f"without Java {least}: {server} is not tested")
    return min(usable, key=lambda home: releases[home])


def _java_release(home: Path) -> int:
    """Read which Java lies in a folder; 0 where none does."""
    try:
        lines = (home / "release").read_text().splitlines()
    except OSError:
        return 0
    versions = [line.partition('"')[2] for line in lines if line.startswith("JAVA_VERSION=")]
    return int(versions[0].split(".")[0].rstrip('"')) if versions and (home / "bin" / "java").exists() else 0


def kept(name: str, parts: str, make: Callable[[Path], Path]) -> Path:
    """Return a server's folder, made the first time by `make` in a folder of its own;
    a new version of its parts is a new folder.
    """
    if shutil.which("mvn") is None:
        raise Missing(f"without mvn: {name} is not tested")
    target = KEPT_IN / f"{name}-{sha256(parts.encode()).hexdigest()[:8]}"
    if target.exists():
        return target
    with alone(target):
        if not target.exists():
            print(f"fetching {name} (half a minute, once)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=KEPT_IN) as folder:
                server = make(Path(folder))
                for path in [server, *server.rglob("*")]:
                    path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
                server.rename(target)
    return target


def run(*command: str, **how: Any) -> str:
    """Run a tool and return what it says; raises Missing with the end of that where it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, **{"stdin": subprocess.DEVNULL, **how}
    )
    if done.returncode:
        raise Missing(
            f"{command[0]} failed, so its server is not tested: {' '.join((done.stdout + done.stderr).split())[-300:]}"
        )
    return done.stdout


class Node:
    """One server's folders, and how it is configured, started and asked; each engine fills in what differs."""

    engine: ClassVar[str]
    version: ClassVar[str]
    user: ClassVar[str]
    scheme = "http"

    def __init__(self, folder: Path, password: str | None) -> None:
        self.home, self.folder, self.password, self.port = self.fetched(), folder, password, free_port()
        for part in ("conf", "data", "logs", "snapshots", "tmp"):
            (folder / part).mkdir()
        # These options write into the server's own folder, which is read-only.
        options = (self.home / "config" / "jvm.options").read_text().splitlines()
        usable = [line for line in options if not any(word in line for word in ("Xlog:gc", "Heap", "-Xm", "ErrorFile"))]
        (folder / "conf" / "jvm.options").write_text("\n".join(usable) + "\n")
        self.prepare()

    @classmethod
    def fetched(cls) -> Path:
        """Return the server's folder, fetching it the first time; raises Missing where this machine cannot run it."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Put into the `conf` folder what the engine needs besides."""
        raise NotImplementedError

    def own_settings(self) -> dict[str, Any]:
        """Return the settings that this engine alone has."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return how the server is launched."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what its programs read."""
        raise NotImplementedError

    def keep_password(self) -> None:
        """Put the first user's password where the server looks for it."""

    def configure(self, **more: Any) -> None:
        """Write the server's settings."""
        settings = {
            "cluster.name": "tests",
            "node.name": "node",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": 0,
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "path.repo": [str(self.folder / "snapshots")],
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "action.destructive_requires_name": True,
            **self.own_settings(),
            **more,
        }
        lines = (f"{name}: {json.dumps(value)}\n" for name, value in settings.items())
        (self.folder / "conf" / f"{self.engine}.yml").write_text("".join(lines))

    def give_away(self) -> None:
        """Let the other user own what the server writes."""
        if IS_ROOT:
            user = pwd.getpwnam(OTHER_USER)
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid)

    @property
    def how(self) -> dict[str, Any]:
        """Return as whom and where the programs run."""
        user = pwd.getpwnam(OTHER_USER)
        other: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if IS_ROOT else {}
        return {"cwd": self.home, **other}

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"{self.scheme}://{'localhost' if self.scheme == 'https' else '127.0.0.1'}:{self.port}"

    def settings(self) -> dict[str, str]:
        """Return the settings with which skytally uses it."""
        return {"SKYTALLY_DOCUMENTS": self.url}

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Return whom a caller trusts; None without TLS."""
        return None

    @contextlib.contextmanager
    def serving(self, log: Path) -> Iterator[Server]:
        """Run the server until the caller is done; what it has written stays for the next time."""
        with running(self.command(), self.environment(), self.url, log, self.tls, **self.how) as server:
            server.worker = self.folder / "tmp" / "pid"
            self._wait_until_it_is_set_up(server.url)
            server.settings = self.settings()
            yield server

    def _wait_until_it_is_set_up(self, url: str) -> None:
        """Wait for the cluster, and for the users that it makes itself."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.call(url, "/_cluster/health?wait_for_status=yellow&timeout=60s")
            except urllib.error.HTTPError as error:
                error.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def call(self, url: str, path: str, body: Any = None, method: str | None = None) -> Any:
        """Ask the server as its first user."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.password is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(url + path, sent, headers, method=method)
        with urllib.request.urlopen(request, timeout=90, context=self.tls) as answer:
            return json.loads(answer.read())
