"""Objects as files: a create is a hard link, which exactly one of any number of processes makes.

::

    <root>/.tmp/<random>        being written; leftovers of killed processes go after an hour
    <root>/<key>                whole and durable from the moment it has this name

link(2) fails with EEXIST for all but one caller, on every POSIX file system (NFS included, where O_EXCL once was not). File and folder
are synced before the create is answered.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from skytally.errors import NotFound, Unavailable
from skytally.ports import Created, Exists

KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class FilesystemObjects:
    """The objects port on a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Write a temporary file whole, then give it the name if nobody has it."""
        return self._create(key, data, None)

    def _create(self, key: str, data: bytes, midway: Callable[[], None] | None) -> Created | Exists:
        target = self._path(key)
        try:
            self._temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_folders(target.parent, self._root)
            temporary = self._temporary / secrets.token_hex(16)
            stored_at = _write_durably(temporary, data)
            if midway is not None:
                midway()
            try:
                os.link(temporary, target)
            except FileExistsError:
                return Exists()
            finally:
                temporary.unlink()
            _sync_folder(target.parent)
        except OSError as error:
            raise Unavailable("the object folder cannot be written: check SKYTALLY_OBJECTS and its disk") from error
        return Created(stored_at)

    def versioned(self) -> bool:
        """Answer no: a file that is removed is gone for everybody who opens it by name."""
        return False

    def create_slowly(self, key: str, data: bytes, midway: Callable[[], None]) -> Created | Exists:
        """Create, doing something else while the temporary file is written and has no name yet."""
        return self._create(key, data, midway)

    def get(self, key: str) -> bytes:
        """Read a file whole."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("there is no such object") from None
        except OSError as error:
            raise Unavailable("the object folder cannot be read: check SKYTALLY_OBJECTS and its disk") from error

    def delete(self, key: str) -> None:
        """Remove a file; the folder stays, since removing it would race a create."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync_folder(path.parent)
        except OSError as error:
            raise Unavailable("the object folder cannot be written: check SKYTALLY_OBJECTS and its disk") from error

    def list(self, prefix: str) -> Iterator[str]:
        """Walk the folders in key order, entering only those that the prefix allows."""
        folder = prefix.rpartition("/")[0]
        try:
            yield from self._walk(self._root / folder, f"{folder}/" if folder else "", prefix)
        except OSError as error:
            raise Unavailable("the object folder cannot be read: check SKYTALLY_OBJECTS and its disk") from error

    def _walk(self, folder: Path, path: str, prefix: str) -> Iterator[str]:
        if not folder.is_dir():
            return
        entries = [(entry.name + "/" if entry.is_dir() else entry.name) for entry in folder.iterdir() if entry != self._temporary]
        for name in sorted(entries):
            if name.endswith("/") and (path + name).startswith(prefix[: len(path + name)]):
                yield from self._walk(folder / name, path + name, prefix)
            elif not name.endswith("/") and (path + name).startswith(prefix):
                yield path + name

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key) or any(part in {".", "..", ".tmp"} for part in key.split("/")):
            raise ValueError("an object key has segments of [A-Za-z0-9._-]")
        return self._root / key


def _make_folders(folder: Path, root: Path) -> None:
    """Make the folders down to one, each name durable in its parent."""
    if folder.is_dir():
        return
    if folder != root:
        _make_folders(folder.parent, root)
    folder.mkdir(parents=folder == root, exist_ok=True, mode=0o700)
    _sync_folder(folder.parent)


def _write_durably(path: Path, data: bytes) -> datetime:
    """Write and sync a new file; answer the file system's clock."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
