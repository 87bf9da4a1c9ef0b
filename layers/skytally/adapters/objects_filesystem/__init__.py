"""Objects as files: a create is a hard link, in which exactly one of any number of processes succeeds.

::

    <root>/.tmp/<random>        being written; files of killed processes are removed after an hour
    <root>/<key>                whole and durable from the moment it has this name
    <root>/.store               the marker of a store: see marker.py

link(2) fails with EEXIST for all but one caller, on every POSIX file system, including NFS. The file and every folder
above it are synced before the create returns, a folder whose name is known to be durable once. A delete removes folders
that it leaves empty; a concurrent create makes them again before it links.

The first create makes a folder a store. An empty folder is no store: it is an unmounted disk or a new folder, and only
a create may say which. So a get that finds nothing there raises Unavailable. Once a process has seen the marker, all
calls raise Unavailable while it is not there.
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

from skytally.adapters.objects_filesystem import durable
from skytally.adapters.objects_filesystem.marker import Marker
from skytally.core.errors import NotFound, Unavailable
from skytally.core.ports import OBJECT_KEY, Created, DiskUsage, Exists, checked_key, checked_prefix

LEFT_OVER_AFTER = timedelta(hours=1)
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FilesystemObjects:
    """The objects port on a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / ".tmp"
        self._folders = durable.Folders(root)
        self._marker = Marker(root, self._folders)
        self._tidied_at = datetime.min.replace(tzinfo=UTC)

    def make(self) -> None:
        """Make the folder a store, if it is none; raise Unavailable."""
        with _answering("written"):
            if not self._marker.is_there():
                self._marker.make(self._temporary)

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Write a temporary file, then link it to its name if that is free; see the port."""
        return self.create_streamed(key, io.BytesIO(data))

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create from a body that is read into a temporary file first; see the port."""
        target = self._root / checked_key(key)
        with _answering("written"), self._written(body) as (temporary, stored_at):
            self._tidy(stored_at)
            is_linked = self._folders.link(temporary, target)
            self._marker.is_there()  # Else the name is in the folder of a disk that went meanwhile.
        return Created(stored_at) if is_linked else Exists()

    def get(self, key: str) -> bytes:
        """Return a whole file; see the port."""
        path = self._root / checked_key(key)
        with _answering("read"):
            try:
                return path.read_bytes()
            except ABSENT:
                self._check_absence()
            try:
                return path.read_bytes()  # The disk may have come back before the check.
            except ABSENT:
                raise NotFound("there is no such object") from None

    def delete(self, key: str) -> None:
        """Remove a file, and folders that are empty then; see the port."""
        path = self._root / checked_key(key)
        with _answering("written"):
            try:
                path.unlink()
            except ABSENT:
                self._check_absence()
            with contextlib.suppress(*ABSENT):
                durable.sync_folder(path.parent)
                durable.remove_empty(path.parent, self._root)

    def list(self, prefix: str) -> Iterator[str]:
        """Return keys in order, from the folders that match the prefix; see the port."""
        folder, slash, _ = checked_prefix(prefix).rpartition("/")
        with _answering("read"):
            self._marker.is_there()
            yield from self._walk(folder + slash, prefix)
            self._marker.is_there()

    def rooms(self) -> Sequence[DiskUsage]:
        """Return the folder's disk; none before the first write."""
        with _answering("read"):
            self._marker.is_there()
            try:
                disk = shutil.disk_usage(self._root)
            except FileNotFoundError:
                return []
        return [DiskUsage.of_disk("the disk of the objects", disk.free, disk.total)]

    def versioned(self) -> bool:
        """Return False: a removed file cannot be opened by its name any more."""
        return False

    def _check_absence(self) -> None:
        """Raise Unavailable where nothing can be called absent: the folder is not the store's, or is no store."""
        if not self._marker.is_there() and next(self._walk("", ""), None) is None:
            raise Unavailable("the object store's folder is empty: is its disk mounted?")

    def _walk(self, path: str, prefix: str) -> Iterator[str]:
        for key in (path + name for name in _names(self._root / path)):
            if key.endswith("/") and key.startswith(prefix[: len(key)]):
                yield from self._walk(key, prefix)
            elif key.startswith(prefix) and OBJECT_KEY.fullmatch(key):
                yield key

    @contextlib.contextmanager
    def _written(self, body: BinaryIO) -> Iterator[tuple[Path, datetime]]:
        """Write a temporary file, yield its path and the file system's time, and remove it at the end."""
        self.make()
        self._temporary.mkdir(exist_ok=True, mode=0o700)
        path = self._temporary / secrets.token_hex(16)
        try:
            yield path, durable.write(path, body)
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
