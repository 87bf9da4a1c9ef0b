"""OpenSearch for tests: its builds from Maven as they are;
where it asks who calls, with the security plugin of a neighbouring version.

Secured, it speaks TLS, and takes the passwords of its own users, bearer tokens (JWT, HS256) and client certificates:
the certificate's common name is the user. `folder/tls` holds ca.pem, and key and certificate of node, admin and others.
"""

import base64
import hmac
import json
import os
import re
import secrets
import shutil
import ssl
import time
from pathlib import Path
from typing import Any, ClassVar

import yaml

from localstack.ca import CertificateAuthority
from localstack.search_node import HEAP, Archive, Node, java_home, kept, run

INTEG_TEST = "org.opensearch.distribution.integ-test-zip:opensearch"
SECURITY = "org.opensearch.plugin:opensearch-security"


class OpenSearch(Node):
    """One node of OpenSearch 2; with a password it asks who calls."""

    engine, version, user = "opensearch", "2.19.6", "admin"
    java: ClassVar[int] = 17
    archive: ClassVar[Archive] = Archive(
        f"{INTEG_TEST}:2.19.6:zip", "71d6d8b1c637f3faecda0752b184b1cc526fc6eaad59ec1408c6327bb00b9293"
    )
    security: ClassVar[Archive] = Archive(
        f"{SECURITY}:2.19.4.0:zip", "1f673622c462c4171a8c53f9b1ad20e5b839834cb79b0d3b388da180a0e514e8"
    )

    @classmethod
    def fetched(cls) -> Path:
        """Return the server's folder; see Node."""
        java_home(cls.java, f"OpenSearch {cls.version}")
        name = f"opensearch-{cls.version}"
        return kept(name, cls.archive.checksum, lambda folder: cls.archive.unpack(folder) / name)

    def prepare(self) -> None:
        """Copy what the server reads from its `conf` folder;
        with a password, add the plugin to a copy of the server.
        """
        shutil.copy(self.home / "config" / "log4j2.properties", self.folder / "conf")
        if self.password is not None:
            self.home, self.signing_key = self._with_security(), base64.b64encode(secrets.token_bytes(32)).decode()
            self.ca = CertificateAuthority(self.folder / "conf" / "tls")
            for name in ("node", "admin"):
                self.ca.issue(name)
            self._write_users()

    def own_settings(self) -> dict[str, Any]:
        """Return what the security plugin is told."""
        if self.password is None:
            return {}
        files = {
            "pemcert_filepath": "tls/node.pem",
            "pemkey_filepath": "tls/node.key",
            "pemtrustedcas_filepath": "tls/ca.pem",
        }
        return {
            **{
                f"plugins.security.ssl.{layer}.{name}": value
                for layer in ("transport", "http")
                for name, value in files.items()
            },
            "plugins.security.ssl.transport.enforce_hostname_verification": False,
            "plugins.security.ssl.http.enabled": True,
            "plugins.security.ssl.http.clientauth_mode": "OPTIONAL",
            "plugins.security.allow_default_init_securityindex": True,
            "plugins.security.restapi.roles_enabled": ["all_access"],
            "plugins.security.authcz.admin_dn": ["CN=admin"],
            "plugins.security.nodes_dn": ["CN=node"],
        }

    def command(self) -> list[str]:
        """Return how the server is launched; see Node."""
        return ["bash", str(self.home / "bin" / "opensearch"), "-p", str(self.folder / "tmp" / "pid")]

    def environment(self) -> dict[str, str]:
        """Return what the programs read; see Node."""
        return {
            "OPENSEARCH_JAVA_HOME": str(java_home(self.java, self.engine)),
            "OPENSEARCH_JAVA_OPTS": f"-Xms{HEAP} -Xmx{HEAP}",
            "OPENSEARCH_PATH_CONF": str(self.folder / "conf"),
            "OPENSEARCH_TMPDIR": str(self.folder / "tmp"),
            "HOME": str(self.folder),
        }

    @property
    def scheme(self) -> str:  # type: ignore[override]
        """Return how it is spoken to: users are asked for over TLS alone."""
        return "http" if self.password is None else "https"

    def settings(self) -> dict[str, str]:
        """Return the settings with which skytally uses it; see Node."""
        trusted = {} if self.password is None else {"SKYTALLY_DOCUMENTS_CA_FILE": str(self.ca.file)}
        return super().settings() | trusted

    @property
    def tls(self) -> ssl.SSLContext | None:
        """Return whom a caller trusts; see Node."""
        return None if self.password is None else ssl.create_default_context(cafile=self.ca.file)

    def bearer(self, user: str, seconds: int = 3_600, **claims: Any) -> str:
        """Return a bearer token of a user."""
        parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + seconds, **claims})
        text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
        signature = hmac.digest(base64.b64decode(self.signing_key), text, "sha256")
        return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()

    def _with_security(self) -> Path:
        return kept(
            f"opensearch-{self.version}-secured", self.archive.checksum + self.security.checksum, self._add_security
        )

    def _add_security(self, folder: Path) -> Path:
        """Copy the server and add the plugin; it takes no other version's unless its description says so."""
        server = folder / "server"
        shutil.copytree(self.home, server)
        plugin = self.security.unpack(server / "plugins" / "opensearch-security")
        description = plugin / "plugin-descriptor.properties"
        described = re.sub(
            r"(?m)^opensearch\.version=.*$", f"opensearch.version={self.version}", description.read_text()
        )
        description.write_text(described)
        for jar in plugin.glob("bc*-fips-*.jar"):
            if any((server / "lib").glob(f"{jar.name.partition('-fips-')[0]}-fips-*.jar")):
                jar.unlink()
        return server

    def _write_users(self) -> None:
        """Write the first user, and which ways of saying who calls there are."""
        source, target = (
            self.home / "plugins" / "opensearch-security" / "config",
            self.folder / "conf" / "opensearch-security",
        )
        shutil.copytree(source, target)
        environment = {**os.environ, "PASSWORD": str(self.password)}
        java = str(java_home(self.java, self.engine) / "bin" / "java")
        classes = f"{self.home}/plugins/opensearch-security/*:{self.home}/lib/*"
        digest = run(
            java, "-cp", classes, "org.opensearch.security.tools.Hasher", "-env", "PASSWORD", env=environment
        ).split()[-1]
        users = {
            "_meta": {"type": "internalusers", "config_version": 2},
            "admin": {"hash": digest, "backend_roles": ["admin"]},
        }
        (target / "internal_users.yml").write_text(yaml.safe_dump(users))
        config = yaml.safe_load((target / "config.yml").read_text())
        domains = config["config"]["dynamic"]["authc"]
        for name in ("basic_internal_auth_domain", "jwt_auth_domain", "clientcert_auth_domain"):
            domains[name]["http_enabled"] = True
        domains["basic_internal_auth_domain"]["http_authenticator"]["challenge"] = False
        domains["jwt_auth_domain"]["http_authenticator"]["config"] = {
            "signing_key": self.signing_key,
            "subject_key": "sub",
            "roles_key": "roles",
        }
        (target / "config.yml").write_text(yaml.safe_dump(config))


class OpenSearch3(OpenSearch):
    """One node of OpenSearch 3."""

    version = "3.6.0"
    java = 25
    archive = Archive(f"{INTEG_TEST}:3.6.0:zip", "a91faa1dc1cadc78cb278b4f63847e19e1627a4e9de698e14e7efc14ee37b286")
    security = Archive(f"{SECURITY}:3.4.0.0:zip", "fc164c084979f7f793d295b6bca56bf8bee76dafb762adef9f14fa872e0a7596")
