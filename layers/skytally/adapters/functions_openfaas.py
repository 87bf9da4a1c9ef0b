"""Functions on an OpenFaaS gateway, by its REST API.

::

    GET  /system/function/NAME     what runs now (404: nothing)
    POST /system/functions         make        202, before anything runs
    PUT  /system/functions         change      202, 404 where it is not there; 200 of some, and nothing changed
    DELETE /system/functions       {"functionName"}        202, 404 when it was not there
    GET|POST|PUT|DELETE /system/secrets   {"name", "value"}   202, 409 for a POST of what is there; GET tells names
                                          alone
    GET  /system/logs?name=&tail=&since=   JSON lines {"name", "instance", "text"}
    GET  /function/NAME/_/ready    what answers

A gateway shows neither environment nor root file system of what runs, and adds labels of its own. So what is so already
is told by an annotation of ours, and which version answers by that version itself.
"""

import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Collection
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import tenacity
import urllib3

from skytally.core.errors import Forbidden, Malformed, Unavailable
from skytally.core.plain_text import printable
from skytally.core.ports import Running, Specification

# A gateway that pulls the image before it answers takes its time.
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
TRIES, PAUSES = 5, tenacity.wait_exponential(multiplier=1, max=4)
DIGEST = "skytally/digest"
LABELS = {"app": "skytally"}
LOG_LINES, MOST_LETTERS = 5, 500
SECOND = timedelta(seconds=1)


class OpenFaasFunctions:
    """One gateway and its administrator; `seconds` is how long one answer is waited for, all tries together."""

    def __init__(
        self,
        gateway: str,
        password: str,
        ca_file: Path | None = None,
        tell: Callable[[str], None] = lambda _: None,
        seconds: float = 120.0,
    ) -> None:
        self._gateway, self._tell, self._seconds = gateway.rstrip("/"), tell, seconds
        credentials = b64encode(f"admin:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(retries=False, ca_certs=str(ca_file) if ca_file else None)
        self._put_at: dict[str, str] = {}

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
        self._put_at[wanted.service] = _just_after(answer)

    def running(self, wanted: Specification) -> Running | None:
        """Look at one function, by what the gateway shows of it and by what it answers itself."""
        shown = self._shown(wanted.service)
        if shown is None:
            return None
        digest, image = (shown.get("annotations") or {}).get(DIGEST), str(shown.get("image"))
        if digest != wanted.digest:
            return Running(
                digest, image, words="another version is deployed" if digest else "somebody else deployed this"
            )
        answer = self._pool_request("GET", f"/function/{wanted.service}/_/ready", None, {})
        answering = _json(answer).get("deployment") if answer.status == 200 else None
        if answering == digest:
            return Running(digest, image, is_ready=True)
        state = "another version answers still" if answering else "it does not answer yet"
        return Running(digest, image, words=state + self._said(wanted.service))

    def services(self) -> dict[str, str | None]:
        """Return the functions that carry our label."""
        ours = [one for one in self._list("/system/functions") if _is_ours(one)]
        return {one["name"]: (one.get("annotations") or {}).get(DIGEST) for one in ours}

    def remove(self, service: str) -> bool:
        """Remove a function; raises Forbidden for one that is not ours."""
        shown = self._shown(service)
        if shown is None:
            return False
        if not _is_ours(shown):
            raise Forbidden(f"{service} was not deployed by skytally, and stays: remove it by the platform's own means")
        return self._call("DELETE", "/system/functions", {"functionName": service}, {200, 202, 404}).status != 404

    def secrets(self) -> set[str]:
        """Return the names of the secrets."""
        return {one["name"] for one in self._list("/system/secrets")}

    def put_secret(self, name: str, value: str) -> None:
        """Keep a secret, replacing what was there."""
        secret = {"name": name, "value": value}
        answer = self._ask("POST", "/system/secrets", secret)
        if not _is_taken(answer) and name in self.secrets():
            answer = self._ask("PUT", "/system/secrets", secret)
        if not _is_taken(answer):
            raise _refusal(answer, f"the secret {name}", hidden=value)

    def remove_secret(self, name: str) -> bool:
        """Forget a secret; gateways differ in how they answer for one that is not there."""
        if name not in self.secrets():
            return False
        self._call("DELETE", "/system/secrets", {"name": name}, {200, 202, 404})
        return True

    def _shown(self, service: str) -> dict[str, Any] | None:
        answer = self._call("GET", f"/system/function/{service}", None, {200, 404})
        return _json(answer) if answer.status == 200 else None

    def _list(self, path: str) -> list[dict[str, Any]]:
        """Return what the gateway lists; raises Unavailable for an answer that is no gateway's."""
        answer = self._call("GET", path, None, {200})
        try:
            return msgspec.json.decode(answer.data, type=list[dict[str, Any]] | None) or []
        except msgspec.MsgspecError:
            raise Unavailable(
                f"{self._gateway} answered something that is no list: is this an OpenFaaS gateway?"
            ) from None

    def _said(self, service: str) -> str:
        """Return the end of what a function's processes wrote, as far as the gateway tells it.

        Of a function that we changed it is what they wrote since: what came before is another version's.
        """
        query = {"name": service, "tail": LOG_LINES, "follow": "false"} | (
            {"since": at} if (at := self._put_at.get(service)) else {}
        )
        answer = self._ask("GET", f"/system/logs?{urlencode(query)}", None)
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

    def _pool_request(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Ask, and again for some seconds where nothing answers: whatever is asked may be asked twice."""
        deadline = time.monotonic() + self._seconds
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_answer_later),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(self._seconds),
            wait=PAUSES,
            before_sleep=self._tell_of,
            reraise=True,
        )

        def ask() -> urllib3.BaseHTTPResponse:
            left = max(deadline - time.monotonic(), 0.1)
            timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS, total=left)
            return self._pool.request(
                method, self._gateway + path, body=data, headers=headers, timeout=timeout, redirect=False
            )

        try:
            return tries(ask)
        except urllib3.exceptions.HTTPError as error:
            raise Unavailable(f"the gateway at {self._gateway} does not answer: {_advice(error)}") from None

    def _tell_of(self, state: tenacity.RetryCallState) -> None:
        self._tell(
            f"the gateway at {self._gateway} does not answer, and is asked again in {state.upcoming_sleep:.0f} s"
        )


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
    return {
        "version": "1.0",
        "provider": {"name": "openfaas"},
        "functions": {one.service: _stacked(body_of(one)) for one in wanted},
    }


def _stacked(body: dict[str, Any]) -> dict[str, Any]:
    same = {name: body[name] for name in ("image", "secrets", "labels", "annotations", "limits", "requests")}
    return {
        "lang": "dockerfile",
        "skip_build": True,
        "environment": body["envVars"],
        "readonly_root_filesystem": True,
        **same,
    }


def _is_ours(shown: dict[str, Any]) -> bool:
    return LABELS.items() <= (shown.get("labels") or {}).items()


def _just_after(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the first full second after an answer, by the gateway's own clock; empty where it tells none."""
    try:
        return (parsedate_to_datetime(answer.headers["Date"]) + SECOND).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (KeyError, ValueError):
        return ""


def _may_answer_later(error: BaseException) -> bool:
    return isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.SSLError)


def _advice(error: urllib3.exceptions.HTTPError) -> str:
    if not isinstance(error, urllib3.exceptions.SSLError):
        return "check its address and try again"
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message}): check --ca"
    return "TLS fails: check its address, and that --ca is a certificate in PEM"


def _is_taken(answer: urllib3.BaseHTTPResponse) -> bool:
    return answer.status in {200, 201, 202}


def _refusal(answer: urllib3.BaseHTTPResponse, what: str, hidden: str | None = None) -> Malformed | Unavailable:
    """Return the error that an answer is, in the gateway's words unless they hold what is to stay hidden."""
    said = answer.data.decode(errors="replace")
    words = (
        "" if hidden and (hidden in said or json.dumps(hidden)[1:-1] in said) else printable(said.strip(), MOST_LETTERS)
    )
    if answer.status >= 500:
        return Unavailable(f"{what}: the gateway answered {answer.status}: {words or 'try again'}")
    return Malformed(f"{what}: the gateway refuses this with {answer.status}: {words or 'it does not say why'}")


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
