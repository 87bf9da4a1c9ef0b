"""Documents in Elasticsearch or OpenSearch: the store compares versions, so any number of processes may write.

Writes that arrive together are sent as one bulk request, and each item has its own result; see `bulk`. After
Unavailable the same write may be repeated. A result comes from all shards, or is Unavailable. An unreadable document is
skipped and noted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

from skytally.adapters.documents_search import bulk, credential, listing, rooms, sums
from skytally.adapters.documents_search.answers import INDEX_NOT_FOUND, SECURITY, answering, whole
from skytally.adapters.documents_search.installation import install
from skytally.adapters.documents_search.lines import deletion, line
from skytally.adapters.documents_search.templates import (
    MONTHLY,
    VERSION,
    alias,
    id_of,
    is_month,
    written_to,
)
from skytally.adapters.documents_search.wire import Client, Refused
from skytally.core import storable
from skytally.core.commit_queue import CommitQueue, WriteResult
from skytally.core.documents import Document
from skytally.core.errors import Unavailable
from skytally.core.ports import DiskUsage, Installed, Outcome, Query, Row, Skipped, Write
from skytally.core.unreadable import Notes

__all__ = ["SearchDocuments", "as_user", "connect", "install"]

D = TypeVar("D", bound=Document)

WRITERS = 2
COMMIT_WRITES = 4_000
DEADLINE_SECONDS = 8
REQUEST_SECONDS = 8
PAGE = 2_000


def connect(hosts: Sequence[str], credential_file: str, ca_file: str) -> Client:
    """Return the client of a process, with its credential and trusted CA from files."""
    with _configuring():
        return Client(hosts, credential.read(credential_file), ca_file, REQUEST_SECONDS)


@contextmanager
def as_user(hosts: Sequence[str], user: str, password_file: Path, ca_file: str) -> Iterator[Client]:
    """Yield a client of a person with a password, for what no function may do."""
    with _configuring():
        client = Client(hosts, credential.basic(user, password_file.read_text().strip()), ca_file, REQUEST_SECONDS)
    try:
        with answering():
            yield client
    finally:
        client.close()


@contextmanager
def _configuring() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError):
        raise Unavailable(
            "the document store cannot be used: check SKYTALLY_DOCUMENTS and its credential and CA files"
        ) from None


class SearchDocuments:
    """The documents port on one cluster, all indices under a prefix; safe for threads."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client, self._prefix = client, prefix
        self._is_installed = False
        self._commits = CommitQueue(partial(line, prefix), self._commit, writers=WRITERS, most_writes=COMMIT_WRITES)
        self._notes = Notes(self.write)

    def install(self, now: datetime) -> Installed:
        """Create or update templates and indices for this version; see the port."""
        with answering():
            return install(self.client, self._prefix, now)

    def close(self) -> None:
        """Finish queued writes and close the connections."""
        self._commits.close()
        self.client.close()

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Queue documents for the next bulk; see the port."""
        return self._commits.put(writes)

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Return one document; see the port."""
        return self.get_many(index, [key], kind)[0]

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Return several documents in the order of the keys, independent of refreshes."""
        documents_by_key: dict[str, D | None] = {}
        with self._ready():
            for start in range(0, len(keys), PAGE):
                page = [key for key in dict.fromkeys(keys[start : start + PAGE]) if storable.is_key(key)]
                docs = [{"_index": written_to(self._prefix, index, key), "_id": id_of(key)} for key in page]
                answer = (
                    self.client.perform("POST", "/_mget", {"realtime": True}, {"docs": docs})["docs"] if docs else []
                )
                for key, doc in zip(page, answer, strict=True):
                    if self._is_found(doc):
                        documents_by_key[key] = self._document(index, doc, kind)
        return [documents_by_key.get(key) for key in keys]

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """Return documents in key order; see the port."""
        for hit, document in self._listed_documents(index, kind, sums.filtered(where), [{"key": "asc"}]):
            yield hit["_source"]["key"], document

    def during(
        self,
        index: str,
        kind: type[D],
        moment: str,
        span: tuple[datetime, datetime],
        where: Mapping[str, Sequence[str]],
    ) -> Iterator[tuple[str, D]]:
        """Return documents of a period in the order of their times; see the port."""
        within = {"range": {moment: {"gte": span[0].isoformat(), "lt": span[1].isoformat()}}}
        for hit, document in self._listed_documents(
            index, kind, sums.filtered(where, within), [{moment: "asc"}, {"key": "asc"}], span=span
        ):
            yield hit["_source"]["key"], document

    def stored(
        self, index: str, kind: type[D], after: str = "", skipped: Skipped | None = None
    ) -> Iterator[tuple[str, int, D]]:
        """Return documents with their versions; see the port."""
        behind = {"range": {"key": {"gt": after}}}
        for hit, document in self._listed_documents(index, kind, behind, [{"key": "asc"}], skipped):
            yield hit["_source"]["key"], hit["_version"], document

    def count(self, index: str) -> int:
        """Count an index; see the port."""
        return int(self._searched(alias(self._prefix, index), size=0, track_total_hits=True)["hits"]["total"]["value"])

    def forget(self, index: str, moment: str, before: datetime, is_over: Callable[[], bool] = lambda: False) -> int:
        """Remove older documents, and whole months of intervals at once; see the port."""
        removed = self._forget_months(before, is_over) if index == MONTHLY else 0
        older = {"range": {moment: {"lt": before.isoformat()}}}
        hits = self._listed(index, older, [{"key": "asc"}])
        while not is_over() and (deletes := [deletion(hit) for hit in islice(hits, PAGE)]):
            with self._ready():
                items = self.client.perform("POST", "/_bulk", body=b"".join(deletes))["items"]
            removed += sum(_is_removed(item["delete"]) for item in items)
        return removed

    def _forget_months(self, before: datetime, is_over: Callable[[], bool]) -> int:
        """Remove the indices of months that ended a month before: a corrected clock moves an interval by less.

        The index of all other months stays, so the alias always exists.
        """
        with self._ready():
            names = self.client.perform("GET", f"/{alias(self._prefix, MONTHLY)}-*/_alias")
            old = sorted(
                name
                for name in names
                if is_month(self._prefix, name) and name[-7:] < f"{before - timedelta(days=62):%Y-%m}"
            )
            # All months are counted before any is removed: a month that cannot be counted is an outage.
            counts = {
                name: int(whole(self.client.perform("GET", f"/{name}/_count"))["count"])
                for name in takewhile(lambda _: not is_over(), old)
            }
            for name in counts:
                self.client.perform("DELETE", f"/{name}")
            return sum(counts.values())

    def table(self, query: Query) -> list[Row]:
        """Sum a window; see the port."""
        return sums.table(self._aggregating(query.index), storable.within_reach(query))

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Sum each step of a window; see the port."""
        return sums.series(self._aggregating(query.index), storable.within_reach(query), step)

    def refresh(self) -> None:
        """Make all writes before this call visible to searches; see the port."""
        with self._ready():
            whole(self.client.perform("POST", f"/{self._prefix}-*/_refresh"))

    def rooms(self) -> list[DiskUsage]:
        """Return the disks of the data nodes, or none without the privilege to see them; see the port."""
        with self._ready():
            try:
                return list(rooms.rooms(self.client))
            except Refused as error:
                if error.kind != SECURITY:
                    raise
                return []

    def _aggregating(self, index: str) -> sums.Search:
        name = alias(self._prefix, index)
        return lambda **body: self._searched(name, size=0, track_total_hits=False, **body)["aggregations"]

    def _searched(self, index: str = "", **request: Any) -> Any:
        """Return the answer of all shards, or raise Unavailable; every search comes through here.

        A point in time names its indices itself.
        """
        path = f"/{index}/_search" if index else "/_search"
        with self._ready():
            answer = whole(self.client.perform("POST", path, {"allow_partial_search_results": False}, request))
            _ = answer["_shards"], answer["hits"]["hits"]  # Every engine answers these, and no proxy does.
            return answer

    def _listed(
        self, index: str, query: dict[str, Any], order: list[Any], span: tuple[datetime, datetime] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Return hits as of one moment, from all indices that may hold them."""
        with self._ready():
            indices = listing.indices_of(self.client, self._prefix, index, span)
        options: dict[str, Any] = {"page_size": PAGE, "deadline_seconds": DEADLINE_SECONDS}
        return listing.listed(self.client, self._searched, indices, query, order, **options)

    def _listed_documents(
        self,
        index: str,
        kind: type[D],
        query: dict[str, Any],
        order: list[Any],
        skipped: Skipped | None = None,
        span: tuple[datetime, datetime] | None = None,
    ) -> Iterator[tuple[dict[str, Any], D]]:
        """Return hits with their records; unreadable ones are noted and left out."""
        for hit in self._listed(index, query, order, span):
            document = self._document(index, hit, kind, skipped)
            if document is not None:
                yield hit, document

    def _document(self, index: str, hit: dict[str, Any], kind: type[D], skipped: Skipped | None = None) -> D | None:
        """Return the record of a hit, or None for an unreadable one."""
        source = hit.get("_source", {})
        return self._notes.document(index, source.get("key"), source, kind, skipped, stored_as=hit["_id"])

    def _is_found(self, doc: dict[str, Any]) -> bool:
        """Return whether a document exists. A month without intervals has no index; any other error is an outage."""
        kind = doc.get("error", {}).get("type")
        if kind is not None and not (kind == INDEX_NOT_FOUND and is_month(self._prefix, doc["_index"])):
            raise Unavailable(f"the document store cannot be read ({kind}): ask its operator")
        return bool(doc.get("found"))

    def _commit(self, lines: list[bytes]) -> list[WriteResult]:
        """Send all lines in as many bulk requests as their size needs, and return the result of each."""
        with self._ready():
            return bulk.send(self.client, lines, request_seconds=REQUEST_SECONDS, deadline_seconds=DEADLINE_SECONDS)

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Check once that the store is set up, and turn errors in the block into Unavailable.

        An index that a write creates by itself would have a wrong mapping.
        """
        with answering():
            if not self._is_installed:
                indices = self.client.perform("GET", f"/{alias(self._prefix, 'label')}/_mapping")
                versions = [index["mappings"].get("_meta", {}).get("skytally", 0) for index in indices.values()]
                if not versions or min(versions) < VERSION:
                    raise Unavailable(
                        "the document store is not set up for this version: run `skytally doctor --install`"
                    )
                self._is_installed = True
            yield


def _is_removed(item: dict[str, Any]) -> bool:
    """Return whether a deletion removed a document: a newer one stays, and an absent one was removed before."""
    kind = item.get("error", {}).get("type")
    if kind not in {None, bulk.NEWER}:
        raise Unavailable(f"the document store cannot remove this now ({kind}): ask again, or its operator")
    return bool(item["status"] == 200)
