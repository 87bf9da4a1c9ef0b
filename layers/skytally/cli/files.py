"""Files that hold a secret."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from skytally.errors import Malformed


@contextlib.contextmanager
def private_file(path: Path | None) -> Iterator[TextIO]:
    """Open a file that only its owner reads, which takes its name whole at the end or not at all; standard output for None.

    Raises Malformed at once where nothing can be written, so that nobody asks for a secret that cannot be kept.
    """
    if path is None:
        yield sys.stdout
        return
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
