"""Functions on an OpenFaaS gateway, by its REST API.

::

    GET  /system/function/NAME     what runs now (404: nothing)
    POST /system/functions         make        202, before anything runs
    PUT  /system/functions         change      202, 404 where it is not there; 200 of some, and nothing changed
    DELETE /system/functions       {"functionName"}        202, 404 when it was not there
    GET|POST|PUT|DELETE /system/secrets   {"name", "value"}   202, 409 for a POST of what is there; GET tells names alone
    GET  /system/logs?name=&tail=  JSON lines {"name", "instance", "text"}
    GET  /function/NAME/_/ready    what answers

A gateway shows neither environment nor root file system of what runs, and adds labels of its own. So what is so already is told by an
annotation of ours, and which version answers by that version itself.
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import tenacity
import urllib3

from skytally.errors import Forbidden, Malformed, Unavailable
from skytally.plain_text import printable
from skytally.ports import Running, Specification

SECONDS = urllib3.Timeout(connect=5.0, read=60.0)
TRIES, PAUSES = tenacity.stop_after_attempt(5), tenacity.wait_exponential(multiplier=1, max=4)
DIGEST = "skytally/digest"
LABELS = {"app": "skytally"}
LOG_LINES, MOST_LETTERS = 5, 500


class OpenFaasFunctions:
    """One gateway and its administrator."""

    def __init__(self, gateway: str, password: str, ca_file: Path | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        self._gateway, self._tell = gateway.rstrip("/"), tell
        self._headers = urllib3.util.make_headers(basic_auth=f"admin:{password}") | {"Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=False, ca_certs=str(ca_file) if ca_file else None)

    def put(self, wanted: Specification) -> None:
        """Change a function, or make it where there is none; somebody else may make it in between."""
        body = body_of(wanted)
        answer = self._ask("PUT", "/system/functions", body)
        if answer.status == 404:
            answer = self._ask("POST", "/system/functions", body)
            if not _is_taken(answer) and self._shown(wanted.service) is not None:
                answer = self._ask("PUT", "/system/functions", body)
        if not _is_taken(answer):
            raise _refusal(answer, wanted.service)

    def running(self, wanted: Specification) -> Running | None:
        """Look at one function, by what the gateway shows of it and by what it answers itself."""
        shown = self._shown(wanted.service)
        if shown is None:
            return None
        digest, image = (shown.get("annotations") or {}).get(DIGEST), str(shown.get("image"))
        if digest != wanted.digest:
            words = "the gateway keeps another version: can it pull the image?" if digest else "somebody else deployed this"
            return Running(digest, image, words=words)
        answer = self._pool_request("GET", f"/function/{wanted.service}/_/ready", None, {})
        answering = _json(answer).get("deployment") if answer.status == 200 else None
        if answering == digest:
            return Running(digest, image, is_ready=True)
        state = "another version answers still" if answering else "it does not answer yet"
        return Running(digest, image, words=state + self._said(wanted.service))

    def services(self) -> dict[str, str | None]:
        """Return the functions that carry our label."""
        listed = self._call("GET", "/system/functions", None, {200})
        ours = [one for one in json.loads(listed.data) if LABELS.items() <= (one.get("labels") or {}).items()]
        return {one["name"]: (one.get("annotations") or {}).get(DIGEST) for one in ours}

    def remove(self, service: str) -> bool:
        """Remove a function."""
        return self._call("DELETE", "/system/functions", {"functionName": service}, {200, 202, 404}).status != 404

    def secrets(self) -> set[str]:
        """Return the names of the secrets."""
        return {one["name"] for one in json.loads(self._call("GET", "/system/secrets", None, {200}).data)}

    def put_secret(self, name: str, value: str) -> None:
        """Keep a secret, replacing what was there."""
        secret = {"name": name, "value": value}
        answer = self._ask("POST", "/system/secrets", secret)
        if not _is_taken(answer) and name in self.secrets():
            answer = self._ask("PUT", "/system/secrets", secret)
        if not _is_taken(answer):
            raise Malformed(f"the gateway refuses the secret {name} with {answer.status}")

    def remove_secret(self, name: str) -> bool:
        """Forget a secret; gateways differ in how they answer for one that is not there."""
        if name not in self.secrets():
            return False
        self._call("DELETE", "/system/secrets", {"name": name}, {200, 202, 404})
        return True

    def _shown(self, service: str) -> dict[str, Any] | None:
        answer = self._call("GET", f"/system/function/{service}", None, {200, 404})
        return _json(answer) if answer.status == 200 else None

    def _said(self, service: str) -> str:
        """Return the end of what a function's processes wrote, as far as the gateway tells it."""
        answer = self._ask("GET", f"/system/logs?name={service}&tail={LOG_LINES}&follow=false", None)
        lines = answer.data.decode(errors="replace").splitlines() if answer.status == 200 else []
        words = " ".join(_line(line) for line in lines[-LOG_LINES:] if line.strip())
        return f"; its log ends: {printable(words)[-MOST_LETTERS:]}" if words else ""

    def _call(self, method: str, path: str, body: Any, expected: Collection[int]) -> urllib3.BaseHTTPResponse:
        answer = self._ask(method, path, body)
        if answer.status not in expected:
            raise _refusal(answer, path)
        return answer

    def _ask(self, method: str, path: str, body: Any) -> urllib3.BaseHTTPResponse:
        answer = self._pool_request(method, path, None if body is None else json.dumps(body).encode(), self._headers)
        if answer.status in {401, 403}:
            raise Forbidden("the gateway refuses the password: check the password file")
        return answer

    def _pool_request(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """Ask, and again for some seconds where nothing answers: whatever is asked may be asked twice."""
        is_away = tenacity.retry_if_exception_type(urllib3.exceptions.HTTPError)
        tries = tenacity.Retrying(retry=is_away, stop=TRIES, wait=PAUSES, before_sleep=self._tell_of, reraise=True)
        try:
            return tries(self._pool.request, method, self._gateway + path, body=data, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError:
            raise Unavailable(f"the gateway at {self._gateway} does not answer: check its address and try again") from None

    def _tell_of(self, state: tenacity.RetryCallState) -> None:
        self._tell(f"the gateway at {self._gateway} does not answer, and is asked again in {state.upcoming_sleep:.0f} s")


def body_of(wanted: Specification) -> dict[str, Any]:
    """Return what the gateway takes to make or change a function; two annotations are cron-connector's."""
    timer = {"topic": "cron-function", "schedule": wanted.schedule} if wanted.schedule else {}
    return {
        "service": wanted.service,
        "image": wanted.image,
        "envVars": wanted.environment,
        "secrets": list(wanted.secrets),
        "labels": LABELS,
        "annotations": timer | {DIGEST: wanted.digest},
        "limits": {"memory": wanted.memory_limit},
        "requests": {"memory": wanted.memory_request},
        "readOnlyRootFilesystem": True,
    }


def stack(wanted: Collection[Specification]) -> dict[str, Any]:
    """Return what stack.yml says: the same functions, as `faas-cli deploy` takes them."""
    return {"version": "1.0", "provider": {"name": "openfaas"}, "functions": {one.service: _stacked(body_of(one)) for one in wanted}}


def _stacked(body: dict[str, Any]) -> dict[str, Any]:
    same = {name: body[name] for name in ("image", "secrets", "labels", "annotations", "limits", "requests")}
    return {"lang": "dockerfile", "skip_build": True, "environment": body["envVars"], "readonly_root_filesystem": True, **same}


def _is_taken(answer: urllib3.BaseHTTPResponse) -> bool:
    return answer.status in {200, 201, 202}


def _refusal(answer: urllib3.BaseHTTPResponse, what: str) -> Malformed | Unavailable:
    words = printable(answer.data.decode(errors="replace"))[:MOST_LETTERS].strip()
    if answer.status >= 500:
        return Unavailable(f"{what}: the gateway answered {answer.status}: {words or 'try again'}")
    return Malformed(f"{what}: the gateway refuses this with {answer.status}: {words}")


def _json(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        found = json.loads(answer.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _line(line: str) -> str:
    """Return the text of a log line, which gateways wrap in JSON."""
    try:
        return str(json.loads(line)["text"]).strip()
    except (ValueError, KeyError, TypeError, RecursionError):
        return line.strip()
