"""What only the file adapter promises: durability in the right order,
nothing left over, and nothing seen that is not an object.
"""

import contextlib
import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from skytally.adapters.objects_filesystem import FilesystemObjects, durable
from skytally.adapters.objects_filesystem.durable import Folders
from skytally.adapters.objects_filesystem.marker import Marker
from skytally.app.wiring import open_objects
from skytally.core.config import Config
from skytally.core.errors import Misconfigured, NotFound, Unavailable
from skytally.core.ports import Created

CREATE = """
import sys
from pathlib import Path
from skytally.adapters.objects_filesystem import FilesystemObjects
FilesystemObjects(Path(sys.argv[1])).create(sys.argv[2], b"data")
"""
HOUR_SECONDS = 3_600


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def files(root) -> FilesystemObjects:
    return FilesystemObjects(root)


def paths(root):
    """List everything below a folder, folders too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.fixture
def syncs(monkeypatch):
    """The folders that are synced, in order."""
    synced, sync = [], durable.sync_folder

    def noted(folder):
        sync(folder)
        synced.append(str(folder))

    monkeypatch.setattr(durable, "sync_folder", noted)
    return synced


def test_a_folder_s_name_is_synced_once_as_long_as_it_is_the_same_folder(files, root, syncs):
    def synced_by(key):
        syncs.clear()
        files.create(key, b"")
        return [folder.removeprefix(str(root)) for folder in syncs]

    assert set(synced_by("mark/20261125/a")) >= {"/mark/20261125", "/mark", ""}
    assert synced_by("mark/20261125/b") == ["/mark/20261125"]
    assert synced_by("mark/20261126/a") == ["/mark/20261126", "/mark"]
    for key in ("a", "b"):
        files.delete(f"mark/20261125/{key}")
    (root / "mark/20261125").mkdir()  # As another process makes it again, which has not synced it yet.
    assert synced_by("mark/20261125/c") == ["/mark/20261125", "/mark"]
    shutil.rmtree(root / "mark")
    assert synced_by("mark/20261125/c") == ["/mark/20261125", "/mark", ""]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_known_folders_hold_no_more_than_some_descriptors(files):
    before = descriptors()
    for n in range(3 * durable.MOST_KNOWN):
        files.create(f"prep/{n:010}/a", b"")
    assert descriptors() - before <= durable.MOST_KNOWN
    for n in range(3 * durable.MOST_KNOWN):
        files.delete(f"prep/{n:010}/a")
        files.create(f"prep/{n:010}/a", b"")
    assert descriptors() - before <= durable.MOST_KNOWN


def test_a_folder_that_cannot_be_looked_at_is_not_known_and_costs_no_descriptor(files, monkeypatch):
    def stale(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    files.create("prep/1/a", b"")
    before = descriptors()
    monkeypatch.setattr(os.path, "samestat", stale)
    assert [type(files.create(f"prep/2/{n}", b"")) for n in range(8)] == [Created] * 8
    assert descriptors() == before


def test_the_data_are_durable_before_the_name_and_the_name_before_the_answer(root, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("without strace: the order of syncs is not tested")
    FilesystemObjects(root).create("the/first", b"makes the folder a store")
    log = tmp_path / "strace"
    strace = [
        "strace",
        "-f",
        "-y",
        "-e",
        "trace=fsync,link,linkat",
        "-o",
        str(log),
        sys.executable,
        "-c",
        CREATE,
        str(root),
        "mark/20261125/abc",
    ]
    subprocess.run(strace, check=True, timeout=60)
    calls = re.findall(r"(fsync|link)(?:at)?\((.*)\) = 0", log.read_text())
    steps = [
        (call, re.search(r"<(.*?)>" if call == "fsync" else r'"([^"]*)"$|"([^"]*)", 0$', what)) for call, what in calls
    ]
    done = [(call, (found[1] or found[2]).removeprefix(str(root))) for call, found in steps if str(root) in found[0]]
    linked = done.index(("link", "/mark/20261125/abc"))
    assert any(call == "fsync" and what.startswith("/.tmp/") for call, what in done[:linked])
    assert {what for call, what in done[linked:] if call == "fsync"} == {"/mark/20261125", "/mark", ""}


def test_a_deleted_object_leaves_no_folder(files, root):
    for key in ("prep/0000000001/a", "prep/0000000001/b", "prep/0000000002/c"):
        files.create(key, b"")
    files.delete("prep/0000000001/a")
    files.delete("prep/0000000002/c")
    assert paths(root) == [".store", ".tmp", "prep", "prep/0000000001", "prep/0000000001/b"]
    files.delete("prep/0000000001/b")
    assert paths(root) == [".store", ".tmp"]


def test_creates_and_deletes_that_share_a_folder_never_fail(files, root):
    """Folders come and go under the feet of whoever creates in them."""
    lived = []

    def live(n):
        for _ in range(200):
            assert isinstance(files.create(f"a/b/{n}", b"x"), Created)
            assert files.get(f"a/b/{n}") == b"x"
            assert set(files.list("a/")) <= {f"a/b/{other}" for other in range(8)}
            files.delete(f"a/b/{n}")
        lived.append(n)

    threads = [threading.Thread(target=live, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lived) == list(range(8))
    assert paths(root) == [".store", ".tmp"]


def test_a_folder_that_is_removed_while_it_is_found_to_be_there_is_made_again(files, monkeypatch):
    """The system says that it exists, and then it does not: what a delete between two calls looks like."""
    mkdir, refused = os.mkdir, []

    def refuses_once(path, *more):
        if str(path).endswith("/a") and not refused:
            refused.append(path)
            raise FileExistsError(path)
        mkdir(path, *more)

    monkeypatch.setattr(os, "mkdir", refuses_once)
    assert isinstance(files.create("a/b", b"x"), Created)
    assert len(refused) == 1
    assert files.get("a/b") == b"x"


def test_what_killed_processes_left_goes_after_an_hour(root):
    FilesystemObjects(root).create("x", b"")
    for name, age_seconds in (("old", HOUR_SECONDS + 60), ("fresh", HOUR_SECONDS - 60)):
        left = root / ".tmp" / name
        left.write_bytes(b"sealed")
        os.utime(left, (left.stat().st_mtime - age_seconds,) * 2)
    FilesystemObjects(root).create("y", b"")
    assert paths(root / ".tmp") == ["fresh"]


def test_a_write_that_fails_leaves_nothing_and_takes_no_name(files, root):
    files.create("before", b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Unavailable):
            files.create("too-big", b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert paths(root) == [".store", ".tmp", "before"]
    assert isinstance(files.create("too-big", b"x" * 200_000), Created)


def test_only_the_owner_reads(files, root):
    files.create("mark/1/a", b"")
    assert {path.stat().st_mode & 0o077 for path in (root, *root.rglob("*"))} == {0}


def test_what_the_system_left_in_the_folder_is_not_listed(files, root):
    files.create("prep/1/a", b"")
    for name in (".DS_Store", "prep/.nfs000000000001", "prep/1/a b"):
        (root / name).touch()
    assert list(files.list("")) == list(files.list("prep/")) == ["prep/1/a"]


def test_a_folder_that_cannot_be_used_is_an_outage(files, root):
    root.write_text("a file, not a folder")
    with pytest.raises(Unavailable):
        files.create("x", b"")


def renamed_away(root, away):
    root.rename(away)


def replaced_by_an_empty_one(root, away):
    root.rename(away)
    root.mkdir()


def replaced_by_a_younger_store(root, away):
    root.rename(away)
    FilesystemObjects(root).create("younger", b"")


OUTAGES = (renamed_away, replaced_by_an_empty_one, replaced_by_a_younger_store)
CALLS = {
    "create": lambda files: files.create("prep/2/b", b"lost at the remount"),
    "get": lambda files: files.get("prep/1/a"),
    "get what never was": lambda files: files.get("never/was"),
    "delete": lambda files: files.delete("prep/1/a"),
    "list": lambda files: list(files.list("prep/")),
    "rooms": lambda files: files.rooms(),
}


@pytest.fixture
def away(tmp_path) -> Path:
    return tmp_path / "away"


def comes_back(root, away):
    shutil.rmtree(root, ignore_errors=True)
    away.rename(root)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.__name__)
def test_a_folder_that_is_not_the_one_that_was_opened_is_an_outage_until_it_is_back(files, root, away, outage, call):
    files.create("prep/1/a", b"x")
    outage(root, away)
    before = paths(root)
    with pytest.raises(Unavailable):
        CALLS[call](files)
    assert paths(root) == before
    comes_back(root, away)
    assert files.get("prep/1/a") == b"x"
    assert isinstance(files.create("prep/2/b", b"kept"), Created)
    assert list(files.list("prep/")) == ["prep/1/a", "prep/2/b"]


def first_time(monkeypatch, owner, name, meanwhile):
    """Let something happen within the first call of a function of the system: behind it, or behind its failure."""
    call = getattr(owner, name)

    def called(*arguments, **options):
        try:
            return call(*arguments, **options)
        finally:
            monkeypatch.undo()
            meanwhile()

    monkeypatch.setattr(owner, name, called)


def test_a_disk_that_comes_back_during_a_get_has_the_object(files, root, away, monkeypatch):
    files.create("prep/1/a", b"x")
    replaced_by_an_empty_one(root, away)
    first_time(monkeypatch, Path, "read_bytes", lambda: comes_back(root, away))
    assert files.get("prep/1/a") == b"x"


def test_a_disk_that_comes_back_during_a_listing_is_an_outage(files, root, away):
    files.create("prep/1/a", b"x")
    files.create("prep/2/b", b"x")
    replaced_by_an_empty_one(root, away)
    (root / "prep").mkdir()
    (root / "prep" / "0").write_text("the folder of no store")
    listing = files.list("prep/")
    with pytest.raises(Unavailable):  # noqa: PT012
        next(listing)
        comes_back(root, away)
        list(listing)


def test_a_disk_that_goes_during_a_create_has_not_got_the_object(files, root, away, monkeypatch):
    files.create("prep/1/a", b"x")
    first_time(monkeypatch, Path, "read_bytes", lambda: replaced_by_an_empty_one(root, away))
    with pytest.raises(Unavailable):
        files.create("prep/2/b", b"lost at the remount")
    comes_back(root, away)
    assert list(files.list("prep/")) == ["prep/1/a"]


@pytest.mark.parametrize("open_store", [lambda files: list(files.list("")), CALLS["get what never was"]])
def test_a_process_that_has_only_read_knows_the_folder_too(files, root, away, open_store):
    FilesystemObjects(root).create("prep/1/a", b"x")
    with contextlib.suppress(NotFound):
        open_store(files)
    replaced_by_an_empty_one(root, away)
    with pytest.raises(Unavailable):
        files.create("prep/2/b", b"")


@pytest.mark.parametrize("call", ["get", "delete"])
@pytest.mark.parametrize("is_made", [True, False])
def test_a_process_that_begins_during_the_outage_calls_nothing_absent_and_makes_no_store(files, root, is_made, call):
    if is_made:
        root.mkdir()
    with pytest.raises(Unavailable, match="mounted"):
        CALLS[call](files)
    assert paths(root) == []


def test_a_process_that_made_a_store_during_the_outage_takes_the_older_one_when_it_is_back(root, away):
    FilesystemObjects(root).create("prep/1/a", b"x")
    replaced_by_an_empty_one(root, away)
    later = FilesystemObjects(root)
    later.create("younger", b"")
    comes_back(root, away)
    assert list(later.list("")) == ["prep/1/a"]
    assert isinstance(later.create("prep/2/b", b""), Created)


def test_a_store_from_before_there_were_markers_gets_one_with_its_next_create(root, away):
    FilesystemObjects(root).create("prep/1/a", b"x")
    (root / ".store").unlink()
    files = FilesystemObjects(root)
    with pytest.raises(NotFound):
        files.get("never/was")
    assert list(files.list("")) == ["prep/1/a"]
    files.create("prep/2/b", b"")
    replaced_by_an_empty_one(root, away)
    with pytest.raises(Unavailable):
        files.get("prep/1/a")


def test_of_many_processes_that_make_a_store_all_know_the_same_marker(root):
    processes = [
        subprocess.Popen([sys.executable, "-c", CREATE, str(root), f"prep/1/{n}"], stderr=subprocess.PIPE)
        for n in range(4)
    ]
    assert [process.communicate(timeout=60)[1] for process in processes] == [b""] * 4
    assert sorted(FilesystemObjects(root).list("")) == [f"prep/1/{n}" for n in range(4)]
    assert paths(root)[:2] == [".store", ".tmp"]
    assert list((root / ".tmp").iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "file://", "file:objects", "file://data/objects", "objects", "s3:bucket", "s3://", "s3:///prefix", "s3://bucket?x",
        "gs://bucket/a#b",
        "ftp://bucket",
    ],
)  # fmt: skip
def test_a_url_that_means_another_place_than_it_seems_is_refused(url):
    with pytest.raises(Misconfigured, match="SKYTALLY_OBJECTS"):
        open_objects(Config.from_env({"SKYTALLY_OBJECTS": url}))


def test_an_endpoint_that_is_no_url_is_refused_by_its_name():
    with pytest.raises(Misconfigured, match="SKYTALLY_S3_ENDPOINT"):
        Config.from_env({"SKYTALLY_S3_ENDPOINT": "s3.example.org"})


def test_a_home_with_any_name_keeps_its_objects_inside(tmp_path):
    home = tmp_path / "a b#c%20?d"
    open_objects(Config.from_env({"SKYTALLY_HOME": str(home)})).create("x", b"")
    assert (home / "objects" / "x").exists()


def test_the_first_creates_of_many_threads_all_succeed(tmp_path):
    """Between the looks of one thread for the marker another makes it."""
    for n in range(40):
        objects, together, outcomes = FilesystemObjects(tmp_path / str(n)), threading.Barrier(8), []

        def create(key, objects=objects, together=together, outcomes=outcomes):
            together.wait()
            outcomes.append(objects.create(key, b""))

        threads = [threading.Thread(target=create, args=(str(key),)) for key in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(outcome) for outcome in outcomes] == [Created] * 8


def test_a_marker_that_another_thread_makes_during_a_look_is_no_outage(tmp_path, monkeypatch):
    marker, absent = Marker(tmp_path, Folders(tmp_path)), Path.read_bytes

    def look(path):
        try:
            return absent(path)
        except FileNotFoundError:
            monkeypatch.undo()
            marker.make(tmp_path / ".tmp")
            raise

    monkeypatch.setattr(Path, "read_bytes", look)
    assert not marker.is_there()
    assert marker.is_there()
