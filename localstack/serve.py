"""Every function on one port, on SQLite and files: `make serve`.

Runs each folder of functions/ through functions-framework, as a platform would; the timer functions run on their
schedules. Some processes share the port, and each has all functions. State, keys and tokens live under SKYTALLY_HOME.
`--port 0` takes any free port.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO, TypeVar
from urllib.parse import urlsplit

from cronsim import CronSim
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from skytally.access import tokens
from skytally.adapters.keys_files import KeyFiles
from skytally.app import asgi, wiring
from skytally.app.processes import Processes
from skytally.core import clock, logs
from skytally.core.config import Config
from skytally.core.errors import SkytallyError
from skytally.core.records import Caller
from skytally.deployment.catalog import FUNCTIONS, service_of
from skytally.http import web
from skytally.http.http_error import HttpError
from skytally.http.shared_listener import Share, no_connections

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 4
# SQLite has one writer at a time.
MOST_PROCESSES = 4
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104
log = logging.getLogger("skytally")
T = TypeVar("T")


class AllFunctions:
    """Pick the function by the path's second part, as a gateway does, and answer the lifespan itself."""

    def __init__(self) -> None:
        self._names = {function.service: function.name for function in FUNCTIONS}
        self._apps: dict[str, ASGIApp] = {}

    def app(self, service: str) -> ASGIApp | None:
        """Return a function's application, loaded at its first request."""
        if service not in self._apps and service in self._names:
            name = self._names[service]
            self._apps[service] = asgi.FunctionApp(name, ROOT / "functions" / name / "main.py")
        return self._apps.get(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request, or to the server's lifespan."""
        if scope["type"] == "lifespan":
            await asgi.lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        _, _, rest = scope["path"].partition("/function/")
        name, slash, path = rest.partition("/")
        app = self.app(name) if scope["path"].startswith("/function/") else None
        if app is None:
            await web.unknown_function(name)(scope, receive, asgi.with_headers(HTTPConnection(scope), send))
        else:
            await app({**scope, "path": slash + path or "/", "raw_path": None}, receive, send)


class NamedHere:
    """An application whose data need no token:
    it answers those who call it by one of its names, and no page of another site.

    A browser on this machine reaches 127.0.0.1 for any page that it shows. A page whose own name was made to lead here
    would read the answers: its requests say that name in `Host`. Others could not read, but send: their requests say
    where they come from.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        error = self._refusal(HTTPConnection(scope).headers) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
        else:
            await web.error_reply(error)(scope, receive, asgi.with_headers(HTTPConnection(scope), send))

    def _refusal(self, headers: Mapping[str, str]) -> HttpError | None:
        if host_of(f"//{headers.get('host', '')}") not in self._names:
            return HttpError(
                421, "misdirected", "call this server by this machine's name, or add yours to SKYTALLY_LOCAL_NAMES"
            )
        is_foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if is_foreign or ("origin" in headers and host_of(headers["origin"]) not in self._names):
            return HttpError(403, "forbidden", "a page of another site may not ask this server")
        return None


def host_of(url: str) -> str | None:
    """Return the host that a URL names, without its port; None where it names none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def names_of(config: Config, host: str) -> frozenset[str]:
    """Return the names by which the local server may be called:
    this machine's, the address it listens on, and those of the settings.
    """
    names = (name.strip().strip("[]").lower() for name in (host, *config.local_names.split(",")))
    return (THIS_MACHINE | {name for name in names if name}) - ANY_ADDRESS


async def run_timers(functions: AllFunctions, schedules: Mapping[str, str]) -> None:
    """Call each timer function when its schedule says so, with the empty body that a platform's timer sends."""
    due = {name: CronSim(schedule, _now()) for name, schedule in schedules.items()}
    upcoming = {name: next(times) for name, times in due.items()}
    while upcoming:
        name = min(upcoming, key=lambda n: upcoming[n])
        await asyncio.sleep(max(0.0, (upcoming[name] - _now()).total_seconds()))
        status = await _call(functions, name)
        if status >= 400:
            log.warning("timer %s answered %s: it tries again at its next turn", name, status)
        upcoming[name] = next(due[name])


async def _call(functions: AllFunctions, name: str) -> int:
    answered = 500

    async def send(message: Any) -> None:
        nonlocal answered
        if message["type"] == "http.response.start":
            answered = message["status"]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/function/{service_of(name)}",
    }
    await functions(
        scope | {"raw_path": None, "query_string": b"", "headers": [], "client": None, "server": None}, receive, send
    )
    return answered


def _now() -> datetime:
    return datetime.now(UTC)


def first_start(config: Config) -> None:
    """Make the keys, and the operator's two tokens, where they are not there yet."""
    key_files = KeyFiles(config.keys_path, clock.now)
    key_files.init()
    folder = config.home_path / "tokens"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for role in ("scheduler", "reader"):
        if not (folder / role).exists():
            expires = _now() + timedelta(days=365)
            caller = Caller(role=role, issued=int(_now().timestamp()), expires=int(expires.timestamp()))
            write_private(folder / role, tokens.issue(caller, key_files.keyring().token))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def say(line: str, stream: TextIO) -> None:
    """Print a line; on a full disk it is lost, and the server goes on."""
    with contextlib.suppress(OSError):
        print(line, file=stream, flush=True)


def serve(config: Config, host: str, port: int, processes: int) -> int:
    """Serve until SIGTERM or SIGINT, then let what is in flight finish, for at most `STOP_SECONDS`.

    Return the exit code.
    """
    functions = AllFunctions()
    for function in FUNCTIONS:
        functions.app(function.service)
    listener = asgi.listen(host, port)
    app = NamedHere(functions, names_of(config, host)) if config.open_dashboard else functions

    open_connections = no_connections(processes)

    def work(number: int, ready: Callable[[], None], parent: int | None = None) -> None:
        share = Share(open_connections, number) if processes > 1 else None
        server = asgi.server(app, STOP_SECONDS, asgi.bounds_of(config), stopping=threading.Event(), share=share)
        schedules = {function.name: function.schedule for function in FUNCTIONS if function.schedule and number == 0}

        async def serve_here() -> None:
            wiring.documents()
            timers = asyncio.create_task(run_timers(functions, schedules))
            if parent is not None:
                stop_without(parent, server)
            ready()
            await server.serve(sockets=[listener])
            timers.cancel()

        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(serve_here())

    def announce() -> None:
        say(f"ready http://{host}:{listener.getsockname()[1]}/function/dashboard", sys.stdout)
        say(f"tokens for the dashboard and the scheduler: {config.home_path / 'tokens'}", sys.stderr)

    if processes > 1:
        return Processes(lambda *arguments: or_exit(lambda: work(*arguments)), processes).run(announce)
    work(0, announce)
    return 0


def stop_without(parent: int, server: asgi.Server) -> None:
    """Stop a server once the descriptor says that its process's parent is gone."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(parent)
        server.handle_exit(signal.SIGTERM, None)

    loop.add_reader(parent, stop)


def or_exit(call: Callable[[], T]) -> T:
    """Return what a call returns; end the process with one sentence for a setting or a machine that is wrong."""
    try:
        return call()
    except SkytallyError as error:
        sys.exit(f"skytally: {error.for_operator}")
    except OSError as error:
        sys.exit(f"skytally: {error.filename or 'this machine'}: {error.strerror}")


def start(host: str, port: int | None, processes: int) -> int:
    """Prepare the state and serve; return the exit code."""
    config = Config.from_env()
    first_start(config)
    return serve(config, host, config.port if port is None else port, processes)


def main() -> None:
    """Parse the command line, and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (default PORT, else 8080)")
    parser.add_argument(
        "--processes",
        type=count_of_processes,
        default=default_processes(),
        help=f"how many processes share the port (default one a core, {MOST_PROCESSES} at most)",
    )
    options = parser.parse_args()
    logs.to_stream()
    os.umask(0o077)
    sys.exit(or_exit(lambda: start(options.host, options.port, options.processes)))


def default_processes() -> int:
    """Return a process a core, and no more than one store's writer can serve."""
    # Not every system says which cores a process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def count_of_processes(text: str) -> int:
    """Return a positive number; argparse tells the caller of any other text."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes: name 1 or more")
    return int(text)


if __name__ == "__main__":
    main()
