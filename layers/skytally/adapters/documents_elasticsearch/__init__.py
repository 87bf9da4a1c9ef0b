"""Documents in Elasticsearch 8 or 9: versions decide in the store itself, so any number of processes on any number of hosts may write.

Writes that arrive together go as one bulk. An item that the server was too busy for is sent again, with growing pauses, until a deadline;
whatever else is not known to be kept makes the whole call Unavailable, and the caller sends it again, which is harmless.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tenacity
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    BadRequestError,
    Elasticsearch,
    NotFoundError,
    TransportError,
)
from elasticsearch.serializer import JsonSerializer

from skytally.adapters.documents_elasticsearch import rooms, sums
from skytally.adapters.documents_elasticsearch.templates import MONTHLY, VERSION, alias, id_of, install, written_to
from skytally.commits import CommitQueue
from skytally.documents import Document
from skytally.errors import Unavailable
from skytally.ports import Outcome, Query, Room, Row, Write

__all__ = ["ElasticsearchDocuments", "as_user", "connect", "install"]

D = TypeVar("D", bound=Document)

WRITERS = 2
COMMIT_WRITES = 4_000
BULK_BYTES = 4 * 1_024 * 1_024
DEADLINE_SECONDS = 15
REQUEST_SECONDS = 10
PAGE = 2_000
PIT_KEPT = "1m"
OUTCOMES = {200: Outcome.STORED, 201: Outcome.STORED, 409: Outcome.STALE, 400: Outcome.REJECTED}
TOO_BUSY = {429, 503}


class _Json(JsonSerializer):
    """JSON by the library that the records are made with."""

    def loads(self, data: bytes) -> Any:
        return msgspec.json.decode(data)

    def dumps(self, data: Any) -> bytes:
        return data if isinstance(data, bytes) else msgspec.json.encode(data)


def connect(hosts: Sequence[str], api_key_file: str, ca_file: str) -> Elasticsearch:
    """Make the one client of a process; who it is and whom it trusts stand in files."""
    with _configuring():
        return _client(hosts, ca_file, api_key=Path(api_key_file).read_text().strip() if api_key_file else None)


@contextmanager
def as_user(hosts: Sequence[str], user: str, password_file: Path, ca_file: str) -> Iterator[Elasticsearch]:
    """Speak as a person with a password, for what no function's key may do."""
    with _configuring():
        client = _client(hosts, ca_file, basic_auth=(user, password_file.read_text().strip()))
    with client, _answering():
        yield client


def _client(hosts: Sequence[str], ca_file: str, **who: Any) -> Elasticsearch:
    serializers = {"application/json": _Json(), "application/vnd.elasticsearch+json": _Json()}
    told: dict[str, Any] = {**who, **({"ca_certs": ca_file} if ca_file else {})}
    patience: dict[str, Any] = {"request_timeout": REQUEST_SECONDS, "max_retries": 0, "retry_on_timeout": False}
    return Elasticsearch(list(hosts), http_compress=True, serializers=serializers, **patience, **told)


@contextmanager
def _configuring() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        raise Unavailable("the document store cannot be used: check SKYTALLY_DOCUMENTS and its API key and CA files") from None


class ElasticsearchDocuments:
    """The documents port on one cluster, all indices under a prefix; safe from any thread."""

    def __init__(self, client: Elasticsearch, prefix: str) -> None:
        self.client, self._prefix = client, prefix
        self._is_installed = False
        self._commits = CommitQueue(self._commit, writers=WRITERS, most_writes=COMMIT_WRITES)

    def install(self, now: datetime) -> list[str]:
        """Make templates and indices where they are not as this version wants them; answer the new indices."""
        with _answering():
            return install(self.client, self._prefix, now)

    def close(self) -> None:
        """Finish what was taken, and let go of the connections."""
        self._commits.close()
        self.client.close()

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next bulk; see the port."""
        return self._commits.put(writes)

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Read one document; see the port."""
        return self.get_many(index, [key], kind)[0]

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Read several documents, in the order asked, past any refresh."""
        found: dict[str, D] = {}
        with self._ready():
            for start in range(0, len(keys), PAGE):
                page = dict.fromkeys(keys[start : start + PAGE])
                docs = [{"_index": written_to(self._prefix, index, key), "_id": id_of(key)} for key in page]
                answer = self.client.mget(docs=docs, realtime=True)["docs"]
                found |= {doc["_source"]["key"]: _document(doc["_source"], kind) for doc in answer if _is_found(doc)}
        return [found.get(key) for key in keys]

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """List documents in key order; see the port."""
        for hit in self._listed(index, sums.held(where), [{"key": "asc"}]):
            yield hit["_source"]["key"], _document(hit["_source"], kind)

    def during(
        self, index: str, kind: type[D], moment: str, span: tuple[datetime, datetime], where: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, D]]:
        """List documents of a span in the order of their moments; see the port."""
        within = {"range": {moment: {"gte": span[0].isoformat(), "lt": span[1].isoformat()}}}
        for hit in self._listed(index, sums.held(where, within), [{moment: "asc"}, {"key": "asc"}]):
            yield hit["_source"]["key"], _document(hit["_source"], kind)

    def stored(self, index: str, kind: type[D], after: str = "") -> Iterator[tuple[str, int, D]]:
        """List documents with their versions; see the port."""
        for hit in self._listed(index, {"range": {"key": {"gt": after}}}, [{"key": "asc"}]):
            yield hit["_source"]["key"], hit["_version"], _document(hit["_source"], kind)

    def count(self, index: str) -> int:
        """Count an index; see the port."""
        with self._ready():
            return int(self.client.count(index=alias(self._prefix, index))["count"])

    def forget(self, index: str, moment: str, before: datetime) -> int:
        """Remove what is older, whole months of intervals at once; see the port."""
        gone = self._forget_months(before) if index == MONTHLY else 0
        wanted = {"range": {moment: {"lt": before.isoformat()}}}
        hits = self._listed(index, wanted, ["_shard_doc"])
        while deletes := [_deletion(hit) for hit in islice(hits, PAGE)]:
            with self._ready():
                items = self.client.bulk(operations=deletes)["items"]
            gone += sum(item["delete"]["status"] == 200 for item in items)
        return gone

    def _forget_months(self, before: datetime) -> int:
        """Remove the indices of months that were over a month before: a corrected clock moves an interval by less.

        One index stays, whatever its age: without any, the alias would be gone, and the store look as if nobody had set it up.
        """
        with self._ready():
            names = sorted(self.client.indices.get_alias(index=f"{alias(self._prefix, MONTHLY)}-*"))
            old = [name for name in names[:-1] if name[-7:] < f"{before - timedelta(days=62):%Y-%m}" and name[-7:-3].isdigit()]
            gone = sum(int(self.client.count(index=name)["count"]) for name in old)
            for name in old:
                self.client.indices.delete(index=name)
            return gone

    def table(self, query: Query) -> list[Row]:
        """Sum a window; see the port."""
        return sums.table(self._searching(query.index), query)

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Sum each step of a window; see the port."""
        return sums.series(self._searching(query.index), query, step)

    def refresh(self) -> None:
        """Show every document that was accepted before to whoever searches."""
        with self._ready():
            self.client.indices.refresh(index=f"{self._prefix}-*")

    def rooms(self) -> list[Room]:
        """Answer the disks of the data nodes; see the port."""
        with self._ready():
            return list(rooms.rooms(self.client))

    def _searching(self, index: str) -> sums.Search:
        return lambda **body: self._search(index, body)

    def _search(self, index: str, body: dict[str, Any]) -> Any:
        with self._ready():
            return self.client.search(index=alias(self._prefix, index), size=0, track_total_hits=False, **body)["aggregations"]

    def _listed(self, index: str, query: dict[str, Any], order: list[Any]) -> Iterator[dict[str, Any]]:
        """List documents page by page as of one moment."""
        with self._ready():
            pit = self.client.open_point_in_time(index=alias(self._prefix, index), keep_alive=PIT_KEPT)["id"]
            after, more = None, True
            try:
                while more:
                    held = {"id": pit, "keep_alive": PIT_KEPT}
                    told: dict[str, Any] = {} if after is None else {"search_after": after}
                    hits = self.client.search(pit=held, query=query, sort=order, size=PAGE, track_total_hits=False, version=True, **told)[
                        "hits"
                    ]["hits"]
                    yield from hits
                    more = len(hits) == PAGE
                    after = hits[-1]["sort"] if hits else None
            finally:
                self.client.close_point_in_time(id=pit)

    def _commit(self, batches: list[Sequence[Write]]) -> list[list[Outcome]]:
        """Keep all, in as many bulks as their size needs; answers an outcome for each write of each batch."""
        with self._ready():
            writes = [write for batch in batches for write in batch]
            lines = [self._lines(write) for write in writes]
            outcomes = [outcome for start, end in _bulks(lines) for outcome in self._bulk(lines[start:end])]
        told = iter(outcomes)
        return [[next(told) for _ in batch] for batch in batches]

    def _lines(self, write: Write) -> bytes:
        where = {"_index": written_to(self._prefix, write.index, write.key), "_id": id_of(write.key)}
        action = {"create": where} if write.create else {"index": {**where, "version": write.version, "version_type": "external_gte"}}
        source = sums.with_cuts(write.document) if write.index == MONTHLY else msgspec.structs.asdict(write.document)
        return msgspec.json.encode(action) + b"\n" + msgspec.json.encode({"key": write.key, **source})

    def _bulk(self, lines: list[bytes]) -> list[Outcome]:
        """Send a bulk, and again what the server was too busy for; everything is kept at the end, or this raises Unavailable."""
        outcomes: list[Outcome | None] = [None] * len(lines)
        for attempt in _patiently():
            with attempt:
                left = [n for n, outcome in enumerate(outcomes) if outcome is None]
                operations: Any = [lines[n] for n in left]
                items = self.client.bulk(operations=operations, filter_path="items.*.status,items.*.error.type")["items"]
                for n, item in zip(left, items, strict=True):
                    outcomes[n] = _outcome(next(iter(item.values())))
                if None in outcomes:
                    raise _Busy
        return [outcome for outcome in outcomes if outcome is not None]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Answer for the store, once it has been seen to be set up: an index that comes by itself would be mapped wrongly."""
        with _answering():
            if not self._is_installed:
                found = self.client.indices.get_mapping(index=alias(self._prefix, "label"))
                versions = [one["mappings"].get("_meta", {}).get("skytally", 0) for one in found.values()]
                if not versions or min(versions) < VERSION:
                    raise Unavailable("the document store is not set up for this version: run `skytally doctor --install`")
                self._is_installed = True
            yield


class _Busy(Exception):
    """The server had no room for some of it."""


def _patiently() -> tenacity.Retrying:
    wait = tenacity.wait_exponential_jitter(multiplier=0.05, max=2)
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_busy), wait=wait, stop=tenacity.stop_after_delay(DEADLINE_SECONDS), reraise=True
    )


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, _Busy) or (isinstance(error, ApiError) and error.status_code == 429)


def _outcome(item: dict[str, Any]) -> Outcome | None:
    """Read what became of one item; None where the server was too busy for it."""
    status = item["status"]
    if status in TOO_BUSY:
        return None
    if status not in OUTCOMES:
        raise Unavailable(f"the document store refuses to write ({item.get('error', {}).get('type', status)}): ask its operator")
    return OUTCOMES[status]


def _bulks(lines: list[bytes]) -> Iterator[tuple[int, int]]:
    """Cut what is to be sent into spans of bounded size."""
    start = size = 0
    for n, line in enumerate(lines):
        if size and size + len(line) > BULK_BYTES:
            yield start, n
            start, size = n, 0
        size += len(line)
    if lines:
        yield start, len(lines)


def _document(source: dict[str, Any], kind: type[D]) -> D:
    return msgspec.convert(source, kind)


def _deletion(hit: dict[str, Any]) -> dict[str, Any]:
    """Write how a document is removed unless a newer version has come."""
    version = {"version": hit["_version"], "version_type": "external_gte"}
    return {"delete": {"_index": hit["_index"], "_id": hit["_id"], **version}}


def _is_found(doc: dict[str, Any]) -> bool:
    """Say whether a document is there; a month without intervals has no index, any other error is an outage."""
    error = doc.get("error")
    if error is not None and not (error.get("type") == "index_not_found_exception" and f"-{MONTHLY}-" in doc["_index"]):
        raise Unavailable(f"the document store cannot be read ({error.get('type')}): ask its operator")
    return bool(doc.get("found"))


@contextmanager
def _answering() -> Iterator[None]:
    """Say that the store is away where it cannot do what it is asked, and what to look at."""
    try:
        yield
    except (AuthenticationException, AuthorizationException):
        raise Unavailable("the document store refuses this API key: check SKYTALLY_DOCUMENTS_API_KEY_FILE") from None
    except NotFoundError:
        raise Unavailable("the document store is not set up: run `skytally doctor --install`") from None
    except BadRequestError as error:
        raise Unavailable(f"the document store refuses what it is asked ({error.message}): ask its operator") from error
    except (TransportError, ApiError, _Busy) as error:
        raise Unavailable("the document store does not answer: check SKYTALLY_DOCUMENTS, and ask again") from error
