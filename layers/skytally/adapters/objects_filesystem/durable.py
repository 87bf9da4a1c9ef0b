"""Files and folders that are durable, and whole, once a call has returned; readable by their owner only."""

import contextlib
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

# A try fails only by a delete between two calls, of which a busy machine may have many.
FOLDER_TRIES = 1_000


def write(path: Path, body: BinaryIO) -> datetime:
    """Write and sync a new file; return the file system's time."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(body, file)
        file.flush()
        os.fsync(file.fileno())
        return datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)


def link(temporary: Path, target: Path, root: Path) -> bool:
    """Link a file to its name, or return False if the name is taken; a removed folder is made again, the root never."""
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
        sync_folders(target.parent, root)
        return True
    raise FileNotFoundError(target.parent)


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


def sync_folders(folder: Path, root: Path) -> None:
    """Make a name durable, and the folders' above it: another process may have made those and not synced them yet."""
    with contextlib.suppress(FileNotFoundError):  # deleted since: there is nothing left to make durable
        while folder != root:
            sync_folder(folder)
            folder = folder.parent
        sync_folder(root)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
