"""A client of a Kubernetes API server and one namespace, with the calls that a deployment needs."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from skytally.adapters.functions_knative.kubeconfig import Access
from skytally.core.errors import Forbidden, Malformed, NotFound, SkytallyError, Unavailable
from skytally.core.plain_text import printable

CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
MOST_LETTERS = 500
FIELD_MANAGER = "skytally"
# Objects are asked for by what they are called in a path.
PATHS = {
    "Namespace": ("v1", "namespaces"),
    "Pod": ("v1", "pods"),
    "Secret": ("v1", "secrets"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "CronJob": ("batch/v1", "cronjobs"),
    "Service": ("serving.knative.dev/v1", "services"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
}
UNKNOWN_FIELD = "field not declared in schema"
NAMES_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class Cluster:
    """One API server and one namespace; `seconds` is the time limit for one answer."""

    def __init__(self, access: Access, namespace: str, seconds: float = READ_SECONDS) -> None:
        self._access, self._namespace = access, namespace
        names: dict[str, Any] = (
            {"server_hostname": access.server_name, "assert_hostname": access.server_name} if access.server_name else {}
        )
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS, total=seconds)
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, ssl_context=access.context, **names)

    def apply(self, kind: str, name: str, manifest: bytes, *, dry_run: bool = False) -> dict[str, Any]:
        """Create or update an object and return it; raise Malformed for a field that the server does not know."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        return self._json(
            "PATCH", kind, name, query, body=manifest, headers={"Content-Type": "application/apply-patch+yaml"}
        )

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        try:
            return self._json("GET", kind, name, {})
        except NotFound:
            return None

    def select(self, kind: str, **selectors: str) -> list[dict[str, Any]]:
        """Return the matching objects; of secrets only the names leave the server."""
        headers = {"Accept": NAMES_ALONE} if kind == "Secret" else {}
        items = self._json("GET", kind, "", selectors, headers=headers).get("items")
        return items if isinstance(items, list) else []

    def delete(self, kind: str, name: str) -> bool:
        """Remove an object and its dependents; return whether it existed."""
        try:
            self._json("DELETE", kind, name, {"propagationPolicy": "Background"})
        except NotFound:
            return False
        return True

    def log(self, pod: str, container: str, lines: int, *, previous: bool) -> str:
        """Return the end of a container's log; empty if the caller may not read it or the container never ran."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        answer = self._ask("GET", "Pod", f"{pod}/log", query, None, {})
        return answer.data.decode(errors="replace") if answer.status == 200 else ""

    def _json(
        self,
        method: str,
        kind: str,
        name: str,
        query: Mapping[str, str],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        answer = self._ask(method, kind, name, query, body, headers or {})
        if answer.status not in {200, 201, 202}:
            raise _refusal(answer, f"{kind} {name}".strip())
        return _object(answer)

    def _ask(
        self,
        method: str,
        kind: str,
        name: str,
        query: Mapping[str, str],
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> urllib3.BaseHTTPResponse:
        version, plural = PATHS[kind]
        parts = ["", "api" if version == "v1" else "apis", version]
        parts += [plural] if kind == "Namespace" else ["namespaces", self._namespace, plural]
        path = quote("/".join([*parts, *([name] if name else [])])) + (f"?{urlencode(query)}" if query else "")
        all_headers = {"Accept": "application/json", **self._access.headers(), **headers}
        try:
            return self._pool.request(
                method, self._access.server + path, body=body, headers=all_headers, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            why = (
                "its certificate is not trusted"
                if isinstance(error, urllib3.exceptions.SSLError)
                else "check its address and try again"
            )
            raise Unavailable(f"the cluster at {self._access.server} does not answer: {why}") from None


def _object(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        fields = json.loads(answer.data)
    except (ValueError, RecursionError):
        raise Unavailable("the cluster answered something that is no JSON: is this an API server?") from None
    return fields if isinstance(fields, dict) else {}


def _refusal(answer: urllib3.BaseHTTPResponse, what: str) -> SkytallyError:
    """Return the error of an answer, with the server's text."""
    try:
        words = str(json.loads(answer.data)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        words = answer.data.decode(errors="replace")
    words = printable(" ".join(words.split()), MOST_LETTERS)
    match answer.status:
        case 401:
            return Forbidden("the cluster does not know these credentials: make new ones, or name another kubeconfig")
        case 403:
            return Forbidden(f"the cluster refuses this: {words}")
        case 404:
            return NotFound(f"{what}: {words}")
        case 409 | 429:
            return Unavailable(
                f"{what}: somebody else changes it at the same moment, or too many ask: try again ({words})"
            )
        # Server-side apply answers 500 for a field that it does not know.
        case status if status >= 500 and UNKNOWN_FIELD not in words:
            return Unavailable(f"{what}: the cluster answered {status}: {words}")
        case status:
            return Malformed(f"{what}: the cluster refuses this with {status}: {words}")
