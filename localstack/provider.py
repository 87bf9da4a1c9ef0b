"""OpenFaaS's provider API over processes of this machine, so that one `terraform apply` deploys the whole system to a laptop.

::

    POST|PUT /system/functions   DELETE /system/functions   GET /system/functions   GET /system/function/NAME
    GET|POST|PUT|DELETE /system/secrets   GET /system/namespaces   GET /system/info   GET /system/logs?name=
    ANY /function/NAME[.ns][/path]   POST /async-function/NAME                      basic auth on /system

A changed function is started anew beside the old one, takes over once it answers, and the old one ends after its last answer. Idle
functions go and come back with the next request; timers are called by their cron expressions in UTC. Listens on loopback only.
"""

import argparse
import asyncio
import base64
import contextlib
import hmac
import json
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2 as httpx
import uvicorn
from cronsim import CronSim
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from localstack import replicas
from localstack.replicas import NotReady, Replica

NAMESPACE = "openfaas-fn"
WATCH_SECONDS = 1.0
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host", "upgrade", "te", "trailer"}
PASSED_ON_LATER = ("authorization", "content-type", "content-encoding")
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


class Api:
    """The HTTP side of the provider."""

    def __init__(self, provider: Provider, password: str) -> None:
        self._provider = provider
        self._expected = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()

    def routes(self) -> list[Route]:
        """List what it answers."""
        return [
            Route("/system/functions", self.functions, methods=["GET", "POST", "PUT", "DELETE"]),
            Route("/system/function/{name}", self.function, methods=["GET"]),
            Route("/system/secrets", self.secret, methods=["GET", "POST", "PUT", "DELETE"]),
            Route("/system/namespaces", self.namespaces, methods=["GET"]),
            Route("/system/info", self.info, methods=["GET"]),
            Route("/system/logs", self.logs, methods=["GET"]),
            Route("/function/{name}", self.invoke, methods=METHODS),
            Route("/function/{name}/{rest:path}", self.invoke, methods=METHODS),
            Route("/async-function/{name}", self.invoke_later, methods=["POST"]),
            Route("/healthz", self.health, methods=["GET"]),
        ]

    def _refused(self, request: Request) -> Response | None:
        good = hmac.compare_digest(request.headers.get("authorization", ""), self._expected)
        return None if good else PlainTextResponse("unauthorized", 401, {"WWW-Authenticate": 'Basic realm="Restricted"'})

    async def functions(self, request: Request) -> Response:
        """List, make, change or remove functions."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.method == "GET":
            return JSONResponse([function.status() for function in self._provider.functions.values()])
        body = await request.json()
        if request.method == "DELETE":
            return Response(status_code=202 if await self._provider.remove(body.get("functionName", "")) else 404)
        if request.method == "POST" and body.get("service") in self._provider.functions:
            return PlainTextResponse("function exists: use PUT", 409)
        try:
            await self._provider.put(body)
        except (NotReady, KeyError) as error:
            return PlainTextResponse(f"cannot deploy {body.get('service')}: {error}", 400)
        return Response(status_code=202)

    async def function(self, request: Request) -> Response:
        """Describe one function."""
        refused = self._refused(request)
        function = self._provider.functions.get(request.path_params["name"])
        if refused is not None or function is None:
            return refused or Response(status_code=404)
        return JSONResponse(function.status())

    async def secret(self, request: Request) -> Response:
        """List secrets by name, or keep and forget one; no answer ever holds a value."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        folder = self._provider.secrets
        if request.method == "GET":
            return JSONResponse([{"name": path.name, "namespace": NAMESPACE} for path in sorted(folder.iterdir())])
        body = await request.json()
        path = folder / Path(str(body.get("name", ""))).name
        if request.method == "DELETE":
            found = path.is_file()
            path.unlink(missing_ok=True)
            return Response(status_code=202 if found else 404)
        if request.method == "POST" and path.exists():
            return PlainTextResponse("secret exists: use PUT", 409)
        path.touch(mode=0o600)
        path.write_text(str(body["value"]))
        return Response(status_code=202)

    async def namespaces(self, request: Request) -> Response:
        """Name the one namespace."""
        return self._refused(request) or JSONResponse([NAMESPACE])

    async def info(self, request: Request) -> Response:
        """Say what this is."""
        return self._refused(request) or JSONResponse({"provider": {"provider": "skytally-local", "orchestration": "processes"}})

    async def logs(self, request: Request) -> Response:
        """Answer the end of a function's log."""
        refused = self._refused(request)
        function = self._provider.functions.get(request.query_params.get("name", ""))
        if refused is not None or function is None or function.replica is None:
            return refused or Response(status_code=404)
        return PlainTextResponse((function.replica.folder / "log").read_text(errors="replace")[-20_000:])

    async def invoke(self, request: Request) -> Response:
        """Pass a request on to a function's process, starting it where it sleeps."""
        name = request.path_params["name"].partition(".")[0].replace("_", "-")
        headers = {k: v for k, v in request.headers.items() if k not in HOP_HEADERS}
        peer = request.client.host if request.client else ""
        headers["x-forwarded-for"] = ", ".join(filter(None, [headers.get("x-forwarded-for"), peer]))
        rest = request.path_params.get("rest", "") + (f"?{request.url.query}" if request.url.query else "")
        body = await request.body()
        try:
            answer = await self._provider.call(name, request.method, rest, body, headers)
        except (NotReady, httpx.TransportError):
            return error(503, "unavailable", "the function does not answer: ask again", {"Retry-After": "2"})
        return answer or error(404, "unknown", "there is no such function: see openapi.json", {})

    async def invoke_later(self, request: Request) -> Response:
        """Take a call and answer at once; it is made in the background, once."""
        name, body = request.path_params["name"].replace("_", "-"), await request.body()
        if name not in self._provider.functions:
            return Response(status_code=404)
        self._provider.call_later(name, body, {k: v for k, v in request.headers.items() if k in PASSED_ON_LATER})
        return Response(status_code=202, headers={"X-Call-Id": secrets.token_hex(16)})

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """Say that the provider is up."""
        return PlainTextResponse("OK")


def error(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    """Answer an error as the functions do."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def application(folder: Path, password: str, idle_seconds: float) -> Starlette:
    """Make the whole provider over a state folder."""
    provider = Provider(folder, idle_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await provider.restore()
        tasks = [asyncio.create_task(provider.watch()), asyncio.create_task(provider.run_timers())]
        yield
        for task in tasks:
            task.cancel()
        await provider.close()

    return Starlette(routes=Api(provider, password).routes(), lifespan=lifespan)


def main() -> None:
    """Parse the command line, and answer until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8081, help="port on 127.0.0.1 (default 8081)")
    parser.add_argument(
        "--state", type=Path, default=Path(".skytally/provider"), help="folder of functions and secrets (default .skytally/provider)"
    )
    parser.add_argument("--idle-seconds", type=float, default=900.0, help="a function that nobody calls for so long ends (default 900)")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    password_file = options.state / "password"
    if not password_file.exists():
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24))
    app = application(options.state.absolute(), password_file.read_text(), options.idle_seconds)
    print(f"ready http://127.0.0.1:{options.port}  (user admin, password in {password_file})", file=sys.stderr, flush=True)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=25)


if __name__ == "__main__":
    main()
