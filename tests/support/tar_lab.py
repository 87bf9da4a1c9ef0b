"""Tars as nobody should send them, and good ones, written byte by byte: for both openers, vm.py and open.sh."""

import io
import stat
import tarfile
from pathlib import Path

LARGE = 3 * 2**30


def header(
    name: bytes, size: int, kind: bytes = b"0", link: bytes = b"", magic: bytes = b"ustar\x0000", tail: bytes = b""
) -> bytes:
    """Write a header with a right checksum, whatever it says; a size of 8 GiB or more in base 256."""
    digits = b"%011o\0" % size if size < 2**33 else b"\x80" + size.to_bytes(11, "big")
    head = name.ljust(100, b"\0") + b"0000600\0" + b"0000000\0" * 2 + digits + b"00000000000\0" + b" " * 8 + kind
    head += link.ljust(100, b"\0") + magic
    head += b"\0" * (345 - len(head)) + tail
    head = head.ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def member(name: bytes, content: bytes = b"", kind: bytes = b"0", **more: bytes) -> bytes:
    return header(name, len(content), kind, **more) + content + bytes(-len(content) % 512)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def pax(**fields: str) -> bytes:
    """Write records of a pax header, names with a dot for each double underscore."""
    out = b""
    for name, value in fields.items():
        record = f" {name.replace('__', '.')}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length += 1
        out += str(length).encode() + record
    return out


GOOD = member(b"good", b"1")
SPARSE_MAP = b"".join(b"%011o\0" % number for number in (0, 512, LARGE - 512, 0))

# Name: bytes. Each has a good member first, of which nothing may be left.
HOSTILE = {
    "sparse, old GNU": archive(
        GOOD,
        header(b"s", 512, b"S", magic=b"ustar  \0", tail=bytes(41) + SPARSE_MAP + b"\0" + b"%011o\0" % LARGE),
        b"x" * 512,
    ),
    "sparse, pax 0.1": archive(
        GOOD, member(b"p", pax(GNU__sparse__size=str(LARGE), GNU__sparse__map="0,512"), b"x"), member(b"s", b"x" * 512)
    ),
    "sparse, pax 1.0": archive(
        GOOD,
        member(b"p", pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize=str(LARGE)), b"x"),
        member(b"s", b"1\n0\n1\n".ljust(512, b"\0") + b"x"),
    ),
    "size above the archive": archive(GOOD, header(b"large", LARGE)),
    "size above the archive, in a pax header": archive(
        GOOD, member(b"p", pax(size=str(LARGE)), b"x"), member(b"large", b"x")
    ),
    "size in base 256": archive(GOOD, header(b"large", 2**40)),
    "too many members": archive(GOOD, *(header(b"m%d" % number, 0) for number in range(1_000))),
    "symbolic link": archive(GOOD, header(b"link", 0, b"2", link=b"/etc/passwd")),
    "hard link": archive(GOOD, header(b"link", 0, b"1", link=b"/etc/passwd")),
    "character device": archive(GOOD, header(b"device", 0, b"3")),
    "block device": archive(GOOD, header(b"device", 0, b"4")),
    "pipe": archive(GOOD, header(b"pipe", 0, b"6")),
    "reserved kind": archive(GOOD, header(b"odd", 0, b"7")),
    "unknown kind": archive(GOOD, header(b"odd", 0, b"Z")),
    "absolute": archive(GOOD, member(b"/absolute", b"x")),
    "absolute by prefix": archive(GOOD, member(b"absolute", b"x", tail=b"/")),
    "above": archive(GOOD, member(b"../above", b"x")),
    "above by pax": archive(GOOD, member(b"p", pax(path="a/../../above"), b"x"), member(b"fine", b"x")),
    "above by a long name": archive(GOOD, member(b"././@LongLink", b"../above\0", b"L"), member(b"fine", b"x")),
    "above by a folder": archive(GOOD, header(b"a/..", 0, b"5")),
    "escape in a name": archive(GOOD, member(b"a\x1b]0;b", b"x")),
    "newline in a name": archive(GOOD, member(b"a\nb", b"x")),
    "no name": archive(GOOD, member(b"", b"x")),
    "a path for all in a global header": archive(
        GOOD, member(b"g", pax(path="elsewhere"), b"g"), member(b"fine", b"x")
    ),
    "a pax record longer than its header": archive(GOOD, member(b"p", b"99 path=a\n", b"x"), member(b"fine", b"x")),
    "a pax record of length zero": archive(GOOD, member(b"p", b"0 path=a\n", b"x"), member(b"fine", b"x")),
    "a large pax header": archive(GOOD, member(b"p", b" " * 70_000, b"x"), member(b"fine", b"x")),
    "wrong checksum": archive(GOOD, b"x" + header(b"other", 0)[1:]),
    "cut in a header": archive(GOOD)[:-1024] + header(b"cut", 0)[:300],
    "cut in its content": archive(GOOD)[:-1024] + header(b"cut", 600) + b"x" * 512,
    "not a tar": b"\x1f\x8b\x08\x00garbage",
    "nothing": b"",
}

LONG = "long/" + "n" * 150
CONTENTS = {
    "cert.pem": b"certificate",
    "sub/deep/b": bytes(range(256)) * 5,
    "./dot//c": b"",
    LONG: b"x" * 512,
    "näme": b"y",
}


def good(form: int) -> bytes:
    """Write CONTENTS and an empty folder as Python does, in one of tar's three forms."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in CONTENTS.items():
            if len(name) > 100 and form == tarfile.USTAR_FORMAT:
                continue
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_795_000_000.5 if form == tarfile.PAX_FORMAT else 0
            tar.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return out.getvalue()


FORMS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def snapshot(folder: Path) -> dict[str, object]:
    """Describe all that is below a folder: links by where they lead, files by content and mode."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


def furnish(folder: Path) -> None:
    """Lay out a folder with files of others, and links that somebody planted:
    to a folder and a file outside, above, inside, nowhere.
    """
    (folder / "out/a").mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "outside/file").write_bytes(b"theirs")
    (folder / "out/file").write_bytes(b"others'")
    (folder / "out/a/b").write_bytes(b"others' too")
    (folder / "out/link").symlink_to("../outside")
    (folder / "out/up").symlink_to("..")
    (folder / "out/a/link").symlink_to("../../outside/file")
    (folder / "out/a/up").symlink_to("nowhere")
