"""The sites that properties begin with: while one is there, this process is that site."""

from collections.abc import Iterator

import pytest

from tests.properties.beginning import Beginning, Elasticsearch, beginning


@pytest.fixture(scope="module", name="beginning")
def _beginning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beginning]:
    """A site on SQLite and files."""
    with beginning(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture
def beginning_on_elasticsearch(running, tmp_path) -> Iterator[Beginning]:
    """A site on the real Elasticsearch and files."""
    documents = Elasticsearch(running["elasticsearch"].settings)
    with beginning(tmp_path, documents) as made:
        yield made
        documents.clear()
