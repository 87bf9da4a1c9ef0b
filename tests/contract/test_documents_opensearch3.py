"""The promises of the documents port on OpenSearch 3, where this machine has the Java for it."""

import pytest

from tests.contract.test_documents import *  # noqa: F403


@pytest.fixture
def documents_settings(document_settings):
    return document_settings("opensearch-3")
