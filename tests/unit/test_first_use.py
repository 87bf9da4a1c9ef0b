"""Threads that decode records for the first time at the same moment: without plans made before, the process dies."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
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
