"""Which engine is there, and what is said where it is another than the setting says;
and listings past OpenSearch's limit.
"""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from skytally.adapters import documents_search as adapter
from skytally.adapters.documents_search import listing
from skytally.adapters.documents_search.wire import Refused
from skytally.app.wiring import open_documents
from skytally.core.config import Config
from skytally.core.documents import Interval, Label
from skytally.core.errors import Unavailable
from skytally.core.ports import Write
from tests.support.builders import SEARCH_ENGINES
from tests.support.documents import HOUR, STORED, done, interval, label
from tests.support.recording_server import json_reply, recording_server
from tests.support.search import insist

pytestmark = pytest.mark.servers
TITLES = {"elasticsearch": "Elasticsearch", "opensearch": "OpenSearch"}


@contextlib.contextmanager
def opened(settings, url):
    with contextlib.closing(open_documents(Config.from_env({**settings, "SKYTALLY_DOCUMENTS": url}))) as documents:
        yield documents


@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_the_scheme_may_say_the_engine_and_another_is_named(engine, document_settings):
    settings = document_settings(engine)
    url = settings["SKYTALLY_DOCUMENTS"]
    with opened(settings, f"{engine}+{url}") as documents:
        assert done(documents, label("k", "x", 1)) == [STORED]
    (other,) = set(SEARCH_ENGINES) - {engine}
    with opened(settings, f"{other}+{url}") as documents:
        for ask in (
            lambda: documents.get("label", "k", Label),
            lambda: done(documents, label("k", "y", 2)),
            documents.refresh,
        ):
            with pytest.raises(Unavailable, match=f"is {TITLES[engine]}: write SKYTALLY_DOCUMENTS with {engine}"):
                ask()
    with opened(settings, url) as documents:
        assert documents.get("label", "k", Label) == Label(boot_id="x")


def test_hosts_of_two_engines_or_schemes_are_refused(document_settings):
    settings, other = (document_settings(engine) for engine in SEARCH_ENGINES)
    urls = [one["SKYTALLY_DOCUMENTS"] for one in (settings, other)]
    with opened(settings, ",".join(urls)) as documents, pytest.raises(Unavailable, match="two engines"):
        documents.get("label", "k", Label)
    for mixed in (
        f"{urls[0]},opensearch+{urls[1]}",
        f"elasticsearch+{urls[0]},opensearch+{urls[1]}",
        f"{urls[0]},sqlite:///x",
    ):
        with pytest.raises(Unavailable, match="several schemes"), opened(settings, mixed):
            pass


@pytest.mark.parametrize("engine", SEARCH_ENGINES)
def test_a_host_that_is_away_hides_no_engine(engine, document_settings):
    settings = document_settings(engine)
    with opened(settings, f"http://127.0.0.1:9,{settings['SKYTALLY_DOCUMENTS']}") as documents:
        for _ in range(4):
            with contextlib.suppress(Unavailable):
                documents.get("label", "k", Label)
        assert documents.client.dialect.title == TITLES[engine]


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (200, {"version": {"number": "7.17.29", "build_flavor": "default"}}, "older Elasticsearch than 8.0"),
        (200, {"version": {"number": "2.3.0", "distribution": "opensearch"}}, "older OpenSearch than 2.4"),
        (200, {"version": {"number": "1.0.0", "distribution": "other"}}, "neither Elasticsearch nor OpenSearch"),
        (200, {"hello": "world"}, "no search engine"),
        (200, ["hello"], "no search engine"),
        (401, {}, "SKYTALLY_DOCUMENTS_API_KEY_FILE"),
        (403, {"error": {"type": "security_exception", "reason": "no permissions"}}, "does not say which engine"),
        (502, {}, "status 502"),
    ],
)
def test_what_cannot_be_used_is_named(status, answer, words):
    with (
        recording_server(lambda _: json_reply(answer, status)) as server,
        opened({}, server.url) as documents,
        pytest.raises(Unavailable, match=words),
    ):
        documents.get("label", "k", Label)


def month_of(n):
    return datetime(2026 + n // 12, n % 12 + 1, 2, tzinfo=UTC)


def write_months(documents):
    """Write an interval of each of 26 months, which makes as many indices."""
    for n in range(26):
        assert insist(
            documents, Write("interval", KEYS[n], 1, interval("v", month_of(n), month_of(n) + HOUR, 8).document)
        ) == [STORED]


KEYS = [f"v-{month_of(n):%Y%m%d}T000000Z-0" for n in range(26)]


def begin(listed):
    """Return the first key of a listing; None where the store has no room for it."""
    try:
        return next(listed)[0]
    except Unavailable:
        return None


def test_more_listings_than_a_node_has_room_for_are_whole_or_an_outage(document_settings, monkeypatch):
    """26 months by 16 listings are more points in time than OpenSearch holds: none lacks a month."""
    monkeypatch.setattr(adapter, "DEADLINE_SECONDS", 1)
    monkeypatch.setattr(adapter, "PAGE", 4)
    settings = document_settings("opensearch")
    with opened(settings, settings["SKYTALLY_DOCUMENTS"]) as documents:
        write_months(documents)
        documents.refresh()
        under_way = [documents.find("interval", Interval, {}) for _ in range(16)]
        begun = [(first, one) for one in under_way if (first := begin(one)) is not None]
        assert 0 < len(begun) < len(under_way)
        for first, rest in begun:
            assert [first, *(key for key, _ in rest)] == KEYS
        # A span's own months are few, so there is room for many at once.
        monkeypatch.setattr(adapter, "DEADLINE_SECONDS", 8)
        span = (month_of(20), month_of(20) + HOUR)
        assert (
            len(
                listing.indices_of(documents.client, settings["SKYTALLY_DOCUMENTS_PREFIX"], "interval", span).split(",")
            )
            < 8
        )

        def listed(_):
            return [key for key, _ in documents.during("interval", Interval, "from_at", span, {})]

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(listed, range(64))) == [[KEYS[20]]] * 64


def test_a_busy_node_is_waited_for(document_settings):
    """As a bulk is: a listing begins once others are over."""
    settings = document_settings("opensearch")
    with opened(settings, settings["SKYTALLY_DOCUMENTS"]) as documents:
        write_months(documents)
        documents.refresh()
        client, prefix, points = documents.client, settings["SKYTALLY_DOCUMENTS_PREFIX"], []
        with contextlib.suppress(Refused):
            while len(points) < 300:
                points.append(listing.opened(client, f"{prefix}-interval"))
        assert len(points) < 20

        def close():
            for point in points:
                client.perform("DELETE", client.dialect.close_path, body=client.dialect.closing(point))

        relief = threading.Timer(1, close)
        relief.start()
        assert len(list(documents.find("interval", Interval, {}))) == 26
        relief.join()
