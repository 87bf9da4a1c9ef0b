"""Files of boards as the command line writes them, and what an index lets them ask."""

import itertools
from collections import Counter

from click.testing import CliRunner

from skytally.adapters.documents_search.templates import mappings
from skytally.cli import cli

PREFIX = "t-1"
ALLOWED = {
    "sum": {"long", "double"},
    "average": {"long", "double"},
    "avg": {"long", "double"},
    "unique_count": {"keyword"},
    "cardinality": {"keyword"},
    "terms": {"keyword", "boolean", "long", "double"},
    "date_histogram": {"date"},
}


def run(*words):
    done = CliRunner().invoke(cli, ["dashboards", *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def kind_of(index, field):
    """Return a field's type in its index, which must keep it in columns."""
    found = mappings(index)["properties"][field]
    assert found.get("doc_values", True), (index, field)
    return found["type"]


def index_of(name):
    assert name.startswith(f"{PREFIX}-")
    return name.removeprefix(f"{PREFIX}-")


def overlapping(places):
    cells = Counter(cell for x, y, w, h in places for cell in itertools.product(range(x, x + w), range(y, y + h)))
    return [cell for cell, times in cells.items() if times > 1]
