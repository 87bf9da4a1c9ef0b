"""A function as an ASGI application: functions-framework loads it, and each request goes straight to it.

`python -m skytally.app.asgi` serves the one function that FUNCTION_TARGET names on PORT, as the image does on every
platform.
"""

import asyncio
import ctypes
import gc
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import uvicorn
from functions_framework.aio import create_asgi_app
from starlette.requests import HTTPConnection, Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skytally.access import rate_limit
from skytally.access.rate_limit import Limits
from skytally.app import wiring
from skytally.core import clock, logs
from skytally.core.config import Config
from skytally.core.errors import Misconfigured, Unavailable
from skytally.http import connections, web, workers
from skytally.http.connections import Bounds
from skytally.http.http_error import too_many
from skytally.http.shared_listener import Share, SharedListener
from skytally.http.web import Reply, error_reply
from skytally.operation import timer

log = logging.getLogger("skytally")
ALIVE_PATHS, READY_PATH = frozenset({"/healthz", "/_/health"}), "/_/ready"
# A platform sends requests until it has seen that a process is not ready. These together are below the 25 s that
# platforms wait for its end.
LINGER_SECONDS, STOP_SECONDS, LEAVE_SECONDS = 2.0, 21, 0.5
READ_AHEAD_BYTES, SEND_AHEAD_BYTES = 64 * 1_024, 128 * 1_024
LIMITED_LOGGED_EVERY = timedelta(minutes=1)
# New objects that are still alive when the next garbage collection begins.
GARBAGE_OBJECTS = 10_000
# The number by which glibc's `mallopt` knows the most arenas, and how many a process needs.
M_ARENA_MAX, ARENAS = -8, 2
SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in web.SECURITY_HEADERS.items()]


class FunctionApp:
    """One function: its requests, its health, and JSON for errors outside it.

    `/healthz` and `/_/health` answer while the process is alive, `/_/ready` while it can serve and is not `stopping`.
    """

    def __init__(self, target: str, source: Path, stopping: threading.Event | None = None) -> None:
        self._name = target
        self._stopping = stopping or threading.Event()
        self._function = load(target, source)
        self._logged_at: datetime | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, or to the server's lifespan."""
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            request = Request({**scope, "path_params": {"path": scope["path"][1:]}}, receive, send)
            send_with_headers = with_headers(request, send)
            reply = await self._reply(request)
            await reply(request.scope, receive, send_with_headers)

    async def _reply(self, request: Request) -> Reply:
        path = request.scope["path"]
        if path in ALIVE_PATHS:
            return web.json_reply({"state": "up"})
        if path == READY_PATH:
            return self._readiness()
        return await self._reply_within_limits(request)

    def _readiness(self) -> Reply:
        if self._stopping.is_set():
            return error_reply(Unavailable("this process is ending: another one answers"))
        try:
            wiring.check(self._name)
        except Unavailable as error:
            return error_reply(error)
        return web.json_reply({"state": "ready", "deployment": wiring.config().deployment})

    async def _reply_within_limits(self, request: Request) -> Reply:
        try:
            address = web.address_of(request, wiring.config().trusted_hops)
            wait_seconds = self._wait_seconds(wiring.limits(), address, request)
        except Misconfigured:
            address, wait_seconds = "", 0  # The function reads the same settings and raises their error.
        if wait_seconds:
            return error_reply(too_many(wait_seconds))
        request.scope[web.NETWORK] = rate_limit.network_of(address) or ""
        return await self._function(request)

    def _wait_seconds(self, limits: Limits, address: str, request: Request) -> int:
        """Return the seconds to wait by the rate limits; log refusals once a minute at most."""
        now = clock.now()
        wait_seconds = limits.wait_seconds(self._name, address, request.headers.get("authorization", ""), now)
        if wait_seconds and (self._logged_at is None or now - self._logged_at >= LIMITED_LOGGED_EVERY):
            self._logged_at = now
            log.warning(
                logs.Fields(function=self._name, status=429, address=address, message="a caller asks too often")
            )
        return wait_seconds


def load(target: str, source: Path) -> Callable[[Request], Awaitable[Reply]]:
    """Return the function of a source file, as functions-framework serves it.

    The framework's own application would search four routes and pass each message through five layers that a function
    of ours, which catches all its errors, does not need.
    """
    routes = create_asgi_app(target, source=str(source)).routes
    return next(route.endpoint for route in routes if isinstance(route, Route) and route.path == "/")


def with_headers(connection: HTTPConnection, send: Send) -> Send:
    """Return a `send` that adds the request's id and the security headers; log lines carry the id too."""
    request_id = logs.id_for(connection.headers.get("x-request-id", ""))
    logs.request_id.set(request_id)

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"]
            names = {name for name, _ in headers}
            added = [header for header in SECURITY_HEADERS if header[0] not in names]
            message["headers"] = [*headers, *added, (b"x-request-id", request_id.encode())]
        await send(message)

    return send_with_headers


async def lifespan(receive: Receive, send: Send) -> None:
    """Handle a server's start and stop: set the loop's threads; at the end record the rounds and close the stores."""
    asyncio.get_running_loop().set_default_executor(workers.LoopThreads())
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await asyncio.to_thread(timer.end_rounds)
    wiring.close()
    await send({"type": "lifespan.shutdown.complete"})


class Server(uvicorn.Server):
    """A server that listens a moment longer after a stop signal, answers requests in flight, and ends the process."""

    def __init__(
        self, config: uvicorn.Config, stopping: threading.Event, linger_seconds: float, *, share: Share | None
    ) -> None:
        super().__init__(config)
        self._stopping, self._linger_seconds, self._share = stopping, linger_seconds, share
        self._shared: list[SharedListener] = []

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; then end threads that still run, since nobody waits for their answers."""
        spare_garbage_collection()
        share_arenas()
        await super().serve(sockets)
        _later(LEAVE_SECONDS, os._exit, 0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections: all, or this process's share."""
        if self._share is None:
            await super().startup(sockets)
            return
        await super().startup([])
        self._shared = [
            SharedListener(listener, self._share, lambda: len(self.server_state.connections), self._protocol)
            for listener in sockets or ()
        ]
        self.servers = [*self._shared]  # type: ignore[list-item]

    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second; return whether to stop."""
        for listener in self._shared:
            listener.tell()
        return await super().on_tick(counter)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop after a moment, or at once after a second signal."""
        if self._stopping.is_set():
            super().handle_exit(sig, frame)
        else:
            self._stopping.set()
            timer.stop_rounds()
            _later(self._linger_seconds, super().handle_exit, sig, frame)


def spare_garbage_collection() -> None:
    """Exclude all that was loaded so far from garbage collections, and collect less often.

    A request leaves no reference cycles: collections would search the libraries' objects again and again for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def share_arenas() -> None:
    """Let all threads allocate from a few of glibc's arenas; other C libraries have none.

    Each thread would get one of its own, up to eight a core, and each arena keeps the most that it ever held.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _later(seconds: float, call: Callable[..., object], *arguments: object) -> None:
    alarm = threading.Timer(seconds, call, arguments)
    alarm.daemon = True
    alarm.start()


def server(
    app: ASGIApp,
    stop_seconds: int,
    bounds: Bounds,
    *,
    stopping: threading.Event,
    linger_seconds: float = 0,
    share: Share | None = None,
) -> Server:
    """Return the server of all processes: at SIGTERM it answers requests in flight and the process ends with 0.

    With a share other processes take connections from the same listener.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        loop="uvloop",
        http=connections.protocol(bounds),
        ws="none",
        timeout_keep_alive=math.ceil(bounds.idle_seconds),
        timeout_graceful_shutdown=stop_seconds,
        server_header=False,
        # Trusted proxies are a setting of ours; uvicorn would trust every caller on this machine.
        proxy_headers=False,
        log_config=None,
    )
    uvicorn_server = Server(config, stopping, linger_seconds, share=share)
    # Uvicorn handles signals only while it serves, and raises them again at its end. After a signal before that it must
    # not begin to serve.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, uvicorn_server.handle_exit)
    return uvicorn_server


def listen(host: str, port: int) -> socket.socket:
    """Return a server's listening socket; raise Misconfigured if it cannot be opened.

    The system's buffers of its connections are bounded, since they count as the server's memory.
    """
    try:
        listener = socket.create_server((host, port), backlog=1_024)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else type(error).__name__
        reason = f"nothing can listen on {host}:{port} ({why}): name another port or address"
        raise Misconfigured.setting("PORT", reason) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_AHEAD_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_AHEAD_BYTES)
    return listener


def bounds_of(config: Config) -> Bounds:
    """Return the bounds of connections by the settings."""
    return Bounds(
        head_seconds=config.head_seconds,
        idle_seconds=config.idle_seconds,
        body_seconds=config.body_seconds,
        connections=config.connections,
    )


def main() -> None:
    """Serve one function until SIGTERM; with unusable settings exit with one sentence and EX_CONFIG."""
    logs.to_stream()
    # A container's first process ignores signals without a handler, and the server sets one only after the function is
    # loaded.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stopping = threading.Event()
    try:
        app, listener = start(stopping)
    except Unavailable as error:
        sys.stderr.write(f"skytally: {error.for_operator}\n")
        sys.exit(os.EX_CONFIG)
    server(app, STOP_SECONDS, bounds_of(wiring.config()), stopping=stopping, linger_seconds=LINGER_SECONDS).run(
        sockets=[listener]
    )


def start(stopping: threading.Event) -> tuple[FunctionApp, socket.socket]:
    """Return the function and the listening socket of the settings; raise Unavailable for wrong settings."""
    config = wiring.config()
    wiring.check(config.function_target)
    source = Path(config.function_source) / config.function_target / "main.py"
    if not source.is_file():
        raise Misconfigured.setting("FUNCTION_SOURCE", f"there is no {source}: name the folder of all functions")
    return FunctionApp(config.function_target, source, stopping), listen(config.host, config.port)


if __name__ == "__main__":
    main()
