"""A claim by vm.py whatever ends it: the answer, the machine, a kill at any line.

It is never another taker, and never silent.
"""

import base64
import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.support.agent_lab import VM_PY, Lab, serve
from tests.support.bundles import CLAIM, EXPIRES, SECRET, Deposit
from tests.support.tar_lab import archive, member

PAYLOAD = archive(member(b"tokens.d/pool", b"token"), member(b"x509up", b"proxy"))
LOST = (
    409,
    {},
    b'{"error": {"code": "taken", "kind": "duplicate", "message": "the answer was lost on its way to this very vm"}}',
)
CLAIMS = {
    "take_secret",
    "keep_secret",
    "take_bundle",
    "post",
    "answer_of",
    "unbroken",
    "open_bundle",
    "unpack",
    "put_in_place",
    "write_file",
    "write_new",
    "save_state",
}


def key_in(form):
    """Return the key that a claim brings: gzip writes the time beside it."""
    return gzip.decompress(base64.b64decode(form["public_key"]))


def key_of(body):
    return key_in(dict(urllib.parse.parse_qsl(body.decode("ascii"))))


class OnceOnly(Deposit):
    """Serves the first key, and every later request as the server does."""

    def __call__(self, office, path, headers, body):
        office.script.append(self)
        if not path.endswith("/secret-claim"):
            office.script.clear()
            try:
                return office.answer("POST" if body else "GET", path, headers, body)
            finally:
                office.script.append(self)
        if not self.forms:
            return super().__call__(office, path, headers, body)
        return LOST if key_of(body) == key_in(self.forms[0]) else (409, {}, LOST[2].replace(b"duplicate", b"contested"))


@pytest.fixture(scope="module")
def made_keys():
    """Make two keys as vm.py does: a process that is killed takes one at most, and so does the next."""
    return [subprocess.run(["openssl", "genrsa", "3072"], check=True, capture_output=True).stdout for _ in range(2)]


@pytest.fixture
def fill_keys(tmp_path, made_keys, monkeypatch):
    """Put an openssl on the PATH that hands out made keys,
    each once, and does all else as the real one, which it calls.

    Making a key takes a second, and this file takes some 400 claims. Real keys are made in test_openers.py.
    """
    keys, wrapper = tmp_path / "made-keys", tmp_path / "wrapper" / "openssl"
    keys.mkdir()
    wrapper.parent.mkdir()
    hand_out = f'[ "$*" = "genrsa 3072" ] && cd {keys} && set -- * && cat "$1" && exec rm "$1"'
    wrapper.write_text(f'#!/bin/sh\n{hand_out}\nexec {shutil.which("openssl")} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)

    def fill():
        for number, key in enumerate(made_keys):
            (keys / str(number)).write_bytes(key)

    return fill


@pytest.fixture
def lab(tmp_path, fill_keys):
    fill_keys()
    one = Lab(tmp_path)
    one.world.run(60)
    one.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    (tmp_path / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
    with serve(one.office) as one.base:
        yield one


def boot(lab, *more, verb="boot"):
    given = (
        "--token-file",
        "",
        "--vm",
        "",
        "--claim-file",
        str(lab.folder / "claim"),
        "--unpack",
        str(lab.folder / "grid"),
    )
    return lab.do(verb, *given, *more)


def keys(lab):
    """Return the keys that asked for the secret, in the order of their requests."""
    return [key_of(body) for _, path, _, body in lab.office.requests if path.endswith("/secret-claim")]


def left_in_memory(lab):
    return sorted(path.name for path in (lab.folder / "secret").rglob("*") if path.is_file())


def has_its_secret(lab):
    return (lab.folder / "grid/x509up").exists() and (lab.folder / "grid/x509up").read_bytes() == b"proxy"


def test_a_later_process_asks_with_the_same_key_which_lies_in_memory_for_nobody_else(lab):
    lab.office.away = True
    assert [boot(lab) for _ in range(3)] == [5, 5, 5]
    assert len(set(keys(lab))) == 1
    assert left_in_memory(lab) == ["key.pem"]
    (key,) = (lab.folder / "secret").rglob("key.pem")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (key.parent, key)] == [0o700, 0o600]
    lab.office.away = False
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    assert has_its_secret(lab)
    assert len(set(keys(lab))) == 1
    assert list((lab.folder / "secret").iterdir()) == []
    assert (lab.folder / "claim").read_bytes() == b""


def test_a_key_that_somebody_else_left_is_not_used(lab):
    lab.office.away = True
    assert boot(lab) == 5
    (folder,) = (lab.folder / "secret").iterdir()
    if os.geteuid():
        pytest.skip("only root can leave a folder of somebody else's")
    os.chown(folder, 65_534, -1)
    before = len(keys(lab))
    assert boot(lab) == 6
    assert "is not ours" in lab.console.read_text()
    assert len(keys(lab)) == before


@pytest.mark.parametrize(("status", "code"), [(400, 3), (403, 3), (409, 3), (410, 4)])
def test_a_claim_that_is_judged_leaves_neither_token_nor_key_and_is_not_asked_again(lab, status, code):
    lab.office.script.append((status, {}, b'{"error": {"code": "some_code", "message": "because of this"}}'))
    assert boot(lab) == code
    assert f"skytally: secret-claim: {status} because of this\n" in lab.console.read_text()
    assert (lab.folder / "claim").read_bytes() == b""
    assert list((lab.folder / "secret").iterdir()) == []
    assert boot(lab) == 2
    assert len(keys(lab)) == 1
    assert "no token any more" in lab.console.read_text()


@pytest.mark.parametrize("cut", [False, True])
def test_an_answer_that_is_lost_or_cut_ends_with_the_sentence_that_says_so(lab, cut):
    deposit = Deposit(PAYLOAD)

    def lose(office, path, headers, body):
        status, _, bundle = deposit(office, path, headers, body)
        return (status, {"Content-Length": str(len(bundle))}, bundle[:-1]) if cut else (0, {}, b"")

    lab.office.script.extend([lose, LOST])
    assert boot(lab) == 3
    assert "secret-claim: 409 the answer was lost on its way to this very vm" in lab.console.read_text()
    assert len(keys(lab)) == 2
    assert len(set(keys(lab))) == 1


def test_what_cannot_be_unpacked_now_is_unpacked_later_from_the_same_answer(lab):
    lab.office.script.append(Deposit(PAYLOAD))
    (lab.folder / "grid").mkdir()
    (lab.folder / "grid/x509up").mkdir()
    assert boot(lab) == 6
    assert left_in_memory(lab) == ["bundle", "key.pem", "key.pem.P"]
    (lab.folder / "grid/x509up").rmdir()
    assert boot(lab) == 0
    assert has_its_secret(lab)
    assert len(keys(lab)) == 1
    assert list((lab.folder / "secret").iterdir()) == []


def test_an_owner_who_is_not_there_yet_burns_nothing(lab):
    assert boot(lab, "--owner", "nobody-of-this-name") == 6
    assert keys(lab) == []
    assert (lab.folder / "claim").read_text()


def test_run_goes_on_asking_until_the_secret_is_there_and_then_reports(lab):
    replies = [(503, {}, b"")] * 40 + [
        (503, {"Retry-After": "120"}, b""),
        (404, {}, b"no such function"),
        Deposit(PAYLOAD),
    ]
    lab.office.script.extend(replies)
    ends_at = lab.world.now + 3 * 3600
    sleep = lab.world.run

    def until_the_end(seconds):
        sleep(seconds)
        if lab.world.now > ends_at:
            os.kill(os.getpid(), signal.SIGTERM)

    lab.world.run = until_the_end
    with pytest.raises(SystemExit):
        boot(lab, verb="run")
    assert has_its_secret(lab)
    assert len(set(keys(lab))) == 1
    assert len(lab.office.samples) >= 3
    assert lab.office.samples[-1]["final"] is True


@pytest.mark.parametrize(("status", "code"), [(409, 3), (410, 4)])
def test_run_ends_where_the_claim_is_refused_with_that_sentence_alone(lab, status, code):
    lab.office.script.append((status, {}, b'{"error": {"code": "taken", "message": "somebody took it"}}'))
    assert boot(lab, verb="run") == code
    assert lab.console.read_text() == f"skytally: secret-claim: {status} somebody took it\n"


# ---- what judges a claim, and what does not ----

FORBIDDEN = 403, {"Content-Type": "text/html"}, b"<html>a proxy says no</html>"


def keeps_its_claim(lab):
    return (lab.folder / "claim").read_text() == f"{CLAIM}.{EXPIRES}.{SECRET}\n"


def test_what_a_proxy_refuses_is_no_judgement_and_the_next_call_asks_with_the_same_key(lab):
    lab.office.script.append(FORBIDDEN)
    assert boot(lab) == 3
    assert keeps_its_claim(lab)
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    assert has_its_secret(lab)
    assert len(set(keys(lab))) == 1


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        (2, ("--base", "http://sky.example.org")),
        (2, ("--mode", "rw")),
        (2, ("--mode", "")),
        (2, ("--patience", "soon")),
        (2, ("--patience", "-1")),
        (6, ("--ca", "/nowhere/ca.pem")),
    ],
)
def test_a_wrong_option_costs_no_claim(lab, code, wrong):
    assert boot(lab, *wrong) == code
    assert keeps_its_claim(lab)
    assert keys(lab) == []
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    assert has_its_secret(lab)


def test_an_openssl_that_is_broken_costs_no_claim(lab, monkeypatch):
    (lab.folder / "bin").mkdir()
    (lab.folder / "bin/openssl").write_text("#!/bin/sh\nexit 1\n")
    (lab.folder / "bin/openssl").chmod(0o755)
    with monkeypatch.context() as broken:
        broken.setenv("PATH", str(lab.folder / "bin"), prepend=os.pathsep)
        assert boot(lab) == 6
    assert keeps_its_claim(lab)
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    assert has_its_secret(lab)


def test_where_no_state_can_be_kept_nothing_is_claimed(lab):
    options = lab.options()
    options.boot_id = lab.world.boot_id
    for path in lab.agent().state_files(options):
        Path(path).mkdir(parents=True)
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 6
    assert "no state can be kept" in lab.console.read_text()
    assert keys(lab) == []
    assert keeps_its_claim(lab)


@pytest.mark.parametrize(
    "date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 0001 00:00:00 GMT", "soon"]
)
def test_an_answer_with_a_strange_date_is_opened_all_the_same(lab, date):
    deposit = Deposit(PAYLOAD)

    def dated(office, path, headers, body):
        status, told, bundle = deposit(office, path, headers, body)
        return status, {**told, "Date": date}, bundle

    lab.office.script.append(dated)
    assert boot(lab) == 0
    assert has_its_secret(lab)
    assert lab.office.samples[-1]["sampled_at"] == lab.office.iso(lab.world.now)[:19] + "Z"


@pytest.mark.parametrize("left", [None, b"", b"\n"])
def test_a_claim_file_that_is_gone_or_blank_is_spent_once_the_secret_is_here(lab, left):
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    (lab.folder / "claim").unlink()
    if left is not None:
        (lab.folder / "claim").write_bytes(left)
    lab.world.run(3600)
    assert boot(lab) == 0
    assert len(lab.office.samples) == 2


def test_a_claim_from_standard_input_is_asked_for_again(lab, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CLAIM}.{EXPIRES}.{SECRET}\n"))
    lab.office.away = True
    ends_at = lab.world.now + 1_800
    sleep = lab.world.run

    def until_the_secret_is_here(seconds):
        sleep(seconds)
        if lab.world.now > ends_at:
            os.kill(os.getpid(), signal.SIGTERM)
        elif lab.world.now > ends_at - 900 and not keep.forms:
            lab.office.away = False
            lab.office.script.append(keep)

    keep, lab.world.run = Deposit(PAYLOAD), until_the_secret_is_here
    with pytest.raises(SystemExit):
        boot(lab, "--claim-file", "-", verb="run")
    assert has_its_secret(lab)
    assert len(set(keys(lab))) == 1


def test_without_memory_to_keep_a_key_in_nothing_is_claimed(lab, monkeypatch):
    lab.agent()
    (lab.folder / "secret").rmdir()
    assert boot(lab) == 6
    assert "keys are kept in memory only" in lab.console.read_text()
    assert keeps_its_claim(lab)


def test_nothing_goes_to_a_proxy_in_clear(lab, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    lab.office.script.append(Deposit(PAYLOAD))
    assert boot(lab) == 0
    assert has_its_secret(lab)


def test_a_token_that_is_not_text_is_never_shown(lab):
    (lab.folder / "claim").write_bytes(f"{CLAIM}.{EXPIRES}.{SECRET}".encode() + b"\xff\n")
    assert boot(lab) == 6
    shown = lab.console.read_text()
    assert "UnicodeDecodeError" in shown
    assert CLAIM not in shown
    assert SECRET not in shown


def test_sigterm_while_the_answer_comes_keeps_the_bundle_and_the_next_call_opens_it(tmp_path):
    lab = Lab(tmp_path)
    lab.world.run(60)
    lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
    (tmp_path / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
    deposit, pid = OnceOnly(PAYLOAD), 0

    def ended_meanwhile(office, path, headers, body):
        reply = deposit(office, path, headers, body)
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.2)  # the signal is there before the answer
        return reply

    with serve(lab.office) as lab.base:
        lab.office.script.append(ended_meanwhile)
        lab.agent()
        pid = os.fork()
        if not pid:
            with ending():
                os._exit(boot(lab))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
        assert left_in_memory(lab) == ["bundle", "key.pem"]
        assert boot(lab) == 0
        assert has_its_secret(lab)
        assert len(keys(lab)) == 1


# ---- killed at any line ----


def lines_of_a_claim():
    """Return each line of vm.py that a claim may be killed at."""
    import ast

    tree = ast.parse(VM_PY.read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in CLAIMS]
    return sorted({line.lineno for node in functions for line in ast.walk(node) if isinstance(line, ast.stmt)})


@contextlib.contextmanager
def ending():
    """End a forked process here, whatever happens: it would wait without end for the threads that it has not."""
    code = 70
    try:
        yield
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)


def killed_at(lab, line):
    """Boot in a process that dies as by SIGKILL when it comes to this line; say whether it came there."""
    pid = os.fork()
    if not pid:
        vm_py = str(VM_PY)

        def in_vm_py(frame, event, _):
            if event == "line" and frame.f_lineno == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return in_vm_py

        with ending():
            sys.settrace(lambda frame, *_: in_vm_py if frame.f_code.co_filename == vm_py else None)
            os._exit(boot(lab))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("part", range(8))
def test_a_kill_at_any_line_of_a_claim_ends_with_the_secret_or_with_the_sentence(tmp_path, fill_keys, part):
    """In eight parts, for the time that all lines take."""
    reached, ends = 0, set()
    for line in lines_of_a_claim()[part::8]:
        fill_keys()
        folder = tmp_path / str(line)
        folder.mkdir()
        lab = Lab(folder)
        lab.world.run(60)
        lab.office.token = "eyJyb2xlIjoicmVwb3J0ZXIifQ.c2lnbmF0dXJl"
        (folder / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
        with serve(lab.office) as lab.base:
            lab.office.script.append(OnceOnly(PAYLOAD))
            lab.agent()
            reached += killed_at(lab, line)
            end = boot(lab)
            ends.add(end)
            assert len(set(keys(lab))) == 1, line
            assert (folder / "claim").read_bytes() == b"", line
            assert left_in_memory(lab) == [], line
            if end == 0:
                assert has_its_secret(lab), line
                assert lab.office.samples, line
            else:
                assert end == 3, line
                assert "lost on its way to this very vm" in lab.console.read_text(), line
    assert reached > 10
    assert 0 in ends


def test_only_between_the_answer_and_its_copy_in_memory_a_kill_costs_the_secret(tmp_path):
    lines = VM_PY.read_text().splitlines()
    (line,) = [number for number, text in enumerate(lines, 1) if text.strip() == "if status == 200 and keep:"]
    lab = Lab(tmp_path)
    lab.world.run(60)
    (tmp_path / "claim").write_text(f"{CLAIM}.{EXPIRES}.{SECRET}\n")
    with serve(lab.office) as lab.base:
        lab.office.script.append(OnceOnly(PAYLOAD))
        lab.agent()
        assert killed_at(lab, line)
        assert boot(lab) == 3
    assert not has_its_secret(lab)
    assert json.loads(LOST[2])["error"]["message"] in lab.console.read_text()
