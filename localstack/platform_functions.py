"""Functions as a platform keeps them: each asked for once,
as a process that comes with its first call and goes when it is idle.

What is deployed lies in `functions.json`, secrets lie beside it as files, and each process has a folder of its own
below `replicas/`.
"""

import asyncio
import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
from cronsim import CronSim
from msgspec import Struct
from starlette.responses import StreamingResponse

from localstack import replicas
from localstack.manners import Manner
from localstack.replicas import NotReady, Replica

NAMESPACE = "openfaas-fn"
WATCH_SECONDS, POLL_SECONDS, UPSTREAM_SECONDS = 1.0, 0.05, 60.0
# How long a call waits for a function that has no process yet.
WAKE_SECONDS = 10.0
BACK_OFF_SECONDS = (0.2, 5.0)
MOST_FUNCTIONS, MOST_LOG_LETTERS = 15, 20_000
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host", "upgrade", "te", "trailer"}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# What there is to pull: images called skytally, of any registry and tag.
IMAGES = re.compile(r"(\S+/)?skytally(:\S+|@\S+)")


class Answer(Struct, frozen=True):
    """What is answered to somebody who makes, changes or removes something."""

    status: int
    text: str = ""


class Deployed:
    """One function: what was asked for last, and the process that answers now (None: there is none)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.replica: Replica | None = None
        self.invocation_count = 0
        self.said, self.said_at = "", datetime.now(UTC)
        self.rolling: asyncio.Task[None] | None = None

    def status(self) -> dict[str, Any]:
        """Describe it as the gateway does: without its environment, and with what the platform adds."""
        up = int(self.replica is not None and self.replica.alive)
        name = self.spec["service"]
        return {
            "name": name,
            "image": self.spec["image"],
            "namespace": NAMESPACE,
            "secrets": self.spec.get("secrets") or [],
            "labels": {**(self.spec.get("labels") or {}), "faas_function": name, "uid": "1"},
            "annotations": {**(self.spec.get("annotations") or {}), "prometheus.io.scrape": "false"},
            "limits": {**(self.spec.get("limits") or {}), "cpu": "0"},
            "requests": {**(self.spec.get("requests") or {}), "cpu": "0"},
            "invocationCount": self.invocation_count,
            "replicas": 1,
            "availableReplicas": up,
        }


class Provider:
    """All functions and secrets, kept in a folder so that a restart brings them back."""

    def __init__(self, folder: Path, idle_seconds: float, manner: Manner, volumes: tuple[Path, ...]) -> None:
        self._folder, self._idle_seconds, self._manner, self._volumes = folder, idle_seconds, manner, volumes
        self.secrets = folder / "secrets"
        self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.functions: dict[str, Deployed] = {}
        self._background: set[asyncio.Task[None]] = set()

    def make(self, spec: dict[str, Any]) -> Answer:
        """Take a new function; it is started afterwards."""
        name = str(spec.get("service"))
        if not DNS_LABEL.fullmatch(name):
            return Answer(400, f"service: ({name}) is invalid, must be a valid DNS entry")
        if name in self.functions:
            return Answer(self._manner.made_twice, f'deployments.apps "{name}" already exists')
        if len(self.functions) >= MOST_FUNCTIONS:
            return Answer(400, f"the limit of {MOST_FUNCTIONS} functions is reached")
        if missing := self._missing(spec):
            return Answer(400, missing)
        unpullable = self._unpullable(spec)
        if unpullable and self._manner.unpullable_make >= 400:
            return Answer(self._manner.unpullable_make, unpullable)
        self.functions[name] = function = Deployed(spec)
        self._save()
        if not unpullable:
            self._roll(function)
        return Answer(202)

    def change(self, spec: dict[str, Any]) -> Answer:
        """Take another version of a function; it is started afterwards.

        Nobody is told that an image cannot be pulled, or that a secret is missing, where the manner is to say 200 then.
        """
        name = str(spec.get("service"))
        function = self.functions.get(name)
        if function is None:
            return Answer(404, f'deployments.apps "{name}" not found')
        if (fault := self._fault(spec)) is not None:
            return Answer(self._manner.faulty_change, fault if self._manner.faulty_change >= 400 else "")
        function.spec = spec
        self._save()
        self._roll(function)
        return Answer(202)

    def _fault(self, spec: dict[str, Any]) -> str | None:
        return self._missing(spec) or self._unpullable(spec)

    def _missing(self, spec: dict[str, Any]) -> str | None:
        missing = [name for name in spec.get("secrets") or [] if not (self.secrets / name).is_file()]
        return f"required secret '{missing[0]}' was not found in the cluster" if missing else None

    def _unpullable(self, spec: dict[str, Any]) -> str | None:
        image = str(spec.get("image"))
        return None if IMAGES.fullmatch(image) else f"unable to pull image {image}"

    async def remove(self, name: str) -> Answer:
        """Forget a function."""
        function = self.functions.pop(name, None)
        if function is None:
            return Answer(404)
        self._save()
        if function.replica is not None:
            await function.replica.stop()
        return Answer(202)

    def secret_names(self) -> list[str]:
        """Name all secrets."""
        return sorted(path.name for path in self.secrets.iterdir())

    def keep_secret(self, name: str, value: str, *, is_new: bool) -> Answer:
        """Make a secret, or change one."""
        path = self.secrets / name
        if not DNS_LABEL.fullmatch(name):
            return Answer(400, f"the name of a secret is a DNS label, and {name!r} is none")
        if path.exists() and is_new:
            return Answer(409, f'secrets "{name}" already exists')
        if not path.exists() and not is_new:
            return Answer(404, f'secrets "{name}" not found')
        path.touch(mode=0o600)
        path.write_text(value)
        return Answer(202)

    def forget_secret(self, name: str) -> Answer:
        """Remove a secret."""
        if not (DNS_LABEL.fullmatch(name) and (self.secrets / name).is_file()):
            return Answer(self._manner.absent_secret)
        (self.secrets / name).unlink()
        return Answer(202)

    def log(self, name: str, since: datetime | None) -> list[dict[str, str]]:
        """Return the end of a function's log: what keeps it from starting, else what its process wrote.

        Nothing of it is returned where its end is older than `since`.
        """
        function = self.functions[name]
        text, at = function.said, function.said_at
        if not text and function.replica is not None:
            file = function.replica.folder / "log"
            text, at = (
                file.read_text(errors="replace")[-MOST_LOG_LETTERS:],
                datetime.fromtimestamp(file.stat().st_mtime, UTC),
            )
        if since is not None and at < since:
            return []
        line = {"name": name, "instance": "1", "namespace": NAMESPACE, "timestamp": at.isoformat()}
        return [line | {"text": words} for words in text.splitlines()]

    def _roll(self, function: Deployed) -> None:
        function.rolling = asyncio.create_task(self._bring_up(function))
        self._keep(function.rolling)

    async def _bring_up(self, function: Deployed) -> None:
        """Start the version that was asked for last, again and again until it is ready or another one is asked for."""
        spec, (delay, most) = function.spec, BACK_OFF_SECONDS
        if not self._manner.keeps_old:
            old, function.replica = function.replica, None
            if old is not None:
                await old.stop()
        while self._wants(function, spec):
            try:
                fresh = await self._start(spec)
            except NotReady as error:
                if self._wants(function, spec):
                    function.said, function.said_at = str(error), datetime.now(UTC)
                await asyncio.sleep(delay)
                delay = min(2 * delay, most)
                continue
            if self._wants(function, spec):
                old, function.replica, function.said = function.replica, fresh, ""
                self._end(old)
            else:
                await fresh.stop()
            return

    def _wants(self, function: Deployed, spec: dict[str, Any]) -> bool:
        return function.spec is spec and self.functions.get(spec["service"]) is function

    async def replica(self, name: str) -> Replica | None:
        """Return the process of a function, starting one where it sleeps;
        None for an unknown function, NotReady where none comes.
        """
        function = self.functions.get(name)
        if function is None:
            return None
        function.invocation_count += 1
        deadline = time.monotonic() + WAKE_SECONDS
        while function.replica is None or not function.replica.alive:
            if function.rolling is None or function.rolling.done():
                self._roll(function)
            if time.monotonic() > deadline:
                raise NotReady(function.said)
            await asyncio.sleep(POLL_SECONDS)
        return function.replica

    async def _start(self, spec: dict[str, Any]) -> Replica:
        kept = {name: value for name, value in spec["envVars"].items() if name not in self._manner.lost_settings}
        folder = self._folder / "replicas" / f"{spec['service']}-{secrets.token_hex(4)}"
        return await replicas.start(spec | {"envVars": kept}, self.secrets, folder, self._volumes)

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

    def restore(self) -> None:
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
                if (
                    replica is None
                    or replica.in_flight
                    or (function.rolling is not None and not function.rolling.done())
                ):
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

    async def call(
        self, name: str, method: str, rest: str, body: Any, headers: dict[str, str]
    ) -> StreamingResponse | None:
        """Pass a request on to a function; None where there is no such function."""
        replica = await self.replica(name)
        if replica is None:
            return None
        replica.in_flight += 1
        client = httpx.AsyncClient(timeout=httpx.Timeout(UPSTREAM_SECONDS))
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
        functions, self.functions = list(self.functions.values()), {}
        running = [f.replica.stop() for f in functions if f.replica is not None]
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
    """Return whether a function's schedule has a moment after `last` and not after `now`."""
    expression = (spec.get("annotations") or {}).get("schedule")
    return expression is not None and next(CronSim(expression, last)) <= now


def memory_limit(spec: dict[str, Any]) -> int:
    """Return a function's memory limit in bytes."""
    text = (spec.get("limits") or {}).get("memory") or "1Gi"
    return int(text[:-2]) * UNITS[text[-2:]] if text[-2:] in UNITS else int(text)
