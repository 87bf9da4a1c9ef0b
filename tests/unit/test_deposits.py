"""Deposits: what lies in the store cannot be changed,
and the same request again is the same deposit, whatever happened in between.
"""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.access.keyring import Key
from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.core.errors import Expired, IdempotencyKeyReused, Malformed, NotYours, Unavailable
from skytally.core.records import Caller, Deposit
from skytally.secrets import deposits, stored_deposits
from tests.support.secret_lab import KEYS, NOW, OTHER_KEY, PAYLOAD, Watched, attempt, keys_of, left, opened, parts, word


def rotated(keys=KEYS, number=2):
    """Put a new key of each purpose in front."""
    new = {purpose: Key(f"{purpose}-{number}", bytes([number]) * 32) for purpose in ("master", "wrapping", "token")}
    return msgspec.structs.replace(keys, **{purpose: (key, *getattr(keys, purpose)) for purpose, key in new.items()})


def replace_prep(store, data):
    (key,) = keys_of(store, "prep")
    store.delete(key)
    store.create(key, data)


def stored(store):
    return store.get(keys_of(store, "prep")[0])


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_whoever_changes_a_bit_in_the_store_gives_nobody_anything(tmp_path_factory, share, bit):
    store = FilesystemObjects(tmp_path_factory.mktemp("flipped"))
    token = left(store, sources=("192.0.2.0/24",), hostname="host-1")
    data = bytearray(stored(store))
    data[int(share * len(data))] ^= 1 << bit
    replace_prep(store, bytes(data))
    assert word(store, token) in {"forbidden", "unavailable"}
    assert keys_of(store, "mark") == []


CHANGES = {
    "another cloud": {"cloud": "cern"},
    "another vm": {"vm": "vm-2"},
    "a batch": {"vm": None, "names": ("vm-1", "vm-2")},
    "any source": {"sources": ()},
    "another group": {"group": "root"},
    "another host": {"hostname": None},
    "another payload": {"sealed": b"Salted__" + bytes(64)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_who_may_take_it_cannot_be_changed_in_the_store(store, change):
    token = left(store, sources=("192.0.2.0/24",), hostname="host-1")
    box = msgspec.msgpack.decode(stored(store), type=stored_deposits.SealedDeposit)
    prep = msgspec.msgpack.encode(msgspec.structs.replace(box.open(), **change))
    replace_prep(store, msgspec.msgpack.encode(msgspec.structs.replace(box, deposit=prep)))
    assert word(store, token) == "forbidden"
    assert keys_of(store, "mark") == []
    (evidence,) = keys_of(store, "audit")
    assert msgspec.json.decode(store.get(evidence))["reason"] == "changed"


def test_a_deposit_cannot_be_put_in_anothers_place(store):
    mine = left(store)
    box = stored(store)
    store.delete(keys_of(store, "prep")[0])
    other = left(store)
    replace_prep(store, box)
    assert word(store, other) == "forbidden"
    assert word(store, mine) == "forbidden"


def test_a_wrapping_key_that_is_missing_is_an_outage_and_burns_nothing(store):
    token = left(store)
    lost = msgspec.structs.replace(KEYS, wrapping=(Key("wrapping-2", b"x" * 32),))
    with pytest.raises(Unavailable, match="wrapping-1"):
        attempt(store, token, keys=lost)
    assert attempt(store, token)


def test_the_same_request_is_the_same_deposit_across_a_rotation(store):
    first = left(store, request_key="boot-1")
    for keys in (rotated(), rotated(rotated(), 3)):
        assert left(store, request_key="boot-1", keys=keys) == first
    assert len(keys_of(store, "prep")) == 1
    assert opened(attempt(store, first, keys=rotated()), first)[0] == PAYLOAD


def test_the_same_request_is_the_same_deposit_for_as_long_as_the_claim_lives(store):
    first = left(store, request_key="boot-1", expires_in_seconds=604_800)
    for days in range(7):
        assert left(store, request_key="boot-1", expires_in_seconds=604_800, now=NOW + timedelta(days=days)) == first
    with pytest.raises(Expired):
        left(store, request_key="boot-1", expires_in_seconds=604_800, now=NOW + timedelta(days=7))


def test_two_requests_around_midnight_are_one_deposit(store):
    """The second is received after midnight and stored first."""
    before, after = (
        NOW.replace(hour=23, minute=59, second=59),
        NOW.replace(hour=0, minute=0, second=0) + timedelta(days=1),
    )

    class Overtaken(Watched):
        def create(self, key, data):
            if key.startswith("idempotency/") and not self.calls.count("create idempotency"):
                self.calls.append("create idempotency")
                self.other = left(self.store, request_key="boot-1", now=after)
            return super().create(key, data)

    watched = Overtaken(store)
    assert left(watched, request_key="boot-1", now=before) == watched.other
    assert len(keys_of(store, "prep")) == 1


def test_a_request_that_comes_again_after_the_claim_leaves_no_payload_behind(store):
    token = left(store, request_key="boot-1")
    attempt(store, token)
    assert left(store, request_key="boot-1") == token
    assert keys_of(store, "prep") == []
    assert word(store, token, OTHER_KEY) == "taken contested"
    batch = left(store, request_key="boot-2", vms=("a", "b"))
    attempt(store, batch, vm="a")
    assert left(store, request_key="boot-2", vms=("a", "b")) == batch
    assert len(keys_of(store, "prep")) == 1
    attempt(store, batch, vm="b")
    assert left(store, request_key="boot-2", vms=("a", "b")) == batch
    assert keys_of(store, "prep") == []


def test_a_claim_between_two_of_the_same_requests_is_the_only_one(store):
    """A lost first answer: its deposit is taken while the second request is on its way."""
    token = left(store, request_key="boot-1")

    class TakenMeanwhile(Watched):
        def create(self, key, data):
            if key.startswith("prep/"):
                attempt(self.store, token)
            return super().create(key, data)

    assert left(TakenMeanwhile(store), request_key="boot-1") == token
    assert keys_of(store, "prep") == []
    assert word(store, token) == "taken duplicate"


def test_another_body_is_refused_and_a_refused_body_takes_no_key(store):
    with pytest.raises(Malformed):
        left(store, request_key="boot-1", sources=("192.0.2.1/24",))
    token = left(store, request_key="boot-1")
    with pytest.raises(IdempotencyKeyReused):
        left(store, request_key="boot-1", vm="vm-2")
    assert left(store, request_key="boot-1") == token


def test_a_key_whose_master_key_was_removed_is_over(store):
    left(store, request_key="boot-1")
    removed = msgspec.structs.replace(rotated(), master=rotated().master[:1])
    with pytest.raises(Expired):
        left(store, request_key="boot-1", keys=removed)


@pytest.mark.parametrize("request_key", ["", "x" * 256])
def test_a_key_has_a_length(store, request_key):
    with pytest.raises(Malformed, match="Idempotency-Key"):
        left(store, request_key=request_key)


def test_nobody_leaves_a_secret_for_another_cloud(store):
    caller = Caller(role="scheduler", issued=0, expires=2**40, clouds=("cern",))
    wanted = Deposit(cloud="uvic", vm="vm-1", payload=b"")
    with pytest.raises(NotYours):
        deposits.deposit(wanted, caller, store, KEYS, NOW, deposits.Repeatable("k", b""))
    assert list(store.list("")) == []


def test_callers_of_different_clouds_have_different_keys(store):
    wanted, tokens = Deposit(cloud="uvic", vm="vm-1", payload=b""), set()
    for clouds in ((), ("uvic",), ("uvic", "cern")):
        caller = Caller(role="scheduler", issued=0, expires=2**40, clouds=clouds)
        tokens.add(deposits.deposit(wanted, caller, store, KEYS, NOW, deposits.Repeatable("k", b"body"))["token"])
    assert len(tokens) == 3


def test_no_body_and_no_request_key_lies_in_the_store(store):
    left(store, request_key="hunter2-request", payload=b"hunter2-payload")
    everything = b"".join(key.encode() + store.get(key) for key in store.list(""))
    assert b"hunter2" not in everything
    assert parts(left(store, request_key="hunter2-request", payload=b"hunter2-payload"))
