"""DIRAC's job states by the REST API of DiracX 0.7: `POST /api/jobs/search`, paged, sorted, under a token that is renewed.

::

    200 whole · 206 `content-range: jobs 0-99/254` a part, the last page too · 416 past the end · 401 token · else Unavailable

The token file holds JSON `{"access_token", "refresh_token"}` (as /api/auth/token answers it) or one bare access token. A refresh token
works once: the new pair is written back before it is used, or kept in memory where the file cannot be written.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import urllib3

from skytally import dirac_answer
from skytally.errors import Unavailable
from skytally.foreign_value import parsed
from skytally.ports import JobState, UnreadState

PAGE_JOBS = 5_000
MAX_JOB_ID = 2**63 - 1
CLIENT_ID = "myDIRACClientID"
NOTHING_READ = "SKYTALLY_DIRAC_TOKEN_FILE cannot be read, or holds no token"
SECONDS = urllib3.Timeout(connect=5.0, read=60.0)
ATTRIBUTES = {
    "JobID": "job_id",
    "Status": "status",
    "MinorStatus": "minor_status",
    "ApplicationStatus": "application_status",
    "Site": "site",
    "LastUpdateTime": "last_update_at",
    "HeartBeatTime": "heartbeat_at",
    "StartExecTime": "started_at",
    "EndExecTime": "ended_at",
    "RescheduleTime": "rescheduled_at",
    "RescheduleCounter": "reschedule_count",
}


class DiracxJobStates:
    """One DiracX server and the credentials of a robot."""

    def __init__(self, base: str, token_file: Path, ca_file: Path | None = None) -> None:
        self._base, self._token_file = base.rstrip("/"), token_file
        self._pool = urllib3.PoolManager(timeout=SECONDS, retries=False, ca_certs=str(ca_file) if ca_file else None)
        self._tokens: dict[str, str] | None = None
        self._renewing = threading.Lock()

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState | UnreadState]:
        """Ask for all in as few calls as pages are needed; an id that DIRAC could not have is simply not known."""
        wanted = sorted({job_id for job_id in job_ids if 0 < job_id <= MAX_JOB_ID})
        found: dict[int, JobState | UnreadState] = {}
        for start in range(0, len(wanted), PAGE_JOBS):
            asked = wanted[start : start + PAGE_JOBS]
            found |= dirac_answer.states(set(asked), self._search(asked))
        return found

    def _search(self, job_ids: list[int]) -> Iterator[Any]:
        body = {
            "parameters": list(ATTRIBUTES),
            "search": [{"parameter": "JobID", "operator": "in", "values": job_ids}],
            "sort": [{"parameter": "JobID", "direction": "asc"}],
        }
        # Each page brings a job at least.
        for page in range(1, len(job_ids) + 2):
            answer = self._post(f"/api/jobs/search?page={page}&per_page={PAGE_JOBS}", body)
            if answer.status in {200, 206}:
                yield from map(named, _rows(answer.data))
            if answer.status != 206 or _is_last(answer.headers.get("content-range", "")):
                return
        raise Unavailable("DiracX answers pages without an end")

    def _post(self, path: str, body: Any) -> urllib3.BaseHTTPResponse:
        """Ask with the token at hand, once more with a renewed one if that is refused; raises Unavailable for anything unexpected."""
        token = self._read_tokens()["access_token"]
        answer = self._request(path, {"json": body, "headers": {"Authorization": f"Bearer {token}"}})
        if answer.status == 401:
            token = self._renew(token)
            answer = self._request(path, {"json": body, "headers": {"Authorization": f"Bearer {token}"}})
        if answer.status not in {200, 206, 416}:
            raise Unavailable(f"DiracX answered {answer.status}: the jobs stay as they are until it answers")
        return answer

    def _request(self, path: str, how: dict[str, Any]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request("POST", self._base + path, **how)
        except urllib3.exceptions.HTTPError:
            raise Unavailable("DiracX does not answer: check SKYTALLY_DIRAC_URL") from None

    def _renew(self, refused: str) -> str:
        """Trade the refresh token for a new pair (RFC 6749 6), unless another thread has done so already."""
        with self._renewing:
            tokens = self._read_tokens()
            if tokens["access_token"] != refused:
                return tokens["access_token"]
            if "refresh_token" not in tokens:
                raise Unavailable("the DIRAC token was refused and cannot be renewed: write a new one to SKYTALLY_DIRAC_TOKEN_FILE")
            form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": tokens["refresh_token"]}
            answer = self._request("/api/auth/token", {"fields": form, "encode_multipart": False})
            if answer.status != 200:
                raise Unavailable("DiracX refuses to renew the token: sign the robot in again and write SKYTALLY_DIRAC_TOKEN_FILE")
            # A server that does not rotate refresh tokens names none, or the same.
            self._tokens = tokens | _tokens(answer.data, "DiracX did not answer a token when it was asked to renew it")
            self._write_back(self._tokens)
            return self._tokens["access_token"]

    def _read_tokens(self) -> dict[str, str]:
        if self._tokens is None:
            try:
                text = self._token_file.read_text("ascii").strip()
            except (OSError, ValueError):
                raise Unavailable(NOTHING_READ) from None
            if not text.startswith("{"):
                text = json.dumps({"access_token": text})
            self._tokens = _tokens(text.encode(), NOTHING_READ)
        return self._tokens

    def _write_back(self, tokens: dict[str, str]) -> None:
        temporary = self._token_file.with_name(f".{self._token_file.name}.new")
        try:
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(tokens))
            temporary.replace(self._token_file)
        except OSError:
            return


def _tokens(text: bytes, complaint: str) -> dict[str, str]:
    """Read an access token, and what came with it; raises Unavailable where there is none that a header could hold."""
    try:
        told = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError):
        told = {}
    tokens = {name: value for name, value in told.items() if isinstance(value, str) and value.isascii() and value.isprintable()}
    if not tokens.get("access_token"):
        raise Unavailable(complaint)
    return tokens


def _is_last(content_range: str) -> bool:
    """Say whether `jobs 200-253/254` ends the list; the status does not tell."""
    numbers = re.fullmatch(r"jobs (\d+)-(\d+)/(\d+)", content_range)
    if numbers is None:
        raise Unavailable("DiracX answered a part without saying which")
    return int(numbers[2]) + 1 >= int(numbers[3])


def _rows(data: bytes) -> list[Any]:
    try:
        rows = parsed(data)
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        raise Unavailable("DiracX did not answer a list of jobs")
    return rows


def named(row: Any) -> Any:
    """Return a search's row by the names that JobState has for its columns; what is no row stays what it is."""
    return {name: row.get(attribute) for attribute, name in ATTRIBUTES.items()} if isinstance(row, Mapping) else row
