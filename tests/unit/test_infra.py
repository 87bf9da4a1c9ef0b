"""Terraform's files: their syntax always; their form, their types and what they plan where the binary is."""

import os
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from skytally.adapters.documents_search import access
from skytally.deployment.catalog import FUNCTIONS

TERRAFORM = Path(__file__).resolve().parents[2] / "infra" / "terraform"
FILES = sorted(
    path for path in TERRAFORM.rglob("*") if path.suffix in {".tf", ".hcl"} and ".terraform" not in path.parts
)
# These need no provider from anywhere.
MODULES = (".", "functions", "schedules", "search", "secrets", "examples/laptop", "examples/knative")
TESTED = ("functions", "schedules", "search", "secrets")
EXAMPLES = ("laptop", "knative", "openfaas-ceph", "aws", "gcs")


def parsed(path):
    with path.open() as file:
        return hcl2.load(file)


@pytest.fixture
def terraform(tmp_path, monkeypatch):
    if shutil.which("terraform") is None:
        if os.environ.get("CI") == "true":
            raise AssertionError("CI checks the infrastructure: terraform is missing")
        pytest.skip("without terraform: only the syntax of infra/ is checked")
    for name in [name for name in os.environ if name.startswith("TF_")]:
        monkeypatch.delenv(name)
    for name in ("CHECKPOINT_DISABLE", "TF_IN_AUTOMATION"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TF_DATA_DIR", str(tmp_path / "data"))

    def run(module, *command):
        told = ["terraform", f"-chdir={TERRAFORM / module}", *command]
        done = subprocess.run(told, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TERRAFORM)))
def test_every_file_is_hcl(path):
    assert parsed(path)


def test_rubbish_is_no_hcl(tmp_path):
    (tmp_path / "broken.tf").write_text('variable "x" {\n  type = string\n')
    with pytest.raises(Exception, match=r"(?s)Unexpected|EOF"):
        parsed(tmp_path / "broken.tf")


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name == "variables.tf"], ids=lambda path: path.parent.name
)
def test_every_variable_says_its_type_and_what_it_is(path):
    for one in parsed(path)["variable"]:
        for name, told in one.items():
            assert "type" in told, name
            assert "description" in told, name


def test_the_examples_are_those_that_are_promised():
    assert {path.name for path in (TERRAFORM / "examples").iterdir()} == set(EXAMPLES)


def test_every_file_has_its_one_form(terraform):
    terraform(".", "fmt", "-check", "-recursive", "-diff")


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_valid(terraform, module):
    terraform(module, "init", "-backend=false", "-input=false")
    terraform(module, "validate")


@pytest.mark.parametrize("module", TESTED)
def test_modules_plan_what_they_promise(terraform, module):
    terraform(module, "init", "-backend=false", "-input=false")
    assert "0 failed" in terraform(module, "test", "-no-color")


def test_every_function_with_documents_has_a_key_of_a_group():
    grouped = {function for functions in access.FUNCTIONS.values() for function in functions}
    assert grouped <= {function.name for function in FUNCTIONS}
