"""The edge: addresses, bodies, and what the one catch of everything lets out."""

import asyncio
import gzip
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request as StarletteRequest

from skytally.access.callers import Admission
from skytally.core.errors import Expired, Malformed, NotYours, SkytallyError, Taken, Unauthenticated, Unavailable
from skytally.core.records import Caller
from skytally.core.site_data import Site
from skytally.http import web


def request(method="POST", headers=(), body=b"", client=("198.51.100.7", 4711), path="", query=b"", pause=0.0):
    """Make a request as a server hands it over."""

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": f"/{path}",
        "path_params": {"path": path},
        "query_string": query,
        "client": client,
    }
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]
    return StarletteRequest(scope, receive)


def answer(function, **how):
    """Run an endpoint once."""
    return asyncio.run(web.endpoint(methods=("POST",), max_bytes=1_000, gzip=True)(function)(request(**how)))


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (0, "203.0.113.9", "198.51.100.7"),
        (1, None, "198.51.100.7"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (2, "203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (5, "203.0.113.9, 10.0.0.1", "203.0.113.9"),
        (1, "203.0.113.9:51234", "203.0.113.9"),
        (1, "[2001:db8::1]:51234", "2001:db8::1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "unknown", "unknown"),
    ],
)
def test_only_as_many_proxies_are_believed_as_the_settings_say(hops, forwarded, address):
    headers = [("x-forwarded-for", forwarded)] if forwarded else []
    seen = []
    answer(lambda r: seen.append(r.address(hops)) or web.json_reply({}), headers=headers)
    assert seen == [address]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Malformed("x"), 400),
        (Unauthenticated("x"), 401),
        (NotYours("x"), 403),
        (Taken("x"), 409),
        (Expired("x"), 410),
        (Unavailable("x"), 503),
    ],
)
def test_every_error_has_its_status(error, status):
    def fail(_):
        raise error

    assert answer(fail).status_code == status


def test_an_error_of_no_known_kind_is_500():
    def fail(_):
        raise SkytallyError("strange")

    assert answer(fail).status_code == 500


def test_coroutines_and_plain_functions_both_work():
    async def later(r):
        return web.json_reply({"body": r.body.decode()})

    assert answer(later, body=b"x").body == b'{"body":"x"}'
    assert answer(lambda r: web.json_reply({"body": r.body.decode()}), body=b"x").body == b'{"body":"x"}'


def untouched(**headers):
    """Make a request whose body must not be asked for."""

    async def receive():
        pytest.fail("the body was read")

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "path_params": {"path": ""},
        "query_string": b"",
        "client": None,
    }
    return StarletteRequest(scope | {"headers": named}, receive)


@pytest.mark.parametrize("error", [Unauthenticated("x"), NotYours("x"), Unavailable("x"), ZeroDivisionError()])
def test_whoever_is_not_admitted_is_answered_before_a_byte_of_its_body_is_read(error):
    seen = []

    async def refuse(request):
        seen.append((request.method, request.body, request.headers["authorization"]))
        raise error

    function = web.endpoint(methods=("POST",), max_bytes=1_000, authorise=refuse)(
        lambda _: pytest.fail("it was called")
    )
    reply = asyncio.run(function(untouched(authorization="Bearer x")))
    assert reply.status_code == {Unauthenticated: 401, NotYours: 403, Unavailable: 503}.get(type(error), 500)
    assert seen == [("POST", b"", "Bearer x")]


def test_what_the_head_shows_to_be_wrong_is_said_before_anybody_asks_who_calls():
    function = web.endpoint(
        methods=("POST",), max_bytes=10, media=(web.JSON,), authorise=lambda _: pytest.fail("the door was asked")
    )
    wrong = [{"content_type": "text/plain"}, {"content_type": web.JSON, "content_length": "11"}]
    wrong.append({"content_type": web.JSON, "content_encoding": "gzip"})
    assert [asyncio.run(function(web.json_reply)(untouched(**headers))).status_code for headers in wrong] == [
        415,
        413,
        415,
    ]


def test_a_function_gets_its_caller_and_whoever_asks_for_one_without_a_door_gets_none():
    mine = Caller(role="reporter", issued=0, expires=1, clouds=("uvic",))

    async def admit(_):
        return Admission(mine, Site())

    function = web.endpoint(methods=("POST",), authorise=admit)(lambda r: web.json_reply(r.caller.clouds))
    assert asyncio.run(function(request())).body == b'["uvic"]'
    assert answer(lambda r: web.json_reply(r.caller.clouds)).status_code == 500


@pytest.mark.parametrize(
    ("size", "on_loop"), [(0, True), (web.ON_LOOP_BYTES, True), (web.ON_LOOP_BYTES + 1, False), (2 * web.MIB, False)]
)
def test_a_coroutine_with_a_large_body_does_not_run_on_the_loop(size, on_loop):
    async def where(r):
        await asyncio.sleep(0)
        return web.json_reply([threading.current_thread() is threading.main_thread(), len(r.body)])

    function = web.endpoint(methods=("POST",), max_bytes=4 * web.MIB)(where)
    assert asyncio.run(function(request(body=b"x" * size))).body == web.json_reply([on_loop, size]).body


def test_an_error_of_a_coroutine_with_a_large_body_is_answered_as_any():
    async def fail(_):
        raise Malformed("x")

    function = web.endpoint(methods=("POST",), max_bytes=web.MIB)(fail)
    assert asyncio.run(function(request(body=b"x" * web.MIB))).status_code == 400


def test_a_stream_is_made_in_threads_piece_by_piece():
    async def run():
        seen = []

        def pieces():
            for n in range(3):
                seen.append(threading.current_thread() is threading.main_thread())
                yield f"{n};"

        reply = web.stream_reply(pieces(), "text/csv")
        return [piece async for piece in reply.body_iterator], seen[1:]

    assert asyncio.run(run()) == (["0;", "1;", "2;"], [False, False])


def test_a_sender_that_hangs_up_is_no_bug():
    async def gone(_):
        raise web.ClientDisconnect

    assert answer(gone).status_code == 499


@given(st.binary(max_size=2_000))
def test_gzip_comes_back_as_it_was_or_is_too_large(data):
    packed = gzip.compress(data)
    reply = answer(lambda r: web.Reply(r.body), body=packed, headers=[("content-encoding", "gzip")])
    assert (reply.status_code, reply.body if reply.status_code == 200 else b"") in {(200, data), (413, b"")}
    assert (len(data) > 1_000) <= (reply.status_code == 413)


@given(st.binary(max_size=300))
def test_rubbish_is_refused_or_read_but_never_a_crash(data):
    def read(r):
        return web.json_reply(r.fields)

    for media in (web.FORM, web.JSON):
        assert answer(read, body=data, headers=[("content-type", media)]).status_code in {200, 400}
    assert answer(lambda r: web.Reply(r.body), body=data, headers=[("content-encoding", "gzip")]).status_code in {
        200,
        400,
        413,
    }
