"""The rule for storable documents, the same for writing and reading, for every store.

Invariant: a document that passes `check` can be read again, and later conversions of it cannot overflow: times lie from
1970 to 2199, integers have 64 bits, other numbers are finite, and texts are UTF-8.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from math import isfinite
from operator import attrgetter, contains
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from skytally.core.documents import INDICES, Document, Interval
from skytally.core.ports import Query, Write

D = TypeVar("D", bound=Document)

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
END_OF_INTEGERS = 2**63
CHECKED_TYPES = (datetime, int, float, str)


class NotStorable(ValueError):
    """A document that no store accepts and no reader returns; the text is the reason, without any content."""


def check(write: Write) -> None:
    """Raise NotStorable for a document that could not be read again."""
    kind = INDICES.get(write.index)
    if kind is None or type(write.document) is not kind:
        raise NotStorable("the document is not of its index's kind")
    if not 0 <= write.version < END_OF_INTEGERS:
        raise NotStorable("the version is negative or has more than 64 bits")
    types = map(type, msgspec.structs.astuple(write.document))
    if is_key(write.key) and all(map(contains, _allowed_types(kind), types)):
        _check_values(write.document)
    else:
        read(write.key, msgspec.structs.asdict(write.document), kind)


def read(key: Any, fields: Mapping[str, Any], kind: type[D]) -> D:
    """Return the record of stored fields, or raise NotStorable; unknown fields are ignored."""
    if not is_key(key):
        raise NotStorable("the key is no text, or an empty one, or holds half a surrogate pair")
    try:
        document = msgspec.convert(fields, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotStorable(str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__) from None
    _check_values(document)
    return document


def is_key(key: Any) -> bool:
    """Return whether a document can have this key."""
    return isinstance(key, str) and bool(key) and _is_text(key)


def within_reach(query: Query) -> Query:
    """Return a query with its window cut to storable times: what cannot be read counts in no sum."""
    if query.from_at >= EARLIEST and query.until_at <= LATEST:
        return query
    return msgspec.structs.replace(query, from_at=max(query.from_at, EARLIEST), until_at=min(query.until_at, LATEST))


@cache
def field_types(kind: type[Document]) -> dict[str, type]:
    """Return the type of each field of a record, without None."""
    hints = get_type_hints(kind)
    return {field.name: _parts(hints[field.name])[0] for field in msgspec.structs.fields(kind)}


@cache
def required(index: str) -> frozenset[str]:
    """Return the fields that every readable document of an index has."""
    hints = get_type_hints(INDICES[index])
    return frozenset(name for name in field_types(INDICES[index]) if hints[name] is _parts(hints[name])[0])


def _parts(hint: Any) -> list[type]:
    return [part for part in (get_args(hint) if isinstance(hint, UnionType) else (hint,)) if part is not type(None)]


@cache
def _allowed_types(kind: type[Document]) -> tuple[frozenset[type], ...]:
    """Return the types that each field of a record may have."""
    hints = get_type_hints(kind)
    return tuple(
        frozenset(get_args(hint) if isinstance(hint, UnionType) else (hint,))
        for hint in (hints[field.name] for field in msgspec.structs.fields(kind))
    )


@cache
def _getters(kind: type[Document]) -> list[Callable[[Document], tuple[Any, ...]]]:
    """Return getters of a record's times, integers, other numbers and texts."""
    return [_getter([name for name, held in field_types(kind).items() if held is type_]) for type_ in CHECKED_TYPES]


def _getter(names: list[str]) -> Callable[[Document], tuple[Any, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    return (lambda document: (getattr(document, names[0]),)) if names else lambda _: ()


def _check_values(document: Document) -> None:
    """Raise NotStorable for a value that its type allows and a store does not."""
    moments, integers, numbers, texts = _getters(type(document))
    for value in moments(document):
        if value is not None and not (value.tzinfo and EARLIEST <= value < LATEST):
            raise NotStorable(f"{_name(document, value)} has no zone, or does not lie from 1970 to 2199")
    present = list(filter(None, integers(document)))
    if present and (min(present) < -END_OF_INTEGERS or max(present) >= END_OF_INTEGERS):
        raise NotStorable(f"{_name(document, max(present, key=abs))} has more than 64 bits")
    for value in numbers(document):
        if value is not None and not isfinite(value):
            raise NotStorable(f"{_name(document, value)} is not finite")
    if not "".join(filter(None, texts(document))).isascii():
        for value in texts(document):
            if value is not None and not _is_text(value):
                raise NotStorable(f"{_name(document, value)} holds half a surrogate pair")
    if isinstance(document, Interval) and document.until_at < document.from_at:
        raise NotStorable("until_at is before from_at")


def _name(document: Document, value: Any) -> str:
    return next(name for name in document.__struct_fields__ if getattr(document, name) is value)


def _is_text(value: str) -> bool:
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False
