"""Who calls which cluster: what a kubeconfig says is used or refused by name, and never in clear."""

import ssl
from base64 import b64encode

import pytest
import yaml
from click.testing import CliRunner

from localstack.knative_api import Authority
from skytally.adapters.functions_knative import kubeconfig
from skytally.cli import cli
from skytally.core.errors import Malformed


@pytest.fixture
def authority(tmp_path):
    return Authority.new(tmp_path)


@pytest.fixture
def write(tmp_path, authority):
    def write(cluster_fields=None, user=None, **change):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "here", "user": "me", "namespace": "x"}}],
            "clusters": [
                {"name": "here", "cluster": {"server": "https://k.example.org:6443/"} | (cluster_fields or {})}
            ],
            "users": [{"name": "me", "user": user if user is not None else {"token": "t"}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config | change))
        return path

    return write


def test_a_token_is_sent_and_certificates_are_checked(write):
    access = kubeconfig.from_kubeconfig(write())
    assert access.server == "https://k.example.org:6443"
    assert access.headers() == {"Authorization": "Bearer t"}
    assert access.context.verify_mode is ssl.CERT_REQUIRED
    assert access.context.check_hostname


def test_a_tokens_file_is_read_each_time(write, tmp_path):
    (tmp_path / "token").write_text("one\n")
    access = kubeconfig.from_kubeconfig(write(user={"tokenFile": "token"}))
    assert access.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert access.headers() == {"Authorization": "Bearer two"}


@pytest.mark.parametrize("token", ["€", "one\ntwo"])
def test_a_token_that_no_header_takes_is_refused(write, token):
    with pytest.raises(Malformed, match="the token for the cluster") as refused:
        kubeconfig.from_kubeconfig(write(user={"token": token})).headers()
    assert token not in str(refused.value)


@pytest.mark.parametrize("inline", [True, False])
def test_authority_and_client_certificate_are_files_or_stand_in_it(write, authority, tmp_path, inline):
    certificate, key = authority.issue("me")
    names = {"certificate-authority": tmp_path / "ca.pem", "client-certificate": certificate, "client-key": key}
    if inline:
        told = {f"{name}-data": b64encode(path.read_bytes()).decode() for name, path in names.items()}
    else:
        told = {name: path.name for name, path in names.items()}
    user = {name: value for name, value in told.items() if name.startswith("client")}
    access = kubeconfig.from_kubeconfig(
        write({name: value for name, value in told.items() if name.startswith("certificate")}, user)
    )
    assert [dict(one[0] for one in found["subject"])["commonName"] for found in access.context.get_ca_certs()] == [
        "localstack"
    ]
    assert access.headers() == {}


REFUSED = {
    "a server without TLS": ({"cluster_fields": {"server": "http://k.example.org"}}, "clear"),
    "a server that is not checked": (
        {"cluster_fields": {"insecure-skip-tls-verify": True}},
        "insecure-skip-tls-verify",
    ),
    "a proxy": ({"cluster_fields": {"proxy-url": "http://p"}}, "proxy-url"),
    "a program for credentials": ({"user": {"exec": {"command": "aws"}}}, "create token"),
    "no credentials": ({"user": {}}, "neither"),
    "half of a client certificate": ({"user": {"client-certificate-data": "eA=="}}, "neither"),
    "a certificate that is none": ({"user": {"client-certificate-data": "eA==", "client-key-data": "eA=="}}, "PEM"),
    "an authority that is none": ({"cluster_fields": {"certificate-authority-data": "eA=="}}, "PEM"),
    "an authority that is no base64": ({"cluster_fields": {"certificate-authority-data": "%"}}, "base64"),
    "an authority with letters that base64 does not have": (
        {"cluster_fields": {"certificate-authority-data": "€"}},
        "base64",
    ),
    "an authority that is not ASCII": (
        {"cluster_fields": {"certificate-authority-data": b64encode("€".encode()).decode()}},
        "PEM",
    ),
    "a client certificate with letters that base64 does not have": (
        {"user": {"client-certificate-data": "€"}},
        "base64",
    ),
    "an authority that is not there": ({"cluster_fields": {"certificate-authority": "gone.pem"}}, "gone.pem"),
    "a context that is not there": ({"current-context": "other"}, "other"),
    "something else": ({"clusters": 3}, "no kubeconfig"),
}


@pytest.mark.parametrize(("change", "word"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_supported_is_refused_by_its_name(write, change, word):
    with pytest.raises(Malformed, match=word):
        kubeconfig.from_kubeconfig(write(**change))


def test_no_credential_is_in_an_error(write):
    secret = b64encode(b"hunter2").decode()
    for user in (
        {"client-certificate-data": secret, "client-key-data": secret},
        {"token": [secret]},
        {"exec": {"args": [secret]}},
    ):
        with pytest.raises(Malformed) as refused:
            kubeconfig.from_kubeconfig(write(user=user))
        assert secret not in str(refused.value)
        assert "hunter2" not in str(refused.value)


def test_a_pod_calls_by_its_own_account(tmp_path, monkeypatch, authority):
    monkeypatch.setattr(kubeconfig, "POD_FOLDER", tmp_path)
    with pytest.raises(Malformed, match="--kubeconfig"):
        kubeconfig.from_pod()
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text((tmp_path / "ca.pem").read_text())
    access = kubeconfig.from_pod()
    assert (access.server, access.headers()) == ("https://kubernetes.default.svc", {"Authorization": "Bearer t"})


def test_each_platform_asks_for_what_it_needs(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "SKYTALLY_GATEWAY", "SKYTALLY_GATEWAY_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    openfaas = CliRunner().invoke(cli, ["deploy", "remove", "agent"])
    assert (openfaas.exit_code, "--gateway and --password-file" in openfaas.output) == (2, True)
    knative = CliRunner().invoke(cli, ["deploy", "remove", "agent", "--platform", "knative"])
    assert "--kubeconfig" in str(knative.exception)


def test_the_usual_kubeconfig_is_used_where_none_is_named(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / ".kube").mkdir()
    write(user={}).rename(tmp_path / ".kube" / "config")
    refused = CliRunner().invoke(cli, ["deploy", "remove", "agent", "--platform", "knative"])
    assert "neither a client certificate" in str(refused.exception)
