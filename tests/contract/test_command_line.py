"""The operator's commands against a real server and a real gateway:
what they print, how they end, and what they never show.
"""

import base64
import gzip
import json
import os
import shlex
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from skytally import cli as command_line
from skytally.cli import cli
from skytally.cli.terminal import show, text
from skytally.core.plain_text import printable
from skytally.deployment.catalog import FUNCTIONS
from tests.support import builders
from tests.support.agent_lab import Office, serve
from tests.support.local_server import Server
from tests.support.tar_lab import archive, member

pytestmark = pytest.mark.servers


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def run(server, monkeypatch):
    """Run a command as the operator of this server; return the result."""
    monkeypatch.setenv("SKYTALLY_HOME", str(server.home))
    from skytally.app import wiring

    wiring.close()

    def do(*arguments, **how):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], **how)

    yield do
    wiring.close()


def leaving(server, *more):
    """Write the arguments with which a secret is left."""
    return ["--base", server.base, "--token-file", server.home / "tokens" / "scheduler", "--cloud", "uvic", *more]


def test_a_deposit_is_taken_once_and_listed(server, run, tmp_path):
    done = run(
        "deposit", *leaving(server, "--vm", "vm-1", "--payload", "-", "--out", tmp_path / "claim"), input="hunter2"
    )
    assert done.exit_code == 0, done.output
    assert "hunter2" not in done.output
    assert stat.S_IMODE((tmp_path / "claim").stat().st_mode) == 0o600
    token = (tmp_path / "claim").read_text().strip()
    assert token not in done.output
    assert "waiting" in run("secrets", "list").output
    again = run("deposit", *leaving(server, "--vm", "vm-2", "--payload", "-", "--json"), input="hunter2")
    assert json.loads(again.stdout).keys() == {"claim", "token", "expires_at"}
    form = builders.claim_form(token, builders.public_key())
    taken = server.call("secret-claim", json.dumps(form).encode())
    assert taken.status == 200
    (one,) = json.loads(run("secrets", "list", "--json", "--state", "delivered").output)
    assert (one["vm"], one["cloud"], one["address"]) == ("vm-1", "uvic", "127.0.0.1")
    assert json.loads(run("secrets", "show", one["claim"]).output)[0]["state"] == "delivered"
    assert run("secrets", "list", "--state", "unreported").output.count("vm-1") == 0


def test_user_data_are_cloud_configs_that_name_no_secret_in_a_command(server, run, tmp_path):
    (tmp_path / "payload").write_bytes(gzip.compress(archive(member(b"x509up", b"proxy"))))
    names = ["--vm", "host-1", "--vm", "host-2"]
    done = run(
        "userdata",
        *leaving(server, *names, "--payload", tmp_path / "payload", "--unpack", "/etc/condor", "--owner", "condor"),
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("#cloud-config\n")
    assert "unencrypted" not in done.stderr, "nothing leaves this machine"
    assert f"{len(done.stdout)} of the 16384 bytes" in done.stderr
    told = yaml.safe_load(done.stdout)
    claim, script = told["write_files"]
    assert claim["permissions"] == "0600"
    secret = claim["content"].split(".")[2]
    assert len(secret) == 64
    assert script["encoding"] == "gz+b64"
    first_boot = gzip.decompress(base64.b64decode(script["content"])).decode()
    assert secret not in first_boot + json.dumps(told["runcmd"])
    vm_py = server.call("agent/vm.py").body
    digest = subprocess.run(["sha256sum"], input=vm_py, capture_output=True, check=True).stdout.split()[0].decode()
    assert digest in first_boot
    assert "name=$(hostname -s) &&" in first_boot
    assert '--vm "$name"' in first_boot
    subprocess.run(["sh", "-n"], input=first_boot.encode(), check=True)


@pytest.mark.parametrize("verb", ["userdata", "deposit"])
def test_what_a_vm_would_refuse_to_unpack_is_refused_before_anything_is_left(
    words, monkeypatch, capsys, tmp_path, verb
):
    (tmp_path / "payload").write_bytes(archive(member(b"fine", b"x"), member(b"tokens.d/pool", b"", b"2")))
    code, out, err = ended(monkeypatch, capsys, words.arguments(verb))
    assert (code, out) == (1, "")
    assert "vm.py would refuse the payload, so nothing is left for the vm" in err
    assert "tokens.d/pool" in err
    assert words.office.requests == []


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        *(("--mode", value, "three octal digits") for value in ("999", "", "0o400", "8", "04000", "0400\n", "-400")),
        *(("--unpack", value, "an absolute path") for value in ("etc/condor", "", "./x", "~/x", "/etc/a\nb")),
        *(
            ("--owner", value, "USER or USER:GROUP")
            for value in ("a:b:c", "", ":", "a:", ":b", "a b", "1000", "condor:1000", "a/b")
        ),
    ],
)
def test_options_that_no_vm_can_follow_are_refused_before_anything_is_left(
    words, monkeypatch, capsys, option, value, advice
):
    code, out, err = ended(monkeypatch, capsys, [*words.arguments("userdata"), option, value])
    assert (code, out) == (2, "")
    assert f"'{option}'" in err
    assert advice in err
    assert words.office.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"--mode": "400"},
        {"--mode": "0640"},
        {"--owner": "condor"},
        {"--owner": "user@example.org:1st-group"},
        {"--unpack": "/a b"},
    ],
)
def test_options_that_a_vm_can_follow_reach_its_script(server, run, tmp_path, options):
    (tmp_path / "payload").write_bytes(archive(member(b"x509up", b"proxy")))
    given = [word for pair in options.items() for word in pair]
    done = run("userdata", *leaving(server, "--vm", "host-1", "--payload", tmp_path / "payload"), *given)
    assert done.exit_code == 0, done.output
    script = yaml.safe_load(done.stdout)["write_files"][1]
    assert shlex.join(given) in gzip.decompress(base64.b64decode(script["content"])).decode()


def test_a_gzip_is_left_as_it_is_only_where_that_is_said(words, monkeypatch, capsys, tmp_path):
    packed = gzip.compress(archive(member(b"x509up", b"proxy")))
    (tmp_path / "payload").write_bytes(packed)
    code, out, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert (code, out, "--opaque" in err) == (1, "", True)
    assert words.office.requests == []
    token = f"{'a' * 24}.1795000000.{'0' * 64}"
    words.office.script.append((201, {}, json.dumps({"claim": "c", "expires_at": "e", "token": token}).encode()))
    assert ended(monkeypatch, capsys, [*words.arguments("deposit"), "--opaque"])[0] == 0
    assert base64.b64decode(json.loads(words.office.requests[0][3])["payload"]) == packed


def test_what_is_wrong_is_one_line_and_an_exit_code(server, run, tmp_path, monkeypatch, capsys):
    (tmp_path / "payload").write_bytes(archive(member(b"x509up", b"proxy")))
    (tmp_path / "bad").write_text("none-of-ours")
    blocks = [base64.encodebytes(os.urandom(900)).decode() for _ in range(20)]
    (tmp_path / "bundle").write_text(
        "".join(f"-----BEGIN CERTIFICATE-----\n{block}-----END CERTIFICATE-----\n" for block in blocks)
    )
    good = leaving(server, "--vm", "v", "--payload", tmp_path / "payload")
    cases = {
        (
            "deposit",
            "--base",
            server.base,
            "--token-file",
            tmp_path / "bad",
            "--cloud",
            "c",
            "--vm",
            "v",
            "--payload",
            tmp_path / "payload",
        ): (1, "none of ours"),
        ("deposit", *leaving(server, "--vm", "a\nb", "--payload", tmp_path / "payload")): (
            2,
            "a name has 1 to 255 characters",
        ),
        ("deposit", "--base", "http://127.0.0.1:9", *good[2:]): (5, "does not answer"),
        ("userdata", "--base", f"{server.base}/nowhere", *good[2:]): (1, "no such function"),
        ("userdata", *good, "--ca", tmp_path / "bundle"): (1, "clouds take 16384: --ca holds 20 certificates"),
        ("userdata", *good, "--ca", tmp_path / "bad"): (1, "no certificate in PEM"),
        ("token", "--role", "reader", "--cloud", ""): (2, "a name has 1 to 255 characters"),
        ("deposit", *good[:-1], "/dev/null"): (1, "the payload is empty"),
        ("deposit", *good, "--site", "\x1b[2J"): (2, "a name has 1 to 255 characters"),
        ("secrets", "show", "nothing"): (1, "no such claim"),
    }
    for arguments, (code, words) in cases.items():
        monkeypatch.setattr(sys, "argv", ["skytally", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        *_, said = capsys.readouterr().err.splitlines()
        assert (end.value.code, words in said) == (code, True), (arguments, said)
    assert run("deposit", "--vm", "v").exit_code == 2
    assert json.loads(run("secrets", "list", "--json").stdout) == []


def test_the_catalog_is_what_terraform_reads():
    assert {f["name"] for f in json.loads(CliRunner().invoke(cli, ["deploy", "catalog"]).output)["functions"]} == {
        f.name for f in FUNCTIONS
    }


# ---- words of others ----

MARKUP = "[bold red]x[/] [link=http://evil.example]y[/link] :smile: [/]"
MARKS = "\u202e\u2066\u200f\u061cz"
NAME = MARKUP + MARKS
EVIL = f"\x1b]0;owned\x07\x1b[31m\x9b2J{NAME}\r"


def is_text(output: str) -> bool:
    """Say whether nothing in an output acts on a terminal."""
    return all(letter.isprintable() or letter == "\n" for letter in output)


@given(st.text())
def test_printable_text_does_nothing_and_keeps_what_can_be_read(text):
    shown = printable(text)
    assert is_text(shown)
    assert "\n" not in shown
    assert all(after in {before, "?"} for before, after in zip(text, shown, strict=True))
    assert shown == text or not text.isprintable()


@pytest.mark.parametrize(
    "mark",
    [
        *map(chr, (*range(32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))),
        *"\u200e\u200f\u061c",
    ],
)
def test_marks_and_escapes_do_nothing(mark):
    assert printable(f"a{mark}b é :smile: [red]") == "a?b é :smile: [red]"


def test_a_long_text_is_cut():
    assert printable("a" * 3_000) == "a" * 2_000 + "…"


@pytest.fixture
def wide(monkeypatch):
    """Give tables all the room that they want."""
    monkeypatch.setenv("COLUMNS", "2000")


def test_names_are_text_in_the_list_of_secrets(server, run, tmp_path, wide):
    (tmp_path / "payload").write_bytes(archive(member(b"x509up", b"proxy")))
    base = [
        "--base",
        server.base,
        "--token-file",
        server.home / "tokens" / "scheduler",
        "--payload",
        tmp_path / "payload",
    ]
    done = run("deposit", *base, "--cloud", NAME, "--vm", NAME, "--out", tmp_path / "claim")
    assert done.exit_code == 0, done.output
    shown = run("secrets", "list").output
    assert is_text(shown)
    assert shown.count(printable(NAME)) == 2
    assert json.loads(run("secrets", "list", "--json").output)[0]["vm"] == NAME
    assert is_text(run("secrets", "list", "--json").output)


def test_names_are_text_in_statements(server, run, tmp_path, wide, monkeypatch):
    monkeypatch.setenv("SKYTALLY_KEYS", str(server.home / "keys"))
    made = run("token", "--role", "reporter", "--cloud", NAME)
    sample = builders.FakeVm(NAME).sample(datetime.now(UTC))
    answer = server.call("usage-report", {"samples": [sample]}, token=made.output.strip())
    assert answer.json["accepted"] == 1, answer.json
    month = sample["month"]
    assert run("statement", "keygen").exit_code == 0
    signed = sign_anything(server.home / "keys" / "statement.pem", month, tmp_path)
    for arguments in (("compare", "--month", month), ("verify", signed)):
        done = run("statement", *arguments)
        assert done.exit_code == 0, done.output
        assert is_text(done.output)
        assert "[bold red]x" in done.output
        assert ":smile:" in done.output
    closed = run("statement", "close", "--month", "2020-01")
    assert "nothing is new in 2020-01" in closed.output


def sign_anything(key, month, folder):
    """Write a signed statement of a cloud with an odd name."""
    from skytally.accounting import signature

    recorded = json.loads((Path(__file__).parent.parent / "recorded" / "statement_format_1.json").read_text())[
        "signed"
    ]["statement"]
    totals = json.loads(recorded)["totals"] | {"cloud": NAME, "currency": EVIL}
    frozen = {
        "format": "skytally statement 1",
        "month": month,
        "cloud": NAME,
        "revision": 1,
        "closed_at": "x",
        "totals": totals,
    }
    text = json.dumps({**frozen, "changes": None, "boots": []})
    made, public = signature.sign(text, key.read_text())
    (folder / "signed.json").write_text(json.dumps({"statement": text, "signature": made, "public_key": public}))
    return folder / "signed.json"


@pytest.mark.parametrize("totals", [{}, {"vm_count": 1}, []])
def test_a_signed_statement_of_another_form_is_said_to_be_none(server, run, tmp_path, totals):
    (tmp_path / "odd.json").write_text(
        json.dumps({"statement": json.dumps({"totals": totals}), "signature": "x", "public_key": "y"})
    )
    done = run("statement", "verify", tmp_path / "odd.json")
    assert "no signed statement" in done.exception.message


def test_findings_and_keys_are_text(server, run, wide, monkeypatch):
    assert is_text(run("keys", "list").output)
    monkeypatch.setenv("SKYTALLY_DOCUMENTS", f"sqlite:////nowhere/{EVIL}")
    monkeypatch.setenv("SKYTALLY_KEYS", f"/nowhere/{EVIL}")
    done = run("doctor")
    assert done.exit_code == 1, done.exception
    assert is_text(done.output)


def test_everything_in_a_table_is_text(wide, capsys):
    show((NAME, EVIL), [(EVIL, text([NAME, EVIL], "red"))], right=(NAME,), title=EVIL, caption=NAME)
    shown = capsys.readouterr().out
    assert is_text(shown)
    assert shown.count(MARKUP) == 7


class Words:
    """A server that answers what it is told to."""

    def __init__(self, tmp_path):
        self.office = Office(SimpleNamespace(now=1_795_000_000.0))
        (tmp_path / "payload").write_bytes(archive(member(b"x509up", b"proxy")))
        (tmp_path / "token").write_text("t")
        self.folder = tmp_path

    def arguments(self, command):
        words = ["--base", self.base, "--token-file", self.folder / "token", "--payload", self.folder / "payload"]
        return ["skytally", command, *map(str, words), "--cloud", "c", "--vm", "v"]


@pytest.fixture
def words(tmp_path):
    words = Words(tmp_path)
    with serve(words.office) as words.base:
        yield words


def ended(monkeypatch, capsys, arguments):
    """Run the command line as a shell does; return exit code,
    standard output and standard error, which hold nothing but text.
    """
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        command_line.main()
    out, err = capsys.readouterr()
    assert is_text(out)
    assert is_text(err)
    return end.value.code or 0, out, err


def test_errors_of_a_server_are_one_line_of_text(words, monkeypatch, capsys):
    error = json.dumps({"error": {"code": "malformed", "message": f"{EVIL}\nmore"}}).encode()
    words.office.script.append((400, {}, error))
    code, _, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert code == 1
    assert f"skytally: {printable(EVIL)}?more (malformed)\n" in err


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"<html>",
        b"\xff",
        b'{"claim": "c", "expires_at": "e", "token": "' + EVIL.encode() + b'"}',
    ],
)
def test_what_is_no_claim_token_is_not_printed(words, monkeypatch, capsys, body):
    words.office.script.append((201, {}, body))
    code, out, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert (code, out) == (1, "")
    assert "check --base" in err


def test_what_is_said_beside_a_claim_token_is_text(words, monkeypatch, capsys):
    token = f"{'a' * 24}.1795000000.{'0' * 64}"
    words.office.script.append((201, {}, json.dumps({"claim": EVIL, "expires_at": [EVIL], "token": token}).encode()))
    code, out, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert (code, out) == (0, f"{token}\n")
    assert printable(EVIL) in err


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_an_answer_is_bounded_and_not_inflated(words, monkeypatch, capsys, encoding):
    body = b" " * (64 << 20)
    words.office.script.append(
        (201, {"Content-Encoding": encoding}, gzip.compress(body) if encoding == "gzip" else body)
    )
    code, out, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert (code, out) == (1, "")
    assert ("answered more than" if encoding == "identity" else "answered no JSON") in err


def test_an_outage_is_waited_out_and_its_words_are_text(words, monkeypatch, capsys):
    token = f"{'a' * 24}.1795000000.{'0' * 64}"
    away = (503, {"Retry-After": "100000"}, json.dumps({"error": {"code": "unavailable", "message": EVIL}}).encode())
    words.office.script.extend(
        [away, (201, {}, json.dumps({"claim": "c", "expires_at": "e", "token": token}).encode())]
    )
    assert ended(monkeypatch, capsys, words.arguments("deposit"))[0] == 0
    words.office.script.extend([away] * 9)
    code, _, err = ended(monkeypatch, capsys, words.arguments("deposit"))
    assert code == 5
    assert printable(EVIL) in err
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in words.office.requests}) == 2


@pytest.mark.parametrize("digest", ["$(touch owned)", '"; touch owned; "', "0" * 63, "G" * 64, EVIL])
def test_a_digest_that_is_none_goes_into_no_script(words, monkeypatch, capsys, digest):
    words.office.script.append((200, {}, f"{digest}  vm.py\n".encode()))
    code, out, _ = ended(monkeypatch, capsys, words.arguments("userdata"))
    assert (code, out) == (1, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["secrets", "show", EVIL],
        [f"--{EVIL}"],
        [EVIL],
        ["deposit", "--token-file", EVIL],
        ["statement", "compare", "--month", EVIL],
    ],
)
def test_wrong_usage_is_text(server, run, monkeypatch, capsys, arguments):
    code, _, err = ended(monkeypatch, capsys, ["skytally", *arguments])
    assert code in {1, 2}
    assert err


def test_help_and_the_version_are_as_ever(monkeypatch, capsys):
    code, out, _ = ended(monkeypatch, capsys, ["skytally", "--help"])
    assert (code, "Exit codes: 0 done" in out) == (0, True)
    assert ended(monkeypatch, capsys, ["skytally", "--version"])[0] == 0
