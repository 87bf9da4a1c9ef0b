"""The crash table of a claim, made by killing it before and after every step, and what each next one then gets.

::

    killed               mark  prep   same key again   other key        sweep after expiry    deliveries
    before get prep      –     there  delivered        delivered        expired               ≤ 1
    after get prep       –     there  delivered        delivered        expired               ≤ 1
    before create mark   –     there  delivered        delivered        expired               ≤ 1
    after create mark    mine  there  taken duplicate  taken contested  delivered, prep gone  0
    before delete prep   mine  there  taken duplicate  taken contested  delivered, prep gone  0
    after delete prep    mine  gone   taken duplicate  taken contested  delivered             0
"""

import re
from datetime import timedelta
from itertools import count

import pytest

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.core.errors import Expired, SkytallyError, Unavailable
from skytally.core.ports import Created
from skytally.core.records import Revocation
from skytally.operation.timer import Deadline
from skytally.secrets import outcomes, revocations
from tests.support import secret_lab
from tests.support.secret_lab import NOW, OTHER_KEY, SCHEDULER, Killed, NoNotes, Watched, attempt, keys_of, left, word


@pytest.fixture
def token(store):
    return left(store)


@pytest.fixture
def copy_of(tmp_path):
    """Copy a store, any number of times."""
    numbers = count()
    return lambda store: secret_lab.copied(store, FilesystemObjects(tmp_path / f"copy-{next(numbers)}"))


STEPS = (
    "before get prep",
    "after get prep",
    "before create mark",
    "after create mark",
    "before delete prep",
    "after delete prep",
)
TABLE = [re.split(r"\s{2,}", line.strip()) for line in __doc__.splitlines() if re.match(r"\s+(before|after) ", line)]


def test_the_table_has_every_step(store, token):
    watched = Watched(store)
    attempt(watched, token)
    assert (
        [row[0] for row in TABLE]
        == list(STEPS)
        == [f"{when} {call}" for call in watched.calls for when in ("before", "after")]
    )


@pytest.mark.parametrize("step", STEPS)
def test_the_table(store, token, step, copy_of):
    with pytest.raises(Killed):
        attempt(Watched(store, kill=step), token)
    made = "mine" if keys_of(store, "mark") else "–"
    prep = "there" if keys_of(store, "prep") else "gone"
    same, other = word(copy_of(store), token), word(copy_of(store), token, OTHER_KEY)
    late = secret_lab.after(token)
    revocations.sweep(store, Deadline(lambda: late, late + timedelta(minutes=1)), NoNotes())
    final = outcomes.read_outcome(store, outcomes.outcome_key(*secret_lab.parts(token))).state
    swept = final + (", prep gone" if final == "delivered" and prep == "there" else "")
    assert keys_of(store, "prep") == []
    deliveries = "≤ 1" if made == "–" else "0"
    assert [step, made, prep, same, other, swept, deliveries] in TABLE


def test_the_winner_takes_three_round_trips_and_a_wrong_proof_none(store, token):
    claim, expires, _ = token.split(".")
    watched = Watched(store)
    for wrong in (f"{claim}.{expires}.{'0' * 64}", f"{claim}.{int(expires) + 1}.{token.split('.')[2]}"):
        assert word(watched, wrong) == "forbidden"
    assert word(watched, token, clock=lambda: secret_lab.after(token)) == "expired"
    assert watched.calls == []
    attempt(watched, token)
    assert watched.calls == ["get prep", "create mark", "delete prep"]


@pytest.mark.parametrize(
    "lose", [["after"], ["before"], ["before", "after"], ["before"] * 4, ["before"] * 3 + ["after"]]
)
def test_a_lost_reply_is_read_back_and_never_a_second_delivery(store, token, lose):
    assert attempt(Watched(store, lose=lose), token)
    assert word(store, token, OTHER_KEY) == "taken contested"


def test_a_store_that_never_answers_is_an_outage_and_nothing_is_lost(store, token):
    with pytest.raises(Unavailable):
        attempt(Watched(store, lose=["before"] * 5), token)
    assert attempt(store, token)


def test_a_reply_lost_while_another_won_is_taken(store, token):
    class Beaten(Watched):
        def create(self, key, data):
            if key.startswith("mark/") and "create mark" not in self.calls:
                attempt(self.store, token, OTHER_KEY)
                self.calls.append("create mark")
                raise Unavailable("who knows")
            return super().create(key, data)

    assert word(Beaten(store), token) == "taken contested"


def test_a_create_that_arrives_late_is_still_the_first_ones(store, token):
    """A store that answers 'not there' and lets an earlier, timed-out create through afterwards."""

    class Late(Watched):
        def create(self, key, data):
            if key.startswith("mark/") and not self.calls.count("create mark"):
                self.late = (key, data)
                self.calls.append("create mark")
                raise Unavailable("timed out")
            if key.startswith("mark/"):
                assert isinstance(self.store.create(*self.late), Created)
            return super().create(key, data)

    assert attempt(Late(store), token)
    assert word(store, token, OTHER_KEY) == "taken contested"


@pytest.mark.parametrize("function_late", [-3_600, -1, 0, 1])
@pytest.mark.parametrize("store_late", [-3_600, -1, 0, 1])
def test_the_later_of_two_clocks_decides_and_burns(store, token, function_late, store_late):
    """The function's clock runs on between its first look and its last; the store's is another."""
    expires = secret_lab.after(token, 0)
    times = iter([min(expires, expires + timedelta(seconds=function_late))])
    watched = Watched(store, stored_at=expires + timedelta(seconds=store_late))
    told = word(watched, token, clock=lambda: next(times, expires + timedelta(seconds=function_late)))
    assert told == ("expired" if max(function_late, store_late) > 0 else "delivered")
    assert len(keys_of(store, "mark")) == 1
    assert word(store, token, OTHER_KEY) == "taken contested"


def test_a_function_whose_clock_is_late_asks_nobody(store, token):
    watched = Watched(store)
    assert word(watched, token, clock=lambda: secret_lab.after(token)) == "expired"
    assert watched.calls == []


@pytest.mark.parametrize("request_again", [{}, {"private_key": OTHER_KEY}, {"vm": "somebody"}], ids=str)
def test_evidence_that_cannot_be_written_is_asked_for_again(store, token, request_again):
    class NoAudit(Watched):
        def create(self, key, data):
            if key.startswith("audit/"):
                raise Unavailable("the store is away")
            return super().create(key, data)

    if "vm" not in request_again:
        attempt(store, token)
    assert word(NoAudit(store), token, **request_again) == "unavailable"
    assert keys_of(store, "audit") == []


def test_a_sweep_and_a_claim_race_on_one_mark(store, token):
    late = secret_lab.after(token)

    class SweptFirst(Watched):
        def create(self, key, data):
            revocations.sweep(self.store, Deadline(lambda: late, late + timedelta(minutes=1)), NoNotes())
            return super().create(key, data)

    with pytest.raises(Expired):
        attempt(SweptFirst(store), token)
    assert outcomes.read_outcome(store, keys_of(store, "mark")[0]).state == "expired"


def revoked(store, token):
    claim, expires = secret_lab.parts(token)
    revocations.revoke(Revocation(claim=claim, expires=expires), SCHEDULER, store, NOW)


def swept(store, token):
    late = secret_lab.after(token)
    revocations.sweep(store, Deadline(lambda: late, late + timedelta(minutes=1)), NoNotes())


def forgotten(store, token):
    late = secret_lab.after(token) + timedelta(days=400)
    revocations.forget(store, Deadline(lambda: late, late + timedelta(minutes=1)), NoNotes())


def claimed_by_b(store, token):
    attempt(store, token, vm="b")


def left_again(store, token):
    left(store, request_key="boot-1", vms=("a", "b", "c"))


@pytest.mark.parametrize("work", [left_again, claimed_by_b, revoked, swept, forgotten], ids=lambda work: work.__name__)
def test_killed_anywhere_and_done_again_is_as_if_never_killed(tmp_path, copy_of, work):
    """Of a batch of three, one is taken;
    then the work is killed before and after each of its calls, and done again to its end.
    """
    begun = FilesystemObjects(tmp_path / "begun")
    token = left(begun, request_key="boot-1", vms=("a", "b", "c"))
    attempt(begun, token, vm="a")
    if work is forgotten:
        swept(begun, token)
    straight = copy_of(begun)
    outcome = done(work, straight, token)
    for number in count():
        for when in ("before", "after"):
            store = copy_of(begun)
            watched = Watched(store, kill=(when, number))
            if done(work, watched, token) != "killed":
                assert number == len(watched.calls) > 0
                return
            assert keys_of(store, "prep") or len(keys_of(store, "mark")) == 3 or work is forgotten
            again = done(work, store, token)
            assert again == outcome or (work is claimed_by_b and (when, number) >= ("after", 1) and again == "taken")
            assert keys_of(store, "prep") == keys_of(straight, "prep")
            assert keys_of(store, "mark") == keys_of(straight, "mark")
            assert keys_of(store, "idempotency") + keys_of(store, "begun") == keys_of(
                straight, "idempotency"
            ) + keys_of(straight, "begun")


def done(work, store, token):
    try:
        work(store, token)
    except Killed:
        return "killed"
    except SkytallyError as error:
        return error.code
    return "done"


def test_a_first_deposit_killed_anywhere_and_sent_again_is_one_deposit(tmp_path):
    for number in range(3):
        for when in ("before", "after"):
            store = FilesystemObjects(tmp_path / f"{when}-{number}")
            with pytest.raises(Killed):
                left(Watched(store, kill=(when, number)), request_key="k")
            tokens = {left(store, request_key="k") for _ in range(2)}
            assert len(tokens) == len(keys_of(store, "prep")) == len(keys_of(store, "idempotency")) == 1
            assert attempt(store, tokens.pop())
