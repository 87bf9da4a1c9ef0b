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

A gateway shows neither environment nor root file system of a function, and adds labels of its own. So an annotation of
ours shows which version is deployed, and the version itself answers with its digest.
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

# A gateway may pull the image before it answers.
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
TRIES, PAUSES = 5, tenacity.wait_exponential(multiplier=1, max=4)
DIGEST = "skytally/digest"
LABELS = {"app": "skytally"}
LOG_LINES, MOST_LETTERS = 5, 500
SECOND = timedelta(seconds=1)


class OpenFaasFunctions:
    """One gateway and its administrator; `seconds` is the time for one answer, with all tries."""

    def __init__(
        self,
        gateway: str,
        password: str,
        ca_file: Path | None = None,
        log: Callable[[str], None] = lambda _: None,
        seconds: float = 120.0,
    ) -> None:
        self._gateway, self._log, self._seconds = gateway.rstrip("/"), log, seconds
        credentials = b64encode(f"admin:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        self._pool = urllib3.PoolManager(retries=False, ca_certs=str(ca_file) if ca_file else None)
        self._put_at: dict[str, str] = {}

    def put(self, specification: Specification) -> None:
        """Change a function, or create it if there is none; somebody else may create it in between."""
        body = body_of(specification)
        answer = self._ask("PUT", "/system/functions", body)
        if answer.status == 404:
            answer = self._ask("POST", "/system/functions", body)
            if not _is_taken(answer) and self._deployed(specification.service) is not None:
                answer = self._ask("PUT", "/system/functions", body)
        if not _is_taken(answer):
            raise _refusal(answer, specification.service)
        self._put_at[specification.service] = _just_after(answer)

    def running(self, specification: Specification) -> Running | None:
        """Return one function's state, from the gateway and from the function's own answer."""
        deployed = self._deployed(specification.service)
        if deployed is None:
            return None
        digest, image = (deployed.get("annotations") or {}).get(DIGEST), str(deployed.get("image"))
        if digest != specification.digest:
            return Running(
                digest, image, words="another version is deployed" if digest else "somebody else deployed this"
            )
        answer = self._pool_request("GET", f"/function/{specification.service}/_/ready", None, {})
        answering = _json(answer).get("deployment") if answer.status == 200 else None
        if answering == digest:
            return Running(digest, image, is_ready=True)
        state = "another version answers still" if answering else "it does not answer yet"
        return Running(digest, image, words=state + self._last_log_lines(specification.service))

    def services(self) -> dict[str, str | None]:
        """Return the functions with our label."""
        ours = [item for item in self._list("/system/functions") if _is_ours(item)]
        return {item["name"]: (item.get("annotations") or {}).get(DIGEST) for item in ours}

    def remove(self, service: str) -> bool:
        """Remove a function; raise Forbidden for one that is not ours."""
        deployed = self._deployed(service)
        if deployed is None:
            return False
        if not _is_ours(deployed):
            raise Forbidden(f"{service} was not deployed by skytally, and stays: remove it by the platform's own means")
        return self._call("DELETE", "/system/functions", {"functionName": service}, {200, 202, 404}).status != 404

    def secrets(self) -> set[str]:
        """Return the names of the secrets."""
        return {item["name"] for item in self._list("/system/secrets")}

    def put_secret(self, name: str, value: str) -> None:
        """Create or replace a secret."""
        secret = {"name": name, "value": value}
        answer = self._ask("POST", "/system/secrets", secret)
        if not _is_taken(answer) and name in self.secrets():
            answer = self._ask("PUT", "/system/secrets", secret)
        if not _is_taken(answer):
            raise _refusal(answer, f"the secret {name}", hidden=value)

    def remove_secret(self, name: str) -> bool:
        """Remove a secret; gateways differ in their answers for an absent one."""
        if name not in self.secrets():
            return False
        self._call("DELETE", "/system/secrets", {"name": name}, {200, 202, 404})
        return True

    def _deployed(self, service: str) -> dict[str, Any] | None:
        answer = self._call("GET", f"/system/function/{service}", None, {200, 404})
        return _json(answer) if answer.status == 200 else None

    def _list(self, path: str) -> list[dict[str, Any]]:
        """Return a list of the gateway's; raise Unavailable for an answer that is no gateway's."""
        answer = self._call("GET", path, None, {200})
        try:
            return msgspec.json.decode(answer.data, type=list[dict[str, Any]] | None) or []
        except msgspec.MsgspecError:
            raise Unavailable(
                f"{self._gateway} answered something that is no list: is this an OpenFaaS gateway?"
            ) from None

    def _last_log_lines(self, service: str) -> str:
        """Return the last log lines of a function, as far as the gateway has them.

        After a change by us these are the lines since: earlier ones are another version's.
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
        """Return the answer to a request; retry for some seconds while nothing answers, as requests are idempotent."""
        deadline = time.monotonic() + self._seconds
        tries = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_answer_later),
            stop=tenacity.stop_after_attempt(TRIES) | tenacity.stop_before_delay(self._seconds),
            wait=PAUSES,
            before_sleep=self._log_retry,
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

    def _log_retry(self, state: tenacity.RetryCallState) -> None:
        self._log(f"the gateway at {self._gateway} does not answer, and is asked again in {state.upcoming_sleep:.0f} s")


def body_of(specification: Specification) -> dict[str, Any]:
    """Return the body that creates or changes a function; two annotations are for cron-connector."""
    timer = {"topic": "cron-function", "schedule": specification.schedule} if specification.schedule else {}
    return {
        "service": specification.service,
        "image": specification.image,
        "envVars": specification.environment,
        "secrets": list(specification.secrets),
        "labels": LABELS,
        "annotations": timer | {DIGEST: specification.digest},
        "limits": {"memory": specification.memory_limit},
        "requests": {"memory": specification.memory_request},
        "readOnlyRootFilesystem": True,
    }


def stack(specification: Collection[Specification]) -> dict[str, Any]:
    """Return stack.yml: the same functions for `faas-cli deploy`."""
    return {
        "version": "1.0",
        "provider": {"name": "openfaas"},
        "functions": {item.service: _stacked(body_of(item)) for item in specification},
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


def _is_ours(deployed: dict[str, Any]) -> bool:
    return LABELS.items() <= (deployed.get("labels") or {}).items()


def _just_after(answer: urllib3.BaseHTTPResponse) -> str:
    """Return the first full second after an answer by the gateway's clock, or an empty text without one."""
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
    """Return the error of an answer, with the gateway's text unless it contains the hidden value."""
    text = answer.data.decode(errors="replace")
    is_leaking = hidden and (hidden in text or json.dumps(hidden)[1:-1] in text)
    words = "" if is_leaking else printable(text.strip(), MOST_LETTERS)
    if answer.status >= 500:
        return Unavailable(f"{what}: the gateway answered {answer.status}: {words or 'try again'}")
    return Malformed(f"{what}: the gateway refuses this with {answer.status}: {words or 'it does not say why'}")


def _json(answer: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        fields = json.loads(answer.data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _line(line: str) -> str:
    """Return the text of a log line, which gateways wrap in JSON."""
    try:
        return str(json.loads(line)["text"]).strip()
    except (ValueError, KeyError, TypeError, RecursionError):
        return line.strip()
