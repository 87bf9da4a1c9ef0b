"""What a platform is told: one list, and no secret in it."""

import tomllib
from pathlib import Path

import yaml
from click.testing import CliRunner

from skytally import deployment
from skytally.catalog import FUNCTIONS
from skytally.cli import cli

ROOT = Path(__file__).resolve().parents[2]


def test_a_specification_names_secrets_and_holds_none():
    (sweep,) = [f for f in FUNCTIONS if f.name == "secret_sweep"]
    spec = deployment.specification(sweep, "image:1", {"SKYTALLY_DOCUMENTS": "sqlite:///x"}, ["token-1", "master-1"])
    assert spec["service"] == "secret-sweep"
    assert spec["secrets"] == ["master-1", "token-1"]
    assert spec["annotations"] == {"topic": "cron-function", "schedule": "*/5 * * * *"}
    assert spec["envVars"]["FUNCTION_TARGET"] == "secret_sweep"
    assert spec["envVars"]["SKYTALLY_KEYS"] == "/var/openfaas/secrets"
    assert spec["readOnlyRootFilesystem"] is True


def test_function_names_are_nouns_with_a_verb_and_make_dns_labels():
    for function in FUNCTIONS:
        assert function.service.replace("-", "").isalpha()


def test_the_community_edition_has_room_for_all():
    assert len(FUNCTIONS) <= 15


def test_stack_yml_is_what_the_command_prints():
    printed = CliRunner().invoke(cli, ["deploy", "stack"]).output
    assert yaml.safe_load(printed)["functions"].keys() == {f.service for f in FUNCTIONS}
    assert (ROOT / "functions" / "stack.yml").read_text() == printed


def test_the_image_installs_the_runtime_lock_by_hash_as_nobody():
    dockerfile = (ROOT / "functions" / "Dockerfile").read_text()
    assert "--no-deps --require-hashes --requirement requirements.lock" in dockerfile
    assert "USER 10001" in dockerfile
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert python == ">=3.11,<3.14"
    assert "ARG BASE=docker.io/library/python:3.13-slim" in dockerfile


def test_keys_go_to_the_functions_that_use_them():
    keys, other = ["master-20261101000000", "token-20261101000000"], "s3-credentials"
    for function in FUNCTIONS:
        source = (ROOT / "functions" / function.name / "main.py").read_text()
        uses = any(f"wiring.{door}" in source for door in ("keys", "caller", "dashboard_reader"))
        spec = deployment.specification(function, "image:1", {}, [*keys, other])
        assert set(spec["secrets"]) == {other} | (set(keys) if uses else set()), function.name
