"""The promises of the objects port, on every adapter and its real server."""

import multiprocessing
import secrets
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from skytally.config import Config
from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Exists
from skytally.wiring import open_objects

pytestmark = pytest.mark.servers
RACERS, NAMES = 4, 40


def test_a_create_is_read_back_as_it_was(objects):
    for data in (b"", b"x", secrets.token_bytes(2 * 1024**2)):
        key = f"prep/{secrets.token_hex(8)}"
        assert isinstance(objects.create(key, data), Created)
        assert objects.get(key) == data


def test_a_second_create_changes_nothing(objects):
    objects.create("mark/20261125/abc", b"first")
    assert objects.create("mark/20261125/abc", b"second") == Exists()
    assert objects.get("mark/20261125/abc") == b"first"


def test_the_stores_clock_comes_back(objects):
    made = objects.create("clock", b"")
    assert abs(made.at - datetime.now(UTC)) < timedelta(seconds=5)
    assert made.at.tzinfo is not None


def test_what_is_not_there_is_not_found(objects):
    with pytest.raises(NotFound):
        objects.get("nothing/here")
    objects.create("prep/1/a", b"")
    with pytest.raises(NotFound):
        objects.get("prep/1")


def test_a_delete_is_seen_at_once_and_frees_the_name(objects):
    objects.create("prep/1", b"old")
    objects.delete("prep/1")
    with pytest.raises(NotFound):
        objects.get("prep/1")
    objects.delete("prep/1")
    objects.delete("never/was")
    assert isinstance(objects.create("prep/1", b"new"), Created)
    assert objects.get("prep/1") == b"new"


def test_a_list_is_in_key_order_and_by_prefix(objects):
    keys = [
        "mark/20261125/b",
        "mark/20261125/a.0f",
        "mark/20261125/a",
        "mark/20261124/z",
        "mark-1",
        "prep/0000000002/x",
        "prep/0000000010/x",
    ]
    for key in keys:
        objects.create(key, b"")
    assert list(objects.list("")) == sorted(keys)
    assert list(objects.list("mark/")) == sorted(k for k in keys if k.startswith("mark/"))
    assert list(objects.list("mark/20261125/a")) == ["mark/20261125/a", "mark/20261125/a.0f"]
    assert list(objects.list("prep/00000000")) == ["prep/0000000002/x", "prep/0000000010/x"]
    assert list(objects.list("nothing/")) == []


def test_a_long_list_is_whole(objects):
    keys = sorted(f"audit/20261125/{n:05d}" for n in range(1_050))
    with_threads(lambda key: objects.create(key, b""), keys)
    assert list(objects.list("audit/")) == keys
    assert next(objects.list("audit/")) == keys[0]


def with_threads(work, items, count=16):
    """Do something for each item, some at a time."""
    queue = iter(items)
    lock = threading.Lock()

    def run():
        while True:
            with lock:
                item = next(queue, None)
            if item is None:
                return
            work(item)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def race(store, names, barrier, won):
    """Create every name at the same time as the other racers; report the names that this one was told it made."""
    objects = open_objects(Config.from_env(store))
    me = secrets.token_hex(8).encode()
    for name in names:
        barrier.wait()
        if isinstance(objects.create(name, me), Created):
            won.put((name, me))
    won.put(None)


def test_of_many_processes_one_makes_each_name(store, objects):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(RACERS), context.Queue()
    names = [f"mark/20261125/{n}" for n in range(NAMES)]
    racers = [context.Process(target=race, args=(store, names, barrier, won)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    winners, ended = [], 0
    while ended < RACERS:
        item = won.get(timeout=60)
        ended += item is None
        winners += [item] if item else []
    for racer in racers:
        racer.join()
    assert Counter(name for name, _ in winners) == dict.fromkeys(names, 1)
    for name, me in winners:
        assert objects.get(name) == me


def test_of_many_threads_one_makes_each_name(objects):
    won = Counter()
    with_threads(
        lambda key: won.update([key] if isinstance(objects.create(key, b""), Created) else []), [f"m/{n % 20}" for n in range(320)]
    )
    assert won == {f"m/{n}": 1 for n in range(20)}


def test_two_gateways_on_one_folder_are_one_store(running, store_settings, tmp_path):
    from localstack import servers

    first = store_settings("versitygw")
    folder = running._folder / "versitygw"
    with servers.versitygw(folder) as second_server:
        second = {**first, "SKYTALLY_S3_ENDPOINT": second_server.url}
        both = [open_objects(Config.from_env(settings)) for settings in (first, second)]
        won = Counter()

        def create(n):
            won.update([f"two/{n // 2}"] if isinstance(both[n % 2].create(f"two/{n // 2}", b""), Created) else [])

        with_threads(create, range(400))
        assert won == {f"two/{n}": 1 for n in range(200)}


@pytest.mark.parametrize("name", ["versitygw", "ministack", "fake-gcs"])
def test_a_store_that_is_away_or_refuses_is_never_not_found(name, store_settings, monkeypatch):
    settings = store_settings(name)
    broken = [{**settings, "SKYTALLY_OBJECTS": settings["SKYTALLY_OBJECTS"].replace("//skytally/", "//no-such-bucket/")}]
    monkeypatch.setattr("skytally.adapters.objects_gcs.PATIENCE", {"timeout": 2, "retry": None})
    if name == "fake-gcs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
        broken = [settings]
    else:
        broken.append({**settings, "SKYTALLY_S3_ENDPOINT": "http://127.0.0.1:9"})
    for wrong in broken:
        away = open_objects(Config.from_env(wrong))
        for call in (lambda o: o.get("x"), lambda o: o.create("x", b""), lambda o: o.delete("x"), lambda o: list(o.list("x"))):
            with pytest.raises(Unavailable):
                call(away)


def test_wrong_credentials_are_an_outage(store_settings, monkeypatch):
    settings = store_settings("versitygw")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unavailable, match="SignatureDoesNotMatch"):
        open_objects(Config.from_env(settings)).get("x")


@pytest.mark.parametrize("key", ["", "/", "/etc/passwd", "a//b", "../x", "a/../b", ".", "a/.", ".tmp/x", "a b", "ü", "a\x00b"])
def test_files_take_no_key_that_leads_elsewhere(store_settings, key):
    files = open_objects(Config.from_env(store_settings("files")))
    with pytest.raises(ValueError, match="object key"):
        files.create(key, b"")


def test_a_folder_that_cannot_be_written_is_an_outage(store_settings, tmp_path):
    (tmp_path / "objects").write_text("a file, not a folder")
    files = open_objects(Config.from_env(store_settings("files")))
    with pytest.raises(Unavailable):
        files.create("x", b"")
