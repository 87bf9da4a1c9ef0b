"""Names of vms, clouds and the like as options: what no function would take is refused before anything is asked."""

from typing import Any

import click
import msgspec

from skytally.records import Name


class NameType(click.ParamType):  # type: ignore[type-arg]
    """A name as the wire has it."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with what one is."""
        try:
            return msgspec.convert(value, Name)
        except msgspec.ValidationError:
            self.fail("a name has 1 to 255 characters, and none that controls a terminal", param, ctx)


NAME = NameType()
