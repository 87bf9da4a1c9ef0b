"""Access to a cluster: by a kubeconfig, or by the service account of this pod.

Credentials are a client certificate or a token. A plugin that runs a program to get one is refused by name: `kubectl
create token` makes a token. A server whose certificate is not checked is refused, too.
"""

import re
import ssl
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from skytally.core.errors import Malformed
from skytally.core.plain_text import printable

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POD_SERVER = "https://kubernetes.default.svc"
MOST_LETTERS = 500
TOKEN = re.compile(r"[!-~]+")


class Access(Struct, frozen=True, kw_only=True):
    """A server's address and the caller's credentials."""

    server: str
    context: ssl.SSLContext
    token_file: Path | None = None
    token: str | None = None
    server_name: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the authentication headers; a token's file is read each time, since pods' tokens are renewed."""
        token = _text(self.token_file) if self.token_file else self.token
        if token and not TOKEN.fullmatch(token):
            raise Malformed("the token for the cluster holds what no token holds: copy it again, or make a new one")
        return {"Authorization": f"Bearer {token}"} if token else {}


class _Fields(Struct, rename="kebab", frozen=True):
    """A part of a kubeconfig."""


class _ClusterFields(_Fields, frozen=True):
    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _UserFields(_Fields, frozen=True):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    exec: Any = None
    auth_provider: Any = None


class _ContextFields(_Fields, frozen=True):
    cluster: str
    user: str


class _NamedCluster(_Fields, frozen=True):
    name: str
    cluster: _ClusterFields


class _NamedUser(_Fields, frozen=True):
    name: str
    user: _UserFields


class _NamedContext(_Fields, frozen=True):
    name: str
    context: _ContextFields


class _Kubeconfig(_Fields, frozen=True):
    current_context: str
    clusters: tuple[_NamedCluster, ...]
    users: tuple[_NamedUser, ...]
    contexts: tuple[_NamedContext, ...]


def from_kubeconfig(path: Path) -> Access:
    """Return the access of a kubeconfig's current context; raise Malformed for a missing or unsupported field."""
    try:
        read = msgspec.yaml.decode(path.read_bytes(), type=_Kubeconfig)
    except OSError as error:
        raise Malformed(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Malformed(f"{path} is no kubeconfig: {printable(str(error), MOST_LETTERS)}") from None
    try:
        context = {entry.name: entry.context for entry in read.contexts}[read.current_context]
        cluster = {entry.name: entry.cluster for entry in read.clusters}[context.cluster]
        user = {entry.name: entry.user for entry in read.users}[context.user]
    except KeyError as missing:
        raise Malformed(f"{path} names {missing} and does not say what it is") from None
    return _access(cluster, user, path)


def from_pod() -> Access:
    """Return the access of this pod's service account; raise Malformed outside of a cluster."""
    if not (POD_FOLDER / "token").is_file():
        raise Malformed("there is no kubeconfig here, and this is no pod: name one with --kubeconfig")
    return Access(server=POD_SERVER, context=_context(_text(POD_FOLDER / "ca.crt")), token_file=POD_FOLDER / "token")


def _access(cluster: _ClusterFields, user: _UserFields, path: Path) -> Access:
    if not cluster.server.startswith("https://"):
        raise Malformed(f"{path}: the server {cluster.server} must be https, or credentials go in clear")
    if cluster.insecure_skip_tls_verify:
        raise Malformed(f"{path}: insecure-skip-tls-verify is not supported: name the certificate authority")
    if cluster.proxy_url:
        raise Malformed(f"{path}: proxy-url is not supported")
    if user.exec or user.auth_provider:
        raise Malformed(f"{path}: a program for credentials is not supported: make a token with `kubectl create token`")
    context = _context(_given(cluster.certificate_authority_data, cluster.certificate_authority, path))
    certificate = _given(user.client_certificate_data, user.client_certificate, path)
    key = _given(user.client_key_data, user.client_key, path)
    if certificate and key:
        _load(context, certificate, key, path)
    elif not (user.token or user.token_file):
        raise Malformed(f"{path} has neither a client certificate with its key nor a token")
    return Access(
        server=cluster.server.rstrip("/"),
        context=context,
        token=user.token,
        token_file=path.parent / user.token_file if user.token_file else None,
        server_name=cluster.tls_server_name,
    )


def _given(data: str | None, name: str | None, kubeconfig: Path) -> str | None:
    """Return a value of a kubeconfig, or the content of the file that it names."""
    try:
        return b64decode(data, validate=True).decode() if data else _text(kubeconfig.parent / name) if name else None
    except ValueError:  # It holds what is no base64, no text, or letters that base64 does not have.
        raise Malformed(f"{kubeconfig}: a certificate or key in it is no base64 of PEM") from None


def _context(authority: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=authority)
    except (ssl.SSLError, TypeError, ValueError):  # Letters that are not ASCII are a TypeError.
        raise Malformed("the certificate authority of the cluster is no PEM certificate") from None
    # Python 3.13 asks for key identifiers, which the authorities of many clusters do not write; all else stays checked.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, path: Path) -> None:
    """Load a client certificate into TLS, which reads only files: a private one, for a moment."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{certificate}\n{key}\n")
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError:
            raise Malformed(
                f"{path}: the client certificate and its key do not belong together, or are no PEM"
            ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise Malformed(f"cannot read {path}") from None
