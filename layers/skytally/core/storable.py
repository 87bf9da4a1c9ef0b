"""The rule for storable documents, the same for writing and reading, for every store.

Invariant: a document that passes `check` can be read again, and later conversions of it cannot overflow: times lie from
1970 to 2199, integers have 64 bits, other numbers are finite, and texts are UTF-8.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from inspect import Parameter, signature
from math import isfinite
from operator import contains, itemgetter
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec

from skytally.core.documents import INDICES, Document, Interval
from skytally.core.ports import Query, Write

D = TypeVar("D", bound=Document)

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
END_OF_INTEGERS = 2**63
CHECKED_TYPES = (datetime, int, float, str)
# Records of one kind differ in which of their fields are None. The checks of so many combinations are kept.
SIGNATURES = 4_096
Values = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class Signature(NamedTuple):
    """What follows from the types of a record's values: whether they are allowed, and which values to check.

    `packed` packs its integers into 64 bits each: one call, where comparing them takes several times as long.
    """

    is_allowed: bool
    packed: Callable[..., bytes]
    moments: Values
    integers: Values
    numbers: Values
    texts: Values


class NotStorable(ValueError):
    """A document that no store accepts and no reader returns; the text is the reason, without any content."""


def check(write: Write) -> tuple[Any, ...]:
    """Return the values of a document's fields, in order; raise NotStorable for one that could not be read again."""
    kind = INDICES.get(write.index)
    if kind is None or type(write.document) is not kind:
        raise NotStorable("the document is not of its index's kind")
    if not 0 <= write.version < END_OF_INTEGERS:
        raise NotStorable("the version is negative or has more than 64 bits")
    values = msgspec.structs.astuple(write.document)
    signature = _signature(kind, tuple(map(type, values)))
    if is_key(write.key) and signature.is_allowed:
        _check_values(write.document, values, signature)
    else:
        read(write.key, msgspec.structs.asdict(write.document), kind)
    return values


def read(key: Any, fields: Mapping[str, Any], kind: type[D]) -> D:
    """Return the record of stored fields, or raise NotStorable; unknown fields are ignored."""
    if not is_key(key):
        raise NotStorable("the key is no text, or an empty one, or holds half a surrogate pair")
    try:
        document = msgspec.convert(fields, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise NotStorable(str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__) from None
    values = msgspec.structs.astuple(document)
    _check_values(document, values, _signature(kind, tuple(map(type, values))))
    return document


def read_row(key: Any, values: Sequence[Any], kind: type[D]) -> D:
    """Return the record of the values of all its fields, in order, or raise NotStorable; see `read`."""
    row = tuple(values)
    its_signature = _signature(kind, tuple(map(type, row)))
    if not (its_signature.is_allowed and is_key(key)):
        return read(key, dict(zip(kind.__struct_fields__, row, strict=True)), kind)
    document: D = _maker(kind)(*row)
    _check_values(document, row, its_signature)
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
def _maker(kind: type[D]) -> Callable[..., D]:
    """Return a function that makes a record from the values of its fields, in order."""
    names = kind.__struct_fields__
    is_by_keyword = Parameter.KEYWORD_ONLY in {one.kind for one in signature(kind).parameters.values()}
    return (lambda *values: kind(**dict(zip(names, values, strict=True)))) if is_by_keyword else kind


@lru_cache(SIGNATURES)
def _signature(kind: type[Document], types: tuple[type, ...]) -> Signature:
    """Return what follows from the types of a record's values."""
    is_allowed = all(map(contains, _allowed_types(kind), types))
    getters = [_getter([at for at, held in enumerate(types) if held is checked]) for checked in CHECKED_TYPES]
    return Signature(is_allowed, struct.Struct(f"{types.count(int)}q").pack, *getters)


def _getter(positions: list[int]) -> Values:
    if len(positions) > 1:
        return itemgetter(*positions)
    return (lambda values: (values[positions[0]],)) if positions else lambda _: ()


def _check_values(document: Document, values: tuple[Any, ...], signature: Signature) -> None:
    """Raise NotStorable for a value that its type allows and a store does not."""
    for value in signature.moments(values):
        if not (value.tzinfo and EARLIEST <= value < LATEST):
            raise NotStorable(f"{_name(document, value)} has no zone, or does not lie from 1970 to 2199")
    integers = signature.integers(values)
    try:
        signature.packed(*integers)
    except struct.error:
        raise NotStorable(f"{_name(document, max(integers, key=abs))} has more than 64 bits") from None
    for value in signature.numbers(values):
        if not isfinite(value):
            raise NotStorable(f"{_name(document, value)} is not finite")
    texts = signature.texts(values)
    if not "".join(texts).isascii():
        for value in texts:
            if not _is_text(value):
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
