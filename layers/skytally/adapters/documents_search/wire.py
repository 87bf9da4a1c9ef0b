"""One cluster of a search engine: a request and its answer, over the vendor's own client.

No caller knows which vendor's.

Which engine is there is asked once, at the first call: `GET /` of each host. A URL with `elasticsearch+` or
`opensearch+` says it outright, for sites that may not ask. An engine that is another, too old, or of two kinds is named
in words.
"""

import gzip
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import msgspec

from skytally.adapters.documents_search.credential import Credential
from skytally.adapters.documents_search.dialect import DIALECTS, Dialect
from skytally.core.errors import Unavailable

SCHEME = re.compile(r"(?:(elasticsearch|opensearch)\+)?(https?://.*)", re.DOTALL)
CHECK = "check SKYTALLY_DOCUMENTS"
UNAUTHENTICATED, FORBIDDEN = 401, 403
# More than the threads of a process. A thread that waits for a connection waits beyond the time that its request may
# take.
CONNECTIONS = 64
# A smaller body fits into one packet. The clients' own level, 9, costs six times the time of level 1.
COMPRESSED_FROM_BYTES, COMPRESSION_LEVEL = 1_400, 1

# Which engine a host is, and its version, as far as it says.
Engine = tuple[str | None, tuple[int, ...] | None]


class Refused(Exception):
    """The engine answers a request with an error: its status, the error's type, and its reason."""

    def __init__(self, status: int, kind: str, reason: str = "", *, is_elasticsearch: bool = False) -> None:
        super().__init__(status, kind)
        self.status, self.kind, self.reason, self.is_elasticsearch = status, kind, reason, is_elasticsearch

    @classmethod
    def of(cls, status: int, answer: Any, *, is_elasticsearch: bool = False) -> "Refused":
        """Return the error of an answer; a proxy's answer is no JSON."""
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            return cls(status, str(error.get("type")), str(error.get("reason")), is_elasticsearch=is_elasticsearch)
        return cls(status, error if isinstance(error, str) else f"status {status}", is_elasticsearch=is_elasticsearch)


class Away(Exception):
    """No readable answer came."""


def encoded(body: Any) -> tuple[bytes | None, dict[str, str]]:
    """Return a request's body as bytes and the headers that describe it; a body of bytes is of lines of JSON."""
    headers = {"accept": "application/json", "accept-encoding": "gzip"}
    if body is None:
        return None, headers
    headers["content-type"] = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
    payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
    if len(payload) < COMPRESSED_FROM_BYTES:
        return payload, headers
    headers["content-encoding"] = "gzip"
    return gzip.compress(payload, COMPRESSION_LEVEL), headers


class Wire(Protocol):
    """A vendor's client of some hosts."""

    def perform(self, method: str, path: str, params: Mapping[str, str], body: Any) -> Any:
        """Return the answer's JSON; raise Refused or Away. See `encoded` for the body."""

    def close(self) -> None:
        """Close the connections."""


def split(hosts: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the engine that the URLs name, and the URLs without it; raise Unavailable for two engines or none."""
    parts = [SCHEME.fullmatch(host.strip()) for host in hosts]
    named = {part[1] for part in parts if part}
    if None in parts or len(named) != 1:
        raise Unavailable("the hosts of SKYTALLY_DOCUMENTS are of several schemes: write all with the same")
    return named.pop(), [part[2] for part in parts if part]


class Client:
    """The one client of a process for a cluster; safe for threads."""

    def __init__(self, hosts: Sequence[str], credential: Credential, ca_file: str, request_seconds: float) -> None:
        self._named, self._hosts = split(hosts)
        self._how = (credential, ca_file, request_seconds)
        # Elasticsearch's connections read any engine's `GET /`, and say where one of the files is broken.
        self._wire: Wire = _elasticsearch(self._hosts, *self._how)
        self._dialect: Dialect | None = None
        self._lock = threading.Lock()

    @property
    def dialect(self) -> Dialect:
        """Return the engine's dialect, queried at the first call; raise as `perform` does."""
        if self._dialect is None:
            # Not under the lock: of hosts that stay silent, each thread would wait for all threads before it.
            dialect = self._engine()
            with self._lock:
                if self._dialect is None:
                    if dialect.name == "opensearch":
                        self._wire.close()
                        self._wire = _opensearch(self._hosts, *self._how)
                    self._dialect = dialect
        return self._dialect

    def perform(self, method: str, path: str, params: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """Return the answer's JSON; raise Refused, Away, or Unavailable for an engine that cannot be used.

        A body of bytes is of lines of JSON, as bulks are.
        """
        _ = self.dialect
        return self._wire.perform(method, path, {name: _text(value) for name, value in (params or {}).items()}, body)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def _engine(self) -> Dialect:
        """Query all hosts at once for their engine; hosts that are away or refuse do not count."""
        with ThreadPoolExecutor(len(self._hosts)) as threads:
            replies = list(threads.map(self._reply, self._hosts))
        answers = {reply for reply in replies if not isinstance(reply, Exception)}
        if not answers:
            raise next(reply for reply in reversed(replies) if isinstance(reply, Exception))
        engines = {engine for engine, _ in answers if engine is not None}
        if len(engines) > 1:
            raise Unavailable(
                f"the hosts of SKYTALLY_DOCUMENTS are of two engines ({' and '.join(sorted(engines))}): name those of "
                "one"
            )
        engine = next(iter(engines), None)
        if engine is None and self._named is None:
            raise Unavailable(
                "the document store does not say which engine it is, to this credential: "
                "write SKYTALLY_DOCUMENTS with elasticsearch+https:// or opensearch+https://"
            )
        if engine is not None and self._named not in {None, engine}:
            raise Unavailable(
                f"the document store is {DIALECTS[engine].title}: write SKYTALLY_DOCUMENTS with {engine}+https://"
            )
        dialect = DIALECTS[engine or str(self._named)]
        for _, version in answers:
            if version is not None and version < dialect.oldest:
                needed = ".".join(map(str, dialect.oldest))
                raise Unavailable(
                    f"the document store is an older {dialect.title} than {needed}: use {needed} or later"
                )
        return dialect

    def _reply(self, host: str) -> Engine | Away | Refused:
        try:
            return _engine_of(host, *self._how)
        except (Away, Refused) as error:
            return error


def _engine_of(host: str, credential: Credential, ca_file: str, seconds: float) -> Engine:
    """Return a host's engine and version, as far as it reports them."""
    wire = _elasticsearch([host], credential, ca_file, seconds)
    try:
        answer = wire.perform("GET", "/", {}, None)
    except Refused as error:
        # Who may not ask is told so by Elasticsearch alone; any other error is an outage.
        if error.status == UNAUTHENTICATED or not (error.is_elasticsearch or error.status == FORBIDDEN):
            raise
        return ("elasticsearch" if error.is_elasticsearch else None), None
    finally:
        wire.close()
    version = answer.get("version") if isinstance(answer, dict) else None
    if not isinstance(version, dict):
        raise Unavailable(f"the document store is no search engine: {CHECK}")
    engine = version.get("distribution", "elasticsearch")
    if engine not in DIALECTS:
        raise Unavailable(f"the document store is {engine!r}, neither Elasticsearch nor OpenSearch: {CHECK}")
    numbers = re.match(r"(\d+)\.(\d+)", str(version.get("number")))
    return engine, (int(numbers[1]), int(numbers[2])) if numbers else None


def _elasticsearch(hosts: Sequence[str], credential: Credential, ca_file: str, seconds: float) -> Wire:
    from skytally.adapters.documents_search.wire_elasticsearch import ElasticsearchWire

    return ElasticsearchWire(hosts, credential, ca_file, seconds)


def _opensearch(hosts: Sequence[str], credential: Credential, ca_file: str, seconds: float) -> Wire:
    from skytally.adapters.documents_search.wire_opensearch import OpenSearchWire

    return OpenSearchWire(hosts, credential, ca_file, seconds)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
