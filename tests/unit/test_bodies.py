"""Bodies: never more of them in memory than there is room for, and nobody kept out by one caller's."""

import asyncio
import gzip
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from skytally.core.errors import Malformed, Unavailable
from skytally.http import bodies
from skytally.http.bodies import FREE_BYTES, Memory
from skytally.http.http_error import HttpError

CAP = 100_000


def request(pieces, **headers):
    """Make a request whose body comes in pieces; `.left` are those that nobody has asked for."""
    left = list(pieces)

    async def receive():
        await asyncio.sleep(0)
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    made = Request({"type": "http", "method": "POST", "headers": named}, receive)
    return made, left


def read(pieces, memory, party="a", **headers):
    """Read a body; returns it and the room that it took."""
    made, _ = request(pieces, **headers)

    async def run():
        with memory.reservation(party) as room:
            return await bodies.read(made, CAP, room, gzip=True), room.size

    return asyncio.run(run())


@pytest.fixture
def memory():
    return Memory(total_bytes=4 * CAP, share_bytes=2 * CAP, wait_seconds=0.05)


def test_a_small_body_needs_no_room_and_a_large_one_its_length(memory):
    small, large = b"x" * FREE_BYTES, [b"y" * 10_000] * 5
    assert read([small], Memory(0, 0)) == (small, 0)
    assert read(large, memory, content_length="50000") == (b"".join(large), 50_000)
    assert read(large, memory) == (b"".join(large), CAP)
    assert not memory._taken


def test_what_is_packed_needs_room_for_what_it_becomes(memory):
    plain = bytes(range(256)) * 300
    assert read([gzip.compress(plain)], memory, content_encoding="gzip") == (plain, len(plain))
    assert read([gzip.compress(b"{}")], Memory(0, 0), content_encoding="gzip") == (b"{}", 0)
    stored = gzip.compress(plain, 0)
    pieces = [stored[n : n + 10_000] for n in range(0, len(stored), 10_000)]
    assert read(pieces, memory, content_encoding="gzip", content_length=str(len(stored))) == (plain, len(stored) + CAP)
    assert not memory._taken


@pytest.mark.parametrize("length", [0, 1, 76_799, 76_801, CAP, 2**32 - 1])
def test_a_body_that_lies_about_its_length_is_no_gzip(memory, length):
    packed = gzip.compress(bytes(range(256)) * 300)[:-4] + length.to_bytes(4, "little")
    with pytest.raises(Malformed):
        read([packed], memory, content_encoding="gzip")
    assert not memory._taken


@pytest.mark.parametrize("length", [None, 5])
def test_a_bomb_is_never_inflated_beyond_the_cap(memory, length):
    bomb = gzip.compress(b" " * 50_000_000)
    with pytest.raises(HttpError if length is None else Malformed):
        read([bomb if length is None else bomb[:-4] + length.to_bytes(4, "little")], memory, content_encoding="gzip")
    assert not memory._taken


def test_a_body_that_finds_no_room_is_sent_again_later_and_no_more_of_it_is_read(memory):
    made, left = request([b"x" * 20_000] * 5)

    async def run():
        with memory.reservation("b") as other, memory.reservation("c") as third, memory.reservation("a") as room:
            await other.take(2 * CAP)
            await third.take(2 * CAP)
            with pytest.raises(Unavailable):
                await bodies.read(made, CAP, room, gzip=True)

    asyncio.run(run())
    assert len(left) == 4
    assert not memory._taken
    assert not memory._waiters


def test_one_caller_that_fills_its_share_keeps_nobody_out(memory):
    async def run():
        with memory.reservation("a") as first, memory.reservation("a") as second, memory.reservation("b") as other:
            await first.take(2 * CAP)
            waiting = asyncio.create_task(second.take(1))
            await asyncio.sleep(0)
            await other.take(2 * CAP)
            with pytest.raises(Unavailable):
                await waiting

    asyncio.run(run())


def test_whoever_is_given_up_while_it_waits_leaves_nothing_behind(memory):
    async def run():
        with memory.reservation("a") as first, memory.reservation("a") as second:
            await first.take(2 * CAP)
            waiting = asyncio.create_task(second.take(1))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert second.size == 0

    asyncio.run(run())
    assert not memory._taken
    assert not memory._waiters


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 8), st.integers(0, 3)), max_size=40))
def test_there_is_never_more_than_fits_and_everybody_gets_in(requests):
    memory = Memory(total_bytes=16, share_bytes=8, wait_seconds=60)
    inside = Counter()

    async def hold(party, size, turns):
        with memory.reservation(party) as room:
            await room.take(size)
            inside[party] += size
            assert inside[party] <= 8
            assert inside.total() <= 16
            for _ in range(turns):
                await asyncio.sleep(0)
            inside[party] -= size

    async def run():
        async with asyncio.timeout(30):
            await asyncio.gather(*(hold(*one) for one in requests))

    asyncio.run(run())
    assert not memory._taken
    assert not memory._waiters
