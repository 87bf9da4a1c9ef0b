"""What is withdrawn, what runs out, what is forgotten: bounded, resumable, and never before its time."""

from datetime import UTC, datetime, timedelta

import pytest

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.core.errors import Expired, NotFound, NotYours, Taken
from skytally.core.records import Caller, Revocation
from skytally.operation.timer import Deadline
from skytally.secrets import outcomes, revocations
from tests.support import secret_lab
from tests.support.secret_lab import (
    KEYS,
    NOW,
    OTHER_KEY,
    SCHEDULER,
    NoNotes,
    Noted,
    Watched,
    attempt,
    keys_of,
    left,
    parts,
    word,
)

ROUND = timedelta(seconds=20)


def sweep(store, at, until=None, notes=None):
    return revocations.sweep(store, Deadline(lambda: at, until or at + ROUND), notes or NoNotes())


def forget(store, at, until=None, notes=None):
    return revocations.forget(store, Deadline(lambda: at, until or at + ROUND), notes or NoNotes())


def revoke(store, token, caller=SCHEDULER):
    claim, expires = parts(token)
    revocations.revoke(Revocation(claim=claim, expires=expires), caller, store, NOW)


def states(store):
    return sorted(outcomes.read_outcome(store, key).state for key in keys_of(store, "mark"))


class Ticking:
    """A clock that every look at it moves on by a second."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        self.now += timedelta(seconds=1)
        return self.now


@pytest.mark.parametrize(("seconds", "ended"), [(-1, 0), (0, 0), (1, 1)])
def test_the_edge_of_the_expiry(store, seconds, ended):
    token = left(store)
    assert sweep(store, secret_lab.after(token, seconds)) == ended
    assert len(keys_of(store, "prep")) == 1 - ended


def test_the_sweep_stops_at_the_first_that_has_not_expired(store):
    for seconds in (60, 120, 3_600, 7_200):
        left(store, expires_in_seconds=seconds)
    watched = Watched(store)
    assert sweep(watched, NOW + timedelta(seconds=121)) == 2
    assert watched.calls == ["list prep"] + ["get prep", "create mark", "delete prep"] * 2
    assert sweep(watched, NOW + timedelta(seconds=121)) == 0


def test_a_round_ends_in_time_and_the_next_goes_on(store):
    for _ in range(10):
        left(store)
    rounds = []
    while keys_of(store, "prep"):
        now = NOW + timedelta(hours=2)
        rounds.append(revocations.sweep(store, Deadline(Ticking(now), now + timedelta(seconds=8)), NoNotes()))
    assert sum(rounds) == 10
    assert len(rounds) > 2


def test_a_batch_too_large_for_one_round_is_swept_in_several(store):
    token = left(store, vms=tuple(f"host-{n}" for n in range(30)))
    attempt(store, token, vm="host-29")
    rounds = 0
    while keys_of(store, "prep"):
        now = NOW + timedelta(hours=2)
        revocations.sweep(store, Deadline(Ticking(now), now + timedelta(seconds=10)), NoNotes())
        assert keys_of(store, "prep") or len(keys_of(store, "mark")) == 30
        rounds += 1
    assert 3 < rounds < 12
    assert states(store) == ["delivered"] + ["expired"] * 29


def test_nothing_that_lies_there_by_mistake_stops_the_sweep(store):
    store.create("prep/README", b"")
    store.create("prep/0000000001/" + "z" * 26, b"rubbish")
    store.create("prep/0000000002/" + "y" * 26, b"\xc1")
    left(store)
    notes = Noted()
    assert sweep(store, NOW + timedelta(hours=2), notes=notes) == 3
    assert notes.keys == [("prep", "prep/README")]
    assert keys_of(store, "prep") == ["prep/README"]
    assert states(store) == ["expired"] * 3


def test_a_deposit_that_a_claim_removes_under_the_sweep_keeps_its_marks(store):
    token = left(store, vms=("a",))

    class TakenMeanwhile(Watched):
        def get(self, key):
            if key.startswith("prep/") and keys_of(self.store, "prep"):
                attempt(self.store, token, vm="a")
            return super().get(key)

    assert sweep(TakenMeanwhile(store), NOW + timedelta(hours=2)) == 1
    assert states(store) == ["delivered"]


def test_revoking_wins_only_if_nobody_has_it(store):
    token = left(store)
    revoke(store, token)
    revoke(store, token)
    assert word(store, token) == "revoked"
    taken = left(store)
    attempt(store, taken)
    for _ in range(2):
        with pytest.raises(Taken) as told:
            revoke(store, taken)
    assert (told.value.details["vm"], told.value.details["address"]) == ("vm-1", "192.0.2.1")
    gone = left(store)
    sweep(store, secret_lab.after(gone))
    with pytest.raises(Expired):
        revoke(store, gone)


def test_revoking_what_expired_before_its_deposit_was_removed(store):
    token = left(store)
    with pytest.raises(secret_lab.Killed):
        sweep(Watched(store, kill="before delete prep"), secret_lab.after(token))
    with pytest.raises(Expired):
        revoke(store, token)
    assert keys_of(store, "prep") == []


def test_revoking_needs_the_whole_name_and_the_right_cloud(store):
    token = left(store)
    stranger = Caller(role="scheduler", issued=0, expires=2**40, clouds=("cern",))
    with pytest.raises(NotYours):
        revoke(store, token, stranger)
    attempt(store, token)
    with pytest.raises(NotFound):
        revoke(store, token, stranger)
    claim, expires = parts(token)
    for wrong in (
        f"{claim[:20]}.{expires}.x",
        f"{'z' * 26}.{expires}.x",
        f"{claim}.{expires + 86_400}.x",
        f"{claim}.9999999999.x",
    ):
        with pytest.raises(NotFound):
            revoke(store, wrong)


def test_records_go_when_nobody_needs_them(store):
    token = left(store, request_key="k")
    attempt(store, token)
    word(store, token, OTHER_KEY)
    waiting = left(store, request_key="w")
    day = NOW.replace(hour=12)
    seen = {}
    for days in (7, 9, 29, 30, 32, 366, 368):
        forget(store, day + timedelta(days=days))
        seen[days] = sorted({key.partition("/")[0] for key in store.list("") if parts(waiting)[0] not in key})
    assert seen[7] == ["audit", "begun", "idempotency", "mark"]
    assert seen[9] == seen[29] == seen[30] == ["audit", "mark"]
    assert seen[32] == seen[366] == ["audit"]
    assert seen[368] == []


def test_a_mark_stays_while_the_deposit_that_it_guards_is_there(store):
    token = left(store)
    with pytest.raises(secret_lab.Killed):
        attempt(Watched(store, kill="before delete prep"), token)
    assert forget(store, NOW + timedelta(days=40)) == 0
    assert word(store, token, OTHER_KEY) == "taken contested"
    sweep(store, NOW + timedelta(days=40))
    assert forget(store, NOW + timedelta(days=40)) == 1


def test_forgetting_looks_at_no_deposit_that_still_waits(store):
    for _ in range(5):
        left(store)
    watched = Watched(store)
    assert forget(watched, NOW + timedelta(hours=1)) == 0
    assert watched.calls == ["list prep", "list mark", "list audit", "list begun"]


def test_a_request_key_that_began_again_is_kept_though_it_was_used_before(store):
    left(store, request_key="k", expires_in_seconds=60)
    left_again = NOW + timedelta(days=5)
    with pytest.raises(Expired):
        left(store, request_key="k", expires_in_seconds=60, now=left_again)
    forget(store, NOW + timedelta(days=10))
    token = left(store, request_key="k", expires_in_seconds=604_800, now=NOW + timedelta(days=11))
    forget(store, NOW + timedelta(days=15))
    assert keys_of(store, "idempotency")
    assert left(store, request_key="k", expires_in_seconds=604_800, now=NOW + timedelta(days=16)) == token


def test_forgetting_ends_in_time(store):
    for _ in range(10):
        attempt(store, left(store))
    now = NOW + timedelta(days=40)
    assert 0 < revocations.forget(store, Deadline(Ticking(now), now + timedelta(seconds=5)), NoNotes()) < 10
    assert forget(store, now) > 0
    assert keys_of(store, "mark") == []


def test_a_mark_is_never_forgotten_before_the_longest_claim_is_over():
    assert timedelta(days=7) < revocations.OUTCOMES_KEPT
    assert timedelta(days=7) < revocations.IDEMPOTENCY_KEPT


@pytest.mark.parametrize("moment", ["2026-12-31T23:59:59+00:00", "2028-02-29T00:00:00+00:00"])
def test_a_marks_day_is_its_expirys(moment):
    expires = int(datetime.fromisoformat(moment).timestamp())
    assert (
        outcomes.outcome_key("c" * 26, expires).split("/")[1]
        == f"{datetime.fromtimestamp(expires, UTC):%Y%m%d}"
        == moment[:10].replace("-", "")
    )


def test_who_asks_for_a_claim_that_ended_is_told_how(store):
    tokens = {"expired": left(store, expires_in_seconds=60), "revoked": left(store), "taken contested": left(store)}
    sweep(store, NOW + timedelta(seconds=61))
    revoke(store, tokens["revoked"])
    attempt(store, tokens["taken contested"])
    assert {word(store, token, OTHER_KEY) for token in tokens.values()} == set(tokens)
    other = FilesystemObjects(store._root / "other")
    left(other)
    assert word(other, left(store), keys=KEYS) == "forbidden"
