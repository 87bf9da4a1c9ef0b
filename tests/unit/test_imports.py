"""The import contracts of pyproject.toml hold, and each one catches what it is there for."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = [
    c["name"] for c in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
]
DOWNWARDS = "imports go downwards only"
RULES = "rules speak to nothing outside"
FUNCTIONS = "functions open nothing themselves"
AGENTS = "agents import nothing of ours"
# A file, an import that must not stand in it, and the contract that says so.
PLANTS = [
    ("layers/skytally/core/months.py", "from skytally.accounting import usage", DOWNWARDS),
    ("layers/skytally/operation/retention.py", "import skytally.cli", DOWNWARDS),
    ("layers/skytally/access/callers.py", "from skytally.jobs import heartbeats", DOWNWARDS),
    ("layers/skytally/adapters/objects_s3.py", "from skytally.secrets import claims", DOWNWARDS),
    ("layers/skytally/newcomer/__init__.py", "import skytally.core.errors", DOWNWARDS),
    *[
        (f"layers/skytally/{path}.py", f"import {library}", RULES)
        for path, library in [
            ("core/records", "starlette"),
            ("access/tokens", "google.cloud.storage"),
            ("secrets/claims", "boto3"),
            ("accounting/usage", "sqlite3"),
            ("jobs/panda_collector", "urllib3"),
            ("alarms/alarm_round", "elasticsearch"),
            ("dashboard/query", "functions_framework"),
            ("boards/board", "opensearchpy"),
            ("operation/timer", "click"),
            ("deployment/rollout", "subprocess"),
        ]
    ],
    (
        "layers/skytally/adapters/objects_s3.py",
        "import skytally.adapters.objects_gcs",
        "adapters are independent of one another",
    ),
    ("layers/skytally/adapters/keys_files.py", "import starlette.requests", "adapters serve and print nothing"),
    ("layers/skytally/http/bodies.py", "import sqlite3", "HTTP's edge opens no store"),
    ("functions/secret_claim/main.py", "import skytally.adapters.objects_s3", FUNCTIONS),
    ("functions/usage_report/main.py", "import sqlite3", FUNCTIONS),
    (
        "functions/secret_claim/main.py",
        "import functions.secret_revoke.main",
        "functions are independent of one another",
    ),
    ("functions/agent/vm.py", "import skytally.core.errors", AGENTS),
    ("functions/agent/scheduler.py", "def late():\n  import urllib3", AGENTS),
    ("layers/skytally/app/wiring.py", "import localstack.serve", "nothing that ships imports a stand-in or a test"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of what the contracts are about."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name in ("layers", "functions"):
        shutil.copytree(ROOT / name, folder / name, ignore=lambda _, names: [n for n in names if n == "__pycache__"])
    return folder


def lint(folder):
    """Return the contracts that are broken in a copy, and all that was said."""
    code = (
        "import sys; sys.path.insert(0, 'layers'); from importlinter.cli import lint_imports_command; "
        "lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    broken = {name for name in CONTRACTS if f"{name} BROKEN" in said}
    assert (done.returncode != 0) == bool(broken), said
    assert broken or all(f"{name} KEPT" in said for name in CONTRACTS), said
    return broken, said


def test_every_contract_has_a_plant():
    assert {contract for _, _, contract in PLANTS} == set(CONTRACTS)


def test_a_copy_keeps_every_contract(copy):
    assert lint(copy)[0] == set()


@pytest.mark.slow
def test_each_forbidden_import_is_caught(copy):
    missed = []
    for path, line, contract in PLANTS:
        file, was = copy / path, (copy / path).read_text() if (copy / path).exists() else None
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{was or ''}\n{line}\n")
        broken, _ = lint(copy)
        if contract not in broken:
            missed.append(f"{line} in {path}")
        if was is None:
            shutil.rmtree(file.parent)
        else:
            file.write_text(was)
    assert missed == []
