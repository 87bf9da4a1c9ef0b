"""The bodies that a search engine gets: lines of a bulk, and when a body is compressed."""

import gzip
from datetime import timedelta, timezone

import msgspec
import pytest

from skytally.adapters.documents_search import connect
from skytally.adapters.documents_search.lines import line
from skytally.adapters.documents_search.templates import MAX_ID_BYTES, id_of
from skytally.adapters.documents_search.wire import COMPRESSED_FROM_BYTES, encoded
from skytally.core.documents import Label
from skytally.core.ports import Write
from tests.support.documents import AT, HOUR, interval
from tests.support.recording_server import json_reply, recording_server


def parsed(write):
    """Return the two lines as the engine reads them."""
    text = line("x", write, msgspec.structs.astuple(write.document))
    assert text.count(b"\n") == 2
    return [msgspec.json.decode(part) for part in text.splitlines()]


@pytest.mark.parametrize("key", ["k", 'a "quoted" \\ name\n', "Zürich", "k" * (MAX_ID_BYTES + 1)])
def test_a_line_names_its_document_by_the_whole_key(key):
    action, source = parsed(Write("label", key, 7, Label(boot_id="b")))
    assert action == {
        "index": {"_index": "x-label", "_id": id_of(key), "version": 7, "version_type": "external_gte"},
    }
    assert source == {"boot_id": "b", "key": key}


def test_a_create_has_no_version():
    action, _ = parsed(Write("label", "k", 7, Label(boot_id="b"), create=True))
    assert action == {"create": {"_index": "x-label", "_id": "k"}}


def test_an_interval_goes_to_its_month_with_the_boundaries_that_it_crosses():
    write = interval("vm", AT, AT + HOUR / 2, 8)
    action, source = parsed(write)
    assert action["index"]["_index"].startswith("x-interval-")
    assert source["key"] == write.key
    assert source.items() >= {"hours_crossed": 0, "days_crossed": 0}.items()
    later = parsed(interval("vm", AT + HOUR / 2, AT + HOUR * 3 / 2, core_ms=10))[1]
    assert (later["hours_crossed"], later["after"]["core_ms"]) == (1, 5)


def test_times_are_sent_in_utc():
    write = interval("vm", AT, AT + HOUR, 8)
    document = msgspec.structs.replace(write.document, from_at=AT.astimezone(timezone(timedelta(hours=20))))
    assert parsed(msgspec.structs.replace(write, document=document)) == parsed(write)


def test_large_bodies_are_compressed_and_small_ones_are_not():
    lines = b'{"index":{}}\n' * COMPRESSED_FROM_BYTES
    payload, headers = encoded(lines)
    assert len(payload) < len(lines) / 10
    assert gzip.decompress(payload) == lines
    assert headers.items() >= {"content-type": "application/x-ndjson", "content-encoding": "gzip"}.items()
    payload, headers = encoded({"size": 0})
    assert payload == b'{"size":0}'
    assert headers["content-type"] == "application/json"
    assert "content-encoding" not in headers
    assert "content-type" not in encoded(None)[1]


ROOTS = {
    "elasticsearch": {"version": {"number": "8.19.0"}},
    "opensearch": {"version": {"number": "2.19.0", "distribution": "opensearch"}},
}


@pytest.mark.parametrize("engine", ROOTS)
def test_each_engines_client_sends_a_body_as_it_was_compressed(engine):
    """A client of its own that compressed again, or added a line's end, would spoil it."""
    product = {"X-Elastic-Product": "Elasticsearch"} if engine == "elasticsearch" else {}
    lines, answer = b'{"index":{}}\n' * COMPRESSED_FROM_BYTES, {"errors": False}

    def respond(request):
        return json_reply(ROOTS[engine] if request.path == "/" else answer, **product)

    with recording_server(respond) as server:
        client = connect([server.url], "", "")
        assert client.perform("POST", "/_bulk", body=lines) == answer
        assert client.perform("POST", "/_search", body={"size": 0}) == answer
        client.close()
    bulk, search = server.requests[-2:]
    assert (bulk.headers["content-encoding"], gzip.decompress(bulk.body)) == ("gzip", lines)
    assert "x-ndjson" in bulk.headers["content-type"]
    assert (search.headers["content-encoding"], search.body) == (None, b'{"size":0}')
    assert {request.headers["accept-encoding"] for request in (bulk, search)} == {"gzip"}
