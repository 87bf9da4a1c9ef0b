"""Every command that prints a table or facts prints JSON, too;
its tables fit 80 columns, and no number is cut or folded.
"""

import json
import re
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from skytally.app import wiring
from skytally.cli import cli
from skytally.cli.terminal import show
from tests.support import builders

COLUMNS = 80
EDGE = datetime(2026, 11, 1, tzinfo=UTC)
NOW = EDGE + timedelta(days=4)
CLOUD = "a-cloud-with-a-name-as-long-as-in-practice.example.org"
SITE = (
    f"[clouds.'{CLOUD}']\nowner = 'University of Victoria'\nprice_per_core_hour = 117.3\ncurrency = "
    "'JPY'\napel_site = 'X'\n"
)
# What these print is a document of its own, or lines that say what happens.
PRINT_NO_TABLE = {
    "dashboards kibana": "NDJSON for Kibana",
    "dashboards grafana": "files for Grafana",
    "dashboards opensearch": "NDJSON for OpenSearch Dashboards",
    "deploy apply": "progress; `deploy status --json` has the facts",
    "deploy catalog": "JSON",
    "deploy manifests": "YAML for Kubernetes",
    "deploy stack-file": "YAML for faas-cli",
    "retention": "JSON",
    "secrets show": "JSON",
    "statement keygen": "a key in PEM",
    "token": "a token; with --show, JSON",
    "userdata": "user-data for cloud-init",
}
# Need a platform or an Elasticsearch: the contract tests of these run them with --json.
RUN_ELSEWHERE = {
    *("deploy remove", "deploy remove-secret", "deploy secret", "deploy secrets", "deploy status"),
    *("deposit", "search-revoke", "search-setup"),
}


def leaves(command=cli, words=()):
    """List every command with the words that call it."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield " ".join(words), command


def takes_json(command):
    return any("--json" in option.opts for option in command.params)


def test_every_command_but_those_that_print_documents_takes_json():
    assert {name for name, command in leaves() if not takes_json(command)} == PRINT_NO_TABLE.keys()


@pytest.fixture
def run(home, monkeypatch, client, bearer, scheduler):
    """Run a command at a home where a month is closed, in a terminal of 80 columns."""
    monkeypatch.setenv("SKYTALLY_CLOUDS", str(home / "clouds.toml"))
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    (home / "clouds.toml").write_text(SITE)
    wiring.close()
    for vm in ("vm-1", "vm-2"):
        body = {"vm": vm, "cloud": CLOUD, "payload": "aaaa"}
        assert client.post("secret-deposit", json=body, headers=scheduler).status_code == 201
    monkeypatch.setattr("skytally.core.clock.now", lambda: NOW)
    vms = [builders.FakeVm(f"vm-{n}", boot_at=EDGE - timedelta(seconds=2_222_221 + n), cores=64_000) for n in range(3)]
    samples = [vm.sample(EDGE, month="2026-10", month_start=builders.counters(0, vm.cores)) for vm in vms]
    reporter = bearer("reporter", clouds=(CLOUD,), issued=NOW)
    assert client.post("usage-report", json={"samples": samples}, headers=reporter).json()["accepted"] == 3
    (home / "bill.csv").write_text(f"cloud,core_hours,cost,currency\n{CLOUD},100000000.123,123456789,JPY\n")

    def do(*words):
        return CliRunner().invoke(cli, [str(word) for word in words])

    assert do("statement", "keygen").exit_code == 0
    assert do("statement", "close", "--month", "2026-10").exit_code == 0
    signed = client.get(
        "statement",
        params={"month": "2026-10", "cloud": CLOUD, "detail": "signed"},
        headers=bearer("reader", issued=NOW),
    )
    (home / "signed.json").write_text(signed.text)
    do.home = home
    return do


MONTH = ("--month", "2026-10")
COMMANDS = {
    "copy": lambda home: ("--from", f"sqlite:///{home}/documents.sqlite", "--to", f"sqlite:///{home}/new.sqlite"),
    "doctor": lambda _: (),
    "keys init": lambda _: (),
    "keys list": lambda _: (),
    "keys rotate": lambda _: (),
    "secrets list": lambda _: (),
    "statement close": lambda _: (*MONTH, "--dry-run"),
    "statement compare": lambda home: (*MONTH, "--bill", home / "bill.csv"),
    "statement export": lambda home: (*MONTH, "--format", "apel-cloud", "--output", home / "apel.txt"),
    "statement verify": lambda home: (home / "signed.json",),
}


def test_every_command_with_json_is_run_here_or_by_a_contract_test():
    assert COMMANDS.keys() | RUN_ELSEWHERE == {name for name, command in leaves() if takes_json(command)}


def words_with_digits(value):
    """List what may not be cut or folded of JSON: its numbers as people write them, and its words that have digits."""
    if isinstance(value, dict | list):
        return [
            word
            for inner in (value.values() if isinstance(value, dict) else value)
            for word in words_with_digits(inner)
        ]
    if isinstance(value, str):
        return [word for word in re.findall(r"[\w.:@,+-]*\d[\w.:@,+-]*", value) if len(word) < 50]
    return (
        [f"{value:,.3f}".removesuffix(".000") if isinstance(value, float) else str(value)]
        if type(value) in {int, float}
        else []
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_json_and_a_table_that_fits(run, name, monkeypatch):
    if name == "statement close":
        # Anything else that is known by now is a revision to show.
        (run.home / "clouds.toml").write_text(SITE.replace("117.3", "118.3"))
        wiring.close()
    if name == "doctor":
        monkeypatch.setattr("skytally.core.clock.now", lambda: datetime.now(UTC))
    call = (*name.split(), *COMMANDS[name](run.home))
    in_json, printed = run(*call, "--json"), run(*call)
    assert in_json.exit_code == printed.exit_code == 0, in_json.output + printed.output
    facts = json.loads(in_json.stdout)
    assert facts or name == "keys init"
    if name != "statement export":  # It prints a path.
        assert max(map(cell_len, printed.stdout.splitlines()), default=0) <= COLUMNS, printed.stdout
    if name in {"statement close", "statement verify", "statement compare"}:
        for word in words_with_digits(facts):
            assert word in printed.output, (word, printed.output)
        assert CLOUD in printed.output


def lines_of(monkeypatch, capsys, columns, rows, width=COLUMNS, **more):
    monkeypatch.setenv("COLUMNS", str(width))
    show(columns, rows, **more)
    return capsys.readouterr().out.splitlines()


def test_a_table_that_does_not_fit_becomes_records(monkeypatch, capsys):
    columns, row = [f"column {n}" for n in range(9)], [f"{n}23,456,789.012" for n in range(9)]
    lines = lines_of(monkeypatch, capsys, columns, [row, row], title="t", caption="c")
    assert lines == ["t", *2 * [*(f"column {n}:  {n}23,456,789.012" for n in range(9)), ""], "c"]
    assert lines_of(monkeypatch, capsys, columns, [row], width=300)[1].count("column") == 9


def test_one_column_of_words_goes_on_in_the_next_line_and_the_others_stay_whole(monkeypatch, capsys):
    words = "a sentence that takes far more room than there is beside these numbers in a terminal of eighty columns"
    lines = lines_of(monkeypatch, capsys, ["n", "m", "why"], [["123,456.789", "2026-10-01T00:00:00Z", words]])
    assert max(map(len, lines)) <= COLUMNS
    assert any("123,456.789" in line and "2026-10-01T00:00:00Z" in line and "a sentence" in line for line in lines)
    assert " ".join(" ".join(line.split("│")[3] for line in lines if "│" in line).split()) == words


def test_a_table_without_rows_is_its_head(monkeypatch, capsys):
    assert any("why" in line for line in lines_of(monkeypatch, capsys, ["n", "why"], []))
