"""`skytally copy`: moving up to a search engine and back, stopped in between, with functions going on meanwhile."""

import contextlib
import sqlite3

import pytest
from click.testing import CliRunner

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.app.wiring import open_documents
from skytally.cli import cli
from skytally.cli import documents as command
from skytally.core.config import Config
from skytally.core.documents import INDICES, Label, Usage
from skytally.core.errors import Unavailable
from tests.support.builders import SEARCH_ENGINES, remove
from tests.support.documents import AT, HOUR, done, interval, label, usage

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


@pytest.fixture(params=SEARCH_ENGINES)
def settings(request, document_settings, monkeypatch):
    settings = document_settings(request.param)
    monkeypatch.setenv("SKYTALLY_DOCUMENTS_PREFIX", settings["SKYTALLY_DOCUMENTS_PREFIX"])
    return settings


@pytest.fixture
def copied(tmp_path):
    """Run the command; return its result."""

    def copy(source, target):
        told = ["copy", "--from", source, "--to", target]
        return CliRunner().invoke(cli, told)

    return copy


def test_up_and_down_is_the_same(old, settings, copied, tmp_path):
    up = copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"])
    assert (up.exit_code, str(COUNT) in up.output) == (0, True), up.output
    down = copied(settings["SKYTALLY_DOCUMENTS"], f"sqlite:///{tmp_path}/back.sqlite")
    assert down.exit_code == 0, down.output
    with contextlib.closing(SqliteDocuments(tmp_path / "back.sqlite")) as back:
        assert contents(back) == contents(old)


def test_from_one_engine_to_the_other_and_back_is_the_same(old, document_settings, copied, monkeypatch, tmp_path):
    stores = [document_settings(engine) for engine in SEARCH_ENGINES]
    urls = [f"{engine}+{one['SKYTALLY_DOCUMENTS']}" for engine, one in zip(SEARCH_ENGINES, stores, strict=True)]
    prefix = stores[0]["SKYTALLY_DOCUMENTS_PREFIX"]
    monkeypatch.setenv("SKYTALLY_DOCUMENTS_PREFIX", prefix)
    both = [Config.from_env({**one, "SKYTALLY_DOCUMENTS_PREFIX": prefix}) for one in stores]
    with contextlib.closing(open_documents(both[0])) as first, contextlib.closing(open_documents(both[1])) as second:
        second.install(AT)
        try:
            for source, target in (
                (f"sqlite:///{tmp_path}/old.sqlite", urls[0]),
                urls,
                (urls[1], f"sqlite:///{tmp_path}/back.sqlite"),
            ):
                moved = copied(source, target)
                assert moved.exit_code == 0, moved.output
            assert contents(first) == contents(second) == contents(old)
            done(second, usage("new", "2026-11", "uvic"))
            back = copied(urls[1], urls[0])
            assert back.exit_code == 0, back.output
            first.refresh()
            assert first.get("usage", "new", Usage) is not None
        finally:
            remove(second.client, prefix)


def test_an_interrupted_copy_is_repeated_and_never_replaces_a_newer_version(
    old, settings, copied, tmp_path, monkeypatch
):
    with contextlib.closing(open_documents(Config.from_env(settings))) as new:
        done(new, usage("u00007", "2026-11", "cern", 1_000_000))
        write, pages = command._write, []

        def stops(*page):
            if len(pages) == 4:
                raise Unavailable("away")
            pages.append(page)
            return write(*page)

        monkeypatch.setattr(command, "_write", stops)
        assert isinstance(
            copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"]).exception, Unavailable
        )
        monkeypatch.setattr(command, "_write", lambda *page: pages.append(page) or write(*page))
        assert copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"]).exit_code == 0
        assert len([page for page in pages if page[1] == "usage"]) == 4
        assert new.get("usage", "u00007", Usage).cloud == "cern"
        assert new.get("label", "k00000", Label) == Label(boot_id="b0")
        assert new.count("usage") == COUNT


def spoil(path):
    """Write what cannot be read between what can: before all of it, within a page, and behind all of it."""
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.executemany("INSERT INTO label VALUES (?, 1, NULL)", [("a",), ("k00100x",), ("z\x1b[2J",)])
        file.execute("UPDATE usage SET boot_at = -62135596800000 WHERE key = 'u00500'")


def test_what_cannot_be_read_or_is_refused_is_left_out_by_name_and_all_else_is_copied(old, settings, copied, tmp_path):
    spoil(tmp_path / "old.sqlite")
    long = "long" + "x" * 40_000  # longer than an engine takes
    done(old, label(long, "b", 1))
    up = copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"])
    assert up.exit_code == 3, up.output
    assert "5 documents were left out" in up.stderr
    for named in ("label: a (", "label: k00100x (", "label: z?[2J (", "usage: u00500 (", "label: longxxx"):
        assert named in up.stderr
    assert "fewer" not in up.output
    with contextlib.closing(open_documents(Config.from_env(settings))) as new:
        whole, moved = contents(old), contents(new)
        assert [key for key, _, _ in whole["label"] if key != long] == [key for key, _, _ in moved["label"]]
        assert whole["usage"] == moved["usage"]
        assert whole["interval"] == moved["interval"]
        assert (len(moved["label"]), len(moved["usage"])) == (COUNT, COUNT - 1)
        name = f"{settings['SKYTALLY_DOCUMENTS_PREFIX']}-label"
        new.client.perform("PUT", f"/{name}/_doc/k00200x", body={"key": "k00200x", "boot_id": ["b", "c"]})
    down = copied(settings["SKYTALLY_DOCUMENTS"], f"sqlite:///{tmp_path}/back.sqlite")
    assert down.exit_code == 3, down.output
    assert "1 document was left out" in down.stderr
    assert "label: k00200x (" in down.stderr
    assert "3 all is there but what was left out" in CliRunner().invoke(cli, ["copy", "--help"]).output


def test_a_repeated_copy_names_all_that_it_leaves_out_once(old, settings, copied, tmp_path, monkeypatch):
    spoil(tmp_path / "old.sqlite")
    write, pages = command._write, []

    def stops(*page):
        if len(pages) == 4:
            raise Unavailable("away")
        pages.append(page)
        return write(*page)

    with monkeypatch.context() as patched:
        patched.setattr(command, "_write", stops)
        assert isinstance(
            copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"]).exception, Unavailable
        )
    rest = copied(f"sqlite:///{tmp_path}/old.sqlite", settings["SKYTALLY_DOCUMENTS"])
    assert rest.exit_code == 3, rest.output
    assert "4 documents were left out" in rest.stderr
    assert rest.stderr.count("label: a (") == 1


def test_a_mistyped_source_is_named_and_not_made(copied, tmp_path):
    assert "there is no file" in str(
        copied(f"sqlite:///{tmp_path}/wrong.sqlite", f"sqlite:///{tmp_path}/new.sqlite").exception
    )
    assert not (tmp_path / "wrong.sqlite").exists()
