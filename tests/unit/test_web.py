"""The edge: addresses, bodies, and what the one catch of everything lets out."""

import asyncio
import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request as StarletteRequest

from skytally import web
from skytally.errors import Expired, Malformed, NotYours, SkytallyError, Taken, Unauthenticated, Unavailable


def request(method="POST", headers=(), body=b"", client=("198.51.100.7", 4711), path="", query=b"", pause=0.0):
    """Make a request as a server hands it over."""

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": method, "path": f"/{path}", "path_params": {"path": path}, "query_string": query, "client": client}
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


def test_a_sender_that_is_too_slow_is_told_so(monkeypatch):
    monkeypatch.setattr(web, "BODY_SECONDS", 0.05)
    assert answer(lambda _: web.json_reply({}), pause=1.0).status_code == 408


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
    assert answer(lambda r: web.Reply(r.body), body=data, headers=[("content-encoding", "gzip")]).status_code in {200, 400, 413}
