"""The marker of a store's folder, without which an unmounted disk would look like a store with nothing in it."""

import io
import secrets
from pathlib import Path

from skytally.adapters.objects_filesystem import durable
from skytally.core import clock
from skytally.core.errors import Unavailable


class Marker:
    """A file `.store` with the time at which the folder became a store, and a random number.

    Of two markers the older is the store's: the younger was made while the store's disk was away.
    """

    def __init__(self, root: Path, folders: durable.Folders) -> None:
        self._root, self._folders, self._path = root, folders, root / ".store"
        self._seen: bytes | None = None

    def is_there(self) -> bool:
        """Return whether the folder has a marker; raise Unavailable where this process has seen another, older one."""
        seen = self._seen  # From before the marker is read: another thread may make it in between.
        try:
            marker: bytes | None = self._path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            marker = None
        if seen is None and marker is None:
            return False
        if marker is None or (seen is not None and marker > seen):
            raise Unavailable("the object store's folder is not the one that was opened: is its disk mounted?")
        self._seen = marker
        return True

    def make(self, temporary: Path) -> None:
        """Make the folder, its folder for temporary files, and the marker, unless another process was first."""
        durable.make_root(self._root)
        temporary.mkdir(exist_ok=True, mode=0o700)
        path = temporary / secrets.token_hex(16)
        try:
            durable.write(path, io.BytesIO(f"{clock.now():%Y%m%d%H%M%S%f}-{secrets.token_hex(8)}\n".encode()))
            self._folders.link(path, self._path)
        finally:
            path.unlink(missing_ok=True)
        self.is_there()
