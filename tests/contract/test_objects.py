"""The promises of the objects port, on every adapter and its real server.

What a server here gets wrong and no adapter rests on: fake-gcs-server deletes whatever generation a delete names, and
versitygw and files cannot keep an object under the name of a folder, so no key is the folder of another.
"""

import multiprocessing
import secrets
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from localstack import servers
from skytally.app.wiring import open_objects
from skytally.core.config import Config
from skytally.core.errors import NotFound, Unavailable
from skytally.core.ports import Created, Exists
from skytally.secrets.preflight import HalfwayBody
from tests.support.broken_store import broken_store

pytestmark = pytest.mark.servers
RACERS, NAMES = 4, 40
EVERY_CALL = {
    "get": lambda objects: objects.get("x"),
    "create": lambda objects: objects.create("x", b""),
    "delete": lambda objects: objects.delete("x"),
    "list": lambda objects: list(objects.list("x")),
}
HOSTILE_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    "../x",
    "a/../b",
    ".",
    "a/.",
    ".tmp/x",
    "a/.hidden",
    "a b",
    "ü",
    "a\x00b",
    "a\n",
    "a?b",
]
HOSTILE_PREFIXES = ["/", "/etc/", "../", "a//", "a/../", ".tmp/", "a b"]


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
    objects.create("prep/1/a", b"")
    with pytest.raises(NotFound):
        objects.get("nothing/here")
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


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_that_leads_elsewhere_reaches_no_store(objects, key):
    for call in (lambda: objects.create(key, b""), lambda: objects.get(key), lambda: objects.delete(key)):
        with pytest.raises(ValueError, match="object key"):
            call()


@pytest.mark.parametrize("prefix", HOSTILE_PREFIXES)
def test_a_prefix_that_leads_elsewhere_reaches_no_store(objects, prefix):
    with pytest.raises(ValueError, match="object prefix"):
        list(objects.list(prefix))


def test_a_slow_create_takes_the_name_at_its_end_and_not_at_its_beginning(objects):
    seen = []

    def meanwhile():
        seen.append("half")
        with pytest.raises(NotFound):
            objects.get("slow")
        assert list(objects.list("slow")) == []

    data = secrets.token_bytes(512 * 1_024)
    assert isinstance(objects.create_streamed("slow", HalfwayBody(data, meanwhile)), Created)
    assert objects.get("slow") == data
    assert seen == ["half"]


def test_a_bucket_without_a_prefix_is_a_store(running, store_settings):
    settings = {**store_settings("ministack"), "SKYTALLY_OBJECTS": "s3://whole-bucket"}
    servers.make_bucket(running["ministack"], "whole-bucket")
    objects = open_objects(Config.from_env(settings))
    objects.create("a/b", b"1")
    assert list(objects.list("")) == ["a/b"]


def test_what_a_console_left_in_a_bucket_is_not_listed(running, store_settings):
    settings = store_settings("ministack")
    objects = open_objects(Config.from_env(settings))
    objects.create("prep/1/a", b"")
    folder = settings["SKYTALLY_OBJECTS"].removeprefix("s3://skytally/")
    for name in (f"{folder}/", f"{folder}/prep/", f"{folder}/prep/a b"):
        s3_client(running["ministack"]).put_object(Bucket="skytally", Key=name, Body=b"")
    assert list(objects.list("")) == list(objects.list("prep/")) == ["prep/1/a"]


def s3_client(server):
    """Speak to a server as its operator would, past the adapter."""
    import boto3

    return boto3.client("s3", endpoint_url=server.url)


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


def test_of_many_processes_one_makes_each_name(object_settings, objects):
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(RACERS), context.Queue()
    names = [f"mark/20261125/{n}" for n in range(NAMES)]
    racers = [context.Process(target=race, args=(object_settings, names, barrier, won)) for _ in range(RACERS)]
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
    won = []
    with_threads(
        lambda key: isinstance(objects.create(key, b""), Created) and won.append(key),
        [f"m/{n % 20}" for n in range(320)],
    )
    assert Counter(won) == {f"m/{n}": 1 for n in range(20)}


def test_two_gateways_on_one_folder_are_one_store(running, store_settings):
    first = store_settings("versitygw")
    with servers.versitygw(running._folder / "versitygw") as second_server:
        second = {**first, "SKYTALLY_S3_ENDPOINT": second_server.url}
        both, won = [open_objects(Config.from_env(settings)) for settings in (first, second)], []

        def create(n):
            if isinstance(both[n % 2].create(f"two/{n // 2}", b""), Created):
                won.append(n // 2)

        with_threads(create, range(400))
        assert Counter(won) == dict.fromkeys(range(200), 1)


@pytest.fixture
def impatient(monkeypatch):
    """Give up on a store after a second, as nobody should in production."""
    monkeypatch.setattr("skytally.adapters.objects_gcs.PATIENCE", {"timeout": 1, "retry": None})
    monkeypatch.setattr("skytally.adapters.objects_s3.READ_SECONDS", 1)


@pytest.mark.parametrize("call", EVERY_CALL)
@pytest.mark.parametrize("bucket", ["no-such-bucket", "no-such-object"])
@pytest.mark.parametrize("name", ["versitygw", "ministack", "fake-gcs"])
def test_a_bucket_that_is_missing_is_an_outage(name, bucket, call, store_settings, impatient):
    settings = store_settings(name)
    where = settings["SKYTALLY_OBJECTS"].replace("//skytally/", f"//{bucket}/objects/")
    with pytest.raises(Unavailable):
        EVERY_CALL[call](open_objects(Config.from_env({**settings, "SKYTALLY_OBJECTS": where})))


@pytest.mark.parametrize("name", ["versitygw", "ministack", "fake-gcs"])
def test_a_server_that_died_is_an_outage(name, tmp_path, monkeypatch, impatient):
    try:
        with servers.SERVERS[name](tmp_path) as server:
            for setting, value in server.settings.items():
                monkeypatch.setenv(setting, value)
            objects = open_objects(Config.from_env(server.settings))
            objects.create("x", b"")
            server.kill()
            for call in EVERY_CALL.values():
                with pytest.raises(Unavailable):
                    call(objects)
    except servers.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def s3_with(monkeypatch, impatient):
    """Return a function: the objects of a store with S3's face and a fault."""
    for name, value in servers.S3_USER.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        yield lambda fault: open_objects(Config.from_env(servers.s3_settings(stack.enter_context(broken_store(fault)))))


@pytest.mark.parametrize("call", EVERY_CALL)
@pytest.mark.parametrize("fault", ["no store", "silent"])
def test_what_is_no_store_or_never_answers_is_an_outage(s3_with, fault, call):
    with pytest.raises(Unavailable):
        EVERY_CALL[call](s3_with(fault))


def test_a_create_without_the_stores_clock_is_an_outcome_not_known(s3_with):
    objects = s3_with("no clock")
    with pytest.raises(Unavailable, match="when"):
        objects.create("x", b"1")
    assert objects.get("x") == b"1"


def test_deleting_nothing_is_success_whatever_the_store_calls_it(s3_with):
    s3_with("refuses deletes").delete("never/was")


def test_wrong_credentials_are_an_outage(store_settings, monkeypatch):
    settings = store_settings("versitygw")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Unavailable, match="SignatureDoesNotMatch"):
        open_objects(Config.from_env(settings)).get("x")
