"""PanDA's jobs by the JSON of its monitor, BigPanDA: `GET {base}/jobs/?json&…`, one request at a time.

Several values are separated by `|`: a comma means AND, and would exclude the archive. Both ends of a window are given,
without a zone. A redirect or a page instead of JSON is a login form, so it is an outage and never "no jobs".
"""

import itertools
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from skytally.adapters.http_client import HttpClient
from skytally.core.errors import Unavailable
from skytally.jobs.foreign_values import parsed
from skytally.jobs.panda_rows import FIELDS, Slice

AGENT = "skytally panda_collect"


class PandaJobRows:
    """One BigPanDA monitor, and the key of a service account if it needs one."""

    def __init__(self, base: str, token_file: Path | None = None) -> None:
        self._base, self._token_file = base.rstrip("/"), token_file
        self._client = HttpClient()
        # A new number in each request avoids cached answers.
        self._numbers = itertools.count(time.time_ns() // 1_000_000)

    def rows(self, request: Slice) -> list[Any]:
        """Return a slice's rows; see the port."""
        params = {
            "computingsite": "|".join(request.queues),
            "jobstatus": "|".join(request.statuses),
            **_window(request),
        }
        params |= {
            "limit": str(request.limit),
            "outputs": "jobs",
            "timestamp": str(next(self._numbers)),
            "fields": ",".join(FIELDS),
        }
        query = "&".join(f"{name}={quote(value, safe='|,:')}" for name, value in params.items())
        return _jobs(self._get(f"{self._base}/jobs/?json&{query}"))

    def _get(self, url: str) -> bytes:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": AGENT,
            **self._authorization(),
        }
        try:
            answer = self._client.request("GET", url, headers=headers)
        except urllib3.exceptions.HTTPError:
            raise Unavailable("PanDA's monitor does not answer: check SKYTALLY_PANDA_URL") from None
        if answer.status in {401, 403}:
            raise Unavailable("PanDA's monitor refuses the token: renew SKYTALLY_PANDA_TOKEN_FILE")
        if answer.status != 200:
            wants = " (it wants a login: set SKYTALLY_PANDA_TOKEN_FILE)" if 300 <= answer.status < 400 else ""
            raise Unavailable(f"PanDA's monitor answered {answer.status}{wants}")
        return answer.data

    def _authorization(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            key = self._token_file.read_text("ascii").strip()
        except (OSError, ValueError):
            raise Unavailable("SKYTALLY_PANDA_TOKEN_FILE cannot be read") from None
        if not key.isprintable():
            raise Unavailable("SKYTALLY_PANDA_TOKEN_FILE holds more than one line")
        return {"Authorization": f"Token {key}"}


def _window(request: Slice) -> dict[str, str]:
    begin, end = (f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in (request.from_at, request.until_at))
    if request.moment == "modificationtime":
        return {"date_from": begin, "date_to": end}
    return {f"{request.moment}range": f"{begin}|{end}"}


def _jobs(body: bytes) -> list[Any]:
    try:
        rows = parsed(body)["jobs"]
    except (ValueError, KeyError, TypeError):
        rows = None
    if not isinstance(rows, list):
        raise Unavailable("PanDA's monitor did not answer a list of jobs: a login page, or an answer that was cut")
    return rows
