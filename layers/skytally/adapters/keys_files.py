"""Keys as files, as OpenFaaS mounts its secrets: `<purpose>-<yyyymmddhhmmss>`, each 64 hex digits.

The newest of a purpose is in use; the older ones still open what they made. A folder that changed is read again.
"""

import os
import re
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

from skytally.errors import Unavailable
from skytally.keyring import Key, Keyring

PURPOSES = ("master", "wrapping", "token")
_NAME = re.compile(r"(master|wrapping|token)-[0-9]{14}")
_HEX_KEY = re.compile(r"[0-9a-f]{64}")


class KeyFiles:
    """A folder of key files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._read: tuple[int, Keyring] | None = None

    def keyring(self) -> Keyring:
        """Answer all keys, read anew when the folder has changed; raises Unavailable where a purpose has none."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            raise _missing() from None
        with self._lock:
            if self._read is None or self._read[0] != changed:
                self._read = (changed, self._load())
            return self._read[1]

    def _load(self) -> Keyring:
        found: dict[str, list[Key]] = {purpose: [] for purpose in PURPOSES}
        for path in sorted(self._folder.iterdir(), reverse=True):
            if _NAME.fullmatch(path.name):
                found[path.name.partition("-")[0]].append(Key(path.name, _secret(path)))
        if not all(found.values()):
            raise _missing()
        return Keyring(**{purpose: tuple(keys) for purpose, keys in found.items()})

    def add(self, purpose: str, now: datetime) -> Path:
        """Make a new key of a purpose, in use from now on, mode 0600."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{purpose}-{now.astimezone(UTC):%Y%m%d%H%M%S}"
        temporary = path.with_name(f".{path.name}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        temporary.unlink()
        return path

    def init(self, now: datetime) -> list[Path]:
        """Make the first key of each purpose that has none; answer the new ones."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        have = {name.partition("-")[0] for name in names if _NAME.fullmatch(name)}
        return [self.add(purpose, now) for purpose in PURPOSES if purpose not in have]


def _secret(path: Path) -> bytes:
    text = path.read_text().strip()
    if not _HEX_KEY.fullmatch(text):
        raise Unavailable(f"key file {path.name} does not hold 64 hex digits: put it back or remove it")
    return bytes.fromhex(text)


def _missing() -> Unavailable:
    return Unavailable("keys are missing: run `skytally keys init`, or mount the secrets at SKYTALLY_KEYS")
