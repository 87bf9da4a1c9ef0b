"""A payload is checked by vm.py's own code before it is left:
what a vm would refuse is refused here, with the member's name.
"""

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from skytally.core.errors import Malformed
from skytally.core.records import MOST_PAYLOAD_BYTES
from skytally.secrets.vm_payload import looks_packed, plain_tar
from tests.support.tar_lab import FORMS, HOSTILE, archive, good, header, member

ROOT = Path(__file__).parents[2]


def linked(kind):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("fine"))
        info = tarfile.TarInfo("tokens.d/pool")
        info.type, info.linkname = kind, "fine"
        tar.addfile(info)
    return out.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_good_tar_is_left_as_it_is_and_out_of_its_gzip(form):
    tar = good(FORMS[form])
    assert plain_tar(tar) == tar
    assert plain_tar(gzip.compress(tar)) == tar


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_vm_refuses_is_refused(name):
    for payload in (HOSTILE[name], gzip.compress(HOSTILE[name])):
        with pytest.raises(Malformed, match="payload"):
            plain_tar(payload)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_is_named(kind):
    with pytest.raises(Malformed, match=r"\(its member 'tokens.d/pool' is none\)"):
        plain_tar(linked(kind))


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ([(b"../up", b"0")], "'../up'"),
        ([(b"/etc/passwd", b"0")], "'/etc/passwd'"),
        ([(b"both", b"0"), (b"both/below", b"0")], "both"),
        ([(b"n" * 300, b"0")], "nnn"),
    ],
)
def test_a_name_that_no_folder_can_hold_is_named(members, named):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, _ in members:
            tar.addfile(tarfile.TarInfo(name.decode()))
    with pytest.raises(Malformed, match=named):
        plain_tar(out.getvalue())


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"hunter2", "not a sound tar"),
        (b"", "not a sound tar"),
        (gzip.compress(good(tarfile.GNU_FORMAT))[:-9], "cut short"),
        (gzip.compress(good(tarfile.GNU_FORMAT)) + b"more", "behind it"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
        (gzip.compress(bytes(200 << 20)), f"over {MOST_PAYLOAD_BYTES} bytes"),
        (archive(member(b"large", bytes(MOST_PAYLOAD_BYTES))), f"over {MOST_PAYLOAD_BYTES} bytes"),
        (archive(*(header(b"m%d" % number, 0) for number in range(1_001))), "not a sound tar"),
    ],
)
def test_what_is_no_tar_or_too_much_is_said(payload, why):
    with pytest.raises(Malformed, match=why):
        plain_tar(payload)


def test_what_looks_like_a_tar_is_told_from_a_secret():
    assert looks_packed(good(tarfile.PAX_FORMAT))
    assert looks_packed(gzip.compress(b""))
    assert not looks_packed(b"-----BEGIN CERTIFICATE-----" * 100)


@pytest.mark.slow
def test_a_wheel_brings_the_vm_py_that_the_function_serves(tmp_path):
    source = tmp_path / "source"
    for folder in ("layers", "functions/agent"):
        shutil.copytree(
            ROOT / folder, source / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import setuptools.build_meta as backend; backend.build_wheel('wheels')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = (source / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archived:
        assert archived.read("skytally/data/vm.py") == (ROOT / "functions/agent/vm.py").read_bytes()
