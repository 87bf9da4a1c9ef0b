"""Tokens and keys: signed, expiring, rotated under running vms."""

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from itsdangerous.encoding import base64_decode

from skytally.access import tokens
from skytally.access.keyring import Key
from skytally.adapters.keys_files import ACCEPTED_BEFORE_USE, HANDED_OUT_WITHIN, PURPOSES, KeyFiles
from skytally.cli import cli
from skytally.core.errors import Malformed, Unauthenticated, Unavailable
from skytally.core.records import Caller

# Ahead of the real clock, which the key files bear: by it a key file that comes late is used late.
NOW = datetime(2100, 11, 25, 12, tzinfo=UTC)
OLD, NEW = Key("token-1", b"o" * 32), Key("token-2", b"n" * 32)


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


def caller(**fields):
    times = {"issued": int(NOW.timestamp()), "expires": int((NOW + timedelta(days=90)).timestamp())}
    return Caller(**({"role": "reporter", "vm": "v", "clouds": ("c",)} | times | fields))


def test_a_token_says_what_it_was_made_of_until_it_expires():
    text = tokens.issue(caller(), (NEW, OLD))
    assert tokens.read(text, (NEW, OLD), NOW) == caller()
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.read(text, (NEW, OLD), NOW + timedelta(days=90))


@pytest.mark.parametrize("text", ["", ".", "a.b", "e30.", "x" * 5_000, "\udcff", "🦉.🦉"])
def test_rubbish_is_one_error(text):
    with pytest.raises(Unauthenticated, match="none of ours"):
        tokens.read(text, (NEW,), NOW)


def test_every_changed_letter_is_noticed():
    text = tokens.issue(caller(), (NEW,))
    for at in range(len(text) - 1):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(Unauthenticated):
            tokens.read(changed, (NEW,), NOW)


def test_a_token_is_renewed_past_half_its_life_or_under_an_old_key():
    fresh, old = tokens.issue(caller(), (NEW,)), tokens.issue(caller(), (OLD,))
    assert tokens.renewed(fresh, caller(), (NEW, OLD), NOW + timedelta(days=44)) is None
    for text, now in ((fresh, NOW + timedelta(days=46)), (old, NOW)):
        again = tokens.read(tokens.renewed(text, caller(), (NEW, OLD), now), (NEW,), now)
        assert (again.vm, again.clouds, again.expires - again.issued) == ("v", ("c",), 90 * 86_400)
        assert again.issued == int(now.timestamp())


def test_a_renewed_token_names_those_before_it_and_the_first_is_the_id_of_all():
    text, at = tokens.issue(caller(), (NEW,)), NOW
    first = tokens.digest_of(text)
    digests = []
    for _ in range(20):
        digests.append(tokens.digest_of(text))
        assert tokens.chain_id(text, tokens.read(text, (NEW,), at)) == first
        at += timedelta(days=46)
        text = tokens.renewed(text, tokens.read(text, (NEW,), at), (NEW,), at)
        chain = tokens.read(text, (NEW,), at).chain
        assert chain == (
            tuple(digests) if len(digests) <= tokens.CHAIN_LENGTH else (first, *digests[1 - tokens.CHAIN_LENGTH :])
        )


def test_a_token_with_the_longest_names_can_be_renewed_for_ever():
    name = "é" * 127
    text, at = tokens.issue(caller(vm=name, clouds=(name,), site=name, group=name, flavor=name), (NEW,)), NOW
    for _ in range(12):
        at += timedelta(days=46)
        text = tokens.renewed(text, tokens.read(text, (NEW,), at), (NEW,), at)
    assert tokens.read(text, (NEW,), at).vm == name


def test_a_token_that_nobody_would_read_is_not_made():
    clouds = tuple(f"a-cloud-with-a-long-name-{n:04}" for n in range(400))
    with pytest.raises(Malformed, match="name fewer clouds"):
        tokens.issue(Caller(role="reader", issued=0, expires=2**40, clouds=clouds), (NEW,))


def test_a_token_of_an_earlier_build_begins_its_chain_with_its_first_renewal():
    """It was written before tokens had chains: its text says nothing of one."""
    text = tokens.issue(caller(), (NEW,))
    assert b"chain" not in base64_decode(text.partition(".")[0])
    fresh = tokens.renewed(text, caller(), (NEW,), NOW + timedelta(days=46))
    assert tokens.read(fresh, (NEW,), NOW + timedelta(days=46)).chain == (sha256(text.encode()).hexdigest(),)


def test_no_key_shows_itself():
    assert "n" * 8 not in repr(NEW)
    assert "n" * 8 not in f"{(NEW, OLD)}"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path, clock):
    keys = KeyFiles(tmp_path / "keys", clock)
    keys.init()
    return keys


def test_init_makes_what_is_missing_and_no_more(folder, tmp_path):
    assert folder.init() == []
    files = list((tmp_path / "keys").iterdir())
    assert sorted(path.name.partition("-")[0] for path in files) == sorted(PURPOSES)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


def test_a_new_key_is_accepted_before_it_is_used(folder, clock):
    first = folder.keyring().master[0]
    clock.now += timedelta(days=1)
    made = folder.add("master")
    assert folder.keyring().master[0] == first
    assert {key.name for key in folder.keyring().master} == {first.name, made.name}
    clock.now += ACCEPTED_BEFORE_USE
    assert folder.keyring().master[0].name == made.name
    assert folder.keyring().master[1] == first


@pytest.mark.parametrize(("purpose", "days"), [("master", 8), ("wrapping", 8), ("token", 367)])
def test_a_key_is_kept_for_as_long_as_anything_lives_that_it_made(folder, clock, purpose, days):
    first = getattr(folder.keyring(), purpose)[0]
    clock.now += timedelta(hours=1)
    folder.add(purpose)
    clock.now += HANDED_OUT_WITHIN + timedelta(days=days)
    assert folder.retired(purpose) == []
    clock.now += timedelta(seconds=1)
    assert [path.name for path in folder.retired(purpose)] == [first.name]


def test_a_missing_or_damaged_key_is_an_outage(folder, tmp_path, clock):
    (path,) = (tmp_path / "keys").glob("master-*")
    path.write_text("short")
    with pytest.raises(Unavailable, match="64 hex digits"):
        KeyFiles(tmp_path / "keys", clock).keyring()
    path.unlink()
    for place in (tmp_path / "keys", tmp_path / "nowhere"):
        with pytest.raises(Unavailable, match="keys cannot be used") as broken:
            KeyFiles(place, clock).keyring()
        assert f"the keys in {place}: " in broken.value.for_operator
        assert "keys init" in broken.value.for_operator


def test_only_regular_files_are_read_and_doctor_names_the_others(home):
    assert run("keys", "init").exit_code == 0
    keys = home / "keys"
    names = sorted(path.name for path in keys.iterdir())
    os.mkfifo(keys / "master-20991231235959")
    (keys / "token-20991231235959").mkdir()
    linked = keys / "wrapping-20991231235959"
    (home / "elsewhere").write_text("0" * 64)
    linked.symlink_to(home / "elsewhere")
    environment = os.environ | {"SKYTALLY_HOME": str(home), "SKYTALLY_KEYS": str(keys)}
    for words in (("keys", "list", "--json"), ("doctor", "--json")):
        command = [Path(sys.executable).with_name("skytally"), *words]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=30)
        rows = json.loads(done.stdout)
        if words[0] == "keys":
            assert sorted(row["key"] for row in rows) == sorted([*names, linked.name])
        else:
            odd = [row["check"] for row in rows if row["part"] == "keys" and row["state"] == "FAILED"]
            assert odd == ["token-20991231235959", "master-20991231235959"]
            assert done.returncode == 1


def run(*arguments, **how):
    return CliRunner().invoke(cli, arguments, **how)


def test_rotation_from_the_command_line(home):
    assert "every purpose has a key" in run("keys", "init").output
    before = {path.name for path in (home / "keys").iterdir()}
    kept = run("token", "--role", "reader").output.strip()
    for path in (home / "keys").iterdir():
        path.rename(path.with_name(path.name[:-14] + "20261101000000"))
    done = run("keys", "rotate")
    assert done.exit_code == 0
    assert done.output.count("new") == 3
    assert "removed" not in done.output
    listed = run("keys", "list").output
    states = [row["state"] for row in json.loads(run("keys", "list", "--json").output)]
    assert states.count("in use") == 3
    assert sum(state.startswith("in use from") for state in states) == 3
    assert not any(
        (home / "keys" / name).read_text() in listed for name in {path.name for path in (home / "keys").iterdir()}
    )
    assert (
        tokens.read(kept, KeyFiles(home / "keys", lambda: datetime.now(UTC)).keyring().token, datetime.now(UTC)).role
        == "reader"
    )
    assert run("keys", "rotate", "--purpose", "token", "--now").output.count("removed") == 2
    with pytest.raises(Unauthenticated):
        tokens.read(kept, KeyFiles(home / "keys", lambda: datetime.now(UTC)).keyring().token, datetime.now(UTC))
    assert before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--role", "reporter"),
        ("--role", "reporter", "--cloud", "a", "--cloud", "b"),
        ("--role", "reader", "--vm", "v"),
        ("--role", "king"),
        ("--role", "reader", "--days", "400"),
    ],
)
def test_a_token_that_makes_no_sense_is_a_usage_error(home, arguments):
    assert run("token", *arguments).exit_code == 2


def test_what_a_token_says_and_what_shuts_it_out_is_shown(home, tmp_path):
    path = tmp_path / "t"
    run("token", "--role", "reporter", "--cloud", "uvic", "--vm", "v", "--out", str(path))
    shown = json.loads(run("token", "--show", str(path)).output)
    assert (shown["role"], shown["clouds"], shown["vm"]) == ("reporter", ["uvic"], "v")
    assert shown["chain"] == sha256(path.read_text().strip().encode()).hexdigest()
    assert path.read_text().strip() not in json.dumps(shown)
    assert datetime.fromisoformat(shown["expires"]) > datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "x", "é.x", "bnVsbA.x", "e30.x"])
def test_what_is_no_token_is_told_apart(home, tmp_path, text):
    (tmp_path / "t").write_text(text)
    done = run("token", "--show", str(tmp_path / "t"))
    assert isinstance(done.exception, Malformed)


def test_a_token_can_be_written_for_its_owner_only(home, tmp_path):
    assert run("token", "--role", "reader", "--out", str(tmp_path / "t")).exit_code == 0
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600


def test_a_token_that_was_read_is_refused_once_its_key_is_gone_or_its_time_is_over():
    text = tokens.issue(caller(), (OLD,))
    for _ in range(2):
        assert tokens.read(text, (NEW, OLD), NOW) == caller()
        assert tokens.renewed(text, caller(), (OLD,), NOW) is None
        with pytest.raises(Unauthenticated, match="none of ours"):
            tokens.read(text, (NEW,), NOW)
        with pytest.raises(Unauthenticated, match="none of ours"):
            tokens.read(text, (Key(OLD.name, NEW.secret),), NOW)
        with pytest.raises(Unauthenticated, match="expired"):
            tokens.read(text, (OLD,), NOW + timedelta(days=90))


def test_tokens_that_were_read_take_a_bounded_memory():
    for number in range(tokens.REMEMBERED_TOKENS + 10):
        with pytest.raises(Unauthenticated):
            tokens.read(f"{number}.x", (NEW,), NOW)
    assert tokens._signed_by.cache_info().currsize <= tokens.REMEMBERED_TOKENS
