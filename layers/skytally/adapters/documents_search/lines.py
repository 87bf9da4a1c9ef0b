"""The lines of a bulk request: an action, and the document that it stores."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec

from skytally.adapters.documents_search import sums
from skytally.adapters.documents_search.templates import MONTHLY, id_of, written_to
from skytally.core import storable
from skytally.core.documents import Document
from skytally.core.ports import Write

_encode = msgspec.json.encode


def line(prefix: str, write: Write, values: tuple[Any, ...]) -> bytes:
    """Return the lines that write a document of these values; the engine keeps the newest version."""
    index, key = _encode(written_to(prefix, write.index, write.key)), _encode(write.key)
    where = b'{"_index":%b,"_id":%b' % (index, _encode(id_of(write.key)))
    action = (
        b'{"create":%b}}\n' % where
        if write.create
        else b'{"index":%b,"version":%d,"version_type":"external_gte"}}\n' % (where, write.version)
    )
    document = _in_utc(write.document, values)
    # The record's own object goes on with what is kept beside it: no dictionary is made of the record.
    cuts = b"," + _encode(sums.cuts(document))[1:-1] if write.index == MONTHLY else b""
    return b'%b%b,"key":%b%b}\n' % (action, _encode(document)[:-1], key, cuts)


def deletion(hit: dict[str, Any]) -> bytes:
    """Return the line that removes a document unless a newer version exists."""
    version = {"version": hit["_version"], "version_type": "external_gte"}
    return _encode({"delete": {"_index": hit["_index"], "_id": hit["_id"], **version}}) + b"\n"


@cache
def _moments(kind: type[Document]) -> tuple[tuple[int, str], ...]:
    """Return the positions and names of a record's time fields."""
    types = storable.field_types(kind)
    return tuple((at, name) for at, (name, field_type) in enumerate(types.items()) if field_type is datetime)


def _in_utc(document: Document, values: tuple[Any, ...]) -> Document:
    """Return a document with its times in UTC: engines refuse offsets beyond 18 hours."""
    changed = {
        name: values[at].astimezone(UTC)
        for at, name in _moments(type(document))
        if values[at] is not None and values[at].tzinfo is not UTC
    }
    return msgspec.structs.replace(document, **changed) if changed else document
