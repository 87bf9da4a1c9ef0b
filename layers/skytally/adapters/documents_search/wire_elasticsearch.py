"""Requests over Elasticsearch's own client, with its checks of who answers; `GET /` alone is read whoever answers."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from elastic_transport import SerializationError, TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError
from elasticsearch.serializer import JsonSerializer

from skytally.adapters.documents_search.credential import Credential
from skytally.adapters.documents_search.wire import CHECK, CONNECTIONS, Away, Refused, encoded
from skytally.core.errors import Unavailable

PRODUCT = "x-elastic-product"


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
        """Return a request's body, which is bytes already."""
        return bytes(data)


class ElasticsearchWire:
    """Elasticsearch's client of some hosts; see the protocol."""

    def __init__(self, hosts: Sequence[str], credential: Credential, ca_file: str, request_seconds: float) -> None:
        serializers = {
            f"application/{vendor}{form}": Json()
            for vendor in ("", "vnd.elasticsearch+")
            for form in ("json", "x-ndjson")
        }
        options: dict[str, Any] = {
            "request_timeout": request_seconds,
            "max_retries": 0,
            "retry_on_timeout": False,
            **credential.certificate,
        }
        if ca_file:
            options["ca_certs"] = ca_file
        self._headers, self._request_seconds = credential.headers, request_seconds
        self._client = Elasticsearch(
            list(hosts), http_compress=False, connections_per_node=CONNECTIONS, serializers=serializers, **options
        )

    def perform(self, method: str, path: str, params: Mapping[str, str], body: Any) -> Any:
        """Return the answer's JSON; see the protocol."""
        payload, headers_of_body = encoded(body)
        headers = {**self._headers, **headers_of_body}
        try:
            if path == "/":
                return self._whoever_answers(headers)
            return self._client.perform_request(method, path, params=params, headers=headers, body=payload).body
        except UnsupportedProductError:
            raise Unavailable(f"a host of the document store is not Elasticsearch: {CHECK}") from None
        except ApiError as error:
            raise Refused.of(error.status_code, error.body, is_elasticsearch=PRODUCT in error.meta.headers) from None
        except TransportError:
            raise Away from None

    def _whoever_answers(self, headers: Mapping[str, str]) -> Any:
        """Ask what is there, in plain JSON, which every engine reads."""
        meta, answer = self._client.transport.perform_request(
            "GET", "/", headers=headers, request_timeout=self._request_seconds
        )
        if meta.status != 200:
            raise Refused.of(meta.status, answer, is_elasticsearch=PRODUCT in meta.headers)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
