"""`skytally copy`: moving up to Elasticsearch and back, stopped in between, with functions going on meanwhile."""

import contextlib
import json

import pytest
from click.testing import CliRunner
from test_documents import AT, HOUR, done, interval, label, usage

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.cli import cli
from skytally.cli import documents as command
from skytally.config import Config
from skytally.documents import INDICES, Label, Usage
from skytally.errors import Unavailable
from skytally.wiring import open_documents

pytestmark = pytest.mark.servers
COUNT = 4_500


def contents(store):
    store.refresh()
    return {index: list(store.stored(index, kind)) for index, kind in INDICES.items()}


@pytest.fixture
def old(tmp_path):
    with contextlib.closing(SqliteDocuments(tmp_path / "old.sqlite")) as old:
        done(old, *(label(f"k{n:05}", f"b{n}", create=True) for n in range(COUNT)))
        done(old, *(usage(f"u{n:05}", "2026-11", "uvic", n + 1) for n in range(COUNT)))
        done(old, *(interval(f"b{n}", AT + n * HOUR, AT + (n + 1) * HOUR, n + 1) for n in range(50)))
        yield old


@pytest.fixture
def settings(document_settings, monkeypatch):
    settings = document_settings("elasticsearch")
    monkeypatch.setenv("SKYTALLY_DOCUMENTS_PREFIX", settings["SKYTALLY_DOCUMENTS_PREFIX"])
    return settings


@pytest.fixture
def copied(tmp_path):
    """Run the command; answers its result."""

    def copy(source, target):
        told = ["copy", "--from", source, "--to", target, "--state", str(tmp_path / "state.json")]
        return CliRunner().invoke(cli, told)

    return copy


def test_up_and_down_is_the_same(old, settings, copied, tmp_path):
    up = copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"])
    assert (up.exit_code, str(COUNT) in up.output) == (0, True), up.output
    assert not (tmp_path / "state.json").exists()
    down = copied(settings["SKYTALLY_DOCUMENTS"], f"sqlite:///{tmp_path}/back.sqlite")
    assert down.exit_code == 0, down.output
    with contextlib.closing(SqliteDocuments(tmp_path / "back.sqlite")) as back:
        assert contents(back) == contents(old)


def test_a_copy_goes_on_where_it_stopped_and_never_puts_the_older_in_place_of_the_newer(old, settings, copied, tmp_path, monkeypatch):
    with contextlib.closing(open_documents(Config.from_env(settings))) as new:
        done(new, usage("u00007", "2026-11", "cern", 1_000_000))
        write, pages = command._write, []

        def stops(*page):
            if len(pages) == 4:
                raise Unavailable("away")
            pages.append(page)
            return write(*page)

        monkeypatch.setattr(command, "_write", stops)
        assert isinstance(copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"]).exception, Unavailable)
        assert json.loads((tmp_path / "state.json").read_text())["keys"] == {"label": f"k{COUNT - 1:05}", "usage": "u01999"}
        (tmp_path / "other.sqlite").touch()
        other = copied(f"sqlite:///{tmp_path}/other.sqlite", settings["SKYTALLY_DOCUMENTS"])
        assert "another copy" in str(other.exception)
        monkeypatch.setattr(command, "_write", lambda *page: pages.append(page) or write(*page))
        assert copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"]).exit_code == 0
        assert len([page for page in pages if page[1] == "usage"]) == 3
        assert new.get("usage", "u00007", Usage).cloud == "cern"
        assert new.get("label", "k00000", Label) == Label(boot_id="b0")
        assert new.count("usage") == COUNT


def test_a_mistyped_source_is_named_and_not_made(copied, tmp_path):
    assert "there is no file" in str(copied(f"sqlite:///{tmp_path}/wrong.sqlite", f"sqlite:///{tmp_path}/new.sqlite").exception)
    assert not (tmp_path / "wrong.sqlite").exists()
