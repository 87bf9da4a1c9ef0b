"""A deployment in a folder, called over HTTP in this process, at moments of a clock that stands still."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from localstack.bigpanda import bigpanda
from localstack.serve import AllFunctions
from skytally.access import tokens
from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.app import wiring
from skytally.core.ports import Created
from skytally.core.records import Caller
from skytally.dashboard import jobs_view, usage_view
from skytally.deployment.catalog import service_of
from tests.support.dirac_lab import Door

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
# Whose callers send what they like, and whose answers must not change by it.
A, B = "cloud-a", "cloud-b"
LABELS = {"site": "victoria", "group": "belle", "flavor": "c8"}
TIMERS = ("alarm_raise", "dirac_collect", "documents_forget", "panda_collect", "secret_sweep")
BASE = "http://skytally.test/function/"
SETTINGS = {
    "SKYTALLY_TIMER_MIN_SECONDS": "0",
    "SKYTALLY_CALLS_PER_SECOND": "0",
    "SKYTALLY_CLAIMS_PER_SECOND": "0",
    "SKYTALLY_PANDA_QUEUES": f"{A},{B}",
}
WINDOWS, MONTHS = ("hour", "day", "week", "month", "this_month", "last_month"), ("2026-10", "2026-11")
APEL = ("apel-cloud", "apel-cloud-summary", "apel-job-summary")
Headers = dict[str, str]


class Answer(NamedTuple):
    """What a reader sees of an answer."""

    status: int
    media: str
    text: str


class Clock:
    """The site's one clock."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


class Site:
    """A deployment, and how its callers call it."""

    def __init__(self, client: TestClient, clock: Clock, patch: pytest.MonkeyPatch) -> None:
        self.client, self.clock, self._patch = client, clock, patch
        self.claims: dict[tuple[str, str], str] = {}

    def open(self, folder: Path, settings: dict[str, str] | None = None) -> None:
        """Go on with what lies in a folder, and with documents elsewhere where the settings say so."""
        here = {"SKYTALLY_HOME": str(folder), "SKYTALLY_CLOUDS": str(folder / "clouds.toml")}
        for name, value in (here | (settings or {})).items():
            self._patch.setenv(name, value)
        wiring.close()

    def post(self, at: datetime, function: str, body: Any, who: Headers) -> Response:
        """Send a body: bytes as they are, anything else as JSON."""
        self.clock.at = at
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(
            service_of(function), content=content, headers={"Content-Type": "application/json"} | who
        )

    def rounds(self, at: datetime) -> dict[str, Response]:
        """Let every timer do a round."""
        return {name: self.post(at, name, b"", {}) for name in TIMERS}

    def answers(self, at: datetime, paths: Iterator[str], who: Headers) -> dict[str, Answer]:
        """Read what a reader sees at each path."""
        self.clock.at = at
        replies = {path: self.client.get(path, headers=who) for path in paths}
        return {
            path: Answer(reply.status_code, reply.headers["content-type"], _of_clouds(path, reply.text))
            for path, reply in replies.items()
        }


def caller(role: str, cloud: str | None = None, **fields: Any) -> Headers:
    """Make the header of a caller of a cloud, or of all; reporters have the labels that schedulers give."""
    times = {"issued": int((NOW - 60 * DAY).timestamp()), "expires": int((NOW + 400 * DAY).timestamp())}
    labels = LABELS if role == "reporter" else {}
    holder = Caller(role=role, clouds=(cloud,) if cloud else (), **times, **labels, **fields)
    return {"Authorization": f"Bearer {tokens.issue(holder, wiring.keys().token)}"}


def paths_of(cloud: str | None, windows: tuple[str, ...] = WINDOWS) -> Iterator[str]:
    """Name every path that a reader of a cloud, or of all, has: every window, dimension, detail and format."""
    yield from (
        f"dashboard/data?view=usage&window={window}&by={by}"
        for window in windows
        for by in usage_view.DIMENSIONS
        if by != "interval"
    )
    yield from (f"dashboard/data?view=usage&window={window}&by=interval&vm=vm-1" for window in windows)
    yield from (f"dashboard/data?view=jobs&window={window}&by={by}" for window in windows for by in jobs_view.DISPLAYS)
    yield from (f"dashboard/data?view={view}&window={window}" for window in windows for view in ("secrets", "health"))
    yield from (f"dashboard/data?view={view}&format=csv" for view in ("usage", "jobs", "secrets", "health"))
    yield "dashboard/data?view=usage&by=vm&from=2026-01-01T00:00:00Z&until=2027-01-01T00:00:00Z"
    for month in MONTHS:
        yield from (f"statement?month={month}&format={form}" for form in ("json", "csv", *APEL))
        yield from (f"statement?month={month}&detail=boots&format={form}" for form in ("json", "csv"))
        yield f"statement?month={month}&detail=jobs"
    yield "statement?month=2026-10&revision=1"
    if cloud:
        yield f"statement?month=2026-10&detail=signed&cloud={cloud}"
    yield "dashboard/metrics"


def _of_clouds(path: str, text: str) -> str:
    """Leave out the one thing that is no cloud's: how many reports came from all of them together."""
    if path != "dashboard/metrics":
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("skytally_report_"))


class _Disk(FilesystemObjects):
    """The shipped object store, on a disk whose clock is the site's."""

    def create_streamed(self, key, body):
        made = super().create_streamed(key, body)
        return Created(wiring.clock.now()) if isinstance(made, Created) else made


@contextlib.contextmanager
def deployed(jobs: list[dict[str, Any]], door: Door) -> Iterator[Site]:
    """Run all functions in this process, with a PanDA that has some jobs and with a DIRAC."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, bigpanda() as (monitor, base):
        monitor.rows, monitor.now = jobs, lambda: clock.at.replace(tzinfo=None)
        patch.setattr("skytally.core.clock.now", clock)
        patch.setattr(
            wiring, "open_objects", lambda settings: _Disk(Path(settings.objects_url.removeprefix("file://")))
        )
        patch.setattr(wiring, "dirac", cache(lambda: door))
        for name, value in {**SETTINGS, "SKYTALLY_PANDA_URL": base}.items():
            patch.setenv(name, value)
        with TestClient(AllFunctions(), base_url=BASE, raise_server_exceptions=False) as client:
            yield Site(client, clock, patch)
        wiring.close()
