"""The sites that properties begin with: while one is there, this process is that site."""

from collections.abc import Iterator

import pytest

from tests.properties.beginning import Beginning, SearchEngine, beginning
from tests.support.builders import SEARCH_ENGINES


@pytest.fixture(scope="module", name="beginning")
def _beginning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beginning]:
    """A site on SQLite and files."""
    with beginning(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(params=SEARCH_ENGINES)
def beginning_on_engine(request, running, tmp_path) -> Iterator[Beginning]:
    """A site on each real search engine and files."""
    documents = SearchEngine(running[request.param].settings)
    with beginning(tmp_path, documents) as made:
        yield made
        documents.clear()
