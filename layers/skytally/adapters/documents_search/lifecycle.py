"""Retention by the engine itself, for sites that want it: ILM of Elasticsearch, ISM of OpenSearch. Off by default.

`skytally retention` and documents_forget do the same without it, and remove the other details too.

::

    <prefix>-interval     the policy; with ILM, the component template that names it for months to come
"""

from typing import Any

from skytally.adapters.documents_search.installation import put_component
from skytally.adapters.documents_search.templates import MONTHLY, alias, lifecycle_component, other_months
from skytally.adapters.documents_search.wire import Client, Refused
from skytally.core.errors import Malformed

# An index begins with its month, so that its last interval is a month younger than it.
MONTH_DAYS = 31
NO_HANDLER = {400, 405}
NOT_FOUND = 404


def policy(days: int) -> dict[str, Any]:
    """Return ILM's policy: an index is deleted once everything in it is older than these days.

    Before, it is neither shrunk, merged nor made read-only: late reports and corrections still come.
    """
    delete = {"min_age": f"{days + MONTH_DAYS}d", "actions": {"delete": {}}}
    return {"phases": {"hot": {"actions": {}}, "delete": delete}, "_meta": {"application": "skytally"}}


def ism_policy(prefix: str, days: int) -> dict[str, Any]:
    """Write the same for ISM, which finds months to come by their names."""
    gone = {"state_name": "gone", "conditions": {"min_index_age": f"{days + MONTH_DAYS}d"}}
    states = [
        {"name": "kept", "actions": [], "transitions": [gone]},
        {"name": "gone", "actions": [{"delete": {}}], "transitions": []},
    ]
    patterns = {"index_patterns": [f"{alias(prefix, MONTHLY)}-2*"], "priority": 100}
    return {
        "policy": {"description": "skytally", "default_state": "kept", "states": states, "ism_template": [patterns]}
    }


def switch(client: Client, prefix: str, days: int) -> None:
    """Set the engine's removal of intervals after some days, for existing and future indices; 0 switches it off.

    Raise Malformed where this edition has no such thing, and then nothing has changed.
    """
    if client.dialect.name == "opensearch":
        _switch_ism(client, prefix, days)
    else:
        _switch_ilm(client, prefix, days)


def _switch_ilm(client: Client, prefix: str, days: int) -> None:
    name, months = alias(prefix, MONTHLY), f"{alias(prefix, MONTHLY)}-*,-{other_months(prefix)}"
    if days:
        _put(client, f"/_ilm/policy/{name}", {"policy": policy(days)})
    elif _named(client, prefix) is None:
        return
    setting = {"index": {"lifecycle": {"name": name if days else None}}}
    put_component(client, lifecycle_component(prefix), setting if days else {})
    client.perform("PUT", f"/{months}/_settings", body=setting)
    if not days:
        client.perform("DELETE", f"/_ilm/policy/{name}")


def _switch_ism(client: Client, prefix: str, days: int) -> None:
    name, months = alias(prefix, MONTHLY), f"{alias(prefix, MONTHLY)}-2*"
    current = _ism_version(client, name)
    if days:
        _put(client, f"/_plugins/_ism/policies/{name}", ism_policy(prefix, days), current)
        client.perform("POST", f"/_plugins/_ism/add/{months}", body={"policy_id": name})
    elif current:
        client.perform("POST", f"/_plugins/_ism/remove/{months}")
        client.perform("DELETE", f"/_plugins/_ism/policies/{name}")


def _ism_version(client: Client, name: str) -> dict[str, int]:
    """Return which version of the policy there is, as its replacement has to say; nothing where there is none."""
    try:
        there = client.perform("GET", f"/_plugins/_ism/policies/{name}")
    except Refused as error:
        if error.status in {NOT_FOUND, *NO_HANDLER}:
            return {}
        raise
    return {"if_seq_no": there["_seq_no"], "if_primary_term": there["_primary_term"]}


def _put(client: Client, path: str, body: dict[str, Any], params: dict[str, int] | None = None) -> None:
    try:
        client.perform("PUT", path, params, body)
    except Refused as error:
        if error.status in NO_HANDLER:
            title, kind = client.dialect.title, "ISM" if client.dialect.name == "opensearch" else "ILM"
            raise Malformed(
                f"this edition of {title} has no {kind}: leave --ilm-days out, documents_forget removes intervals"
            ) from None
        raise


def _named(client: Client, prefix: str) -> str | None:
    """Return the policy that months to come are made with."""
    try:
        component = client.perform(
            "GET", f"/_component_template/{lifecycle_component(prefix)}", {"flat_settings": True}
        )
    except Refused as error:
        if error.status == NOT_FOUND:
            return None
        raise
    name: str | None = (
        component["component_templates"][0]["component_template"]["template"]
        .get("settings", {})
        .get("index.lifecycle.name")
    )
    return name
