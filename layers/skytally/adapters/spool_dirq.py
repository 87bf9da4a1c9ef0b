"""A spool of messages as `ssmsend` reads it: dirq's simple queue, a folder of folders with a file for each message.

A folder's name is the minute of its messages, eight hexadecimal digits of UNIX seconds; a file's their moment: eight of
seconds, five of microseconds, and one. A reader takes no file of another name.
"""

import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from skytally.core.errors import Malformed

GRANULARITY_SECONDS = 60


def add(spool: Path, messages: Sequence[str], now: datetime) -> list[Path]:
    """Write messages into a spool, to be sent in order, and return their files; raise Malformed if that fails.

    Each appears whole and durable or not at all: after a crash the spool holds the first of them, and adding all of
    them again is right.
    """
    seconds = int(now.timestamp())
    folder = spool / f"{seconds - seconds % GRANULARITY_SECONDS:08x}"
    files: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, message in enumerate(messages):
            files.append(_add(folder, message, now + timedelta(microseconds=number)))
        for path in (folder, spool):
            _make_durable(path)
    except OSError as error:
        raise Malformed(f"cannot write {spool}: {error.strerror}") from None
    return files


def _add(folder: Path, message: str, at: datetime) -> Path:
    temporary = folder / f"{_name(at)}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("x", encoding="ascii") as file:
            file.write(message)
            file.flush()
            os.fsync(file.fileno())
        return _linked(temporary, at)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(temporary: Path, at: datetime) -> Path:
    """Give a file the first free name from a moment on; a rename would replace the message that has it."""
    while True:
        path = temporary.with_name(_name(at))
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            at += timedelta(microseconds=1)
        else:
            return path


def _name(at: datetime) -> str:
    return f"{int(at.timestamp()):08x}{at.microsecond:05x}{0:x}"


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
