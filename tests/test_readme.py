"""The README is held to the code: settings, dependencies, targets, files and commands."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from skytally.accounting.definitions import DEFINITIONS
from skytally.cli import cli
from skytally.cli.deploy import deploy
from skytally.core.config import setting_names, settings
from skytally.deployment import descriptions
from skytally.deployment.catalog import FUNCTIONS
from skytally.secrets import user_data

ROOT = Path(__file__).resolve().parent.parent
SKYTALLY, DESIGN = ROOT / "layers" / "skytally", ROOT / "docs" / "design.md"
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def section(title):
    """Return the text under a heading."""
    parts = re.split(r"^## ", README, flags=re.MULTILINE)
    return next(part for part in parts if part.partition("\n")[0] == title)


def rows(title):
    """Return the cells of a section's table."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]


def test_the_settings_table_is_the_code():
    assert rows("Settings") == [
        (f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in settings()
    ]


def test_every_dependency_says_why_it_is_there():
    named = {name.strip() for cell, _ in rows("Dependencies") for name in cell.split(",")}
    wanted = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert named == wanted


def test_every_dependency_is_pinned_by_hash():
    lock = (ROOT / "requirements-dev.lock").read_text()
    for requirement in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0].lower()
        assert re.search(rf"^{name}==[^\n]*\\\n    --hash=sha256:", lock, re.MULTILINE), name


def test_every_path_that_is_named_is_there():
    for path in re.findall(r"`((?:functions|layers|localstack|tests|infra)/[^`\s]*)`", README):
        assert (ROOT / path).exists(), path
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / picture).is_file(), picture


def test_every_make_target_that_is_named_is_there():
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for target in re.findall(r"^make ([a-z]+)", block, re.MULTILINE):
            assert target in targets, target


def commands(program):
    """Return the words behind a program's name in every line of shell."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    lines = (line.partition("  #")[0] for block in blocks.splitlines() for line in block.split("&&"))
    # What stands for a value of the reader's own is a value.
    told = [
        shlex.split(line.replace("…", "x").partition(" > ")[0])
        for line in lines
        if f"{program} " in line and not line.startswith("#")
    ]
    return [words[words.index(program) + 1 :] for words in told if program in words]


def test_every_command_that_is_named_is_there_with_its_options():
    assert len(commands("skytally")) > 12
    for words in commands("skytally"):
        command, rest = cli, words
        while isinstance(command, click.Group):
            assert rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options, words


def test_every_module_is_on_the_map():
    rows = dict(re.findall(r"^\| `(\w+)/` \|[^|\n]*\| ([^|\n]*) \|$", DESIGN.read_text(), re.MULTILINE))
    packages = {path.parent for path in SKYTALLY.glob("*/__init__.py")}
    assert rows.keys() == {package.name for package in packages}
    for package in packages:
        there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert set(re.findall(r"`(\w+)`", rows[package.name])) == there - {"__init__"}, package.name


def test_the_catalog_is_the_folders():
    assert {f.name for f in FUNCTIONS} == {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}


@pytest.mark.parametrize(
    "pattern",
    [r"/work/", r"/root/", r"pythonhosted", r"\bpypi\.org", r"registry\.npmjs", r"repo1?\.maven", r"proxy\.golang"],
)
def test_no_committed_file_names_this_machine_or_a_registry(pattern):
    command = ["git", "grep", "-lIE", pattern, "--", ".", ":!tests/test_readme.py"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode in {0, 1}
    assert not found.stdout, f"{pattern} in {found.stdout.split()}"


def test_operating_takes_ten_commands_that_exist():
    settings, commands = re.findall(
        r"^```sh\n(.*?)^```", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"\b([A-Z0-9_]+)=", settings))
    options = {option.envvar for command in deploy.commands.values() for option in command.params}
    assert named - set(setting_names().values()) - options == {"AWS_SHARED_CREDENTIALS_FILE"}
    lines = [line.partition("#")[0].split() for line in commands.splitlines()]
    assert len(lines) <= 10
    for words in lines[1:]:
        found: click.Command = cli
        for word in words[1:]:
            if isinstance(found, click.Group):
                found = found.commands[word]
        known = {name for option in found.params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, words


def test_the_description_that_is_shown_is_one():
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(descriptions.specifications(descriptions.parse(shown.encode()))) == len(FUNCTIONS)


def test_the_numbers_of_a_statement_are_explained_in_the_words_that_are_signed():
    text = (ROOT / "docs" / "statement.md").read_text().partition("## What the numbers mean")[2]
    tables = [re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE) for part in text.split("\n### ")[1:]]
    assert [dict(table) for table in tables] == [DEFINITIONS["totals"], DEFINITIONS["changes"], DEFINITIONS["boots"]]


def test_how_long_a_first_boot_tries_to_fetch_vm_py_is_what_its_script_does():
    text, script = section("Handing out a secret"), Path(user_data.__file__).read_text()
    assert "left=1800 " in script
    assert "the vm tries for half an hour to fetch `vm.py`" in text
