"""Secrets without HTTP: the rules on a real folder that is watched, robbed of replies, or left at a step for ever."""

from datetime import UTC, datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from skytally.access.keyring import Key, Keyring
from skytally.core.errors import SkytallyError, Unavailable
from skytally.core.ports import Created
from skytally.core.records import Caller, Claim, Deposit
from skytally.core.unreadable import Notes
from skytally.secrets import claims, deposits, envelope
from tests.support import builders

NOW = datetime.now(UTC).replace(microsecond=0)
KEYS = Keyring(
    master=(Key("master-1", b"m" * 32),), wrapping=(Key("wrapping-1", b"w" * 32),), token=(Key("token-1", b"t" * 32),)
)
SCHEDULER = Caller(role="scheduler", issued=0, expires=2**40)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
ORIGIN = claims.Origin("192.0.2.1", "vm.py")
PAYLOAD = b"-----BEGIN CERTIFICATE-----"


class NoNotes(Notes):
    """Fails a test in which anything cannot be read."""

    def __init__(self):
        super().__init__(self.refuse)

    @staticmethod
    def refuse(writes):
        raise AssertionError(writes)


class Noted(Notes):
    """Keeps the keys of what cannot be read, by folder."""

    def __init__(self):
        self.keys = []
        super().__init__(
            lambda writes: self.keys.extend((one.document.source, one.document.key_text) for one in writes)
        )


class Killed(BaseException):
    """The process is gone."""


class Watched:
    """A real store that counts, ends the process before or after a step, or loses what it was asked or what it answers.

    `kill` is a step such as "after create mark", or such a word with the number of a call: ("before", 3). `lose` are
    what becomes of one create of a mark after another: None, "before" it was done, "after".
    """

    def __init__(self, store, kill=None, lose=(), stored_at=NOW):
        self.store, self.kill, self.lose, self.stored_at, self.calls = store, kill, list(lose), stored_at, []

    def _step(self, name, key, work):
        step = f"{name} {key.partition('/')[0]}"
        number = len(self.calls)
        self._die_at("before", step, number)
        self.calls.append(step)
        lost = self.lose.pop(0) if step == "create mark" and self.lose else None
        if lost == "before":
            raise Unavailable("lost on the way there")
        result = work()
        self._die_at("after", step, number)
        if lost == "after":
            raise Unavailable("lost on the way back")
        return result

    def _die_at(self, word, step, number):
        if self.kill in (f"{word} {step}", (word, number)):
            raise Killed

    def create(self, key, data):
        made = self._step("create", key, lambda: self.store.create(key, data))
        return Created(self.stored_at) if isinstance(made, Created) else made

    def get(self, key):
        return self._step("get", key, lambda: self.store.get(key))

    def delete(self, key):
        return self._step("delete", key, lambda: self.store.delete(key))

    def list(self, prefix):
        return iter(self._step("list", prefix, lambda: list(self.store.list(prefix))))


def clock():
    """Say that it is now, for as long as the tests run."""
    return NOW


def left(store, *, keys=KEYS, now=NOW, request_key=None, **fields):
    """Leave a secret; return its token."""
    wanted = Deposit(**({"cloud": "uvic", "payload": PAYLOAD} | ({} if "vms" in fields else {"vm": "vm-1"}) | fields))
    repeatable = None if request_key is None else deposits.Repeatable(request_key, msgspec.json.encode(wanted))
    return deposits.deposit(wanted, SCHEDULER, store, keys, now, repeatable)["token"]


def attempt(
    store, token, private_key=builders.SHARED_KEY, vm=None, *, keys=KEYS, clock=clock, origin=ORIGIN, comment="root@vm"
):
    """Claim; return the bundle."""
    form = builders.claim_form(token, builders.public_key(private_key, comment), vm)
    return claims.claim(msgspec.convert(form, Claim, strict=False), store, keys, origin, clock)


def opened(bundle, token, vm=None, private_key=builders.SHARED_KEY):
    """Open a bundle as its vm does; return the payload and the reporter token."""
    claim, expires, claim_secret = token.split(".")
    return envelope.open_bundle(bundle, claim_secret.encode(), private_key, claim, int(expires), vm)


def word(store, token, private_key=builders.SHARED_KEY, vm=None, **how):
    """Claim; return what came of it in a word."""
    try:
        attempt(store, token, private_key, vm, **how)
    except SkytallyError as error:
        return f"{error.code} {error.details['kind']}" if "kind" in error.details else error.code
    return "delivered"


def parts(token):
    """Return claim and expiry of a token."""
    claim, expires, _ = token.split(".")
    return claim, int(expires)


def after(token, seconds=1):
    """Return a moment after a token's expiry."""
    return datetime.fromtimestamp(parts(token)[1] + seconds, UTC)


def keys_of(store, folder):
    """Name what lies in a folder of the store."""
    return list(store.list(f"{folder}/"))


def copied(store, copy):
    """Bring another store to the same state."""
    for key in store.list(""):
        copy.create(key, store.get(key))
    return copy
