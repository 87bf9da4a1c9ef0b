"""Claims, a sweep, a revocation and a repeated deposit of one secret, interleaved at every store call in any order,
with lost calls, lost replies and deaths: whatever the order, each name is delivered at most once, to whom its mark
names, and nothing is left lying about."""

import queue
import random
import threading
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.core.errors import NotFound, SkytallyError, Unavailable
from skytally.core.ports import Created
from skytally.core.records import Revocation
from skytally.operation.timer import Deadline
from skytally.secrets import claims, outcomes, revocations
from skytally.secrets.envelope import spki_sha256
from tests.support import builders, secret_lab
from tests.support.secret_lab import NOW, OTHER_KEY, SCHEDULER, Killed, NoNotes, attempt, keys_of, left, opened, parts

FATES = ("done", "done", "done", "lost before", "lost after", "killed before", "killed after")


class Actor(threading.Thread):
    """One invocation, which waits before each of its store calls until it is told what becomes of it."""

    def __init__(self, store, work):
        super().__init__(daemon=True)
        self._store, self._work = store, work
        self._fates, self._waits = queue.SimpleQueue(), queue.SimpleQueue()
        self.result = None

    def run(self):
        try:
            self.result = self._work(self)
        except (SkytallyError, Killed) as error:
            self.result = error
        self._waits.put("over")

    def runs_on(self):
        """Return whether it waits at a call, or is over."""
        return self._waits.get(timeout=20) == "call"

    def tell(self, fate):
        self._fates.put(fate)
        return self.runs_on()

    def _call(self, name, *arguments):
        self._waits.put("call")
        fate = self._fates.get(timeout=20)
        if fate == "killed before":
            raise Killed
        if fate == "lost before":
            raise Unavailable("lost on the way there")
        answer = getattr(self._store, name)(*arguments)
        if fate == "killed after":
            raise Killed
        if fate == "lost after":
            raise Unavailable("lost on the way back")
        return answer

    def create(self, key, data):
        return self._call("create", key, data)

    def get(self, key):
        return self._call("get", key)

    def delete(self, key):
        return self._call("delete", key)

    def list(self, prefix):
        return self._call("list", prefix)


def play(store, works, schedule):
    """Run all works, one call at a time in the order and with the fates of the schedule,
    then to their ends; return their results.
    """
    actors = [Actor(store, work) for work in works]
    for actor in actors:
        actor.start()
    alive = [actor for actor in actors if actor.runs_on()]
    for choice, fate in schedule:
        if not alive:
            break
        actor = alive[choice % len(alive)]
        if not actor.tell(fate):
            alive.remove(actor)
    while alive:
        alive = [actor for actor in alive if actor.tell("done")]
    for actor in actors:
        actor.join()
    return [actor.result for actor in actors]


def claiming(token, key, vm=None):
    return lambda store: (vm, key, attempt(store, token, key, vm))


def late_sweep(token):
    late = secret_lab.after(token)
    return lambda store: revocations.sweep(store, Deadline(lambda: late, late + timedelta(minutes=1)), NoNotes())


def revoking(token):
    claim, expires = parts(token)
    return lambda store: revocations.revoke(Revocation(claim=claim, expires=expires), SCHEDULER, store, NOW)


def cast(token, names):
    """Return who acts: two keys and a retry for each name, a sweep, a revocation, the same deposit again."""
    claims = [
        claiming(token, key, name)
        for name in names or (None,)
        for key in (builders.SHARED_KEY, OTHER_KEY, builders.SHARED_KEY)
    ]
    fields = {"vms": names} if names else {}
    return [*claims, late_sweep(token), revoking(token), lambda store: left(store, request_key="boot", **fields)]


def what_is_wrong(store, token, names, results):
    """Return what should not have come of it."""
    claim, expires = parts(token)
    late_sweep(token)(store)
    wrong = [] if keys_of(store, "prep") == [] else ["a payload is left"]
    for name in names or (None,):
        delivered = [result for result in results if isinstance(result, tuple) and result[0] == name]
        made = outcomes.read_outcome(store, outcomes.outcome_key(claim, expires, name))
        if len(delivered) > 1:
            wrong.append(f"{name} was delivered {len(delivered)} times")
        for _, key, bundle in delivered:
            if (made.state, made.spki_sha256) != ("delivered", spki_sha256(key.public_key())):
                wrong.append(f"{name} was delivered to another than its mark says")
            if opened(bundle, token, name, key)[0] != secret_lab.PAYLOAD:
                wrong.append("another payload")
    return wrong


def steps(fates):
    return st.lists(st.tuples(st.integers(0, 11), st.sampled_from(fates)), max_size=60)


@pytest.mark.slow
@pytest.mark.parametrize("names", [(), ("a", "b")], ids=["one vm", "a batch"])
def test_at_most_once_in_any_order(tmp_path_factory, names):
    @settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow])
    @given(schedule=steps(FATES))
    def any_order(schedule):
        store = FilesystemObjects(tmp_path_factory.mktemp("play"))
        token = left(store, request_key="boot", **({"vms": names} if names else {}))
        results = play(store, cast(token, names), schedule)
        assert what_is_wrong(store, token, names, results) == []
        assert all(isinstance(result, tuple | int | str | None | SkytallyError | Killed) for result in results)

    any_order()


def check_then_delete(objects, key, wanted):
    """Look whether anybody has it, then write down that we do."""
    try:
        return outcomes.read_outcome(objects, key), None
    except NotFound:
        objects.create(key, claims.msgspec.json.encode(wanted))
        return wanted, None


def trust_a_lost_reply(objects, key, wanted):
    """Believe that a create was done because nobody said otherwise."""
    try:
        return (
            outcomes.decide(objects, key, wanted)
            if not isinstance(objects.create(key, b"{}"), Created)
            else (wanted, None)
        )
    except Unavailable:
        return wanted, None


@pytest.mark.parametrize("mutant", [check_then_delete, trust_a_lost_reply])
def test_what_must_never_decide_a_claim_is_found_out(tmp_path_factory, monkeypatch, mutant):
    monkeypatch.setattr(claims, "decide", mutant)
    for seed in range(200):
        dice = random.Random(seed)
        store = FilesystemObjects(tmp_path_factory.mktemp("play"))
        token = left(store, request_key="boot")
        fates = ["done"] if mutant is check_then_delete else FATES[:5]
        results = play(
            store,
            [claiming(token, key) for key in (builders.SHARED_KEY, OTHER_KEY)],
            [(dice.randrange(2), dice.choice(fates)) for _ in range(20)],
        )
        if sum(isinstance(result, tuple) for result in results) > 1:
            return
    pytest.fail("two hundred random orders never delivered twice: they prove nothing")
