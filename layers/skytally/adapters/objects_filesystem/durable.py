"""Files and folders that are durable, and whole, once a call has returned; readable by their owner only."""

import contextlib
import os
import shutil
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

# A try fails only by a delete between two calls, of which a busy machine may have many.
FOLDER_TRIES = 1_000
MOST_KNOWN = 32


def write(path: Path, body: BinaryIO) -> datetime:
    """Write and sync a new file; return the file system's time."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(body, file)
        file.flush()
        os.fsync(file.fileno())
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def _make_folders(folder: Path, root: Path) -> None:
    """Make the folders below the root down to one."""
    if folder == root or folder.is_dir():
        return
    _make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True, mode=0o700)


def make_root(root: Path) -> None:
    """Make a folder and those above it."""
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync_folder(root.parent)


def remove_empty(folder: Path, root: Path) -> None:
    """Remove folders upwards until one is in use: removing is refused for those, at any moment."""
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Folders:
    """The folders below a root, and which of their names are known to be durable.

    Invariant: a folder is known by an open descriptor, so its inode cannot become another folder's. It is known only
    after its name and all names above it were synced while it was there; and they stay, as long as the folder does,
    since only an empty folder can be removed. So a new name in a known folder needs that folder's sync alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._known: OrderedDict[Path, int] = OrderedDict()

    def link(self, temporary: Path, target: Path) -> bool:
        """Link a file to its name durably, or return False if the name is taken.

        A removed folder is made again, the root never.
        """
        for _ in range(FOLDER_TRIES):
            try:
                _make_folders(target.parent, self._root)
            except (FileExistsError, FileNotFoundError):  # it was there, and was removed before it was looked at
                continue
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            except FileNotFoundError:
                continue
            self._sync(target.parent)
            return True
        raise FileNotFoundError(target.parent)

    def _sync(self, folder: Path) -> None:
        """Make the names in a folder durable, and those of the folders above it:
        another process may have made those and not synced them yet.
        """
        with contextlib.suppress(FileNotFoundError):  # deleted since: there is nothing left to make durable
            sync_folder(folder)
            passed: list[tuple[Path, int]] = []
            try:
                while folder != self._root and not self._is_known(folder):
                    passed.append((folder, os.open(folder, os.O_RDONLY | os.O_DIRECTORY)))
                    folder = folder.parent
                    sync_folder(folder)
                while passed:
                    self._remember(*passed.pop())
            finally:
                for _, descriptor in passed:
                    os.close(descriptor)

    def _is_known(self, folder: Path) -> bool:
        with self._lock:
            descriptor = self._known.get(folder)
            if descriptor is None:
                return False
            self._known.move_to_end(folder)
            return _is_at(folder, descriptor)

    def _remember(self, folder: Path, descriptor: int) -> None:
        """Keep a folder that is still what the descriptor is of; close the descriptor otherwise."""
        with self._lock:
            forgotten = [descriptor]
            if _is_at(folder, descriptor):
                forgotten = [self._known.pop(folder)] if folder in self._known else []
                self._known[folder] = descriptor
            if len(self._known) > MOST_KNOWN:
                forgotten.append(self._known.popitem(last=False)[1])
            for one in forgotten:
                os.close(one)


def _is_at(folder: Path, descriptor: int) -> bool:
    """Return whether a descriptor's folder is known to have this name still."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(descriptor))
    except OSError:
        return False
