"""DIRAC's job states by the REST API of DiracX 0.7: `POST /api/jobs/search`, paged and sorted.

::

    200 whole · 206 `content-range: jobs 0-99/254` a part, the last page too
    416 past the end · 401 token · else Unavailable

The token file holds JSON `{"access_token", "refresh_token"}`, as /api/auth/token answers it, or one bare access token.
Renewed tokens are stored, encrypted, in the document store (see `credentials`). All requests of one call of `states`
take `REQUEST_SECONDS` at most.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

from skytally.access.credentials import SIGN_IN, Credential, NotExchanged, Refused, Tokens, parsed
from skytally.adapters.http_client import REQUEST_SECONDS, HttpClient, NotSent
from skytally.core.clock import Countdown
from skytally.core.errors import Unavailable
from skytally.core.ports import JobState, UnreadState
from skytally.jobs import dirac_rows, foreign_values

PAGE_JOBS = 5_000
MAX_JOB_ID = 2**63 - 1
CLIENT_ID = "myDIRACClientID"
# After REFUSALS a refresh token is invalid; after UNKNOWN its state is not known.
REFUSALS, UNKNOWN = {400, 401, 403}, {408, 502, 504}
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

    jobs_at_once = PAGE_JOBS

    def __init__(self, base: str, credential: Credential, ca_file: Path | None = None) -> None:
        self._base, self._credential = base.rstrip("/"), credential
        self._client = HttpClient(ca_file)

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState | UnreadState]:
        """Return job states, in as few pages as possible; an impossible job id counts as unknown. See the port.

        The credential is read even without job ids, so that it is wrapped anew before its wrapping key is removed.
        """
        countdown = Countdown(REQUEST_SECONDS)
        self._credential.tokens()
        valid_ids = sorted({job_id for job_id in job_ids if 0 < job_id <= MAX_JOB_ID})
        job_states: dict[int, JobState | UnreadState] = {}
        for start in range(0, len(valid_ids), PAGE_JOBS):
            batch = valid_ids[start : start + PAGE_JOBS]
            job_states |= dirac_rows.states(set(batch), self._search(batch, countdown))
        return job_states

    def _search(self, job_ids: list[int], countdown: Countdown) -> Iterator[Any]:
        body = {
            "parameters": list(ATTRIBUTES),
            "search": [{"parameter": "JobID", "operator": "in", "values": job_ids}],
            "sort": [{"parameter": "JobID", "direction": "asc"}],
        }
        # Each page has at least one job.
        for page in range(1, len(job_ids) + 2):
            answer = self._post(f"/api/jobs/search?page={page}&per_page={PAGE_JOBS}", body, countdown)
            if answer.status in {200, 206}:
                yield from map(named, _rows(answer.data))
            if answer.status != 206 or _is_last(answer.headers.get("content-range", "")):
                return
        raise Unavailable("DiracX answers pages without an end")

    def _post(self, path: str, body: Any, countdown: Countdown) -> urllib3.BaseHTTPResponse:
        """Return the answer to a request; renew a refused token once. Raise Unavailable for an unexpected answer."""
        tokens = self._credential.tokens()
        answer = self._ask(path, body, tokens, countdown)
        if answer.status == 401:
            tokens = self._credential.renewed(tokens, lambda refresh_token: self._exchange(refresh_token, countdown))
            answer = self._ask(path, body, tokens, countdown)
        if answer.status not in {200, 206, 416}:
            raise Unavailable(f"DiracX answered {answer.status}: the jobs stay as they are until it answers")
        return answer

    def _ask(self, path: str, body: Any, tokens: Tokens, countdown: Countdown) -> urllib3.BaseHTTPResponse:
        return self._request(
            path, {"json": body, "headers": {"Authorization": f"Bearer {tokens.access_token}"}}, countdown
        )

    def _request(self, path: str, options: dict[str, Any], countdown: Countdown) -> urllib3.BaseHTTPResponse:
        try:
            return self._client.request("POST", self._base + path, seconds=countdown.left_seconds(), **options)
        except NotSent:
            raise NotExchanged("DiracX does not answer: check SKYTALLY_DIRAC_URL") from None
        except urllib3.exceptions.HTTPError:
            raise Unavailable("DiracX does not answer: check SKYTALLY_DIRAC_URL") from None

    def _exchange(self, refresh_token: str, countdown: Countdown) -> Tokens:
        """Exchange a refresh token for a new pair (RFC 6749 6)."""
        form = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "refresh_token": refresh_token}
        answer = self._request("/api/auth/token", {"fields": form, "encode_multipart": False}, countdown)
        if answer.status in REFUSALS:
            raise Refused(f"DiracX refuses to renew the token: {SIGN_IN} (SKYTALLY_DIRAC_TOKEN_FILE)")
        if answer.status != 200 and answer.status not in UNKNOWN:
            raise NotExchanged(
                f"DiracX answered {answer.status} when it was asked to renew the token: it is asked again"
            )
        tokens = parsed(answer.data) if answer.status == 200 else None
        if tokens is None:
            raise Unavailable(f"DiracX did not answer a token when it was asked to renew it: {SIGN_IN}")
        return tokens


def _is_last(content_range: str) -> bool:
    """Return whether `jobs 200-253/254` is the last part; the status does not show it."""
    numbers = re.fullmatch(r"jobs (\d+)-(\d+)/(\d+)", content_range)
    if numbers is None:
        raise Unavailable("DiracX answered a part without saying which")
    return int(numbers[2]) + 1 >= int(numbers[3])


def _rows(data: bytes) -> list[Any]:
    try:
        rows = foreign_values.parsed(data)
    except ValueError:
        rows = None
    if not isinstance(rows, list):
        raise Unavailable("DiracX did not answer a list of jobs")
    return rows


def named(row: Any) -> Any:
    """Return a row with JobState's names of its columns; what is no row stays unchanged."""
    return {name: row.get(attribute) for attribute, name in ATTRIBUTES.items()} if isinstance(row, Mapping) else row
