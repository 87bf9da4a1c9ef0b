"""The run of all tests: a failure in any group fails the run, and a run that is broken off leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from localstack import suite

ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from pathlib import Path; from localstack import suite; suite.ROOT = Path(sys.argv[1]); "
RUN += (
    "suite.GROUPS = (('first/*',), ('second/*',), ('**/*',)); suite.COVERED_PERCENT = 0; suite.MEMORY = "
    "suite.ROOT / 'memory'; "
)
RUN += "sys.exit(suite.main())"
GOOD, BAD, LONG = "assert True", "assert 'the reason' == ''", "import time; time.sleep(120)"


def start(folder: Path, *bodies: str) -> "subprocess.Popen[str]":
    for name, body in zip(("first", "second", "third"), bodies, strict=True):
        test = folder / "tests" / name / f"test_{name}.py"
        test.parent.mkdir(parents=True)
        test.write_text(f"def test_{name}():\n    open('{name}.began', 'w').close()\n    {body}\n")
    (folder / "memory").mkdir()
    only_coverage = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_cov"}
    environment = os.environ | only_coverage | {"TMPDIR": f"{folder}/memory", "COVERAGE_FILE": f"{folder}/outer"}
    command = [sys.executable, "-c", RUN, folder]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("failing", [None, 0, 2])
def test_a_failure_in_any_group_fails_the_run_and_is_shown(tmp_path, failing):
    run = start(tmp_path, *(BAD if number == failing else GOOD for number in range(3)))
    output, _ = run.communicate(timeout=120)
    is_failed = failing is not None
    assert (run.returncode, "the reason" in output) == (int(is_failed), is_failed), output
    assert {path.name for path in tmp_path.glob("*.began")} == {"first.began", "second.began", "third.began"}
    assert list((tmp_path / "memory").iterdir()) == []
    assert not (tmp_path / "outer").exists()  # the coverage of whoever runs this is another's


@pytest.mark.slow
def test_a_run_that_is_broken_off_ends_its_groups_and_shows_what_was_over(tmp_path):
    run = start(tmp_path, LONG, BAD, LONG)
    deadline = time.monotonic() + 120
    while not ((tmp_path / "first.began").exists() and (tmp_path / "third.began").exists()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    output, _ = run.communicate(timeout=60)
    assert (run.returncode, "the reason" in output) == (143, True), output
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert left == ""
    assert list((tmp_path / "memory").iterdir()) == []


def test_every_test_is_in_one_group():
    files = [path for files in suite.files_of_groups() for path in files]
    assert sorted(files) == sorted((ROOT / "tests").rglob("test_*.py"))
    assert all(suite.files_of_groups())


def test_temporary_files_are_in_memory_only_where_it_has_room(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "MEMORY", tmp_path)
    monkeypatch.setattr(suite, "ROOM_BYTES", 0)
    assert suite.temporary_root() == tmp_path
    monkeypatch.setattr(suite, "ROOM_BYTES", 1 << 60)
    assert suite.temporary_root() is None
    monkeypatch.setattr(suite, "MEMORY", tmp_path / "none")
    assert suite.temporary_root() is None
