"""Both openers, vm.py and open.sh, against the same vectors and the same server,
and what other users of the machine can see.
"""

import base64
import functools
import gzip
import hashlib
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.agent_lab import AGENT, DRIVER, VM_PY, Lab, interpreters, serve
from tests.support.bundles import CLAIM, EXPIRES, SECRET, VECTORS, Deposit, vector_maker
from tests.support.tar_lab import CONTENTS, FORMS, HOSTILE, LONG, archive, furnish, good, header, member, snapshot

OPEN_SH = AGENT / "open.sh"

OPENER = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("vm", sys.argv[1])
vm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vm)
for line in sys.stdin:
    one = json.loads(line)
    with open(one["bundle"], "rb") as source:
        bundle = source.read()
    try:
        payload, reporter = vm.open_bundle(bundle, one["token"].split("."), one["vm"], one["key"])
        print(json.dumps(["success", vm.digest(payload), reporter]), flush=True)
    except vm.Stop as stop:
        print(json.dumps(["stop", stop.args[0], stop.args[1]]), flush=True)
"""


class Vector(NamedTuple):
    name: str
    headers: dict[str, str]
    key: str
    bundle: bytes


def parse(path: Path) -> Vector:
    head, key, *rest = path.read_text().split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines())
    return Vector(path.stem, headers, key + "\n", base64.b64decode("".join(rest)))


ALL = [parse(path) for path in sorted(VECTORS.glob("*.txt"))]


def lay_out(vector: Vector, folder: Path) -> dict[str, str]:
    """Write a vector's inputs as files."""
    folder.mkdir()
    (folder / "key.pem").write_text(vector.key)
    (folder / "bundle").write_bytes(vector.bundle)
    (folder / "claim").write_text(vector.headers["claim"] + "\n")
    return {
        "key": str(folder / "key.pem"),
        "bundle": str(folder / "bundle"),
        "token": vector.headers["claim"],
        "vm": vector.headers.get("vm", ""),
    }


def test_there_are_vectors_of_every_kind():
    kinds = [vector.headers["expect"] for vector in ALL]
    assert set(kinds) == {"success", "no match", "MAC failure"}
    assert len(kinds) > 60


@pytest.mark.parametrize("python", interpreters())
def test_vm_py_says_what_every_vector_expects(python, tmp_path):
    inputs = "".join(json.dumps(lay_out(vector, tmp_path / vector.name)) + "\n" for vector in ALL)
    done = subprocess.run(
        [python, "-B", "-c", OPENER, str(VM_PY)], input=inputs, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for vector, line in zip(ALL, done.stdout.splitlines(), strict=True):
        kind, *rest = json.loads(line)
        if vector.headers["expect"] == "success":
            assert [kind, *rest] == ["success", vector.headers["payload_sha256"], vector.headers["reporter"]], (
                vector.name
            )
        else:
            assert kind == "stop", vector.name
            assert rest[0] == 3, vector.name
            assert rest[1].startswith(vector.headers["expect"]), (vector.name, rest)


def open_with_bash(vector: Vector, folder: Path) -> subprocess.CompletedProcess:
    files = lay_out(vector, folder)
    command = [
        "bash",
        str(OPEN_SH),
        "open",
        "--claim-file",
        str(folder / "claim"),
        "--key",
        files["key"],
        "--bundle",
        files["bundle"],
    ]
    command += ["--payload", str(folder / "payload"), *(["--vm", files["vm"]] if files["vm"] else [])]
    environment = {**os.environ, "SKYTALLY_CONSOLE": str(folder / "console")}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_open_sh_says_what_every_vector_expects(vector, tmp_path):
    done = open_with_bash(vector, tmp_path / "v")
    if vector.headers["expect"] == "success":
        assert done.returncode == 0, done.stderr
        assert hashlib.sha256((tmp_path / "v/payload").read_bytes()).hexdigest() == vector.headers["payload_sha256"]
        assert (tmp_path / "v/payload.reporter").read_text() == vector.headers["reporter"]
        assert {(tmp_path / "v" / name).stat().st_mode & 0o777 for name in ("payload", "payload.reporter")} == {0o600}
    else:
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith(f"skytally: {vector.headers['expect']}")
        assert done.stdout == ""
        assert {path.name for path in (tmp_path / "v").iterdir()} == {"key.pem", "bundle", "claim", "console"}


# ---- claiming, from a small server that makes real bundles ----


class Claimant(NamedTuple):
    """One of the two openers, with a common way to run it."""

    kind: str
    lab: Lab

    def claim(
        self,
        *more: str,
        prefix: tuple[str, ...] = (),
        patience: str = "8",
        line_end: str = "\n",
        script: Path = OPEN_SH,
    ) -> subprocess.CompletedProcess:
        lab = self.lab
        (lab.folder / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}{line_end}", newline="")
        options = [
            "--base",
            lab.base,
            "--claim-file",
            str(lab.folder / "claim"),
            "--payload",
            str(lab.folder / "payload"),
            "--patience",
            patience,
        ]
        if self.kind == "open.sh":
            command = ["bash", str(script), "claim", *options, *more]
        else:
            settings = lab.folder / "lab.json"
            settings.write_text(
                json.dumps({"unix": lab.world.unix, "monotonic": lab.world.wall, "constants": lab.constants()})
            )
            options += ["--state", str(lab.state), "--proc", str(lab.folder / "proc"), "--benchmark-report", "none"]
            command = [sys.executable, "-B", "-c", DRIVER, str(VM_PY), str(settings), "boot", *options, *more]
        environment = {**os.environ, "SKYTALLY_CONSOLE": str(lab.console)}
        return subprocess.run(
            [*prefix, *command], check=False, capture_output=True, text=True, timeout=120, env=environment
        )


@pytest.fixture(params=["vm.py", "open.sh"])
def claimant(request, tmp_path) -> Iterator[Claimant]:
    if request.param == "open.sh" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    with serve(lab.office) as lab.base:
        yield Claimant(request.param, lab)


def claims(lab: Lab) -> list[dict[str, str]]:
    bodies = [body for _, path, _, body in lab.office.requests if path == "/function/secret-claim"]
    return [dict(urllib.parse.parse_qsl(body.decode())) for body in bodies]


def test_a_claim_is_answered_and_opened(claimant):
    claimant.lab.office.script.append(Deposit(b"a secret \0 of bytes"))
    done = claimant.claim()
    assert done.returncode == 0, done.stderr
    assert (claimant.lab.folder / "payload").read_bytes() == b"a secret \0 of bytes"
    assert (claimant.lab.folder / "payload").stat().st_mode & 0o777 == 0o600
    (form,) = claims(claimant.lab)
    assert set(form) == {"claim", "expires", "public_key", "proof"}
    line = gzip.decompress(base64.b64decode(form["public_key"])).decode()
    assert line.startswith("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ")
    assert line.endswith(f" {os.uname().nodename}\n")


@pytest.mark.parametrize("line_end", ["", "\r\n", "\n\n"])
def test_however_the_line_of_the_claim_file_ends(claimant, line_end):
    claimant.lab.office.script.append(Deposit(b"a secret"))
    done = claimant.claim(line_end=line_end)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["host-2", "odd näme|&=+%"])
def test_one_of_a_batch_claims_by_name(claimant, name):
    claimant.lab.office.script.append(Deposit(b"for one of many"))
    done = claimant.claim("--vm", name)
    assert done.returncode == 0, done.stderr
    assert claims(claimant.lab)[0]["vm"] == name
    assert (claimant.lab.folder / "payload").read_bytes() == b"for one of many"


def test_an_outage_is_waited_out_with_the_same_key(claimant):
    office = claimant.lab.office
    office.script.extend([(503, {"Retry-After": "1"}, b"{}"), (0, {}, b""), Deposit(b"late")])
    done = claimant.claim(patience="60")
    assert done.returncode == 0, done.stderr
    assert len(claims(claimant.lab)) == 3
    assert len({form["public_key"] for form in claims(claimant.lab)}) == 1


def keys(lab: Lab) -> set[bytes]:
    """Return the keys that asked: gzip may write the time beside one."""
    return {gzip.decompress(base64.b64decode(form["public_key"])) for form in claims(lab)}


def test_a_later_process_asks_with_the_same_key(claimant):
    office = claimant.lab.office
    for _ in range(2):
        office.script.extend([(503, {}, b"{}")] * 9)
        assert claimant.claim(patience="1").returncode == 5
        office.script.clear()
    office.script.append(Deposit(b"late"))
    done = claimant.claim()
    assert done.returncode == 0, done.stderr
    assert len(claims(claimant.lab)) >= 3
    assert len(keys(claimant.lab)) == 1
    assert (claimant.lab.folder / "claim").read_bytes() == b""


def test_what_cannot_be_put_in_place_comes_from_the_same_answer_later(claimant):
    lab = claimant.lab
    lab.office.script.append(Deposit(archive(member(b"file", b"token"))))
    (lab.folder / "out/file").mkdir(parents=True)
    where = (
        "--unpack",
        str(lab.folder / "out"),
        *(["--reporter", str(lab.folder / "reporter")] if claimant.kind == "open.sh" else []),
    )
    first = claimant.claim(*where)
    assert first.returncode == 6, first.stderr
    (lab.folder / "out/file").rmdir()
    second = claimant.claim(*where)
    assert second.returncode == 0, second.stderr
    assert (lab.folder / "out/file").read_bytes() == b"token"
    assert len(claims(lab)) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("08", 8),
        ("3600", 120),
        ("9" * 400, 120),
        ("Wed, 25 Nov 2026 10:01:40 GMT", 40),
        ("Wed Nov 25 10:01:40 2026", 40),
        ("Wed, 25 Nov 2026 10:00:00 GMT", 0),
        ("Thu, 26 Nov 2026 10:00:00 GMT", 120),
        ("-5", 0),
        ("soon", 0),
        ("$(id)", 0),
        ("", 0),
    ],
)
def test_open_sh_reads_every_form_of_retry_after_by_the_server_s_clock(tmp_path, value, seconds):
    (tmp_path / "headers").write_text(
        f"HTTP/1.1 503 Away\r\nDate: Wed, 25 Nov 2026 10:01:00 GMT\r\nRetry-After: {value}\r\n\r\n"
    )
    functions = """eval "$(sed -n '/^header() {/,/^}/p; /^retry_after() {/,/^}/p' "$1")"; retry_after "$2" """
    done = subprocess.run(
        ["bash", "-c", functions, "bash", OPEN_SH, tmp_path / "headers"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (f"{seconds}\n", "")


@pytest.mark.parametrize(("status", "code"), [(400, 3), (403, 3), (409, 3), (410, 4), (503, 5), (302, 5)])
def test_a_refusal_ends_it_with_its_exit_code_and_a_word_on_the_console(claimant, status, code):
    answer = status, {"Location": "http://127.0.0.1:9/"}, b'{"error": {"code": "some_code", "message": "because"}}'
    claimant.lab.office.script.extend([answer] * 20)
    done = claimant.claim(patience="1")
    assert done.returncode == code, done.stderr
    assert str(status) in done.stderr
    assert "secret-claim" in claimant.lab.console.read_text()
    assert not (claimant.lab.folder / "payload").exists()
    if code != 5:
        assert len(claims(claimant.lab)) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, b"<html>a proxy says no</html>", 3),
        (403, b'{"error": "forbidden by a gateway"}', 3),
        (200, b"<html>welcome to this ingress</html>", 5),
        (200, b"", 5),
    ],
)
def test_the_word_of_somebody_between_us_and_the_server_leaves_claim_and_key(claimant, status, body, code):
    lab = claimant.lab
    lab.office.script.extend([(status, {"Content-Type": "text/html"}, body)] * 9)
    assert claimant.claim(patience="1").returncode == code
    assert (lab.folder / "claim").read_text() == f"{CLAIM}.{EXPIRES}.{SECRET}\n"
    lab.office.script.clear()
    lab.office.script.append(Deposit(b"late"))
    done = claimant.claim()
    assert done.returncode == 0, done.stderr
    assert len(keys(lab)) == 1


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGALRM", "SIGKILL"])
def test_open_sh_that_is_ended_while_it_waits_leaves_claim_and_key(tmp_path, name):
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    claimant = Claimant("open.sh", lab)
    with serve(lab.office) as lab.base:
        lab.office.script.extend([(503, {"Retry-After": "60"}, b"")] * 3)
        ended = claimant.claim(patience="100", prefix=("timeout", "--signal", name, "8"))
        assert ended.returncode != 0
        assert (tmp_path / "claim").read_text() == f"{CLAIM}.{EXPIRES}.{SECRET}\n"
        lab.office.script.clear()
        lab.office.script.append(Deposit(b"late"))
        done = claimant.claim()
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "payload").read_bytes() == b"late"
        assert len(keys(lab)) == 1
        assert (tmp_path / "claim").read_bytes() == b""


def test_open_sh_that_is_ended_while_the_answer_comes_keeps_it_for_the_next_call(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    deposit = Deposit(b"in time")

    def late(*request):
        reply = deposit(*request)
        time.sleep(4)  # the signal comes before the answer
        return reply

    claimant = Claimant("open.sh", lab)
    with serve(lab.office) as lab.base:
        lab.office.script.append(late)
        # timeout runs it in the foreground, so only the shell is told to end: curl goes on, as under a service
        # manager's KillMode=mixed.
        assert claimant.claim(prefix=("timeout", "--foreground", "--signal", "TERM", "3")).returncode in (124, 143)
        done = claimant.claim()
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "payload").read_bytes() == b"in time"
        assert len(claims(lab)) == 1


def test_a_second_open_sh_at_the_same_claim_says_so_and_touches_nothing(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    claimant, seconds = Claimant("open.sh", lab), []
    deposit = Deposit(b"once")

    def meanwhile(*request):
        copied = tmp_path / "take-secret"
        copied.write_text(OPEN_SH.read_text())
        seconds.append(claimant.claim(script=copied))
        return deposit(*request)

    with serve(lab.office) as lab.base:
        lab.office.script.append(meanwhile)
        first = claimant.claim()
        assert first.returncode == 0, first.stderr
    (second,) = seconds
    assert second.returncode == 6
    assert "is at this claim" in second.stderr
    assert (tmp_path / "payload").read_bytes() == b"once"
    assert len(claims(lab)) == 1


def test_a_bundle_for_another_key_is_refused_and_nothing_is_left(claimant):
    stranger = next(vector for vector in ALL if vector.name == "success")
    claimant.lab.office.script.append((200, {}, stranger.bundle))
    done = claimant.claim()
    assert done.returncode == 3
    assert "no match" in done.stderr
    assert not (claimant.lab.folder / "payload").exists()
    assert list((claimant.lab.folder / "secret").iterdir()) == []


def test_without_room_for_the_payload_nothing_is_claimed(claimant):
    done = claimant.claim("--payload", str(claimant.lab.folder / "proc/uptime/payload"))
    assert done.returncode == 6
    assert claims(claimant.lab) == []


@pytest.mark.parametrize("patience", ["soon", "-1", "$(id)"])
def test_a_patience_that_is_no_number_is_a_usage_error_and_costs_nothing(claimant, patience):
    done = claimant.claim(patience=patience)
    assert done.returncode == 2
    assert "--patience is a number of seconds" in done.stderr
    assert claims(claimant.lab) == []


@pytest.mark.parametrize(
    "text", ["", "nonsense", "a.1.b", f"{CLAIM}.{EXPIRES}.{SECRET}.x", f"{CLAIM}.{EXPIRES}.{SECRET[:-1]}"]
)
def test_a_claim_file_without_a_token_is_a_usage_error(claimant, text):
    (claimant.lab.folder / "bad").write_text(text)
    assert claimant.claim("--claim-file", str(claimant.lab.folder / "bad")).returncode == 2


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_secret_is_an_argument_or_in_the_environment_of_any_program(claimant):
    lab = claimant.lab
    lab.office.script.append(Deposit(b"the payload itself"))
    trace = lab.folder / "trace"
    done = claimant.claim(prefix=("strace", "-f", "-v", "-s", "65536", "-e", "trace=execve", "-o", str(trace)))
    assert done.returncode == 0, done.stderr
    seen = trace.read_text()
    assert seen.count("execve(") >= 5
    (form,) = claims(lab)
    for secret in (SECRET, form["proof"], form["public_key"], lab.office.token, "the payload itself", "PRIVATE KEY"):
        assert secret not in seen
    assert not [
        line
        for line in seen.splitlines()
        if "openssl" in line and any(len(word) == 64 for word in line.replace('"', " ").split())
    ]


# ---- words of others on a terminal ----

EVIL = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066 \u200f\x9b2J\r\n\0"


@pytest.mark.parametrize("status", [400, 403, 409, 410])
def test_no_escape_of_a_server_reaches_terminal_or_console(claimant, status):
    answer = json.dumps({"error": {"code": EVIL, "message": EVIL}}, ensure_ascii=False).encode() + EVIL.encode()
    claimant.lab.office.script.append((status, {}, answer))
    done = claimant.claim()
    assert done.returncode == (4 if status == 410 else 3)
    for text in (done.stderr, done.stdout, claimant.lab.console.read_text()):
        assert all(" " <= letter <= "~" or letter == "\n" for letter in text), repr(text)
    assert str(status) in claimant.lab.console.read_text()


def test_nor_does_one_of_a_name_in_a_bundle_or_a_payload(claimant):
    claimant.lab.office.script.append((200, {}, archive(member(EVIL.encode().replace(b"\0", b""), b"x"))))
    first = claimant.claim()
    claimant.lab.office.script.append(Deposit(HOSTILE["escape in a name"]))
    second = claimant.claim("--unpack", str(claimant.lab.folder / "out"))
    for done in (first, second):
        assert done.returncode == 3
        text = done.stderr + claimant.lab.console.read_text()
        assert all(" " <= letter <= "~" or letter == "\n" for letter in text), repr(text)


def test_an_answer_without_end_is_not_kept(claimant):
    claimant.lab.office.script.extend([(200, {}, b"x" * (16 << 20))] * 9)
    done = claimant.claim(patience="1")
    assert done.returncode in {3, 5}, done.stderr
    assert not (claimant.lab.folder / "payload").exists()


# ---- open.sh unpacks by the rules of vm.py ----


@functools.cache
def our_key():
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(65_537, 2_048)


def unpack_with_bash(
    payload: bytes, folder: Path, target: Path, *more: str, path: str = ""
) -> subprocess.CompletedProcess:
    """Let open.sh open a bundle with this payload and unpack it; `path` comes first in the PATH of its commands."""
    from cryptography.hazmat.primitives import serialization

    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    folder.mkdir(exist_ok=True)
    (folder / "key.pem").write_bytes(our_key().private_bytes(*forms))
    (folder / "bundle").write_bytes(vector_maker().Maker(our_key(), payload, None, SECRET).bundle)
    (folder / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
    command = [
        "bash",
        OPEN_SH,
        "open",
        "--claim-file",
        folder / "claim",
        "--key",
        folder / "key.pem",
        "--bundle",
        folder / "bundle",
    ]
    command += ["--unpack", target, "--reporter", folder / "reporter", *more]
    environment = {**os.environ, "SKYTALLY_CONSOLE": str(folder / "console"), "PATH": f"{path}:{os.environ['PATH']}"}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, env=environment, start_new_session=True
    )


@pytest.mark.parametrize("form", FORMS)
def test_open_sh_unpacks_a_good_tar_of_every_form_whole(tmp_path, form):
    done = unpack_with_bash(good(FORMS[form]), tmp_path / "work", tmp_path / "out", "--mode", "0440")
    assert done.returncode == 0, done.stderr
    expected = {
        os.path.normpath(name): (content, 0o440)
        for name, content in CONTENTS.items()
        if form != "ustar" or name != LONG
    }
    found = snapshot(tmp_path / "out")
    assert {name: value for name, value in found.items() if value != "folder"} == expected
    assert found["empty"] == "folder"
    assert {
        stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]
        if path.is_dir()
    } == {0o755}
    assert (tmp_path / "work/reporter").read_text() == vector_maker().REPORTER


@pytest.mark.parametrize("name", HOSTILE)
def test_open_sh_refuses_a_hostile_tar_and_writes_nothing_of_it(tmp_path, name):
    furnish(tmp_path / "place")
    before = snapshot(tmp_path / "place")
    done = unpack_with_bash(HOSTILE[name], tmp_path / "work", tmp_path / "place/out")
    assert (done.returncode, snapshot(tmp_path / "place")) == (3, before), done.stderr
    assert not (tmp_path / "work/reporter").exists()
    assert not (tmp_path / "work/reporter.new").exists()


@pytest.mark.parametrize(
    "members",
    [
        [("link/file", b"x")],
        [("up/outside/file", b"x")],
        [("a/up/file", b"x")],
        [("b", b"x"), ("b/a", b"y")],
        [("file", b"ours"), ("a", b"a folder is there")],
        [("fine", b"x"), ("file/below", b"a file is there")],
    ],
)
def test_open_sh_follows_no_planted_link_and_changes_nothing_where_something_is_in_the_way(tmp_path, members):
    furnish(tmp_path / "place")
    before = snapshot(tmp_path / "place")
    payload = archive(*(member(name.encode(), content) for name, content in members))
    done = unpack_with_bash(payload, tmp_path / "work", tmp_path / "place/out")
    assert (done.returncode, snapshot(tmp_path / "place")) == (6, before), done.stderr


def test_open_sh_replaces_files_and_links_and_keeps_the_others(tmp_path):
    furnish(tmp_path / "place")
    payload = archive(member(b"file", b"1"), member(b"file", b"2"), member(b"a/link", b"ours"), header(b"new", 0, b"5"))
    assert unpack_with_bash(payload, tmp_path / "work", tmp_path / "place/out").returncode == 0
    found = snapshot(tmp_path / "place")
    ours = {"out/file": (b"2", 0o600), "out/a/link": (b"ours", 0o600)}
    assert ours.items() <= found.items()
    assert (found["out/new"], found["out/a/b"][0], found["outside/file"][0]) == ("folder", b"others' too", b"theirs")


WRAPPED = ("chmod", "ln", "mkdir", "mv", "sync")
WRAPPER = """#!/bin/bash
read -r number < {count}; echo $((number + 1)) > {count}
if [ "$number" = {fatal} ]; then
    {deed}
fi
exec {real} "$@"
"""


@pytest.mark.parametrize("target", ["out", "new"])
@pytest.mark.parametrize("deed", ["exit 1", "kill -TERM 0; sleep 1", "kill -KILL 0; sleep 1"])
def test_open_sh_leaves_old_or_new_whatever_command_fails_or_kills_it(tmp_path, target, deed):
    payload = archive(member(b"file", b"new"), member(b"a/b", b"new too"), member(b"c/d/e", b"fresh"))
    new = {
        f"{target}/{name}": (content, 0o600)
        for name, content in {"file": b"new", "a/b": b"new too", "c/d/e": b"fresh"}.items()
    }
    for fatal in itertools.count():
        place, tools = tmp_path / f"place{fatal}", tmp_path / f"tools{fatal}"
        furnish(place)
        tools.mkdir()
        (tools / "count").write_text("0")
        for name in WRAPPED:
            text = WRAPPER.format(count=tools / "count", fatal=fatal, deed=deed, real=shutil.which(name))
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        before = snapshot(place)
        done = unpack_with_bash(payload, tmp_path / f"work{fatal}", place / target, path=str(tools))
        after = {name: value for name, value in snapshot(place).items() if "skytally" not in name}
        if new.items() <= after.items():
            pass
        elif "KILL" not in deed:
            assert after == before, (fatal, done.stderr)
        elif target == "new":
            assert "new" not in after
        else:
            assert all(value in {before.get(name), new.get(name), "folder"} for name, value in after.items())
        assert {name: after[name] for name in before if name not in new} == {
            name: before[name] for name in before if name not in new
        }
        if "KILL" not in deed:
            assert not list(place.rglob("*skytally*"))
        if int((tools / "count").read_text()) <= fatal:
            break
    assert fatal > 10
    assert new.items() <= after.items()
