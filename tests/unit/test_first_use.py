"""Threads that decode records for the first time at the same moment: without plans made before, the process dies."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*(ROOT / "layers").rglob("*.py"), *(ROOT / "functions").glob("*/main.py")]
# Threads take turns as often as they can, which makes the crash likely instead of rare.
DECODE_AT_ONCE = """
import importlib.util, sys, threading
import msgspec

spec = importlib.util.spec_from_file_location("function", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
from skytally.core import records, documents
kinds = [kind for module in (records, documents) for kind in vars(module).values()
         if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
together = threading.Barrier(8)

def decode():
    together.wait()
    for kind in kinds:
        try:
            msgspec.json.decode(b'{"vm": "vm-1", "cloud": "uvic", "site": null, "expires": 1}', type=kind)
        except msgspec.ValidationError:
            pass

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=decode) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("function", ["usage_report", "secret_claim"])
def test_a_function_that_was_loaded_may_decode_in_many_threads_at_once(function):
    source = ROOT / "functions" / function / "main.py"
    for _ in range(5):
        run = subprocess.run([sys.executable, "-c", DECODE_AT_ONCE, source], capture_output=True, check=False)
        assert run.returncode == 0, run.stderr


LOADED_AND_LATE = """
import importlib, importlib.util, sys
import msgspec

spec = importlib.util.spec_from_file_location("function", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
from skytally.core import first_use

def below(base):
    return {base}.union(*map(below, base.__subclasses__()))

def unready():
    return {kind.__name__ for kind in below(msgspec.Struct) - {msgspec.Struct} - first_use._ready}

print(*unready())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(*unready())
"""
DECODING = {
    "decode",
    "Decoder",
    "convert",
    "parse",
    "parse_report",
    "get",
    "get_many",
    "find",
    "during",
    "stored",
    "read",
}


def nodes(kind: type, trees: list[ast.Module]) -> Iterator[ast.AST]:
    return (node for tree in trees for node in ast.walk(tree) if isinstance(node, kind))


def late_modules(trees: list[ast.Module]) -> set[str]:
    """Return our modules that are imported within a function, so perhaps while others decode."""
    inside = (node for function in nodes(ast.FunctionDef, trees) for node in ast.walk(function))
    names = {node.module or "" for node in inside if isinstance(node, ast.ImportFrom)}
    return {name for name in names if name.startswith("skytally.") and ".cli" not in name}


def decoded_names(trees: list[ast.Module]) -> set[str]:
    """Return all names among the arguments of calls that decode."""
    calls = (
        call for call in nodes(ast.Call, trees) if getattr(call.func, "attr", getattr(call.func, "id", "")) in DECODING
    )
    arguments = (part for call in calls for value in [*call.args, *call.keywords] for part in ast.walk(value))
    return {getattr(part, "id", getattr(part, "attr", "")) for part in arguments}


@pytest.mark.parametrize("function", ["usage_report", "panda_collect"])
def test_a_record_that_is_decoded_is_defined_before_its_function_serves(function):
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    source, late = ROOT / "functions" / function / "main.py", sorted(late_modules(trees))
    assert "skytally.adapters.documents_sqlite" in late
    command = [sys.executable, "-c", LOADED_AND_LATE, source, *late]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\n")
    assert lines[0] == ""
    assert "PreparedWrite" in lines[1]
    assert decoded_names(trees) >= {"Sample", "Claim", "Usage", "Caller"}
    assert not decoded_names(trees) & set(lines[1].split())
