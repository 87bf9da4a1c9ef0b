"""Record types made ready for threads.

msgspec plans how to decode a type when it is first decoded. It shows the plan to other threads before it is finished,
and one that decodes by it ends the whole process (msgspec 0.22: a segmentation fault). So all plans are made before
threads decode.
"""

from collections.abc import Iterator
from contextlib import suppress

import msgspec
from msgspec import Struct

_ready: set[type[Struct]] = set()


def prepare_records() -> None:
    """Make the plans of all record types that were defined so far; call it while no other thread decodes.

    A type that msgspec cannot decode is skipped, because nobody decodes it.
    """
    for kind in _kinds(Struct):
        if kind not in _ready:
            _ready.add(kind)
            with suppress(TypeError, NameError):
                msgspec.json.Decoder(kind)


def _kinds(base: type[Struct]) -> Iterator[type[Struct]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
