"""Objects as files: a create is a hard link, which exactly one of any number of processes makes.

::

    <root>/.tmp/<random>        being written; what killed processes left goes after an hour
    <root>/<key>                whole and durable from the moment it has this name

link(2) fails with EEXIST for all but one caller, on every POSIX file system (NFS included, where O_EXCL once was not).
The file and every folder above it are synced before the create is answered. Folders that a delete leaves empty go too;
a create that meets this makes them again before it has linked anything.
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
# Each try loses only to a delete that falls between two calls; a busy machine can make many of those fall.
FOLDER_TRIES = 1_000
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FilesystemObjects:
    """The objects port on a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        self._tidied_at = datetime.min.replace(tzinfo=UTC)

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Write a temporary file whole, then give it the name if nobody has it."""
        return self.create_streamed(key, io.BytesIO(data))

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create while the body is read into a temporary file that has no name yet."""
        target = self._root / checked_key(key)
        with _answering("written"), self._written(body) as (temporary, stored_at):
            self._tidy(stored_at)
            if not _link(temporary, target, self._root):
                return Exists()
            _sync_folders(target.parent, self._root)
        return Created(stored_at)

    def get(self, key: str) -> bytes:
        """Read a file whole."""
        with _answering("read"):
            try:
                return (self._root / checked_key(key)).read_bytes()
            except ABSENT:
                raise NotFound("there is no such object") from None

    def delete(self, key: str) -> None:
        """Remove a file, and the folders that this leaves empty."""
        path = self._root / checked_key(key)
        with _answering("written"), contextlib.suppress(*ABSENT):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)
            _remove_empty(path.parent, self._root)

    def list(self, prefix: str) -> Iterator[str]:
        """Walk the folders in key order, entering only those that the prefix allows."""
        folder, slash, _ = checked_prefix(prefix).rpartition("/")
        with _answering("read"):
            yield from self._walk(folder + slash, prefix)

    def rooms(self) -> Sequence[DiskUsage]:
        """Return the disk that the folder lies on; none before anything was written."""
        with _answering("read"):
            try:
                disk = shutil.disk_usage(self._root)
            except FileNotFoundError:
                return []
        return [DiskUsage.of_disk("the disk of the objects", disk.free, disk.total)]

    def versioned(self) -> bool:
        """Return no: a file that is removed is gone for everybody who opens it by name."""
        return False

    def _walk(self, path: str, prefix: str) -> Iterator[str]:
        for key in (path + name for name in _names(self._root / path)):
            if key.endswith("/") and key.startswith(prefix[: len(key)]):
                yield from self._walk(key, prefix)
            elif key.startswith(prefix) and OBJECT_KEY.fullmatch(key):
                yield key

    @contextlib.contextmanager
    def _written(self, body: BinaryIO) -> Iterator[tuple[Path, datetime]]:
        """Write a temporary file, and remove it whatever becomes of it; yields its path and the file system's clock."""
        _make_folders(self._temporary, self._root)
        path = self._temporary / secrets.token_hex(16)
        try:
            yield path, _write_durably(path, body)
        finally:
            path.unlink(missing_ok=True)

    def _tidy(self, now: datetime) -> None:
        """Remove, once an hour, what killed processes left half made."""
        if now - self._tidied_at < LEFT_OVER_AFTER:
            return
        self._tidied_at = now
        for path in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < (now - LEFT_OVER_AFTER).timestamp():
                    path.unlink()


@contextlib.contextmanager
def _answering(done: str) -> Iterator[None]:
    """Turn what the operating system refuses into an outage."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the object folder cannot be {done}: check SKYTALLY_OBJECTS and its disk") from error


def _names(folder: Path) -> list[str]:
    """List a folder in key order, folders with their slash;
    one that is gone has none, and what begins with a dot is not an object.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name + "/" * entry.is_dir() for entry in entries if not entry.name.startswith("."))
    except ABSENT:
        return []


def _link(temporary: Path, target: Path, root: Path) -> bool:
    """Give a file its name, or say that somebody has it; a folder that a delete removed meanwhile is made again."""
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
