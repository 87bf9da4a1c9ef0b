"""Site data in a file or an object, read again when it changes: a deny list must count at once."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from skytally import cloud
from skytally.cloud import Site
from skytally.errors import NotFound, Unavailable
from skytally.ports import Objects

OBJECT_KEPT = timedelta(seconds=30)


class SiteData:
    """Where the site data lie: nowhere, at a path (looked at with every request), or in an object (read every half minute)."""

    def __init__(self, where: str, open_objects: Callable[[str], Objects], clock: Callable[[], datetime]) -> None:
        self._where, self._open_objects, self._clock = where, open_objects, clock
        self._lock = threading.Lock()
        self._read: tuple[object, Site] = (None, Site())

    def site(self) -> Site:
        """Answer the data as they are; raises Unavailable where they cannot be read, Malformed where they make no sense."""
        if not self._where:
            return self._read[1]
        with self._lock:
            mark = self._mark()
            if mark != self._read[0]:
                self._read = (mark, cloud.parse(self._text()))
            return self._read[1]

    def _mark(self) -> object:
        """Answer what changes when the data may have changed."""
        if "://" in self._where:
            return self._clock().timestamp() // OBJECT_KEPT.total_seconds()
        try:
            return Path(self._where).stat().st_mtime_ns
        except OSError:
            raise Unavailable("the site data cannot be read: check SKYTALLY_CLOUDS") from None

    def _text(self) -> str:
        if "://" not in self._where:
            return Path(self._where).read_text()
        folder, _, name = self._where.rpartition("/")
        try:
            return self._open_objects(folder).get(name).decode()
        except NotFound:
            raise Unavailable("the site data are not there: check SKYTALLY_CLOUDS") from None
