"""A skytally deployment as its operator's commands call it: JSON over HTTP, with time-outs and errors that say what to do."""

import json
from pathlib import Path
from typing import Any

import urllib3

from skytally.errors import Forbidden, Malformed, Unauthenticated, Unavailable

SECONDS = urllib3.Timeout(connect=5.0, read=60.0)
RETRIES = urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=[503], allowed_methods=None, raise_on_status=False)
KINDS = {400: Malformed, 401: Unauthenticated, 403: Forbidden, 503: Unavailable}


class Deployment:
    """One deployment and one token for it."""

    def __init__(self, base: str, token: str | None = None, ca_file: Path | None = None) -> None:
        self._base = base.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=RETRIES, ca_certs=str(ca_file) if ca_file else None)

    def post(self, function: str, body: Any, **headers: str) -> Any:
        """Send JSON and answer JSON; a repeated request must be harmless, since lost replies are asked for again."""
        sent = {**self._headers, **headers, "Content-Type": "application/json"}
        answer = self._call("POST", function, {"body": json.dumps(body).encode(), "headers": sent})
        try:
            return json.loads(answer)
        except ValueError:
            raise Malformed(f"{self._base} answered no JSON: check --base") from None

    def get(self, path: str) -> bytes:
        """Read a file or an answer whole."""
        return self._call("GET", path, {"headers": self._headers})

    def _call(self, method: str, path: str, how: dict[str, Any]) -> bytes:
        """Ask, and follow no redirect: a token and a payload must not travel on."""
        try:
            answer = self._pool.request(method, f"{self._base}/function/{path}", redirect=False, **how)
        except urllib3.exceptions.HTTPError:
            raise Unavailable(f"{self._base} does not answer: check --base and try again") from None
        if not 200 <= answer.status < 300:
            raise KINDS.get(answer.status, Malformed if answer.status < 500 else Unavailable)(_said(answer))
        return answer.data


def _said(answer: urllib3.BaseHTTPResponse) -> str:
    try:
        error = json.loads(answer.data)["error"]
        return f"{error['message']} ({error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status}: check --base"
