"""README and docs/ are held to the code: settings, dependencies, commands, targets, files, modules, links."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

from skytally.accounting.definitions import DEFINITIONS
from skytally.cli import cli
from skytally.cli.deploy import deploy
from skytally.core.config import setting_names, settings
from skytally.dashboard import metrics
from skytally.deployment import descriptions
from skytally.deployment.catalog import FUNCTIONS
from skytally.secrets import user_data

ROOT = Path(__file__).resolve().parent.parent
SKYTALLY = ROOT / "layers" / "skytally"
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
SHELL = "\n".join(
    block for text in PAGES.values() for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
)
every_page = pytest.mark.parametrize("page", PAGES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def section(page, title):
    """Return the text under a heading."""
    parts = re.split(r"^#+ ", PAGES[page], flags=re.MULTILINE)
    return next(part for part in parts if part.partition("\n")[0] == title)


def rows(page, title):
    """Return the cells of a section's first table."""
    table = re.search(r"(?:^\|.*\n)+", section(page, title), re.MULTILINE)[0]
    return [tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in table.splitlines()[2:]]


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(PAGES["README.md"].encode()) <= 8_192
    linked = {target.removeprefix("docs/") for target, _ in links(PAGES["README.md"])}
    assert PAGES.keys() - linked == {"README.md"}


def links(text):
    """Yield file and anchor of every relative link; a block of code has none."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            yield target.partition("#")[::2]


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(slugs) == len(set(slugs)), "two headings of a page are one anchor"
    return set(slugs)


@every_page
def test_every_link_leads_to_a_file_and_a_heading(page):
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target, anchor in links(PAGES[page]):
        assert (folder / target).exists(), target
        if anchor:
            assert anchor in anchors(PAGES[Path(target).name or page]), f"{target}#{anchor}"


def test_the_settings_table_is_the_code():
    assert rows("settings.md", "Settings") == [
        (f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in settings()
    ]


def test_every_dependency_says_why_it_is_there():
    named = {name.strip() for cell, _ in rows("design.md", "Dependencies") for name in cell.split(",")}
    wanted = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in PROJECT["dependencies"]}
    assert named == wanted


def test_every_dependency_is_pinned_by_hash():
    lock = (ROOT / "requirements-dev.lock").read_text()
    for requirement in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0].lower()
        assert re.search(rf"^{name}==[^\n]*\\\n    --hash=sha256:", lock, re.MULTILINE), name


@every_page
def test_every_path_that_is_named_is_there(page):
    for path in re.findall(r"`((?:functions|layers|localstack|tests|infra)/[^`\s<]*)`", PAGES[page]):
        assert (ROOT / path).exists(), path
    packages = "|".join(path.name for path in SKYTALLY.iterdir() if path.is_dir())
    for path in re.findall(rf"`((?:{packages})/[a-z0-9_/]+\.py)`", PAGES[page]):
        assert (SKYTALLY / path).is_file(), path


@every_page
def test_every_make_target_that_is_named_is_there(page):
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGES[page], re.MULTILINE)) <= TARGETS


def test_every_make_target_is_described():
    assert {target for target, _ in rows("cli.md", "make")} == {f"`make {name}`" for name in TARGETS - {"help"}}


def commands(program):
    """Return the words behind a program's name in every line of shell."""
    lines = (line.partition("  #")[0] for line in re.split(r"\n|&&", SHELL.replace("\\\n", " ")))
    # What stands for a value of the reader's own is a value.
    words_of_lines = [
        shlex.split(line.replace("…", "x").partition(" > ")[0])
        for line in lines
        if f"{program} " in line and not line.startswith("#")
    ]
    return [words[words.index(program) + 1 :] for words in words_of_lines if program in words]


def leaves(command, name):
    """Yield the full names of a group's commands."""
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from leaves(below, f"{name} {word}")
    else:
        yield name


def test_every_command_is_described():
    described = [name.strip("`") for name, *_ in rows("cli.md", "skytally")]
    assert sorted(described) == sorted(leaves(cli, "skytally"))


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
    rows = dict(re.findall(r"^\| `(\w+)/` \|[^|\n]*\| ([^|\n]*) \|$", section("design.md", "Packages"), re.MULTILINE))
    packages = {path.parent for path in SKYTALLY.glob("*/__init__.py")}
    assert rows.keys() == {package.name for package in packages}
    for package in packages:
        there = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        assert set(re.findall(r"`(\w+)`", rows[package.name])) == there - {"__init__"}, package.name


def test_the_catalog_is_the_folders_and_every_function_is_described():
    assert {f.name for f in FUNCTIONS} == {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    called = {name.strip("`"): how for name, how, _ in rows("design.md", "Functions")}
    assert called.keys() == {f.name for f in FUNCTIONS}
    assert {name for name, how in called.items() if how == "timer"} == {f.name for f in FUNCTIONS if f.schedule}


def test_every_kind_of_alarm_is_in_the_runbook():
    kinds = {name for cell, *_ in rows("alarms.md", "Alarms and metrics") for name in re.findall(r"`(\w+)`", cell)}
    assert kinds == set(metrics.ALARMS)
    assert kinds <= anchors(PAGES["alarms.md"])


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
    settings, commands = re.findall(r"^```sh\n(.*?)^```", PAGES["operate.md"], re.MULTILINE | re.DOTALL)
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
    (description,) = re.findall(r"^```yaml\n(.*?)^```", PAGES["operate.md"], re.MULTILINE | re.DOTALL)
    assert len(descriptions.specifications(descriptions.parse(description.encode()))) == len(FUNCTIONS)


def test_the_numbers_of_a_statement_are_explained_in_the_words_that_are_signed():
    text = PAGES["statement.md"].partition("## What the numbers mean")[2]
    tables = [re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.MULTILINE) for part in text.split("\n### ")[1:]]
    assert [dict(table) for table in tables] == [DEFINITIONS["totals"], DEFINITIONS["changes"], DEFINITIONS["boots"]]


def test_how_long_a_first_boot_tries_to_fetch_vm_py_is_what_its_script_does():
    assert "left=1800 " in Path(user_data.__file__).read_text()
    assert "It fetches `vm.py` for half an hour" in section("secrets.md", "What a boot does")


def test_completion_is_set_up_as_the_readme_says():
    line = next(line for line in SHELL.splitlines() if line.startswith("eval ")).partition("  #")[0]
    typed = "COMP_WORDS=(skytally statement ver) COMP_CWORD=2"
    script = f"{line}\n{typed}; _skytally_completion skytally; echo ${{COMPREPLY[0]}}"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    completed = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert completed.stdout == "verify\n", completed.stderr


@pytest.mark.slow
def test_a_wheel_holds_the_modules_that_there_are_and_no_other():
    stale = ROOT / "build" / "lib" / "skytally" / "stale.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    made = subprocess.run(
        ["make", "--silent", "wheel"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=240
    )
    with zipfile.ZipFile(ROOT / made.stdout.split()[-1]) as wheel:
        modules = {name for name in wheel.namelist() if name.startswith("skytally/") and name.endswith(".py")}
    assert modules == {str(path.relative_to(SKYTALLY.parent)) for path in SKYTALLY.rglob("*.py")}
