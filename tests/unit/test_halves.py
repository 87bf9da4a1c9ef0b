"""The two halves of a test run: a failure in either fails the run, and a run that is broken off leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = "import sys; from pathlib import Path; from localstack import halves; halves.ROOT = Path(sys.argv[1]); "
RUN += "halves.HALVES = (('shown',), ('later',)); halves.COVERED_PERCENT = 0; sys.exit(halves.main())"
GOOD, BAD, LONG = "assert True", "assert 'the reason' == ''", "import time; time.sleep(120)"


def start(folder: Path, shown: str, later: str) -> "subprocess.Popen[str]":
    for name, body in (("shown", shown), ("later", later)):
        (folder / name).mkdir()
        (folder / name / f"test_{name}.py").write_text(f"def test_{name}():\n    open('{name}.began', 'w').close()\n    {body}\n")
    return subprocess.Popen([sys.executable, "-c", RUN, folder], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(("shown", "later", "fails"), [(GOOD, GOOD, False), (BAD, GOOD, True), (GOOD, BAD, True)])
def test_a_failure_in_either_half_fails_the_run_and_is_shown(tmp_path, shown, later, fails):
    run = start(tmp_path, shown, later)
    said, _ = run.communicate(timeout=120)
    assert (run.returncode, "the reason" in said) == (int(fails), fails), said


@pytest.mark.slow
def test_a_run_that_is_broken_off_ends_both_and_shows_what_the_other_said(tmp_path):
    run = start(tmp_path, LONG, BAD)
    while not ((tmp_path / "shown.began").exists() and (tmp_path / ".coverage-1").exists()):
        time.sleep(0.05)
    time.sleep(2)  # What is written last is its summary.
    run.send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert (run.returncode, "the reason" in said) == (143, True), said
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert left == ""
