"""What an answer of Elasticsearch is worth: whole, or Unavailable. An error's type decides, never its status alone."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from elasticsearch import ApiError, SerializationError, TransportError
from elasticsearch.serializer import JsonSerializer

from skytally.errors import Unavailable

INDEX_NOT_FOUND = "index_not_found_exception"
UNAUTHENTICATED = 401
SECURITY = "security_exception"


class Json(JsonSerializer):
    """JSON by the library that the records are made with."""

    def loads(self, data: bytes) -> Any:
        """Read an answer; half a surrogate pair in somebody else's document is read by the standard library alone."""
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:
                return json.loads(data)
            except (ValueError, RecursionError) as error:
                raise SerializationError("the answer is no JSON", errors=(error,)) from None

    def dumps(self, data: Any) -> bytes:
        """Write a request; bytes are JSON already."""
        return data if isinstance(data, bytes) else msgspec.json.encode(data)


@contextmanager
def answering() -> Iterator[None]:
    """Say that the store is away where it cannot do what it is asked, and what to look at."""
    try:
        yield
    except ApiError as error:
        raise Unavailable(_words(error)) from None
    except TransportError:
        raise Unavailable("the document store does not answer: check SKYTALLY_DOCUMENTS, and ask again") from None


def _words(error: ApiError) -> str:
    if error.status_code == UNAUTHENTICATED or error.error == SECURITY:
        return "the document store refuses this API key: check SKYTALLY_DOCUMENTS_API_KEY_FILE"
    if error.error == INDEX_NOT_FOUND:
        return "the document store is not set up: run `skytally doctor --install`"
    return f"the document store does not answer ({error.error}): ask again, or its operator"


def whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an answer of all shards, or raise Unavailable: some of the documents are never taken for all of them."""
    if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
        raise Unavailable("the document store answers from a part of its shards: ask again")
    return answer
