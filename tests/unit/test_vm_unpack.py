"""What vm.py unpacks: nothing but whole plain files, all of them or none,
never outside the folder, whatever fails at whatever moment.
"""

import io
import itertools
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.agent_lab import VM_PY, interpreters, load_agent
from tests.support.tar_lab import CONTENTS, FORMS, GOOD, HOSTILE, LONG, archive, furnish, good, header, member, snapshot

vm = load_agent()
EVERY_EXAMPLE = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---- what is taken ----


@pytest.mark.parametrize("form", FORMS)
def test_a_good_tar_of_every_form_is_unpacked_whole(tmp_path, form):
    vm.unpack(good(FORMS[form]), str(tmp_path / "out"), 0o440)
    expected = {
        os.path.normpath(name): (content, 0o440)
        for name, content in CONTENTS.items()
        if form != "ustar" or name != LONG
    }
    found = snapshot(tmp_path / "out")
    assert {name: value for name, value in found.items() if value != "folder"} == expected
    assert found["empty"] == "folder"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").rglob("*") if path.is_dir()} == {0o755}


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_what_the_tar_command_packs_is_unpacked(tmp_path, form):
    (tmp_path / "in/tokens.d").mkdir(parents=True)
    (tmp_path / "in/tokens.d/pool").write_bytes(b"token")
    (tmp_path / "in/x509up").write_bytes(b"p" * 5_000)
    made = subprocess.run(
        ["tar", "cf", "-", f"--format={form}", "-C", tmp_path / "in", "."], capture_output=True, check=True
    ).stdout
    vm.unpack(made, str(tmp_path / "out"))
    assert (tmp_path / "out/tokens.d/pool").read_bytes() == b"token"
    assert (tmp_path / "out/x509up").read_bytes() == b"p" * 5_000


@EVERY_EXAMPLE
@given(
    members=st.lists(
        st.tuples(
            st.text(st.characters(min_codepoint=33, exclude_categories=["Cs"]), max_size=120), st.binary(max_size=1500)
        )
    ),
    form=st.sampled_from(sorted(FORMS)),
)
def test_what_pythons_own_library_writes_is_read_as_it_reads_it(members, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=FORMS[form]) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.replace("\0", "") or "n")
            info.size = len(content)
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # too long a name for this form
                continue
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        expected = [(one.name, tar.extractfile(one).read()) for one in tar if one.isreg()]
    assert [(name.rstrip("/"), content) for name, content in vm.untar(out.getvalue()) if content is not None] == [
        (name, content) for name, content in expected if not name.endswith("/")
    ]


# ---- what is refused ----


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused_and_nothing_of_it_is_written(tmp_path, name):
    for folder in ("new", "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        before = snapshot(tmp_path)
        with pytest.raises(vm.Stop) as refusal:
            vm.unpack(HOSTILE[name], str(tmp_path / folder), 0o600)
        assert refusal.value.args[0] == 3
        assert snapshot(tmp_path) == before


LIMITED = """
import importlib.util, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))
spec = importlib.util.spec_from_file_location("vm", sys.argv[1])
vm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vm)
try:
    vm.unpack(sys.stdin.buffer.read(), sys.argv[2])
except vm.Stop as stop:
    sys.exit(40 + stop.args[0])
"""


@pytest.mark.parametrize(
    "name", ["sparse, old GNU", "sparse, pax 0.1", "sparse, pax 1.0", "a hundred thousand members"]
)
def test_what_asks_for_gigabytes_costs_neither_memory_nor_disk_nor_time(tmp_path, name):
    data = HOSTILE.get(name) or archive(*(header(b"m%d" % number, 0) for number in range(100_000)))
    command = [sys.executable, "-B", "-c", LIMITED, VM_PY, tmp_path / "out"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(command, input=data, check=False, capture_output=True, timeout=30)
    assert done.returncode == 43, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 5
    assert list(tmp_path.iterdir()) == []


@EVERY_EXAMPLE
@given(data=st.data())
def test_a_tar_with_any_bytes_changed_is_read_or_refused_and_never_a_crash(data):
    whole = bytearray(good(FORMS[data.draw(st.sampled_from(sorted(FORMS)))]))
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = vm.untar(cut)
    except vm.Stop:
        return
    assert sum(len(content or b"") for _, content in found) <= len(cut)


# ---- never outside, whole or not at all ----

PIECES = st.sampled_from([b"a", b"b", b"link", b"file", b"..", b".", b"", b"up", b"\x1b[0m", b"n" * 90])
NAMES = st.builds(
    lambda parts, first: first + b"/".join(parts), st.lists(PIECES, max_size=4), st.sampled_from([b"", b"", b"/"])
)
KINDS = st.sampled_from([b"0"] * 6 + [b"5", b"5", b"\0", b"1", b"2", b"3", b"6", b"S", b"7"])


@EVERY_EXAMPLE
@given(members=st.lists(st.tuples(NAMES, KINDS, st.binary(max_size=700)), max_size=6), there=st.booleans())
@example([(b"link/file", b"0", b"x")], True)
@example([(b"a/link", b"0", b"x")], True)
@example([(b"up/outside/file", b"0", b"x")], True)
@example([(b"b", b"0", b"x"), (b"b/a", b"0", b"y")], False)
@example([(b"b", b"0", b"x"), (b"b", b"5", b"")], True)
@example([(b"a/up", b"0", b"x"), (b"file", b"0", b"y"), (b"b", b"0", b"x"), (b"b/a", b"0", b"y")], True)
def test_nothing_outside_is_ever_touched_and_the_folder_is_changed_whole_or_not_at_all(
    tmp_path_factory, members, there
):
    folder = tmp_path_factory.mktemp("unpack")
    furnish(folder)
    target = folder / "out" if there else folder / "new/deep"
    outside, before = snapshot(folder / "outside"), snapshot(folder / "out")
    data = archive(*(member(name, content, kind) for name, kind, content in members))
    try:
        vm.unpack(data, str(target))
    except vm.Stop:
        assert snapshot(folder / "out") == before
        assert not (folder / "new/deep").exists()
    else:
        written = {
            os.path.normpath(name.decode()): content
            for name, kind, content in members
            if kind != b"5" and name[-1:] != b"/"
        }
        after = snapshot(target)
        assert all(after[name] == (content, 0o600) for name, content in written.items())
        if there:
            assert {name: value for name, value in after.items() if name in before and name not in written} == {
                name: value for name, value in before.items() if name not in written
            }
    assert snapshot(folder / "outside") == outside
    assert not [path for path in folder.rglob("*") if "skytally" in path.name]
    shutil.rmtree(folder)


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    furnish(tmp_path)
    (tmp_path / "out/planted").symlink_to("../outside/file")
    vm.unpack(archive(member(b"planted", b"ours")), str(tmp_path / "out"))
    assert not (tmp_path / "out/planted").is_symlink()
    assert (tmp_path / "outside/file").read_bytes() == b"theirs"


def test_the_folder_itself_may_be_a_link_of_the_operator(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to("real")
    vm.unpack(archive(GOOD), str(tmp_path / "named"))
    assert (tmp_path / "real/good").read_bytes() == b"1"
    assert (tmp_path / "named").is_symlink()


def test_a_folder_that_is_there_keeps_its_mode_and_a_file_in_its_place_is_kept(tmp_path):
    (tmp_path / "out").mkdir(mode=0o700)
    vm.unpack(archive(GOOD), str(tmp_path / "out"))
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700
    (tmp_path / "file").write_bytes(b"others'")
    with pytest.raises(vm.Stop):
        vm.unpack(archive(GOOD), str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"others'"


# ---- failures and kills ----

PAYLOAD = archive(
    member(b"file", b"new"), member(b"a/b", b"new too"), member(b"c/d/e", b"fresh"), header(b"empty", 0, b"5")
)
NEW = {"file": (b"new", 0o600), "a/b": (b"new too", 0o600), "c/d/e": (b"fresh", 0o600)}

BROKEN = """
import errno, importlib.util, itertools, os, sys
spec = importlib.util.spec_from_file_location("vm", sys.argv[1])
vm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(vm)
how, fatal, count = sys.argv[3], int(sys.argv[4]), itertools.count()
def broken(real):
    def step(*arguments, **named):
        number = next(count)
        if how == "kill" and number == fatal:
            os._exit(99)
        if how == "killed after" and number == fatal:
            real(*arguments, **named)
            os._exit(99)
        if how == "fails" and number == fatal:
            raise OSError(errno.ENOSPC, "no space")
        return real(*arguments, **named)
    return step
REAL = {name: getattr(os, name) for name in "open write fsync fchmod link rename mkdir unlink rmdir".split()}
for name in REAL:
    setattr(os, name, broken(REAL[name]))
with open(sys.argv[5], "rb") as file:
    payload = file.read()
try:
    vm.unpack(payload, sys.argv[2])
except vm.Stop as stop:
    os._exit(40 + stop.args[0])
sys.exit(7 if next(count) <= fatal else 0)
"""


def broken(tmp_path: Path, target: str, how: str):
    """Unpack with one step failing after another, each time into a fresh layout;
    yield each layout, its exit code and what was there.
    """
    (tmp_path / "payload").write_bytes(PAYLOAD)
    for fatal in itertools.count():
        folder = tmp_path / str(fatal)
        furnish(folder)
        before = snapshot(folder)
        command = [sys.executable, "-B", "-c", BROKEN, VM_PY, folder / target, how, str(fatal), tmp_path / "payload"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=30)
        assert done.returncode in {0, 7, 46, 99}, done.stderr
        yield folder, done.returncode, before
        if done.returncode == 7:  # it has fewer steps than that
            assert fatal > 20
            return


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out", "new"])
def test_whatever_step_fails_the_folder_is_as_it_was(tmp_path, target):
    for folder, code, before in broken(tmp_path, target, "fails"):
        if code == 46:
            assert snapshot(folder) == before
        else:
            assert NEW.items() <= snapshot(folder / target).items()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "killed after"])
def test_killed_at_any_step_a_new_folder_is_whole_or_not_there(tmp_path, how):
    for folder, _, _ in broken(tmp_path, "new", how):
        if (folder / "new").exists():
            assert NEW.items() <= snapshot(folder / "new").items()
        next_time_is_clean(folder, "new")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "killed after"])
def test_killed_at_any_step_each_file_of_a_system_folder_is_old_or_new_and_whole(tmp_path, how):
    some_old_some_new = 0
    for folder, _, before in broken(tmp_path, "out", how):
        found = {name: value for name, value in snapshot(folder).items() if "skytally" not in name}
        ours = {f"out/{name}": value for name, value in NEW.items()}
        assert all(value in {before.get(name), ours.get(name)} or value == "folder" for name, value in found.items())
        assert before.keys() <= found.keys()
        some_old_some_new += 0 < len([name for name, value in ours.items() if found.get(name) == value]) < len(ours)
        for path in folder.rglob("*skytally*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        next_time_is_clean(folder, "out")
    assert some_old_some_new > 0


def next_time_is_clean(folder: Path, target: str) -> None:
    vm.unpack(PAYLOAD, str(folder / target))
    assert NEW.items() <= snapshot(folder / target).items()
    assert not list(folder.rglob("*skytally*"))


@pytest.mark.slow
@pytest.mark.parametrize("python", interpreters())
def test_every_interpreter_unpacks_and_refuses_alike(python, tmp_path):
    for number, (name, data) in enumerate({**HOSTILE, "good": PAYLOAD}.items()):
        command = [python, "-B", "-c", LIMITED, VM_PY, tmp_path / str(number)]
        done = subprocess.run(command, input=data, check=False, capture_output=True, timeout=30)
        assert done.returncode == (0 if name == "good" else 43), (name, done.stderr)
