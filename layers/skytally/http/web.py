"""The HTTP layer of a function: methods, sizes, media types and error bodies. It alone catches every exception."""

import asyncio
import functools
import inspect
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response, StreamingResponse

from skytally.access.callers import Admission
from skytally.core import clock, errors, logs
from skytally.core.errors import Forbidden, Malformed, Misconfigured, SkytallyError, Unauthenticated, Unavailable
from skytally.core.first_use import prepare_records
from skytally.core.records import Caller
from skytally.deployment.catalog import FUNCTIONS, service_of
from skytally.http import bodies, workers
from skytally.http.http_error import HttpError, too_large
from skytally.http.workers import Party, Workers

KIB, MIB = 1_024, 1_024 * 1_024
# A coroutine with a larger body runs in a thread: it would block the loop for more than a millisecond.
ON_LOOP_BYTES = 64 * KIB
LARGE_BYTES = MIB
# The scope's key of the network that a request's address counts as.
NETWORK = "skytally.place"
RETRY_AFTER_SECONDS = 5
# The rows of a piece of a list that is made while it is sent.
ROWS_AT_ONCE = 1_000
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
# Headers of every answer that does not set them itself.
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
STATUS: list[tuple[type[SkytallyError], int]] = [
    (Malformed, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Gone, 410),
    (Unavailable, 503),
]

Reply = Response
log = logging.getLogger("skytally")


class Request:
    """A function's request, read whole under a size limit; `authorise` sees it without its body."""

    def __init__(self, request: StarletteRequest, received_at: datetime) -> None:
        self.method = request.method
        self.path = str(request.path_params.get("path", "")).strip("/")
        self.headers = request.headers
        self.body = b""
        self.received_at = received_at
        self.admission: Admission | None = None
        self._request = request

    @property
    def admitted(self) -> Admission:
        """Return the admission by the function's `authorise`."""
        assert self.admission is not None  # noqa: S101
        return self.admission

    @property
    def caller(self) -> Caller:
        """Return the caller."""
        return self.admitted.caller

    @property
    def party(self) -> Party:
        """Return the holder of the share that this request uses: its token's, else its address's."""
        if self.admission is not None and self.admission.chain_id:
            return Party(self.admission.chain_id, workers.TOKEN)
        return Party(f"at {self._request.scope.get(NETWORK, '')}", workers.ADDRESS)

    @property
    def query(self) -> dict[str, str]:
        """Return the query's fields; raise Malformed for a repeated one."""
        return self.query_besides()

    def query_besides(self, *repeatable: str) -> dict[str, str]:
        """Return the query's fields without the repeatable ones; raise Malformed for any other repeated field."""
        pairs = [(name, value) for name, value in self._request.query_params.multi_items() if name not in repeatable]
        if len({name for name, _ in pairs}) != len(pairs):
            raise Malformed("a query field comes twice: give each once")
        return dict(pairs)

    def queries(self, name: str) -> tuple[str, ...]:
        """Return the values of a repeatable query field, each once, in their order."""
        return tuple(dict.fromkeys(self._request.query_params.getlist(name)))

    @property
    def bearer(self) -> str:
        """Return the caller's token, or raise Unauthenticated."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("send the token as `Authorization: Bearer …`")
        return token.strip()

    @property
    def fields(self) -> dict[str, Any]:
        """Return the fields of a form or of a JSON object."""
        if _media_type(self.headers) == FORM:
            try:
                pairs = parse_qsl(
                    self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=32
                )
            except ValueError:
                raise Malformed("the body is no form") from None
            return dict(pairs)
        try:
            fields = msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Malformed("the body is no JSON object") from None
        return fields

    def address(self, trusted_hops: int) -> str:
        """Return the caller's address: the peer's, or the nth from the right in X-Forwarded-For."""
        return address_of(self._request, trusted_hops)


def address_of(connection: HTTPConnection, trusted_hops: int) -> str:
    """Return a connection's caller address; all X-Forwarded-For headers count, in their order."""
    peer = connection.client.host if connection.client else ""
    lines = ",".join(connection.headers.getlist("x-forwarded-for"))
    forwarded = [part.strip() for part in lines.split(",") if part.strip()]
    if trusted_hops <= 0 or not forwarded:
        return peer
    return _plain_address(forwarded[-min(trusted_hops, len(forwarded))])


def _plain_address(text: str) -> str:
    """Return an address without the port that some proxies add."""
    for candidate in (text, text.rpartition(":")[0].strip("[]")):
        try:
            return str(ipaddress.ip_address(candidate))
        except ValueError:
            continue
    return text[:64]


Function = Callable[[Request], Reply | Awaitable[Reply]]
Authorise = Callable[[Request], Awaitable[Admission | None]]


def endpoint(
    *,
    methods: tuple[str, ...],
    max_bytes: int = 0,
    media: tuple[str, ...] = (),
    gzip: bool = False,
    paths: bool = False,
    authorise: Authorise | None = None,
) -> Callable[[Function], Callable[[StarletteRequest], Awaitable[Reply]]]:
    """Return a decorator that makes a function one of the framework's; every exception becomes a JSON error.

    `media` are the body's media types (empty: any), `max_bytes` is its size limit before and after inflation, `paths`
    allows sub-paths. The head is checked first: path, method, length, media type and encoding. Then `authorise` raises
    or returns an admission. Only then the body is read and inflated. A plain function runs in a thread, a coroutine on
    the loop unless its body is large.
    """

    def wrap(function: Function) -> Callable[[StarletteRequest], Awaitable[Reply]]:
        prepare_records()  # Its module has imported all that it decodes, and serves nobody yet.
        threads = workers.of(function.__name__)

        async def answer(raw: StarletteRequest, request: Request) -> Reply:
            _check_head(raw, methods, max_bytes, media, gzip=gzip, paths=paths)
            if authorise is not None:
                request.admission = await authorise(request)
            workers.act_for(threads, request.party)
            with bodies.MEMORY.reservation(request.party.name) as reservation:
                if raw.method == "POST":
                    request.body = await bodies.read(raw, max_bytes, reservation, gzip=gzip)
                return await _call(function, request, threads)

        @functools.wraps(function)
        async def handle(raw: StarletteRequest) -> Reply:
            received_at = clock.now()
            reply = await _reply_of(answer(raw, Request(raw, received_at)))
            if reply.status_code >= 400:
                _log(function.__name__, raw, reply, received_at)
            return reply

        return handle

    return wrap


async def _reply_of(answer: Awaitable[Reply]) -> Reply:
    """Return an answer, or the JSON of its error."""
    try:
        return await answer
    except SkytallyError as error:
        return error_reply(error)
    except ClientDisconnect:
        return Reply(status_code=499)
    except Exception as crash:  # noqa: BLE001
        return _crash_reply(crash)


async def _call(function: Function, request: Request, threads: Workers) -> Reply:
    """Let a function answer where it holds up nobody:
    a coroutine with a small body on the loop, all else in a thread.
    """
    party = request.party
    if len(request.body) > LARGE_BYTES:
        threads, party = workers.LARGE, Party(party.name, workers.ONE_LARGE)
    if not inspect.iscoroutinefunction(function):
        reply = await threads.run(party, lambda: function(request))
    elif len(request.body) > ON_LOOP_BYTES:
        reply = await threads.run(party, lambda: workers.alone(_reply_of(function(request))))
    else:
        reply = await function(request)
    assert isinstance(reply, Reply)  # noqa: S101
    return reply


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_head(
    raw: StarletteRequest, methods: tuple[str, ...], max_bytes: int, media: tuple[str, ...], *, gzip: bool, paths: bool
) -> None:
    """Raise HttpError for a wrong head, before the body is read."""
    if str(raw.path_params.get("path", "")).strip("/") and not paths:
        raise HttpError(404, "unknown", "there is nothing at this path: see openapi.json")
    if raw.method not in methods:
        allow = ", ".join(methods)
        raise HttpError(405, "method_not_allowed", f"use {allow}", {"Allow": allow})
    length = raw.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes and raw.method == "POST":
        raise too_large(max_bytes)
    if not media:
        return  # A function without a body does not care about its media type.
    if _media_type(raw.headers) not in media:
        raise HttpError(415, "unsupported_media_type", f"send {' or '.join(media)}")
    if (raw.headers.get("content-encoding") or "identity").lower() not in (
        {"identity", "gzip"} if gzip else {"identity"}
    ):
        raise HttpError(415, "unsupported_encoding", "send the body plain" + (" or with gzip" if gzip else ""))


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return JSON; times are written in UTC with Z."""
    return Reply(msgspec.json.encode(value, enc_hook=_encode), status, media_type=JSON)


def json_stream(fields: Mapping[str, Any], name: str, rows: Iterator[Any]) -> Reply:
    """Return an object as JSON whose last field is a list of any number of rows, made while it is sent."""
    return stream_reply(_json_pieces(fields, name, rows), JSON)


def _json_pieces(fields: Mapping[str, Any], name: str, rows: Iterator[Any]) -> Iterator[str]:
    """Return the pieces of such an object, which has at least one other field."""
    text = _json_text(fields)[:-1] + f',"{name}":['
    while page := list(islice(rows, ROWS_AT_ONCE)):
        yield text + _json_text(page)[1:-1]
        text = ","
    yield "]}" if text == "," else f"{text}]}}"


def _json_text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=_encode).decode()


def _encode(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def stream_reply(pieces: Iterator[str], media_type: str) -> Reply:
    """Return text that is made while it is sent; if that fails the connection ends early, so the caller notices.

    The first piece is made before the answer begins, so that an outage gets its error status.
    """
    return StreamingResponse(_in_threads(next(pieces, ""), pieces), media_type=media_type)


async def _in_threads(first: str, pieces: Iterator[str]) -> AsyncIterator[str]:
    """Yield each piece, made in a thread of the caller's share; no thread is used while a piece is sent."""
    piece: str | None = first
    while piece is not None:
        yield piece
        piece = await asyncio.to_thread(next, pieces, None)


def tar_reply(data: bytes) -> Reply:
    """Return an archive."""
    return Reply(data, 200, media_type="application/x-tar")


def error_reply(error: SkytallyError) -> Reply:
    """Return an error's status and JSON; log the part that only the operator may read."""
    if isinstance(error, Misconfigured):
        log.error(logs.Fields(message=error.reason))
    status = (
        error.status
        if isinstance(error, HttpError)
        else next((s for kind, s in STATUS if isinstance(error, kind)), 500)
    )
    details: errors.ErrorDetails = {"code": error.code, "message": error.message, **error.details}  # type: ignore[typeddict-item]
    reply = json_reply(errors.ErrorAnswer(error=details), status)
    if isinstance(error, HttpError):
        reply.headers.update(error.headers)
    if status == 401:
        reply.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        reply.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return reply


def _crash_reply(crash: Exception) -> Reply:
    """Return the JSON of an incident's id; log the frames, never the exception's text or the body."""
    message, incident = "this is a bug: tell the operator the incident", logs.incident(crash)
    return json_reply(errors.ErrorAnswer(error={"code": "internal", "message": message, "incident": incident}), 500)


def _log(function: str, raw: StarletteRequest, reply: Reply, received_at: datetime) -> None:
    took_ms = round((clock.now() - received_at).total_seconds() * 1_000, 1)
    level = logging.ERROR if reply.status_code >= 500 else logging.INFO
    log.log(level, logs.Fields(function=function, method=raw.method, status=reply.status_code, took_ms=took_ms))


def unknown_function(service: str) -> Reply:
    """Return the error for an unknown function; for a name with underscores it has the right name."""
    right = service_of(service)
    if right != service and right in {function.service for function in FUNCTIONS}:
        return unknown_path(f"this function is {right}: names in paths have hyphens")
    return unknown_path()


def unknown_path(message: str = "there is no such function: see openapi.json") -> Reply:
    """Return the error for an unknown path."""
    return error_reply(HttpError(404, "unknown", message))
