"""A real kube-apiserver and etcd with today's definitions of Knative and of the Gateway API:
manifests are checked as a cluster does.

Nothing reconciles: a Service is kept as it was applied and never becomes ready. `with knative_api(folder) as api:`
gives kubeconfigs, the one of an administrator and those of users with rights of their own. kube-apiserver is built by
Go (minutes of CPU, once), etcd comes from Debian's package, unpacked beside it, so that no service of the machine is
started.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import msgspec
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from localstack.replicas import free_port
from localstack.server_process import CACHE, GoProgram, Missing, running
from skytally.adapters.functions_knative.kubeconfig import from_kubeconfig

KUBERNETES = "1.34.1"
MODULE = Path(__file__).resolve().parent / "knative_node" / "kubernetes"
SERVING = GoProgram(
    "knative-serving", "knative.dev/serving", "v0.51.0", "h1:yN2Q7eYqJgoPfZkATjoBZyGbZ2P1Qhns9HIMU4mF+to="
)
GATEWAY_API = GoProgram(
    "gateway-api", "sigs.k8s.io/gateway-api", "v1.4.0", "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ="
)
BUILD_SECONDS, READY_SECONDS, DAYS = 3_600, 60, 2
ADMINISTRATORS = "system:masters"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one server, which names its users."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, folder: Path) -> "Authority":
        """Make one, and keep its certificate in the folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=None)
        signing = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        name = _name("localstack")
        unsigned = (
            _unsigned(name, name, key.public_key())
            .add_extension(basic, critical=True)
            .add_extension(signing, critical=True)
        )
        certificate = unsigned.sign(key, hashes.SHA256())
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, certificate)

    def issue(self, user: str, group: str | None = None) -> tuple[Path, Path]:
        """Issue a certificate to a user or to the server, and return its file and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost")])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        unsigned = _unsigned(_name(user, group), self.certificate.subject, key.public_key())
        certificate = (
            unsigned.add_extension(names, critical=False)
            .add_extension(usage, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        files = self.folder / f"{user}.pem", self.folder / f"{user}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(_pem(key))
        return files


@dataclass(frozen=True)
class KnativeApi:
    """A running API server, and who may call it."""

    url: str
    authority: Authority

    def kubeconfig(self, user: str, group: str | None = None) -> Path:
        """Return the kubeconfig of a user."""
        path = self.authority.folder / f"{user}.kubeconfig"
        if path.exists():
            return path
        certificate, key = self.authority.issue(user, group)
        config = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": user}}],
            "clusters": [{"name": "here", "cluster": {"server": self.url, "certificate-authority": "ca.pem"}}],
            "users": [{"name": user, "user": {"client-certificate": certificate.name, "client-key": key.name}}],
        }
        path.write_bytes(msgspec.yaml.encode(config))
        return path

    def ask(self, method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        """Ask as an administrator, whatever the answer is."""
        context = from_kubeconfig(self.kubeconfig("admin", ADMINISTRATORS)).context
        headers = {"Content-Type": "application/json"}
        with urllib3.PoolManager(ssl_context=context, retries=False, timeout=READY_SECONDS) as pool:
            return pool.request(
                method, self.url + path, body=None if body is None else msgspec.json.encode(body), headers=headers
            )

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Ask as an administrator for what is there, or make something; raises where that is refused."""
        answer = self.ask(method, path, body)
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.data[:500]!r}")
        return msgspec.json.decode(answer.data)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator and return what it prints; the program is the machine's own."""
        if shutil.which("kubectl") is None:
            raise Missing("without kubectl: that it takes the printed manifests is not tested")
        command = ["kubectl", f"--kubeconfig={self.kubeconfig('admin', ADMINISTRATORS)}", *words]
        return subprocess.run(
            command, input=stdin, check=True, capture_output=True, text=True, timeout=READY_SECONDS
        ).stdout


@contextlib.contextmanager
def knative_api(folder: Path) -> Iterator[KnativeApi]:
    """Run an API server that knows Knative's kinds until the caller is done."""
    program, etcd = kube_apiserver(), _etcd()
    authority = Authority.new(folder)
    certificate, key = authority.issue("server")
    account_key = folder / "accounts.key"
    account_key.write_bytes(_pem(rsa.generate_private_key(public_exponent=65_537, key_size=2_048)))
    store_url, peer_url, port = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", free_port()
    etcd_command = [
        etcd,
        "--data-dir",
        folder / "etcd",
        f"--listen-client-urls={store_url}",
        f"--advertise-client-urls={store_url}",
    ]
    etcd_command += [
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
    ]
    command = [
        program,
        f"--etcd-servers={store_url}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={port}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={folder / 'ca.pem'}",
        f"--service-account-key-file={account_key}",
        f"--service-account-signing-key-file={account_key}",
        "--service-account-issuer=https://localhost",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        "--anonymous-auth=false",
        "--disable-admission-plugins=ServiceAccount",
    ]
    # A TLS server answers plain HTTP with 400, which says that it listens.
    with (
        running([*etcd_command, "--unsafe-no-fsync"], {}, f"{store_url}/health", folder / "etcd.log"),
        running(command, {}, f"http://127.0.0.1:{port}", folder / "apiserver.log"),
    ):
        api = KnativeApi(f"https://127.0.0.1:{port}", authority)
        _define(api)
        yield api


def kube_apiserver() -> Path:
    """Return the program, building it the first time; raises Missing where that cannot be done."""
    program = CACHE / "bin" / f"kube-apiserver-v{KUBERNETES}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Missing("without go: manifests are not checked by a real API server")
    print(f"building kube-apiserver {KUBERNETES} (five minutes or more, once)", file=sys.stderr, flush=True)
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        built = Path(folder) / "kube-apiserver"
        command = [
            "nice",
            "-n",
            "10",
            "go",
            "build",
            "-p=1",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags=-s -w",
        ]
        _run(*command, "-o", str(built), "k8s.io/kubernetes/cmd/kube-apiserver", folder=MODULE, seconds=BUILD_SECONDS)
        built.rename(program)
    return program


def definitions() -> list[dict[str, Any]]:
    """Return the definitions of Knative Serving's and the Gateway API's kinds, as their projects publish them."""
    files = [
        *(SERVING.source() / "config/core/300-resources").glob("*.yaml"),
        *(GATEWAY_API.source() / "config/crd/standard").glob("*httproutes.yaml"),
    ]
    return [msgspec.yaml.decode(path.read_bytes()) for path in sorted(files)]


def _etcd() -> Path:
    """Return the program: the machine's own, or Debian's, unpacked and not installed."""
    program = shutil.which("etcd")
    kept = CACHE / "etcd" / "usr" / "bin" / "etcd"
    if program or kept.exists():
        return Path(program) if program else kept
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Missing("without etcd: manifests are not checked by a real API server")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        _run("apt-get", "download", "etcd-server", folder=Path(folder), seconds=READY_SECONDS)
        _run(
            "dpkg-deb",
            "--extract",
            *map(str, Path(folder).glob("*.deb")),
            f"{folder}/root",
            folder=Path(folder),
            seconds=READY_SECONDS,
        )
        (Path(folder) / "root").rename(CACHE / "etcd")
    return kept


def _define(api: KnativeApi) -> None:
    """Make the kinds known, and wait until the server serves them."""
    _wait_for(api, "/readyz")
    for definition in definitions():
        api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    _wait_for(api, "/apis/serving.knative.dev/v1/services")
    _wait_for(api, "/apis/gateway.networking.k8s.io/v1/httproutes")


def _wait_for(api: KnativeApi, path: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while api.ask("GET", path).status != 200:
        if time.monotonic() >= deadline:
            raise RuntimeError(f"the API server does not serve {path}")
        time.sleep(0.1)


def _run(*words: str, folder: Path, seconds: int) -> None:
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "0"}
    try:
        subprocess.run(
            words,
            cwd=folder,
            env=environment,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.CalledProcessError as error:
        said = " ".join((error.stderr or error.stdout).split())
        raise Missing(f"{words[0]} fails, so manifests are not checked by a real API server: {said[-300:]}") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{words[0]} takes too long, so manifests are not checked by a real API server") from None


def _name(user: str, group: str | None = None) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
    )
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=DAYS))


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
