"""Keys as files, as OpenFaaS mounts its secrets: `<purpose>-<yyyymmddhhmmss>` in UTC, each 64 hex digits.

A process accepts a new key within a second, but uses it only `ACCEPTED_BEFORE_USE` after it can read the file.
By then every other process has the key too, even on a platform that changes its functions one after another. All
processes must have a key `HANDED_OUT_WITHIN` after the time in its name. From then on it is used at once, so that a
process that starts later does not use an older key. Older keys still verify and decrypt what they made, and are retired
after the last of it has expired.
"""

import itertools
import os
import re
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from stat import S_ISREG

from msgspec import Struct

from skytally.access.keyring import Key, Keyring
from skytally.core.errors import Misconfigured, Unavailable

HOW_TO_BEGIN = "run `skytally keys init`, or mount the secrets there; SKYTALLY_KEYS names the folder"
PURPOSES = ("master", "wrapping", "token")
ACCEPTED_BEFORE_USE = timedelta(minutes=5)
HANDED_OUT_WITHIN = timedelta(days=1)
# How long things made by a key are valid: claims 7 days, tokens 366; and a day more for clocks and sweeps.
OPENS_FOR = {"master": timedelta(days=8), "wrapping": timedelta(days=8), "token": timedelta(days=367)}
_NAME = re.compile(r"(master|wrapping|token)-([0-9]{14})")
_HEX_KEY = re.compile(rb"[0-9a-f]{64}")


class KeyFile(Struct, frozen=True):
    """A key, when it was made, and when its use begins."""

    key: Key
    made_at: datetime
    used_from: datetime


class KeyFiles:
    """A folder of key files."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._odd: list[str] = []
        self._read: dict[str, list[KeyFile]] = {}

    def keyring(self) -> Keyring:
        """Return all keys, the one in use first; raise Misconfigured for a purpose without a key."""
        by_purpose = self.files()
        missing = [purpose for purpose, files in by_purpose.items() if not files]
        if missing:
            raise _unusable(self._folder, f"there is none for {' and '.join(missing)}: {HOW_TO_BEGIN}")
        return Keyring(**{purpose: tuple(_in_use_first(files, self._clock())) for purpose, files in by_purpose.items()})

    def files(self) -> dict[str, list[KeyFile]]:
        """Return the keys of each purpose, newest first; read them again after a change of the folder.

        Only regular files are read.
        """
        with self._lock:
            try:
                names = sorted(
                    (path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True
                )
                if names != self._names or not self._read:
                    regular = [name for name in names if S_ISREG((self._folder / name).stat().st_mode)]
                    self._read = {
                        purpose: [_file(self._folder / n) for n in regular if n.startswith(purpose)]
                        for purpose in PURPOSES
                    }
                    self._names, self._odd = names, [name for name in names if name not in regular]
            except OSError as error:
                raise _cannot_read(self._folder, error) from None
            return self._read

    def odd(self) -> list[str]:
        """Return the names of key files that are no regular files: reading a pipe would block for ever."""
        self.files()
        return self._odd

    def add(self, purpose: str) -> Path:
        """Create a key of a purpose, mode 0600, and return its path; a taken second in a name becomes the next one."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        moment = self._clock().astimezone(UTC)
        while (path := self._folder / f"{purpose}-{moment:%Y%m%d%H%M%S}").exists():
            moment += timedelta(seconds=1)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink()
        return path

    def init(self) -> list[Path]:
        """Create the first key of each purpose without one; return the new paths."""
        existing = self.files() if self._folder.is_dir() else {}
        return [self.add(purpose) for purpose in PURPOSES if not existing.get(purpose)]

    def retired(self, purpose: str) -> list[Path]:
        """Return the keys that are not needed any more: everything that they made has expired."""
        files, now = self.files()[purpose], self._clock()
        return [
            self._folder / file.key.name
            for file in files
            if (end := needed_until(file, files)) is not None and end < now
        ]

    def older_than(self, path: Path) -> list[Path]:
        """Return the keys of the same purpose that a new one replaces."""
        purpose = path.name.partition("-")[0]
        return [self._folder / file.key.name for file in self.files()[purpose] if file.key.name < path.name]


def needed_until(file: KeyFile, files: list[KeyFile]) -> datetime | None:
    """Return when everything that a key may have made has expired; None while there is no newer key."""
    purpose = file.key.name.partition("-")[0]
    newer = (new.made_at for new, old in itertools.pairwise(files) if old is file)
    return next((made_at + HANDED_OUT_WITHIN + OPENS_FOR[purpose] for made_at in newer), None)


def _in_use_first(files: list[KeyFile], now: datetime) -> list[Key]:
    """Return the keys with the newest one that all processes accept first; if all are too new, the oldest first."""
    in_use = next((file.key for file in files if file.used_from <= now), files[-1].key)
    return [in_use, *(file.key for file in files if file.key is not in_use)]


def _file(path: Path) -> KeyFile:
    text = path.read_bytes().strip()
    if not _HEX_KEY.fullmatch(text):
        raise Unavailable(f"key file {path.name} does not hold 64 hex digits: put it back or remove it")
    made_at = _time_of(path.name)
    came_at = datetime.fromtimestamp(path.stat().st_ctime, UTC)
    used_from = max(made_at, min(came_at, made_at + HANDED_OUT_WITHIN)) + ACCEPTED_BEFORE_USE
    return KeyFile(Key(path.name, bytes.fromhex(text.decode())), made_at, used_from)


def _time_of(name: str) -> datetime:
    try:
        return datetime.strptime(name.partition("-")[2], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise Unavailable(f"key file {name} has no time in its name: remove it") from None


def _unusable(folder: Path, problem: str) -> Misconfigured:
    """Return the error of unusable keys: callers get no path, and only the operator can correct it."""
    return Misconfigured(
        "the server's keys cannot be used: tell its operator, and ask again", reason=f"the keys in {folder}: {problem}"
    )


def _cannot_read(folder: Path, error: OSError) -> Misconfigured:
    file = f"{Path(error.filename).name}: " if error.filename and Path(error.filename) != folder else ""
    advice = "let the user that runs this read them" if isinstance(error, PermissionError) else HOW_TO_BEGIN
    return _unusable(folder, f"{file}{error.strerror}: {advice}")
