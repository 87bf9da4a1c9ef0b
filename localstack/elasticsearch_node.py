"""Elasticsearch for tests: its small build from Maven, with the parts that it lacks (ElasticsearchParts.java)."""

import os
import shutil
from pathlib import Path
from typing import Any

from localstack.search_node import HEAP, Archive, Node, kept, run
from localstack.server_process import Missing

VERSION = "8.19.16"
ARCHIVE = Archive(
    f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip",
    "c3d95992e27741b33a8057118379cda8b17cfda9e46ff4ec25e3f5b94fc22b52",
)
PARTS = Path(__file__).with_name("ElasticsearchParts.java")


class Elasticsearch(Node):
    """One node of Elasticsearch; with a password it has users and API keys."""

    engine, version, user = "elasticsearch", VERSION, "elastic"

    @classmethod
    def fetched(cls) -> Path:
        """Return the server's folder; see Node."""
        for tool in ("java", "javac", "jar"):
            if shutil.which(tool) is None:
                raise Missing(f"without {tool}: Elasticsearch is not tested")
        return kept(f"elasticsearch-{VERSION}", PARTS.read_text(), _complete)

    def prepare(self) -> None:
        """Copy what the server reads from its `conf` folder."""
        for name in ("log4j2.properties", "roles.yml", "role_mapping.yml", "users", "users_roles"):
            shutil.copy(self.home / "config" / name, self.folder / "conf" / name)

    def own_settings(self) -> dict[str, Any]:
        """Return what X-Pack is told."""
        return {
            "xpack.security.enabled": self.password is not None,
            "xpack.security.enrollment.enabled": False,
            "xpack.security.http.ssl.enabled": False,
            "xpack.security.transport.ssl.enabled": False,
        }

    def command(self) -> list[str]:
        """Return how the server is launched; see Node."""
        return self._program("server", "-p", str(self.folder / "tmp" / "pid"))

    def environment(self) -> dict[str, str]:
        """Return what the programs read; see Node."""
        return {
            "ES_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP}",
            "ES_TMPDIR": str(self.folder / "tmp"),
            "HOME": str(self.folder),
        }

    def keep_password(self) -> None:
        """Put the first user's password into the keystore."""
        if self.password is not None:
            how = {
                **self.how,
                "input": self.password,
                "stdin": None,
                "env": {"PATH": os.environ["PATH"], **self.environment()},
            }
            run(*self._program("keystore", "add", "-x", "-f", "bootstrap.password"), **how)

    def _program(self, program: str, *arguments: str) -> list[str]:
        """Return how one of the server's programs is launched; the small build ships no scripts for it."""
        properties = {
            "cli.name": program,
            "cli.script": f"{self.home}/bin/elasticsearch",
            "cli.libs": f"lib/tools/{program}-cli",
            "es.path.home": self.home,
            "es.path.conf": self.folder / "conf",
            "es.distribution.type": "tar",
        }
        launched = ["java", "-Xmx64m", "-XX:+UseSerialGC", *(f"-D{name}={value}" for name, value in properties.items())]
        classes = f"{self.home}/lib/*:{self.home}/lib/cli-launcher/*"
        return [*launched, "-cp", classes, "org.elasticsearch.launcher.CliToolLauncher", *arguments]


def _complete(folder: Path) -> Path:
    """Unpack the server and add the plugin."""
    server = ARCHIVE.unpack(folder) / f"elasticsearch-{VERSION}"
    plugin, classes = server / "plugins" / "skytally", folder / "classes"
    plugin.mkdir(parents=True)
    run("javac", "--release", "17", "-nowarn", "-cp", f"{server}/lib/*", "-d", str(classes), str(PARTS))
    run("jar", "cf", str(plugin / "skytally.jar"), "-C", str(classes), ".")
    described = {
        "name": "skytally",
        "version": "1",
        "description": "parts for tests",
        "classname": "skytally.ElasticsearchParts",
    }
    described |= {"java.version": "17", "elasticsearch.version": VERSION}
    (plugin / "plugin-descriptor.properties").write_text(
        "".join(f"{name}={value}\n" for name, value in described.items())
    )
    return server
