"""A real Elasticsearch for tests: its small build from Maven, pinned by checksum, with the parts that it lacks (ElasticsearchParts.java).

It refuses to run as root, so root's is kept and run where another user may read it. `secured(folder)` starts one that asks who calls.
"""

import base64
import contextlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from localstack.replicas import free_port
from localstack.server_process import CACHE, Missing, Server, alone, running

VERSION = "8.19.16"
ARTIFACT = f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip"
CHECKSUM = "c3d95992e27741b33a8057118379cda8b17cfda9e46ff4ec25e3f5b94fc22b52"
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
PARTS = Path(__file__).with_name("ElasticsearchParts.java")
IS_ROOT = os.geteuid() == 0
# Whoever runs the server cannot read root's home.
KEPT_IN = Path("/var/tmp/skytally") if IS_ROOT else CACHE  # noqa: S108
OTHER_USER = "nobody"
HEAP = "512m"


def home() -> Path:
    """Answer the server's folder, fetching and completing it the first time; raises Missing where a tool for that is not there."""
    target = KEPT_IN / f"elasticsearch-{VERSION}-{sha256(PARTS.read_bytes()).hexdigest()[:8]}"
    for tool in ("java", "javac", "jar", "mvn"):
        if shutil.which(tool) is None:
            raise Missing(f"without {tool}: Elasticsearch is not tested")
    if target.exists():
        return target
    with alone(target):
        if not target.exists():
            print(f"fetching Elasticsearch {VERSION} (half a minute, once)", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(dir=KEPT_IN) as folder:
                _complete(_fetch(Path(folder))).rename(target)
    return target


def _fetch(folder: Path) -> Path:
    """Download and unpack what the checksum names."""
    run("mvn", "-B", "-q", MAVEN_COPY, f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={folder}", f"-Dmaven.repo.local={folder}/maven")
    archive = folder / f"elasticsearch-{VERSION}.zip"
    found = sha256(archive.read_bytes()).hexdigest()
    if found != CHECKSUM:
        raise RuntimeError(f"{archive.name} has checksum {found}, not {CHECKSUM}")
    shutil.unpack_archive(archive, folder)
    return folder / f"elasticsearch-{VERSION}"


def _complete(server: Path) -> Path:
    """Add the plugin, and let everybody read it all."""
    plugin, classes = server / "plugins" / "skytally", server.parent / "classes"
    plugin.mkdir(parents=True)
    run("javac", "--release", "17", "-nowarn", "-cp", f"{server}/lib/*", "-d", str(classes), str(PARTS))
    run("jar", "cf", str(plugin / "skytally.jar"), "-C", str(classes), ".")
    described = {"name": "skytally", "version": "1", "description": "parts for tests", "classname": "skytally.ElasticsearchParts"}
    described |= {"java.version": "17", "elasticsearch.version": VERSION}
    (plugin / "plugin-descriptor.properties").write_text("".join(f"{name}={value}\n" for name, value in described.items()))
    for path in [server, *server.rglob("*")]:
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return server


def run(*command: str, **how: Any) -> None:
    """Run a tool that says something only when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **{"stdin": subprocess.DEVNULL, **how})
    if done.returncode:
        raise Missing(f"{command[0]} failed, so Elasticsearch is not tested: {' '.join((done.stdout + done.stderr).split())[-300:]}")


class Node:
    """One server's folders and how its programs are run."""

    def __init__(self, folder: Path, password: str | None) -> None:
        self.home, self.folder, self.password, self.port = home(), folder, password, free_port()
        for part in ("conf", "data", "logs", "snapshots", "tmp"):
            (folder / part).mkdir()
        for name in ("log4j2.properties", "roles.yml", "role_mapping.yml", "users", "users_roles"):
            shutil.copy(self.home / "config" / name, folder / "conf" / name)
        # These options write into the server's own folder, which is read-only.
        kept = [
            line
            for line in (self.home / "config" / "jvm.options").read_text().splitlines()
            if "-Xlog:gc" not in line and "Heap" not in line
        ]
        (folder / "conf" / "jvm.options").write_text("\n".join(kept) + "\n")

    def configure(self, **more: Any) -> None:
        """Write the server's settings."""
        told = {
            "cluster.name": "tests",
            "node.name": "node",
            "discovery.type": "single-node",
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": 0,
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            "path.repo": [str(self.folder / "snapshots")],
            "xpack.security.enabled": self.password is not None,
            "xpack.security.enrollment.enabled": False,
            "xpack.security.http.ssl.enabled": False,
            "xpack.security.transport.ssl.enabled": False,
            "cluster.routing.allocation.disk.threshold_enabled": False,
            "action.destructive_requires_name": True,
            **more,
        }
        lines = (f"{name}: {json.dumps(value)}\n" for name, value in told.items())
        (self.folder / "conf" / "elasticsearch.yml").write_text("".join(lines))

    def give_away(self) -> None:
        """Let the other user own what the server writes."""
        if IS_ROOT:
            user = pwd.getpwnam(OTHER_USER)
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, user.pw_uid, user.pw_gid)

    def command(self, program: str, *arguments: str) -> list[str]:
        """Write how one of the server's programs is launched; the small build ships no scripts for it."""
        properties = {
            "cli.name": program,
            "cli.script": f"{self.home}/bin/elasticsearch",
            "cli.libs": f"lib/tools/{program}-cli",
            "es.path.home": self.home,
            "es.path.conf": self.folder / "conf",
            "es.distribution.type": "tar",
        }
        launched = ["java", "-Xmx64m", "-XX:+UseSerialGC", *(f"-D{name}={value}" for name, value in properties.items())]
        return [
            *launched,
            "-cp",
            f"{self.home}/lib/*:{self.home}/lib/cli-launcher/*",
            "org.elasticsearch.launcher.CliToolLauncher",
            *arguments,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """Answer what the programs read."""
        return {"ES_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP}", "ES_TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder)}

    @property
    def how(self) -> dict[str, Any]:
        """Answer as whom and where the programs run."""
        user = pwd.getpwnam(OTHER_USER)
        other: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if IS_ROOT else {}
        return {"cwd": self.home, **other}

    def keep_password(self) -> None:
        """Put the first user's password where the server looks for it."""
        if self.password is not None:
            told = {"input": self.password, "stdin": None, "env": {"PATH": os.environ["PATH"], **self.environment}}
            run(*self.command("keystore", "add", "-x", "-f", "bootstrap.password"), **self.how, **told)

    @contextlib.contextmanager
    def serving(self, log: Path) -> Iterator[Server]:
        """Run the server until the caller is done; what it has written stays for the next time."""
        command = self.command("server", "-p", str(self.folder / "tmp" / "pid"))
        with running(command, self.environment, f"http://127.0.0.1:{self.port}", log, **self.how) as server:
            server.worker = self.folder / "tmp" / "pid"
            self.call(server.url, "/_cluster/health?wait_for_status=yellow&timeout=60s")
            server.settings = {"SKYTALLY_DOCUMENTS": server.url}
            yield server

    def call(self, url: str, path: str, body: Any = None, method: str | None = None) -> Any:
        """Ask the server as its first user."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self.password is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"elastic:{self.password}".encode()).decode()
        with urllib.request.urlopen(urllib.request.Request(url + path, sent, headers, method=method), timeout=90) as answer:
            return json.loads(answer.read())


@contextlib.contextmanager
def node(folder: Path, password: str | None = None, **settings: Any) -> Iterator[Node]:
    """Make a server's folders, and remove them at the end."""
    kept = Path(tempfile.mkdtemp(prefix="skytally-elasticsearch-", dir="/var/tmp" if IS_ROOT else folder))  # noqa: S108
    try:
        one = Node(kept, password)
        one.configure(**settings)
        one.give_away()
        one.keep_password()
        yield one
    finally:
        shutil.rmtree(kept, ignore_errors=True)


@contextlib.contextmanager
def elasticsearch(folder: Path) -> Iterator[Server]:
    """Run an Elasticsearch that asks nobody who calls."""
    with node(folder) as one, one.serving(folder / "elasticsearch.log") as server:
        yield server


@contextlib.contextmanager
def secured(folder: Path) -> Iterator[tuple[Node, Server]]:
    """Run an Elasticsearch with users and API keys; its node can `call` as the first user."""
    with node(folder, secrets.token_hex(16)) as one, one.serving(folder / "elasticsearch-secured.log") as server:
        yield one, server
