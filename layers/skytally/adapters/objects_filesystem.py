"""Objects as files: a create is a hard link, in which exactly one of any number of processes succeeds.

::

    <root>/.tmp/<random>        being written; files of killed processes are removed after an hour
    <root>/<key>                whole and durable from the moment it has this name

link(2) fails with EEXIST for all but one caller, on every POSIX file system, including NFS. The file and every folder
above it are synced before the create returns. A delete removes folders that it leaves empty; a concurrent create makes
them again before it links.
"""

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from skytally.core.errors import NotFound, Unavailable
from skytally.core.ports import OBJECT_KEY, Created, DiskUsage, Exists, checked_key, checked_prefix

LEFT_OVER_AFTER = timedelta(hours=1)
# A try fails only by a delete between two calls, of which a busy machine may have many.
FOLDER_TRIES = 1_000
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FilesystemObjects:
    """The objects port on a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        self._tidied_at = datetime.min.replace(tzinfo=UTC)

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Write a temporary file, then link it to its name if that is free; see the port."""
        return self.create_streamed(key, io.BytesIO(data))

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create from a body that is read into a temporary file first; see the port."""
        target = self._root / checked_key(key)
        with _answering("written"), self._written(body) as (temporary, stored_at):
            self._tidy(stored_at)
            if not _link(temporary, target, self._root):
                return Exists()
            _sync_folders(target.parent, self._root)
        return Created(stored_at)

    def get(self, key: str) -> bytes:
        """Return a whole file; see the port."""
        with _answering("read"):
            try:
                return (self._root / checked_key(key)).read_bytes()
            except ABSENT:
                raise NotFound("there is no such object") from None

    def delete(self, key: str) -> None:
        """Remove a file, and folders that are empty then; see the port."""
        path = self._root / checked_key(key)
        with _answering("written"), contextlib.suppress(*ABSENT):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)
            _remove_empty(path.parent, self._root)

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys in order, from the folders that match the prefix; see the port."""
        folder, slash, _ = checked_prefix(prefix).rpartition("/")
        with _answering("read"):
            yield from self._walk(folder + slash, prefix)

    def rooms(self) -> Sequence[DiskUsage]:
        """Return the folder's disk; none before the first write."""
        with _answering("read"):
            try:
                disk = shutil.disk_usage(self._root)
            except FileNotFoundError:
                return []
        return [DiskUsage.of_disk("the disk of the objects", disk.free, disk.total)]

    def versioned(self) -> bool:
        """Return False: a removed file cannot be opened by its name any more."""
        return False

    def _walk(self, path: str, prefix: str) -> Iterator[str]:
        for key in (path + name for name in _names(self._root / path)):
            if key.endswith("/") and key.startswith(prefix[: len(key)]):
                yield from self._walk(key, prefix)
            elif key.startswith(prefix) and OBJECT_KEY.fullmatch(key):
                yield key

    @contextlib.contextmanager
    def _written(self, body: BinaryIO) -> Iterator[tuple[Path, datetime]]:
        """Write a temporary file, yield its path and the file system's time, and remove it at the end."""
        _make_folders(self._temporary, self._root)
        path = self._temporary / secrets.token_hex(16)
        try:
            yield path, _write_durably(path, body)
        finally:
            path.unlink(missing_ok=True)

    def _tidy(self, now: datetime) -> None:
        """Remove, once an hour, temporary files of killed processes."""
        if now - self._tidied_at < LEFT_OVER_AFTER:
            return
        self._tidied_at = now
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < (now - LEFT_OVER_AFTER).timestamp():
                    path.unlink()


@contextlib.contextmanager
def _answering(done: str) -> Iterator[None]:
    """Raise Unavailable for the operating system's errors in the block."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the object folder cannot be {done}: check SKYTALLY_OBJECTS and its disk") from error


def _names(folder: Path) -> list[str]:
    """Return a folder's names in key order, folders with a slash; none of a missing folder, and none with a dot."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith("."))
    except ABSENT:
        return []


def _link(temporary: Path, target: Path, root: Path) -> bool:
    """Link a file to its name, or return False if the name is taken; a removed folder is made again."""
    for _ in range(FOLDER_TRIES):
        try:
            _make_folders(target.parent, root)
        except (FileExistsError, FileNotFoundError):  # it was there, and was removed before it was looked at
            continue
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except FileNotFoundError:
            continue
        return True
    raise FileNotFoundError(target.parent)


def _make_folders(folder: Path, root: Path) -> None:
    """Make the folders down to one, readable by their owner only."""
    if folder.is_dir():
        return
    if folder == root:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync_folder(folder.parent)
    else:
        _make_folders(folder.parent, root)
        folder.mkdir(exist_ok=True, mode=0o700)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove folders upwards until one is in use: removing is refused for those, at any moment."""
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _write_durably(path: Path, body: BinaryIO) -> datetime:
    """Write and sync a new file; answer the file system's clock."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(body, file)
        file.flush()
        os.fsync(file.fileno())
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def _sync_folders(folder: Path, root: Path) -> None:
    """Make a name durable, and the folders' above it: another process may have made those and not synced them yet."""
    with contextlib.suppress(FileNotFoundError):  # deleted since: there is nothing left to make durable
        while folder != root:
            _sync_folder(folder)
            folder = folder.parent
        _sync_folder(root)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
