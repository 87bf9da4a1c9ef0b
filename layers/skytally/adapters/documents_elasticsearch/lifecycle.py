"""ILM, for editions of Elasticsearch that have it and sites that want it: the server itself removes a month's intervals. Off by default.

`skytally retention` and documents_forget do the same without it, and remove the other details too.

::

    <prefix>-interval     the policy, and the component template that names it for months to come
"""

from typing import Any

from elasticsearch import ApiError, Elasticsearch, NotFoundError

from skytally.adapters.documents_elasticsearch.templates import MONTHLY, alias, lifecycle_component, other_months
from skytally.errors import Malformed

# An index begins with its month, so that its last interval is a month younger than it.
MONTH_DAYS = 31
NO_HANDLER = {400, 405}


def policy(days: int) -> dict[str, Any]:
    """Write the policy: nothing happens to an index until all that is in it is so many days old, and then it goes as a whole.

    Indices are neither shrunk, nor merged, nor made read-only before: late reports and corrections still come.
    """
    gone = {"min_age": f"{days + MONTH_DAYS}d", "actions": {"delete": {}}}
    return {"phases": {"hot": {"actions": {}}, "delete": gone}, "_meta": {"application": "skytally"}}


def switch(client: Elasticsearch, prefix: str, days: int) -> None:
    """Let ILM remove intervals after so many days, in the indices that are there and in those to come; 0: not any more.

    Raises Malformed where this edition has no ILM, and then nothing has changed.
    """
    name, months = alias(prefix, MONTHLY), f"{alias(prefix, MONTHLY)}-*,-{other_months(prefix)}"
    if days:
        _put_policy(client, name, days)
    elif _named(client, prefix) is None:
        return
    setting = {"index": {"lifecycle": {"name": name if days else None}}}
    client.cluster.put_component_template(name=lifecycle_component(prefix), template={"settings": setting if days else {}})
    client.indices.put_settings(index=months, settings=setting)
    if not days:
        client.ilm.delete_lifecycle(name=name)


def _put_policy(client: Elasticsearch, name: str, days: int) -> None:
    try:
        client.ilm.put_lifecycle(name=name, policy=policy(days))
    except ApiError as error:
        if error.status_code in NO_HANDLER:
            raise Malformed("this edition of Elasticsearch has no ILM: leave --ilm-days out, documents_forget removes intervals") from None
        raise


def _named(client: Elasticsearch, prefix: str) -> str | None:
    """Answer the policy that months to come are made with."""
    try:
        found = client.cluster.get_component_template(name=lifecycle_component(prefix), flat_settings=True)
    except NotFoundError:
        return None
    name: str | None = found["component_templates"][0]["component_template"]["template"].get("settings", {}).get("index.lifecycle.name")
    return name
