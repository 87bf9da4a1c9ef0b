"""Option types: names, owners, modes and paths, checked as functions and vms check them."""

from typing import Annotated, Any

import click
import msgspec
from msgspec import Meta

from skytally.core.records import Name


class WordType(click.ParamType):  # type: ignore[type-arg]
    """A text of a pattern; the error for another text describes the pattern."""

    def __init__(self, name: str, form: Any, sentence: str) -> None:
        self.name, self._form, self._sentence = name, form, sentence

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail with the pattern's description."""
        try:
            return str(msgspec.convert(value, self._form))
        except msgspec.ValidationError:
            self.fail(self._sentence, param, ctx)


NAME = WordType("name", Name, "a name has 1 to 255 characters, and none that controls a terminal")
# chown looks names up and nothing else: of digits alone it makes none.
_ACCOUNT = r"(?![0-9]+(:|\Z))[^\s:/,\x00-\x1f\x7f]{1,255}"
OWNER = WordType(
    "owner",
    Annotated[str, Meta(pattern=rf"^{_ACCOUNT}(:{_ACCOUNT})?\Z")],
    "must be USER or USER:GROUP, by their names on the vm",
)
MODE = WordType("mode", Annotated[str, Meta(pattern=r"^0?[0-7]{3}\Z")], "must be three octal digits, such as 0400")
ABSOLUTE_PATH = WordType(
    "path",
    Annotated[str, Meta(pattern=r"^/[^\x00-\x1f\x7f]*\Z", max_length=4_095)],
    "must be an absolute path on the vm, such as /etc/condor",
)
