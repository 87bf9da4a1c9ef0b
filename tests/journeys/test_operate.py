"""docs/operate.md word by word: its own commands and description,
in a fresh folder, on the provider of this machine.
"""

import json
import os
import re
import subprocess

import pytest
from click.testing import CliRunner

from skytally.cli import cli
from skytally.deployment.catalog import FUNCTIONS
from tests.support.gateway import COMMAND_SECONDS, ROOT, SKYTALLY, Gateway

DOCUMENT = (ROOT / "docs" / "operate.md").read_text()


@pytest.fixture
def gateway(tmp_path):
    gateway = Gateway(tmp_path).start()
    yield gateway
    gateway.stop()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)


def test_the_operators_document_leads_to_a_site_that_answers(gateway, tmp_path):
    """Of the document only addresses are others, and the image is not made: the provider has it."""
    state, folder = tmp_path / "state", tmp_path / "folder"
    state.mkdir()
    folder.mkdir()
    addresses = {
        "https://gateway.example.org": gateway.base,
        "https://search.example.org:9200": f"sqlite:///{state}/documents.sqlite",
        "s3://site-secrets": f"file://{state}/objects",
        "https://bigpanda.cern.ch": "http://127.0.0.1:9",
    }

    def here(text):
        for address, other in addresses.items():
            assert address in DOCUMENT
            text = text.replace(address, other)
        return text

    settings, commands = map(here, blocks("sh"))
    (folder / "credentials").write_text("[default]\naws_access_key_id = x\n")
    (folder / "gateway-password").write_text(gateway.password_file.read_text())
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SKYTALLY_", "AWS_"))}
    environment = clean | {"PATH": f"{SKYTALLY.parent}:{os.environ['PATH']}"}
    image, *others = commands.splitlines()
    assert image.startswith("make image ")
    printed = {}
    for command in others:
        name = command.partition("#")[0].strip()
        done = subprocess.run(
            ["sh", "-ec", f"{settings}\n{command}"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        printed[name] = done.stdout
        if name == "skytally keys init":
            (described,) = map(here, blocks("yaml"))
            for path in (folder / "keys").iterdir():
                assert str(path) in done.stdout
                described = re.sub(rf"{path.name.partition('-')[0]}-\d{{14}}", path.name, described)
            (folder / "site.yaml").write_text(described)

    assert "sqlite" in printed["skytally doctor --install"]
    assert printed["skytally deploy apply site.yaml"].count(": deployed") == len(FUNCTIONS)
    assert gateway.secrets() == {path.name for path in (folder / "keys").iterdir()} | {"s3-credentials"}
    month = "statement?month=2026-11"
    assert gateway.call(month, token=(folder / "reader.token").read_text().strip()).status == 200
    assert not (folder / ".skytally").exists(), "nothing fell back to a local store"


def test_doctor_says_of_a_store_that_a_cluster_does_not_see_it(home):
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--install", "--json"]).stdout)
    kinds = {row["part"]: row["finding"] for row in found if row["check"] in {"answers", "kind"}}
    assert kinds == {"documents": "sqlite, of this machine alone", "objects": "file, of this machine alone"}
