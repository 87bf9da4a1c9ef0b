"""Functions on an OpenFaaS gateway, by its REST API.

::

    GET  /system/function/NAME     what runs now (404: nothing)
    PUT  /system/functions         make or change          202
    DELETE /system/functions       {"functionName"}        202, 404 when it was not there
    POST|PUT /system/secrets       {"name", "value"}       202
"""

import json
from pathlib import Path
from typing import Any

import urllib3

from skytally.errors import Forbidden, Malformed, Unavailable

SECONDS = urllib3.Timeout(connect=5.0, read=60.0)
COMPARED = ("image", "envVars", "secrets", "labels", "annotations", "limits", "requests", "readOnlyRootFilesystem")


class OpenFaasFunctions:
    """One gateway and its administrator."""

    def __init__(self, gateway: str, password: str, ca_file: Path | None = None) -> None:
        self._gateway = gateway.rstrip("/")
        self._headers = urllib3.util.make_headers(basic_auth=f"admin:{password}") | {"Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=False, ca_certs=str(ca_file) if ca_file else None)

    def put(self, spec: dict[str, Any]) -> bool:
        """Make a function, or change it where it is not so already; answers whether anything changed."""
        running = self._running(spec["service"])
        if running is not None and all(running.get(name) == spec.get(name) for name in COMPARED):
            return False
        self._call("PUT", "/system/functions", spec, {200, 202})
        return True

    def remove(self, name: str) -> bool:
        """Remove a function; answers whether it was there."""
        return self._call("DELETE", "/system/functions", {"functionName": name}, {200, 202, 404}).status != 404

    def put_secret(self, name: str, value: str) -> None:
        """Keep a secret under a name, replacing what was there."""
        if self._call("POST", "/system/secrets", {"name": name, "value": value}, {200, 201, 202, 409}).status == 409:
            self._call("PUT", "/system/secrets", {"name": name, "value": value}, {200, 202})

    def remove_secret(self, name: str) -> None:
        """Forget a secret; one that is not there is success."""
        self._call("DELETE", "/system/secrets", {"name": name}, {200, 202, 404})

    def _running(self, name: str) -> dict[str, Any] | None:
        answer = self._call("GET", f"/system/function/{name}", None, {200, 404})
        found: dict[str, Any] | None = json.loads(answer.data) if answer.status == 200 else None
        return found

    def _call(self, method: str, path: str, body: Any, expected: set[int]) -> urllib3.BaseHTTPResponse:
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(method, self._gateway + path, body=data, headers=self._headers)
        except urllib3.exceptions.HTTPError:
            raise Unavailable(f"the gateway at {self._gateway} does not answer: check its address and try again") from None
        if answer.status in expected:
            return answer
        if answer.status in {401, 403}:
            raise Forbidden("the gateway refuses the password: check the password file")
        if answer.status >= 500:
            raise Unavailable(f"the gateway answered {answer.status}: try again")
        said = answer.data.decode(errors="replace")[:300] if path == "/system/functions" else ""
        raise Malformed(f"the gateway refuses this with {answer.status}: {said}")
