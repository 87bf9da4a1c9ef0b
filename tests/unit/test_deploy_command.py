"""`skytally deploy`: what is mistyped is told before anything is sent, and no secret goes where it must not."""

import contextlib
import json
import socket
import ssl
from base64 import b64encode

import pytest
from click.testing import CliRunner

from localstack.knative_api import Authority
from skytally.adapters import functions_openfaas
from skytally.adapters.functions_knative.cluster import Cluster
from skytally.adapters.functions_knative.kubeconfig import Access
from skytally.adapters.functions_openfaas import OpenFaasFunctions
from skytally.cli import cli
from skytally.cli.deploy import deploy
from skytally.core.errors import Unavailable
from tests.support.recording_server import Reply, recording_server

IMAGE = "registry.example.org/skytally:1"
NOBODY = "http://127.0.0.1:9"
COMMANDS = sorted(deploy.commands)


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("hidden")
    return path


@pytest.fixture
def run(password_file):
    """Run a command at a gateway where nobody answers: what is refused here was refused before anything was sent."""

    def run(*words, gateway=NOBODY, stdin=None):
        access = ["--gateway", gateway, "--password-file", str(password_file)]
        done = CliRunner().invoke(cli, ["deploy", *map(str, words), *access], input=stdin)
        return done.exit_code, done.output + str(getattr(done.exception, "message", ""))

    return run


def described(command, settings, *options):
    """Print a description, as a command that asks no platform does; return the exit code and what it said."""
    done = CliRunner().invoke(cli, ["deploy", command, "-", *options], input=json.dumps({"image": IMAGE} | settings))
    return done.exit_code, done.output + str(getattr(done.exception, "message", ""))


# ---- settings ----

MISTYPED = {
    "a name": ({"SKYTALLY_TRUSTED_HOP": "1"}, "SKYTALLY_TRUSTED_HOP is no setting: is it SKYTALLY_TRUSTED_HOPS?"),
    "a name that is like no other": ({"SKYTALLY_X": "1"}, "SKYTALLY_X is no setting"),
    "a value": (
        {"SKYTALLY_TRUSTED_HOPS": "many"},
        "setting SKYTALLY_TRUSTED_HOPS: must be the number of trusted proxies",
    ),
    "a value out of range": ({"SKYTALLY_TRUSTED_HOPS": "9"}, "SKYTALLY_TRUSTED_HOPS"),
    "a store": ({"SKYTALLY_OBJECTS": "bucket"}, "SKYTALLY_OBJECTS"),
}


@pytest.mark.parametrize("command", ["stack-file", "manifests"])
@pytest.mark.parametrize(("settings", "words"), MISTYPED.values(), ids=MISTYPED)
def test_a_mistyped_setting_is_refused_with_the_right_one(command, settings, words):
    for given in ({"settings": settings}, {"function_settings": {"statement": settings}}):
        exit_code, output = described(command, given)
        assert (exit_code, words in output) == (1, True), output


def test_a_mistyped_setting_is_refused_before_anything_is_sent(run):
    exit_code, output = run("apply", "-", stdin=json.dumps({"image": IMAGE, "settings": {"SKYTALLY_TRUSTED_HOP": "1"}}))
    assert (exit_code, "is it SKYTALLY_TRUSTED_HOPS?" in output, "does not answer" in output) == (1, True, False)


# ---- options ----

NO_SITES = [
    (["--namespace", "Bad_Name"], "--namespace 'Bad_Name'"),
    (["--route-gateway", "nonsense"], "--route-gateway is NAMESPACE/NAME"),
    (["--route-gateway", "a/b/c"], "--route-gateway is NAMESPACE/NAME"),
    (["--route-host", "https://sky.example.org"], "--route-host is a host name"),
    (["--min-scale", "5", "--max-scale", "2"], "--min-scale 5 is more than --max-scale 2"),
]


@pytest.mark.parametrize(("options", "words"), NO_SITES)
def test_an_option_that_no_cluster_takes_is_wrong_usage(options, words):
    exit_code, output = described("manifests", {}, *options)
    assert (exit_code, words in output) == (2, True), output


@pytest.mark.parametrize(
    "options", [["--route-gateway", "ingress/knative.v2"], ["--route-host", "*.example.org"], ["--min-scale", "10"]]
)
def test_an_option_that_clusters_take_is_taken(options):
    assert described("manifests", {}, *options)[0] == 0


def test_a_function_by_its_folders_name_is_told_by_its_name_in_paths(run):
    exit_code, output = run("apply", "-", "--only", "panda_collect", stdin=json.dumps({"image": IMAGE}))
    assert (exit_code, "there is no function panda_collect: is it panda-collect?" in output) == (2, True)


# ---- where the password goes ----


@pytest.mark.parametrize(
    "gateway", ["http://gateway.example.org:8080", "http://10.0.0.1", "http://127.0.0.1.example.org"]
)
def test_no_password_travels_in_clear_unless_somebody_said_so(run, gateway):
    exit_code, output = run("remove", "agent", gateway=gateway)
    assert exit_code == 2
    assert "the password would travel in clear. Use https, or say --insecure where the network is yours" in output


def test_who_says_so_is_asked_no_more(run, monkeypatch):
    monkeypatch.setattr(functions_openfaas, "TRIES", 1)
    exit_code, output = run("remove-secret", "s3", "--insecure", gateway="http://gateway.invalid")
    assert (exit_code, "the gateway at http://gateway.invalid does not answer" in output) == (1, True)


@pytest.mark.parametrize("gateway", ["127.0.0.1:9", "gateway.example.org", "ftp://gateway.example.org", "https://"])
def test_a_gateway_that_is_no_url_gets_no_password(run, gateway):
    exit_code, output = run("remove", "agent", "--insecure", gateway=gateway)
    assert (exit_code, "https://gateway.example.org" in output) == (2, True)


@contextlib.contextmanager
def gateway_with_tls(folder, body=b"[]"):
    """Run a server that says the same to everything, its certificate by a CA in a folder."""
    certificate, key = Authority.new(folder).issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with recording_server(lambda _: Reply(body=body), context=context) as server:
        yield server


def test_a_certificate_that_is_not_trusted_is_told_and_not_asked_again(tmp_path):
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()
    Authority.new(tmp_path / "wrong")
    told = []
    with gateway_with_tls(tmp_path / "right") as server:
        with pytest.raises(Unavailable, match=r"its certificate is not trusted .*: check --ca"):
            OpenFaasFunctions(server.url, "hidden", tmp_path / "wrong" / "ca.pem", told.append).services()
        (tmp_path / "wrong" / "ca.pem").write_text("no certificate")
        with pytest.raises(Unavailable, match="--ca is a certificate in PEM"):
            OpenFaasFunctions(server.url, "hidden", tmp_path / "wrong" / "ca.pem", told.append).services()
        assert (told, server.requests) == ([], [])
        assert OpenFaasFunctions(server.url, "hidden", tmp_path / "right" / "ca.pem", told.append).services() == {}


def test_a_password_may_hold_any_letter(tmp_path):
    with gateway_with_tls(tmp_path) as server:
        OpenFaasFunctions(server.url, "€uro", tmp_path / "ca.pem").services()
    (request,) = server.requests
    assert request.headers["Authorization"] == "Basic " + b64encode("admin:€uro".encode()).decode()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[1]", b'"x"'])
def test_what_is_no_gateway_is_told(tmp_path, body):
    with gateway_with_tls(tmp_path, body) as server, pytest.raises(Unavailable, match="is this an OpenFaaS gateway"):
        OpenFaasFunctions(server.url, "hidden", tmp_path / "ca.pem").services()


# ---- a platform that is silent ----


@pytest.fixture
def silent():
    """Take connections, and answer nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_gateway_that_is_silent_is_waited_for_as_long_as_somebody_said(run, silent):
    exit_code, output = run(
        "apply", "-", "--seconds", "1", gateway=f"http://127.0.0.1:{silent}", stdin=json.dumps({"image": IMAGE})
    )
    assert (exit_code, "does not answer: check its address" in output, "asked again" in output) == (1, True, False)


def test_a_cluster_that_is_silent_is_waited_for_as_long_as_somebody_said(silent):
    cluster = Cluster(
        Access(server=f"https://127.0.0.1:{silent}", context=ssl.create_default_context()), "skytally", 1.0
    )
    with pytest.raises(Unavailable, match="does not answer"):
        cluster.get("Service", "agent")


# ---- secrets ----

KEY = "master-20261101000000"


def test_a_secrets_name_that_no_platform_takes_is_refused_by_the_rule(run, tmp_path):
    exit_code, output = run("secret", "A_b", tmp_path / "password")
    assert (exit_code, "'A_b' is no name of a secret: platforms take up to 63 of a-z, 0-9 and -" in output) == (1, True)


def test_no_key_is_sent_where_another_cannot_be_read(run, tmp_path):
    (tmp_path / KEY).write_text("ab" * 32)
    (tmp_path / "wrapping-20261101000000").write_bytes(b"\xff")
    exit_code, output = run("secrets", tmp_path)
    assert (exit_code, "wrapping-20261101000000 is no text" in output, "does not answer" in output) == (1, True, False)


def test_a_folder_without_keys_is_told(run, tmp_path):
    (tmp_path / f"{KEY}~").write_text("a copy of an editor's")
    exit_code, output = run("secrets", tmp_path)
    assert (exit_code, "`skytally keys init` makes them" in output, "kept" in output) == (1, True, False)


# ---- help ----


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_and_fits_a_terminal(name):
    lines = CliRunner().invoke(cli, ["deploy", name, "--help"], terminal_width=80).output.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    start = next(number for number, line in enumerate(lines) if line.strip() in {"Example:", "Examples:"})
    assert f"skytally deploy {name}" in " ".join(lines[start + 1 :])


def test_the_groups_help_fits_a_terminal():
    output = CliRunner().invoke(cli, ["deploy", "--help"], terminal_width=80).output
    assert [line for line in output.splitlines() if len(line) > 80] == []
