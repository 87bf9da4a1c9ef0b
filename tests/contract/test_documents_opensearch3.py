"""The promises of the documents port on OpenSearch 3, where this machine has the Java for it."""

import pytest
from test_documents import *  # noqa: F403

from localstack.opensearch_node import OpenSearch3
from localstack.search_server import java_home
from localstack.servers import Missing


def without_java():
    try:
        java_home(OpenSearch3.java, f"OpenSearch {OpenSearch3.version}")
    except Missing as missing:
        return str(missing)
    return ""


pytestmark = [pytest.mark.servers, pytest.mark.skipif(bool(without_java()), reason=without_java() or "it is there")]


@pytest.fixture
def documents_settings(document_settings):
    return document_settings("opensearch-3")
