"""Answers of what is no search engine, such as a gateway's JSON: an outage, never a crash or "not found"."""

import contextlib
import json

import pytest

from skytally.adapters.documents_search import SearchDocuments, connect
from skytally.core.documents import Closing, Label
from skytally.core.errors import Unavailable
from tests.support.recording_server import json_reply, recording_server

ENGINE = {"version": {"distribution": "opensearch", "number": "2.19.0"}}
INSTALLED = {"x": {"mappings": {"_meta": {"skytally": 99}}}}
READS = {
    "get": lambda documents: documents.get("label", "k", Label),
    "get_many": lambda documents: documents.get_many("label", ["k"], Label),
    "find": lambda documents: list(documents.find("closing", Closing, {})),
    "count": lambda documents: documents.count("label"),
}


@contextlib.contextmanager
def gateway(answer):
    """Serve an engine whose data somebody else answers for."""

    def respond(request):
        if request.path == "/":
            return json_reply(ENGINE)
        return json_reply(INSTALLED if "_mapping" in request.path else answer)

    with (
        recording_server(respond) as server,
        contextlib.closing(SearchDocuments(connect([server.url], "", ""), "sky")) as documents,
    ):
        yield documents


@pytest.mark.parametrize("answer", [{}, [], {"docs": []}, {"hits": {}}, {"status": "ok"}], ids=json.dumps)
def test_json_of_somebody_else_is_an_outage(answer):
    with gateway(answer) as documents:
        for name, read in READS.items():
            with pytest.raises(Unavailable):
                raise AssertionError(name, read(documents))
