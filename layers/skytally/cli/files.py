"""Files of the command line: private files with secrets, and text files that a person names."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from skytally.core.errors import Malformed


def text_of(path: Path, advice: str) -> str:
    """Return a file's text; raise Malformed, with advice, where it has none."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise Malformed(f"cannot read {path} ({error.strerror}): {advice}") from None
    except UnicodeDecodeError:
        raise Malformed(f"{path} is no text: {advice}") from None


@contextlib.contextmanager
def private_file(path: Path | None) -> Iterator[TextIO]:
    """Open a private file that gets its name whole at the end or not at all; standard output for None.

    Raise Malformed at once where nothing can be written, so that nobody asks for a secret that cannot be kept.
    """
    if path is None:
        yield sys.stdout
        return
    if path.is_dir():
        raise Malformed(f"cannot write {path}: it is a folder")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with _writing(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
        with _writing(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Malformed(f"cannot write {path}: {error.strerror}") from None
