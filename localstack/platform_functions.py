"""Functions as a platform keeps them: each asked for once, as a process that comes with its first call and goes when it is idle.

What is deployed lies in `functions.json`, secrets lie beside it as files, and each process has a folder of its own below `replicas/`.
"""

import asyncio
import contextlib
import json
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
from cronsim import CronSim
from starlette.responses import StreamingResponse

from localstack import replicas
from localstack.replicas import NotReady, Replica

NAMESPACE = "openfaas-fn"
WATCH_SECONDS = 1.0
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host", "upgrade", "te", "trailer"}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Deployed:
    """One function: what was asked for, and the process that answers now (None: scaled to zero)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.replica: Replica | None = None
        self.invocation_count = 0
        self.changing = asyncio.Lock()

    def status(self) -> dict[str, Any]:
        """Describe it as the gateway does."""
        up = int(self.replica is not None and self.replica.alive)
        shown = ("image", "envVars", "secrets", "labels", "annotations", "limits", "requests", "readOnlyRootFilesystem")
        return {
            "name": self.spec["service"],
            "namespace": NAMESPACE,
            "invocationCount": self.invocation_count,
            "replicas": up,
            "availableReplicas": up,
            **{name: self.spec.get(name) for name in shown},
        }


class Provider:
    """All functions and secrets, kept in a folder so that a restart brings them back."""

    def __init__(self, folder: Path, idle_seconds: float) -> None:
        self._folder, self._idle_seconds = folder, idle_seconds
        self.secrets = folder / "secrets"
        self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.functions: dict[str, Deployed] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def put(self, spec: dict[str, Any]) -> None:
        """Make or change a function; the old process goes on until the new one answers."""
        missing = [name for name in spec.get("secrets") or [] if not (self.secrets / name).is_file()]
        if missing:
            raise NotReady(f"secrets are missing: {', '.join(missing)}")
        function = self.functions.get(spec["service"]) or Deployed(spec)
        async with function.changing:
            fresh = await self._start(spec)
            old, function.replica, function.spec = function.replica, fresh, spec
            self.functions[spec["service"]] = function
            self._save()
        self._end(old)

    async def remove(self, name: str) -> bool:
        """Forget a function; answers whether there was one."""
        function = self.functions.pop(name, None)
        self._save()
        if function is not None and function.replica is not None:
            await function.replica.stop()
        return function is not None

    async def replica(self, name: str) -> Replica | None:
        """Answer the process of a function, starting one where none runs; None for an unknown function."""
        function = self.functions.get(name)
        if function is None:
            return None
        function.invocation_count += 1
        # While a new process is started beside it, the old one goes on answering.
        if function.replica is not None and function.replica.alive:
            return function.replica
        async with function.changing:
            if function.replica is None or not function.replica.alive:
                function.replica = await self._start(function.spec)
            return function.replica

    async def _start(self, spec: dict[str, Any]) -> Replica:
        return await replicas.start(spec, self.secrets, self._folder / "replicas" / f"{spec['service']}-{secrets.token_hex(4)}")

    def _end(self, replica: Replica | None) -> None:
        if replica is not None:
            self._keep(asyncio.create_task(replica.stop()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to what runs in the background until it is over."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _save(self) -> None:
        target = self._folder / "functions.json"
        temporary = target.with_suffix(".tmp")
        temporary.write_text(json.dumps([f.spec for f in self.functions.values()], indent=1))
        temporary.replace(target)

    async def restore(self) -> None:
        """Know again what was deployed before a restart; processes come with the first request."""
        shutil.rmtree(self._folder / "replicas", ignore_errors=True)
        saved = self._folder / "functions.json"
        for spec in json.loads(saved.read_text()) if saved.is_file() else []:
            self.functions[spec["service"]] = Deployed(spec)

    async def watch(self) -> None:
        """End what is idle or uses more memory than it may, as a platform does."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for function in list(self.functions.values()):
                replica = function.replica
                if replica is None or replica.in_flight or function.changing.locked():
                    continue
                over = replica.memory_bytes > memory_limit(function.spec)
                if over or time.monotonic() - replica.used_at > self._idle_seconds:
                    function.replica = None
                    self._end(replica)

    async def run_timers(self) -> None:
        """Call functions with a schedule as cron-connector does: an empty POST, at most once, no catching up."""
        last = datetime.now(UTC)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = datetime.now(UTC)
            for name, function in list(self.functions.items()):
                if is_due(function.spec, last, now):
                    self.call_later(name, b"", {"X-Topic": "cron-function", "X-Connector": "cron-connector"})
            last = now

    def call_later(self, name: str, body: bytes, headers: dict[str, str]) -> None:
        """Call a function in the background, once; nobody hears what it answers."""
        self._keep(asyncio.create_task(self._call_unheard(name, body, headers)))

    async def _call_unheard(self, name: str, body: bytes, headers: dict[str, str]) -> None:
        with contextlib.suppress(httpx.HTTPError, NotReady):
            answer = await self.call(name, "POST", "", body, headers)
            if answer is not None:
                async for _ in answer.body_iterator:
                    pass

    async def call(self, name: str, method: str, rest: str, body: Any, headers: dict[str, str]) -> StreamingResponse | None:
        """Pass a request on to a function; None where there is no such function."""
        replica = await self.replica(name)
        if replica is None:
            return None
        replica.in_flight += 1
        client = httpx.AsyncClient(timeout=httpx.Timeout(60.0))
        try:
            request = client.build_request(method, f"{replica.url}/{rest}", content=body, headers=headers)
            answer = await client.send(request, stream=True)
        except BaseException:
            replica.in_flight -= 1
            await client.aclose()
            raise
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_HEADERS}
        return StreamingResponse(_passed_on(answer, client, replica), answer.status_code, kept)

    async def close(self) -> None:
        """End every process."""
        running = [f.replica.stop() for f in self.functions.values() if f.replica is not None]
        await asyncio.gather(*running, *self._background)


async def _passed_on(answer: httpx.Response, client: httpx.AsyncClient, replica: Replica) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        replica.in_flight -= 1
        replica.used_at = time.monotonic()
        await answer.aclose()
        await client.aclose()


def is_due(spec: dict[str, Any], last: datetime, now: datetime) -> bool:
    """Say whether a function's schedule has a moment after `last` and not after `now`."""
    expression = (spec.get("annotations") or {}).get("schedule")
    return expression is not None and next(CronSim(expression, last)) <= now


def memory_limit(spec: dict[str, Any]) -> int:
    """Answer a function's memory limit in bytes."""
    text = (spec.get("limits") or {}).get("memory") or "1Gi"
    return int(text[:-2]) * UNITS[text[-2:]] if text[-2:] in UNITS else int(text)
