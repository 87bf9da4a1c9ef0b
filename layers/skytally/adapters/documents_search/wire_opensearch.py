"""Requests over OpenSearch's own client, opensearch-py: loaded only where that engine is used."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException, SerializationError, TransportError
from opensearchpy.serializer import JSONSerializer

from skytally.adapters.documents_search.credential import Credential
from skytally.adapters.documents_search.wire import CONNECTIONS, Away, Refused, encoded

# The client writes a line for each request that is refused.
logging.getLogger("opensearch").setLevel(logging.ERROR)


class Json(JSONSerializer):
    """JSON by the library that the records are made with."""

    def loads(self, s: str) -> Any:
        """Read an answer; half a surrogate pair in somebody else's document is read by the standard library alone."""
        try:
            return msgspec.json.decode(s)
        except (msgspec.DecodeError, UnicodeError):
            try:
                return json.loads(s)
            except (ValueError, RecursionError) as error:
                raise SerializationError(s[:100], error) from None

    def dumps(self, data: Any) -> Any:
        """Return a request's body, which is bytes already."""
        return data


class OpenSearchWire:
    """OpenSearch's client of some hosts; see the protocol."""

    def __init__(self, hosts: Sequence[str], credential: Credential, ca_file: str, request_seconds: float) -> None:
        options: dict[str, Any] = (
            {"ca_certs": ca_file, **credential.certificate} if ca_file else {**credential.certificate}
        )
        self._client = OpenSearch(
            list(hosts),
            serializer=Json(),
            http_compress=False,
            max_retries=0,
            retry_on_timeout=False,
            pool_maxsize=CONNECTIONS,
            **options,
        )
        self._headers, self._request_seconds = credential.headers, request_seconds

    def perform(self, method: str, path: str, params: Mapping[str, str], body: Any) -> Any:
        """Return the answer's JSON; see the protocol."""
        payload, headers_of_body = encoded(body)
        headers = {**self._headers, **headers_of_body}
        # A timeout that is not handed over as such would be taken from the parameters, where it is the engine's.
        options: dict[str, Any] = {"headers": headers, "timeout": self._request_seconds}
        try:
            return self._client.transport.perform_request(method, path, params=dict(params), body=payload, **options)
        except TransportError as error:
            if not isinstance(error.status_code, int):
                raise Away from None
            raise Refused.of(error.status_code, error.info if isinstance(error.info, dict) else None) from None
        except OpenSearchException:
            raise Away from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
