"""A client of a skytally deployment for the operator's commands: JSON over HTTP, with time-outs and clear errors."""

import json
from pathlib import Path
from typing import Any

import tenacity
import urllib3

from skytally.core.errors import Forbidden, Malformed, Unauthenticated, Unavailable
from skytally.core.plain_text import printable
from skytally.deployment.function_urls import check_base, url_of

SECONDS = urllib3.Timeout(connect=5.0, read=60.0)
TRIES, PAUSES = tenacity.stop_after_attempt(5), tenacity.wait_exponential(multiplier=0.5, max=4)
MOST_BYTES = 4 << 20
KINDS = {400: Malformed, 401: Unauthenticated, 403: Forbidden, 429: Unavailable, 503: Unavailable}


class Deployment:
    """One deployment and one token for it."""

    def __init__(
        self, base: str, token: str | None = None, ca_file: Path | None = None, *, insecure: bool = False
    ) -> None:
        check_base(base, insecure=insecure)
        self._base = base.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=False, ca_certs=str(ca_file) if ca_file else None)

    def post(self, function: str, body: Any, **headers: str) -> Any:
        """Post JSON and return the JSON answer; the request must be idempotent, since it is retried."""
        all_headers = {**self._headers, **headers, "Content-Type": "application/json"}
        answer = self._call("POST", function, {"body": json.dumps(body).encode(), "headers": all_headers})
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise Malformed(f"{self._base} answered no JSON: check --base") from None

    def get(self, path: str) -> bytes:
        """Return a whole file or answer."""
        return self._call("GET", path, {"headers": self._headers})

    def _call(self, method: str, path: str, options: dict[str, Any]) -> bytes:
        """Return an answer, with retries for some seconds while the deployment is away."""
        is_away = tenacity.retry_if_exception_type(Unavailable)
        return tenacity.Retrying(retry=is_away, stop=TRIES, wait=PAUSES, reraise=True)(
            self._once, method, path, options
        )

    def _once(self, method: str, path: str, options: dict[str, Any]) -> bytes:
        """Return the answer to one request, at most MOST_BYTES; follow no redirect: it would leak token and payload."""
        url, options = url_of(self._base, path), {**options, "preload_content": False, "decode_content": False}
        try:
            with self._pool.request(method, url, redirect=False, **options) as answer:
                status, data = answer.status, answer.read(MOST_BYTES + 1)
        except urllib3.exceptions.SSLError:
            raise Malformed(
                f"{self._base} is not trusted: name by --ca the file with the CA of its certificate"
            ) from None
        except urllib3.exceptions.HTTPError:
            raise Unavailable(f"{self._base} does not answer: check --base and try again") from None
        if not 200 <= status < 300:
            raise KINDS.get(status, Malformed if status < 500 else Unavailable)(_message(status, data))
        if len(data) > MOST_BYTES:
            raise Malformed(f"{self._base} answered more than {MOST_BYTES} bytes: check --base")
        return data


def _message(status: int, data: bytes) -> str:
    """Return what the server says is wrong, as text that does nothing to a terminal."""
    try:
        error = json.loads(data)["error"]
        return printable(f"{error['message']} ({error['code']})")
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"the server answered {status}: check --base"
