"""The programs as a stranger runs them: whatever is wrong with a file,
a folder or a setting, they end with one sentence that names it.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKYTALLY = [str(Path(sys.executable).with_name("skytally"))]
SERVE = [sys.executable, str(ROOT / "localstack" / "serve.py"), "--port", "0"]


def run(folder, command, **settings):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SKYTALLY_")}
    environment = clean | {"SKYTALLY_HOME": str(folder / "home")} | settings
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with what is no text, what is no folder, and what is nothing."""
    (tmp_path / "binary").write_bytes(b"\x89PNG\xff\x00")
    (tmp_path / "file").write_text("{}")
    (tmp_path / "home").mkdir()
    return tmp_path


WRONG = {
    "a home that is a file": ("keys init", {"SKYTALLY_HOME": "file"}, "file"),
    "keys in a file": ("keys init", {"SKYTALLY_KEYS": "file"}, "file"),
    "keys that are missing": (
        "token --role reader",
        {},
        "home/keys: No such file or directory: run `skytally keys init`",
    ),
    "a signing key that is no text": ("statement close --month 2026-01 --key binary", {}, "binary is no text"),
    "a token that is no text": ("token --show binary", {}, "binary is no text"),
    "a copy from no file": (
        "copy --from sqlite:///file --to sqlite:///new",
        {},
        "there is no file /file",
    ),
    "a webhook that is no URL": ("doctor", {"SKYTALLY_ALARM_WEBHOOK": "chat.example.org"}, "SKYTALLY_ALARM_WEBHOOK"),
    "a day of timers": ("doctor", {"SKYTALLY_TIMER_MIN_SECONDS": "86401"}, "SKYTALLY_TIMER_MIN_SECONDS"),
    "details kept since before there were dates": ("doctor", {"SKYTALLY_KEPT_DAYS": "800000"}, "SKYTALLY_KEPT_DAYS"),
    "no hundred years": ("retention --days 36501", {}, "36501"),
}


@pytest.mark.parametrize(("words", "settings", "named"), WRONG.values(), ids=WRONG)
def test_a_command_names_what_is_wrong(folder, words, settings, named):
    ended = run(folder, SKYTALLY + words.split(), **settings)
    assert ended.returncode in {1, 2}
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_nothing_is_made_that_could_not_be_kept(folder):
    assert run(folder, [*SKYTALLY, "keys", "init"]).returncode == 0
    ended = run(folder, [*SKYTALLY, "token", "--role", "reader", "--out", "home"])
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "skytally: cannot write home: it is a folder\n")


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"SKYTALLY_HOME": "file"}, "file"), ({"PORT": "abc"}, "setting PORT"), ({"SKYTALLY_KEPT_DAYS": "-1"}, "KEPT")],
)
def test_the_local_server_names_what_is_wrong(folder, settings, named):
    ended = run(folder, SERVE, **settings)
    assert ended.returncode == 1
    assert named in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_local_server_says_that_its_port_is_taken(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(folder, [*SERVE[:-1], str(port)])
    assert ended.returncode == 1
    assert f"nothing can listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr
