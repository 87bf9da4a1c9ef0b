"""OpenFaaS's gateway over processes of this machine,
so that one `terraform apply` deploys the whole system to a laptop.

It is as strict as the real ones, in the manner of faas-netes (which keeps the version that answers until the next is
ready) or of faasd (which removes it first): names are DNS labels, what is not there cannot be changed, 202 comes before
anything runs, an image that cannot be pulled is told by nobody. Secrets and root cannot be written where this runs as
root and finds `unshare`. Elsewhere functions may write what you may, and a line at the start says so. `--volume` names
what they may write beside /tmp.

::

    POST|PUT /system/functions   DELETE /system/functions   GET /system/functions   GET /system/function/NAME
    GET|POST|PUT|DELETE /system/secrets   GET /system/namespaces   GET /system/info   GET /system/logs?name=&since=
    ANY /function/NAME[.ns][/path]   POST /async-function/NAME                      basic auth on /system

Idle functions go and come back with the next request; timers are called by their cron expressions in UTC. Listens on
loopback only.
"""

import argparse
import asyncio
import base64
import contextlib
import hmac
import json
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import httpx2 as httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from localstack import replicas
from localstack.manners import MANNERS, Manner
from localstack.platform_functions import HOP_HEADERS, NAMESPACE, Provider
from localstack.replicas import NotReady

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
PASSED_ON_LATER = ("authorization", "content-type", "content-encoding")


class Api:
    """The HTTP side of the provider."""

    def __init__(self, provider: Provider, manner: Manner, password: str) -> None:
        self._provider, self._manner = provider, manner
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
        return (
            None if good else PlainTextResponse("unauthorized", 401, {"WWW-Authenticate": 'Basic realm="Restricted"'})
        )

    async def functions(self, request: Request) -> Response:
        """List, make, change or remove functions."""
        refused = self._refused(request)
        if refused is not None:
            return refused
        if request.method == "GET":
            return JSONResponse([function.status() for function in self._provider.functions.values()])
        body = await request.json()
        if request.method == "DELETE":
            answer = await self._provider.remove(body.get("functionName", ""))
        else:
            answer = self._provider.make(body) if request.method == "POST" else self._provider.change(body)
        return PlainTextResponse(answer.text, answer.status)

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
        if request.method == "GET":
            return JSONResponse([{"name": name, "namespace": NAMESPACE} for name in self._provider.secret_names()])
        body = await request.json()
        name = str(body.get("name", ""))
        if request.method == "DELETE":
            answer = self._provider.forget_secret(name)
        else:
            answer = self._provider.keep_secret(name, str(body.get("value", "")), is_new=request.method == "POST")
        return PlainTextResponse(answer.text, answer.status)

    async def namespaces(self, request: Request) -> Response:
        """Return the one namespace."""
        return self._refused(request) or JSONResponse([NAMESPACE])

    async def info(self, request: Request) -> Response:
        """Say what this is."""
        version = {"release": "local", "sha": "local"}
        provider = {"provider": self._manner.name, "version": version, "orchestration": "processes"}
        return self._refused(request) or JSONResponse({"provider": provider, "version": version})

    async def logs(self, request: Request) -> Response:
        """Return the end of a function's log, a line of JSON for each of its lines."""
        refused = self._refused(request)
        name = request.query_params.get("name", "")
        if refused is not None or name not in self._provider.functions:
            return refused or Response(status_code=404)
        since = request.query_params.get("since")
        lines = self._provider.log(name, datetime.fromisoformat(since) if since else None)
        return PlainTextResponse("".join(f"{json.dumps(line)}\n" for line in lines), media_type="application/x-ndjson")

    async def invoke(self, request: Request) -> Response:
        """Pass a request on to a function's process, starting it where it sleeps."""
        name = request.path_params["name"].partition(".")[0]
        headers = {k: v for k, v in request.headers.items() if k not in HOP_HEADERS}
        # As the gateway does: what a caller wrote there stays, so that only a proxy in front of it makes it true.
        headers.setdefault("x-forwarded-for", f"{request.client.host}:{request.client.port}" if request.client else "")
        rest = request.path_params.get("rest", "") + (f"?{request.url.query}" if request.url.query else "")
        body = await request.body()
        try:
            answer = await self._provider.call(name, request.method, rest, body, headers)
        except httpx.TimeoutException:
            return PlainTextResponse("the function did not answer in time", 504)
        except (NotReady, httpx.TransportError):
            return PlainTextResponse(f"No endpoints available for: {name}.{NAMESPACE}.", 503)
        return answer or PlainTextResponse(f"error finding function {name}.{NAMESPACE}: not found", 404)

    async def invoke_later(self, request: Request) -> Response:
        """Take a call and answer at once; it is made in the background, once."""
        name, body = request.path_params["name"], await request.body()
        if name not in self._provider.functions:
            return Response(status_code=404)
        self._provider.call_later(name, body, {k: v for k, v in request.headers.items() if k in PASSED_ON_LATER})
        return Response(status_code=202, headers={"X-Call-Id": secrets.token_hex(16)})

    async def health(self, request: Request) -> Response:  # noqa: ARG002
        """Say that the provider is up."""
        return PlainTextResponse("OK")


def application(
    folder: Path, password: str, idle_seconds: float, manner: Manner, volumes: tuple[Path, ...]
) -> Starlette:
    """Make the whole provider over a state folder."""
    provider = Provider(folder, idle_seconds, manner, volumes)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        provider.restore()
        tasks = [asyncio.create_task(provider.watch()), asyncio.create_task(provider.run_timers())]
        yield
        for task in tasks:
            task.cancel()
        await provider.close()

    return Starlette(routes=Api(provider, manner, password).routes(), lifespan=lifespan)


def main() -> None:
    """Parse the command line, and answer until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8081, help="port on 127.0.0.1 (default 8081)")
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".skytally/provider"),
        help="folder of functions and secrets (default .skytally/provider)",
    )
    parser.add_argument(
        "--idle-seconds", type=float, default=900.0, help="a function that nobody calls for so long ends (default 900)"
    )
    parser.add_argument(
        "--like", choices=sorted(MANNERS), default="faas-netes", help="whose manner it has (default faas-netes)"
    )
    parser.add_argument(
        "--volume",
        type=Path,
        action="append",
        help="folder that functions may write (repeat it; default: the one that holds --state)",
    )
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    password_file = options.state / "password"
    if not password_file.exists():
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24))
    volumes = tuple(folder.absolute() for folder in options.volume or [options.state.absolute().parent])
    app = application(
        options.state.absolute(), password_file.read_text(), options.idle_seconds, MANNERS[options.like], volumes
    )
    if not replicas.can_be_read_only():
        print("functions may write what you may: read-only roots need root and `unshare`", file=sys.stderr)
    print(
        f"ready http://127.0.0.1:{options.port}  (user admin, password in {password_file})", file=sys.stderr, flush=True
    )
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", timeout_graceful_shutdown=25)


if __name__ == "__main__":
    main()
