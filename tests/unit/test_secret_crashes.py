"""The crash table of a claim, made by killing it before and after every step, and what each next one then gets.

::

    killed               mark  prep   same key again  other key      sweep after expiry    deliveries
    before get prep      –     there  200             200            expired               ≤ 1
    after get prep       –     there  200             200            expired               ≤ 1
    before create mark   –     there  200             200            expired               ≤ 1
    after create mark    mine  there  409 duplicate   409 contested  delivered, prep gone  0
    before delete prep   mine  there  409 duplicate   409 contested  delivered, prep gone  0
    after delete prep    mine  gone   409 duplicate   409 contested  delivered             0
"""

import json
import re
from datetime import UTC, datetime, timedelta

import lab
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from skytally import deposit, secret
from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.errors import Expired, NotFound, Taken, Unavailable
from skytally.keyring import Key, Keyring
from skytally.ports import Created
from skytally.records import Caller, Claim, Deposit

NOW = datetime.now(UTC).replace(microsecond=0)
KEYS = Keyring(master=(Key("master-1", b"m" * 32),), wrapping=(Key("wrapping-1", b"w" * 32),), token=(Key("token-1", b"t" * 32),))
SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
ORIGIN = secret.Origin("192.0.2.1", "vm.py")


class Killed(BaseException):
    """The process is gone."""


class Watched:
    """A real store that counts, and that ends the process or loses a reply at a step."""

    def __init__(self, store, kill=None, lose=()):
        self.store, self.kill, self.lose, self.calls = store, kill, list(lose), []

    def _step(self, name, key, work):
        step = f"{name} {key.partition('/')[0]}"
        if self.kill == f"before {step}":
            raise Killed
        self.calls.append(step)
        lost = self.lose.pop(0) if step == "create mark" and self.lose else None
        if lost == "before":
            raise Unavailable("lost on the way there")
        result = work()
        if self.kill == f"after {step}":
            raise Killed
        if lost == "after":
            raise Unavailable("lost on the way back")
        return result

    def create(self, key, data):
        made = self._step("create", key, lambda: self.store.create(key, data))
        return Created(NOW) if isinstance(made, Created) else made

    def get(self, key):
        return self._step("get", key, lambda: self.store.get(key))

    def delete(self, key):
        return self._step("delete", key, lambda: self.store.delete(key))

    def list(self, prefix):
        return self.store.list(prefix)


@pytest.fixture
def store(tmp_path):
    return FilesystemObjects(tmp_path)


@pytest.fixture
def token(store):
    wanted = Deposit(cloud="uvic", vm="vm-1", payload=b"payload")
    return deposit.deposit(wanted, SCHEDULER, store, KEYS, NOW, deposit.new_intent(3_600, NOW))["token"]


def attempt(store, token, private_key=lab.SHARED_KEY, clock=lambda: NOW):
    form = lab.claim_form(token, lab.public_key(private_key))
    return secret.claim(msgspec.convert(form, Claim, strict=False), store, KEYS, ORIGIN, clock)


def word(store, token, private_key):
    try:
        attempt(store, token, private_key)
    except Taken as taken:
        return f"409 {taken.details['kind']}"
    return "200"


STEPS = ("before get prep", "after get prep", "before create mark", "after create mark", "before delete prep", "after delete prep")
TABLE = [re.split(r"\s{2,}", line.strip()) for line in __doc__.splitlines() if re.match(r"\s+(before|after) ", line)]


@pytest.mark.parametrize("step", STEPS)
def test_the_table(store, token, step, tmp_path):
    claim, expires, _ = token.split(".")

    def killed_copy(name):
        """Bring a fresh store to the moment of the kill."""
        copy = FilesystemObjects(tmp_path / name)
        for key in store.list(""):
            copy.create(key, store.get(key))
        with pytest.raises(Killed):
            attempt(Watched(copy, kill=step), token)
        return copy

    seen = killed_copy("seen")
    mark = "mine" if list(seen.list("mark/")) else "–"
    prep = "there" if list(seen.list("prep/")) else "gone"
    same, other = word(killed_copy("same"), token, lab.SHARED_KEY), word(killed_copy("other"), token, OTHER_KEY)
    secret.sweep(seen, datetime.fromtimestamp(int(expires) + 1, UTC), 10)
    final = secret.read_mark(seen, secret.mark_key(claim, int(expires))).state
    swept = final + (", prep gone" if final == "delivered" and prep == "there" else "")
    assert list(seen.list("prep/")) == []
    deliveries = "≤ 1" if mark == "–" else "0"
    assert [step, mark, prep, same, other, swept, deliveries] in TABLE


def test_the_table_has_every_step():
    assert [row[0] for row in TABLE] == list(STEPS)


def test_the_winner_takes_three_round_trips_and_a_wrong_proof_none(store, token):
    watched = Watched(store)
    attempt(watched, token)
    assert watched.calls == ["get prep", "create mark", "delete prep"]
    claim, expires, _ = token.split(".")
    watched = Watched(store)
    with pytest.raises(secret.Forbidden):
        attempt(watched, f"{claim}.{expires}.{'0' * 64}")
    assert watched.calls == []


@pytest.mark.parametrize("lose", [["after"], ["before"], ["before", "after"], ["before"] * 4, ["before"] * 3 + ["after"]])
def test_a_lost_reply_is_read_back_and_never_a_second_delivery(store, token, lose):
    assert attempt(Watched(store, lose=lose), token)
    with pytest.raises(Taken):
        attempt(store, token, OTHER_KEY)


def test_a_store_that_never_answers_is_an_outage_and_nothing_is_lost(store, token):
    with pytest.raises(Unavailable):
        attempt(Watched(store, lose=["before"] * 5), token)
    assert attempt(store, token)


def test_a_reply_lost_while_another_won_is_taken(store, token):
    class Beaten(Watched):
        def create(self, key, data):
            if key.startswith("mark/") and not self.calls.count("create mark"):
                attempt(self.store, token, OTHER_KEY)
                self.calls.append("create mark")
                raise Unavailable("who knows")
            return super().create(key, data)

    with pytest.raises(Taken):
        attempt(Beaten(store), token)


@pytest.mark.parametrize(("function_late", "store_late", "burned"), [(0, 1, True), (1, 0, True), (0, 0, False)])
def test_the_later_of_two_clocks_decides_and_burns(store, token, function_late, store_late, burned):
    expires = datetime.fromtimestamp(int(token.split(".")[1]), UTC)
    times = iter([expires, expires])

    class Dated(Watched):
        def create(self, key, data):
            made = self.store.create(key, data)
            return Created(expires + timedelta(seconds=store_late)) if isinstance(made, Created) else made

    def clock():
        return next(times, expires + timedelta(seconds=function_late))

    if burned:
        with pytest.raises(Expired):
            attempt(Dated(store), token, clock=clock)
    else:
        assert attempt(Dated(store), token, clock=clock)
    assert len(list(store.list("mark/"))) == 1


def test_evidence_that_cannot_be_written_is_asked_for_again(store, token):
    attempt(store, token)

    class NoAudit(Watched):
        def create(self, key, data):
            if key.startswith("audit/"):
                raise Unavailable("the store is away")
            return super().create(key, data)

    with pytest.raises(Unavailable):
        attempt(NoAudit(store), token, OTHER_KEY)


def test_a_sweep_and_a_claim_race_on_one_mark(store, token):
    expires = datetime.fromtimestamp(int(token.split(".")[1]), UTC)

    class SweptFirst(Watched):
        def create(self, key, data):
            secret.sweep(self.store, expires + timedelta(seconds=1), 10)
            return super().create(key, data)

    with pytest.raises(Expired):
        attempt(SweptFirst(store), token)
    assert json.loads(store.get(next(store.list("mark/"))))["state"] == "expired"


def test_the_sweep_stops_at_the_first_that_has_not_expired(store):
    for seconds in (60, 120, 3_600):
        deposit.deposit(Deposit(cloud="c", vm="v", payload=b""), SCHEDULER, store, KEYS, NOW, deposit.new_intent(seconds, NOW))
    watched = Watched(store)
    assert secret.sweep(watched, NOW + timedelta(seconds=121), 10) == 2
    assert watched.calls.count("get prep") == 2
    assert len(list(store.list("prep/"))) == 1
    assert secret.sweep(store, NOW + timedelta(days=1), 0) == 0


def test_a_wrapping_key_that_is_missing_is_an_outage_and_burns_nothing(store, token):
    lost = msgspec.structs.replace(KEYS, wrapping=(Key("wrapping-2", b"x" * 32),))
    form = lab.claim_form(token, lab.public_key())
    with pytest.raises(Unavailable, match="wrapping-1"):
        secret.claim(msgspec.convert(form, Claim, strict=False), store, lost, ORIGIN, lambda: NOW)
    assert attempt(store, token)


def test_an_older_master_key_still_opens_what_it_made(store, token):
    rotated = msgspec.structs.replace(KEYS, master=(Key("master-2", b"n" * 32), *KEYS.master))
    form = lab.claim_form(token, lab.public_key())
    assert secret.claim(msgspec.convert(form, Claim, strict=False), store, rotated, ORIGIN, lambda: NOW)


def test_an_empty_store_knows_no_claim(tmp_path, token):
    with pytest.raises(secret.Forbidden):
        attempt(FilesystemObjects(tmp_path / "empty"), token)
    with pytest.raises(NotFound):
        secret.read_mark(FilesystemObjects(tmp_path / "empty"), "mark/20261125/x")
