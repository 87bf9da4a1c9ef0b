"""What `make bench` runs is not run by the tests: it must find all that it takes from us."""

import ast
import importlib.util
from pathlib import Path

import pytest

BENCHES = sorted((Path(__file__).resolve().parents[1] / "bench").glob("*.py"))
OURS = {"skytally", "localstack", "tests"}


def taken(tree):
    """Name what a script imports from us, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in OURS:
            yield from ((node.module, alias.name) for alias in node.names)


def used(tree, name):
    """Name the attributes that a script asks of something it imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            yield node.attr


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_finds_what_it_takes_of_modules(path):
    tree = ast.parse(path.read_text())
    for module, name in taken(tree):
        if importlib.util.find_spec(module).submodule_search_locations and importlib.util.find_spec(f"{module}.{name}"):
            part = importlib.import_module(f"{module}.{name}")
            assert [attribute for attribute in used(tree, name) if not hasattr(part, attribute)] == [], (
                f"{module}.{name}"
            )


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_finds_what_it_takes(path):
    for module, name in taken(ast.parse(path.read_text())):
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(f"{module}.{name}"), (
            f"{module} has no {name}"
        )
