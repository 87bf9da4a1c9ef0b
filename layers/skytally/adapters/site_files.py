"""Site data in a file or an object, read again after a change: a deny list must count soon."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from skytally.core import logs, site_data
from skytally.core.errors import Misconfigured, NotFound, Unavailable
from skytally.core.ports import Objects
from skytally.core.site_data import BrokenSiteData, Site, SiteFault

OBJECT_KEPT = timedelta(seconds=30)
CANNOT_READ = "cannot be read"
log = logging.getLogger("skytally")


class SiteData:
    """The place of the site data: none, a path (checked with every call), or an object (read every half minute).

    Invariant: what was read last and made sense is what counts, its deny list too, until something newer makes sense.
    """

    def __init__(self, where: str, open_objects: Callable[[str], Objects], clock: Callable[[], datetime]) -> None:
        self._where, self._open_objects, self._clock = where, open_objects, clock
        self._is_object = "://" in where
        self._lock = threading.Lock()
        self._seen: object = None
        self._site = None if where else Site()
        self._fault: SiteFault | None = None

    def site(self) -> Site:
        """Return the newest valid data; raise Misconfigured if there were none since this process began."""
        self._look()
        site, fault = self._site, self._fault
        if site is None:
            reason = fault.reason if fault else CANNOT_READ
            raise Misconfigured("the server's site data are broken: tell its operator, and ask again", reason=reason)
        return site

    def fault(self) -> SiteFault | None:
        """Return the fault of the current data, or None."""
        self._look()
        return self._fault

    def _look(self) -> None:
        """Read changed data; with older data a caller does not wait for another thread that is reading."""
        if not self._where or not self._lock.acquire(blocking=self._site is None or not self._is_object):
            return
        try:
            state = self._state()
            if state != self._seen:
                self._seen = state
                self._read()
        finally:
            self._lock.release()

    def _state(self) -> object:
        """Return a value that changes with the data."""
        if self._is_object:
            return self._clock().timestamp() // OBJECT_KEPT.total_seconds()
        try:
            file = Path(self._where).stat()
        except (OSError, ValueError):
            return CANNOT_READ
        return file.st_mtime_ns, file.st_ctime_ns, file.st_size, file.st_ino

    def _read(self) -> None:
        try:
            self._site, self._fault = site_data.parse(self._text()), None
        except BrokenSiteData as broken:
            self._note(broken)

    def _note(self, broken: BrokenSiteData) -> None:
        """Keep a fault with its beginning, and log it once."""
        previous = self._fault
        self._fault = SiteFault(previous.since if previous else self._clock(), broken.place, broken.reason)
        if previous is None or previous.reason != broken.reason:
            which = "there are no older ones" if self._site is None else "the last good ones count"
            log.error(logs.Fields(message=f"the site data are broken, {which}: {broken.reason}"))

    def _text(self) -> str:
        """Return the file's text without a byte order mark; raise BrokenSiteData if there is none."""
        try:
            return (self._object() if self._is_object else Path(self._where).read_bytes()).decode("utf-8-sig")
        except Misconfigured as error:
            raise BrokenSiteData(CANNOT_READ, error.reason) from None
        except (NotFound, Unavailable) as error:
            raise BrokenSiteData(CANNOT_READ, error.message) from None
        except UnicodeDecodeError:
            raise BrokenSiteData(CANNOT_READ, "it is not UTF-8") from None
        except (OSError, ValueError) as error:
            raise BrokenSiteData(
                CANNOT_READ, f"check SKYTALLY_CLOUDS ({getattr(error, 'strerror', None) or 'no such name'})"
            ) from None

    def _object(self) -> bytes:
        folder, _, name = self._where.rpartition("/")
        return self._open_objects(folder).get(name)
