"""What the properties are worth: each mutant of the source breaks a rule, and the tests beside it find it out."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.properties.budget import is_thorough

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "layers" / "skytally"
SMALL, PROPERTY = "test_small_inputs.py::", "test_one_sender.py::test_any_value_in_any_field_costs_its_sender_alone"


class Mutant(NamedTuple):
    """A change to one module; the tests that must fail by it, with what they say then."""

    module: str
    change: Callable[[str], str]
    found_by: dict[str, str]


def replaced(before: str, after: str) -> Callable[[str], str]:
    """Change the one place where something stands."""

    def change(text: str) -> str:
        assert text.count(before) == 1, f"this mutant was made of another source: {before!r} is not there once"
        return text.replace(before, after)

    return change


def redefined(name: str, source: str) -> Callable[[str], str]:
    """Define a function of a module anew at its end."""

    def change(text: str) -> str:
        is_there = re.search(rf"^(async )?def {name}\(", text, re.MULTILINE)
        assert is_there, f"this mutant was made of another source: there is no {name}"
        return f"{text}\n\n{source}"

    return change


STATUS_ONLY = """
def _result(item):
    outcomes = {200: Outcome.STORED, 201: Outcome.STORED, 409: Outcome.STALE, 400: Outcome.REJECTED}
    return outcomes.get(item["status"])
"""
BATCH_WIDE = """
def parse(body):
    try:
        return [_sample_decoder.decode(raw) for raw in records.parse(body, Samples).samples]
    except msgspec.DecodeError as error:
        raise records.malformed(error) from None
"""
MUTANTS = {
    "a moment without bounds": Mutant(
        "core/records.py",
        replaced("for field in _moments_of(type(self)):", "for field in ():"),
        {
            f"{SMALL}test_a_placement_at_the_end_of_time_is_refused_and_nothing_is_kept_of_it": "AssertionError",
            f"{PROPERTY}[placement_report-a scheduler]": "impossible time|internal",
        },
    ),
    "a bulk item that is judged by its status": Mutant(
        "adapters/documents_search/bulk.py",
        redefined("_result", STATUS_ONLY),
        {f"{SMALL}test_a_cluster_at_its_shard_limit_is_an_outage_and_refuses_nothing": "for good"},
    ),
    "one try for a whole report": Mutant(
        "accounting/samples.py",
        redefined("parse", BATCH_WIDE),
        {
            f"{SMALL}test_a_bad_sample_leaves_the_good_one_beside_it": "malformed_time",
            f"{PROPERTY}[usage_report-a vm]": "costs the whole request",
        },
    ),
}


@pytest.mark.skipif(not is_thorough(), reason="takes minutes a mutant: `make properties` tries them")
@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "test"), [(name, test) for name, mutant in MUTANTS.items() for test in mutant.found_by]
)
def test_a_mutant_is_found_out(tmp_path, name, test):
    mutant, copy = MUTANTS[name], tmp_path / "layers" / "skytally"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    module = copy / mutant.module
    module.write_text(mutant.change(module.read_text()))
    done = run(test, copy.parent)
    assert done.returncode == 1, f"{name} survives {test}: {done.stdout[-2_000:]}{done.stderr[-500:]}"
    assert re.search(mutant.found_by[test], done.stdout), f"{test} fails by something else: {done.stdout[-2_000:]}"


def run(test: str, layers: Path) -> subprocess.CompletedProcess[str]:
    """Run one test on a copy of the source."""
    quick = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-profile", "unshrunk"]
    command = [sys.executable, "-m", "pytest", *quick, f"tests/properties/{test}"]
    environment = os.environ | {"PYTHONPATH": str(layers)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
