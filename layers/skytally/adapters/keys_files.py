"""Keys as files, as OpenFaaS mounts its secrets: `<purpose>-<yyyymmddhhmmss>` in UTC, each 64 hex digits.

A new key is accepted by every process as soon as it reads the folder again, but used only `ACCEPTED_BEFORE_USE` after the time in its
name: no process ever meets what it cannot open. Older keys go on opening what they made. A folder that changed is read again.
"""

import itertools
import os
import re
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from skytally.errors import Unavailable
from skytally.keyring import Key, Keyring

PURPOSES = ("master", "wrapping", "token")
ACCEPTED_BEFORE_USE = timedelta(minutes=5)
# Claims live 7 days at most and tokens 366; a key that was replaced so long ago opens nothing any more.
NEEDED_AFTER_USE = {"master": timedelta(days=8), "wrapping": timedelta(days=8), "token": timedelta(days=367)}
_NAME = re.compile(r"(master|wrapping|token)-([0-9]{14})")
_HEX_KEY = re.compile(r"[0-9a-f]{64}")


class KeyFiles:
    """A folder of key files."""

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder, self._clock = folder, clock
        self._lock = threading.Lock()
        self._read: tuple[int, dict[str, list[Key]]] | None = None

    def keyring(self) -> Keyring:
        """Answer all keys, the one in use first; raises Unavailable where a purpose has none."""
        with self._lock:
            found = self._files()
        if not all(found.values()):
            raise _missing()
        return Keyring(**{purpose: tuple(_in_use_first(keys, self._clock())) for purpose, keys in found.items()})

    def _files(self) -> dict[str, list[Key]]:
        """Read the folder where it has changed since the last time."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            raise _missing() from None
        if self._read is None or self._read[0] != changed:
            self._read = (changed, self._load())
        return self._read[1]

    def _load(self) -> dict[str, list[Key]]:
        """Read every key file, newest first."""
        found: dict[str, list[Key]] = {purpose: [] for purpose in PURPOSES}
        for path in sorted(self._folder.iterdir(), reverse=True):
            if _NAME.fullmatch(path.name):
                found[path.name.partition("-")[0]].append(Key(path.name, _secret(path)))
        return found

    def add(self, purpose: str) -> Path:
        """Make a new key of a purpose, mode 0600; of two made in one second, the later is named by the next."""
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
        """Make the first key of each purpose that has none; answer the new ones."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        have = {name.partition("-")[0] for name in names if _NAME.fullmatch(name)}
        return [self.add(purpose) for purpose in PURPOSES if purpose not in have]

    def retired(self, purpose: str) -> list[Path]:
        """Name the keys that opened their last thing: replaced, in use, for longer than anything lives that they made."""
        keys, now = self._files()[purpose], self._clock()
        replaced = itertools.pairwise(keys)
        return [self._folder / old.name for new, old in replaced if now > made_at(new) + ACCEPTED_BEFORE_USE + NEEDED_AFTER_USE[purpose]]

    def older_than(self, path: Path) -> list[Path]:
        """Name the keys of the same purpose that a new one replaces."""
        purpose = path.name.partition("-")[0]
        return [self._folder / key.name for key in self._files()[purpose] if key.name < path.name]


def made_at(key: Key) -> datetime:
    """Read the time in a key's name."""
    return datetime.strptime(key.name.partition("-")[2], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def _in_use_first(keys: list[Key], now: datetime) -> list[Key]:
    """Put the newest key that everybody accepts by now in front; of keys that are all too new, the oldest."""
    used = next((key for key in keys if made_at(key) + ACCEPTED_BEFORE_USE <= now), keys[-1])
    return [used, *(key for key in keys if key is not used)]


def _secret(path: Path) -> bytes:
    text = path.read_text().strip()
    if not _HEX_KEY.fullmatch(text):
        raise Unavailable(f"key file {path.name} does not hold 64 hex digits: put it back or remove it")
    return bytes.fromhex(text)


def _missing() -> Unavailable:
    return Unavailable("keys are missing: run `skytally keys init`, or mount the secrets at SKYTALLY_KEYS")
