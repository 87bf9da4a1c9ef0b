"""Who may do what in a search engine:
each group of functions has a credential, which can do what they do and nothing else.

Elasticsearch has API keys for that. OpenSearch has none before 3.7, so each group is a user with a password and a role.
"""

from datetime import datetime
from types import ModuleType

from skytally.adapters.documents_search.groups import FUNCTIONS
from skytally.adapters.documents_search.wire import Client

__all__ = ["FUNCTIONS", "end_credentials", "make_credential"]


def make_credential(client: Client, prefix: str, group: str, days: int, now: datetime) -> str:
    """Create a group's credential for some days, and return the content of its file."""
    credential: str = _engine(client).make(client, prefix, group, days, now)
    return credential


def end_credentials(client: Client, prefix: str) -> int:
    """Revoke every credential of every group, and return how many; none is success."""
    return sum(_engine(client).end(client, prefix, group) for group in FUNCTIONS)


def _engine(client: Client) -> ModuleType:
    if client.dialect.name == "opensearch":
        from skytally.adapters.documents_search import access_opensearch

        return access_opensearch
    from skytally.adapters.documents_search import access_elasticsearch

    return access_elasticsearch
