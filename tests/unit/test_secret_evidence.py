"""Evidence: a token in other hands shows, whoever holds it and whatever they say; and nobody fills a store with it."""

import gc
import threading
from concurrent.futures import Future
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest
from click.testing import CliRunner

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.cli import cli
from skytally.core.errors import Unavailable
from skytally.core.records import Revocation
from skytally.operation.timer import Deadline
from skytally.secrets import audit, claims, outcomes, revocations
from tests.support import secret_lab
from tests.support.secret_lab import NOW, OTHER_KEY, NoNotes, Noted, Watched, attempt, keys_of, left, parts, word


def history(store, days=3, now=NOW + timedelta(seconds=5), claim=None, notes=None):
    return audit.history(store, now, days, notes or NoNotes(), claim)


def others(one):
    return [(other.kind, other.reason) for other in one.contested]


@pytest.mark.parametrize("said", [None, "vm-1", "somebody"])
def test_a_second_key_shows_whatever_name_it_gives(store, said):
    token = left(store)
    attempt(store, token)
    assert word(store, token, OTHER_KEY, vm=said) == "taken contested"
    (one,) = audit.contested(history(store))
    assert (one.vm, one.state, others(one)) == ("vm-1", "delivered", [("contested", None)])


def test_a_proxys_retry_is_written_down_and_alarms_nobody(store):
    token = left(store)
    attempt(store, token)
    assert word(store, token) == "taken duplicate"
    assert len(keys_of(store, "audit")) == 1
    assert audit.contested(history(store)) == []


class TakenMeanwhile:
    """A real store in which something happens between the listings of deposits and of outcomes, whichever is first."""

    def __init__(self, store, happens):
        self.store, self.happens = store, happens
        self.first, self.lock = None, threading.Lock()

    def __getattr__(self, name):
        return getattr(self.store, name)

    def list(self, prefix):
        folder = prefix.partition("/")[0]
        with self.lock:
            if folder in {"prep", "mark"}:
                self.first = self.first or folder
            if self.happens and self.first not in {None, folder} and folder in {"prep", "mark"}:
                self.happens()
                self.happens = None
        return self.store.list(prefix)


class CountedReads:
    """A real store that counts the reads that wait or are under way."""

    def __init__(self, store):
        self.store, self.most_reads = store, 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def get(self, key):
        self.most_reads = max(self.most_reads, sum(isinstance(one, Future) for one in gc.get_objects()))
        return self.store.get(key)


def test_a_long_history_is_read_in_bounded_memory(store, monkeypatch):
    monkeypatch.setattr(audit, "READS_WAITING", 5)
    vms = {f"vm-{n}" for n in range(23)}
    for vm in vms:
        left(store, vm=vm)
    gc.collect()
    already = sum(isinstance(one, Future) for one in gc.get_objects())
    counted = CountedReads(store)
    assert {record.vm for record in history(counted)} == vms
    assert counted.most_reads - already <= 5 + 1


def test_a_secret_that_is_taken_while_secrets_are_read_is_among_them(store):
    token = left(store)
    (one,) = history(TakenMeanwhile(store, lambda: attempt(store, token)))
    assert (one.vm, one.state) == ("vm-1", "delivered")


def test_a_vm_whose_secret_is_taken_while_secrets_are_read_boots(store, tmp_path):
    token = left(store)
    meanwhile = TakenMeanwhile(store, lambda: attempt(store, token))
    with closing(SqliteDocuments(tmp_path / "documents.sqlite")) as documents:
        booting = audit.booting(meanwhile, documents, NOW + timedelta(seconds=5), NoNotes(), 100)
    assert booting == {("uvic", "vm-1")}


REFUSALS = {
    "another source": ({"sources": ("198.51.100.0/24",)}, None, "source"),
    "a name that is not in the batch": ({"vms": ("a", "b")}, "c", "name"),
    "no name in a batch": ({"vms": ("a", "b")}, None, "name missing"),
    "another name": ({}, "vm-2", "name"),
}


@pytest.mark.parametrize(("fields", "vm", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_a_proof_from_where_none_is_expected_shows_while_the_secret_waits(store, fields, vm, reason):
    token = left(store, **fields)
    assert word(store, token, vm=vm) == "forbidden"
    found = audit.contested(history(store))
    assert [one.vm for one in found] == list(reversed(fields.get("vms", ("vm-1",))))
    assert {one.state for one in found} == {"waiting"}
    assert others(found[0]) == [("refused", reason)]
    assert keys_of(store, "mark") == []


@pytest.mark.parametrize(
    ("expected", "comment", "is_other"),
    [
        ("vm-1", "vm-1", False),
        ("vm-1.uvic.example.org", "root@vm-1", False),
        ("vm-1", "root@VM-1.novalocal", False),
        ("vm-1.uvic.example.org", "vm-1.uvic.example.org.", False),
        ("vm-1.uvic.example.org", "vm-1.cern.example.org", True),
        ("vm-1", "vm-10", True),
        ("vm-1", "vm-1@stranger", True),
        (None, "stranger", False),
        ("vm-1", "root@", False),
        ("vm-1", "@", False),
        ("vm-1", ".", False),
        ("vm-1", "root@.", False),
        ("vm-1", "root@ ", False),
        (".", "root@vm-1", False),
    ],
)
def test_a_host_is_another_where_its_name_is(store, tmp_path, expected, comment, is_other):
    token = left(store, hostname=expected)
    attempt(store, token, comment=comment)
    assert [one.comment for one in audit.on_another_host(history(store))] == [comment] * is_other
    with closing(SqliteDocuments(tmp_path / "documents.sqlite")) as documents:
        (row,) = audit.secrets_view(history(store), documents, NOW)["table"]
    assert (row["other_hostname"] is not None) == is_other


def test_a_second_taker_of_one_name_shows_at_that_name(store):
    token = left(store, vms=("a", "b"))
    for vm in ("a", "b"):
        attempt(store, token, vm=vm)
    assert word(store, token, OTHER_KEY, vm="a") == "taken contested"
    assert [one.vm for one in audit.contested(history(store))] == ["a"]


def test_asking_hundreds_of_times_fills_no_store(store, monkeypatch):
    monkeypatch.setattr(claims, "FAILURE_SLOTS", 10)
    token = left(store)
    attempt(store, token)
    for n in range(300):
        origin = claims.Origin(f"192.0.2.{n % 250}", f"agent {n}")
        assert word(store, token, OTHER_KEY, vm=f"vm-{n}", origin=origin) == "taken contested"
    assert len(keys_of(store, "audit")) == 10
    assert len(audit.contested(history(store))) == 1


def test_the_first_of_a_kind_stays(store):
    token = left(store)
    attempt(store, token)
    for minutes in (1, 2):
        word(store, token, OTHER_KEY, clock=lambda at=NOW + timedelta(minutes=minutes): at)
    (one,) = history(store)[0].contested
    assert one.at.startswith(f"{NOW + timedelta(minutes=1):%Y-%m-%dT%H:%M}")


def test_evidence_of_a_long_claims_first_day_is_there_to_its_end(store):
    token = left(store, expires_in_seconds=604_800)
    attempt(store, token)
    word(store, token, OTHER_KEY)
    for days in (1, 7, 9):
        assert len(audit.contested(history(store, 3, NOW + timedelta(days=days)))) == 1


def test_every_state_is_listed_newest_first(store):
    tokens = {state: left(store, vm=state) for state in ("waiting", "delivered", "revoked")}
    tokens["expired"] = left(store, vm="expired", expires_in_seconds=60)
    tokens["damaged"] = left(store, vm="damaged")
    attempt(store, tokens["delivered"])
    claim, expires = parts(tokens["revoked"])
    revocations.revoke(
        Revocation(claim=claim, expires=expires), secret_lab.SCHEDULER, store, NOW + timedelta(seconds=1)
    )
    late = NOW + timedelta(seconds=61)
    revocations.sweep(store, Deadline(lambda: late, late + timedelta(seconds=1)), NoNotes())
    damaged = next(key for key in keys_of(store, "prep") if tokens["damaged"].split(".")[0] in key)
    store.delete(damaged)
    store.create(damaged, b"rubbish")
    notes = Noted()
    held = history(store, notes=notes)
    assert notes.keys == [("prep", damaged)]
    assert {one.state: one.vm for one in held} == {state: state if state != "damaged" else None for state in tokens}
    assert [one.at for one in held] == sorted((one.at for one in held), reverse=True)
    assert all(one.expires_at.endswith("Z") for one in held)
    (one,) = history(store, claim=tokens["delivered"].split(".")[0])
    assert (one.address, one.agent, one.comment, one.state) == ("192.0.2.1", "vm.py", "root@vm", "delivered")


def test_what_is_removed_meanwhile_is_not_missed_and_an_outage_is(store):
    for _ in range(3):
        attempt(store, left(store))
    left(store)

    class Removed(Watched):
        def get(self, key):
            self.store.delete(key)
            return super().get(key)

    class Away(Watched):
        def get(self, _key):
            raise Unavailable("away")

    with pytest.raises(Unavailable):
        history(Away(store))
    assert history(Removed(store)) == []


def test_the_expected_host_name_is_shown_and_is_no_permission(store):
    token = left(store, hostname="belle-4f2a")
    attempt(store, token)
    (one,) = history(store)
    assert (one.comment, one.expected_hostname) == ("root@vm", "belle-4f2a")


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("192.0.2.9", True),
        ("::ffff:192.0.2.9", True),
        ("192.0.3.1", False),
        ("::ffff:192.0.3.1", False),
        ("2001:db8::1", True),
        ("", False),
    ],
)
def test_a_source_may_come_in_either_dress(store, address, inside):
    token = left(store, sources=("192.0.2.0/24", "2001:db8::/32"))
    assert word(store, token, origin=claims.Origin(address, "")) == ("delivered" if inside else "forbidden")


def test_nobodys_words_colour_the_operators_terminal(home):
    from skytally.app import wiring

    store = wiring.objects()
    claim = "c" * 26
    held = outcomes.ClaimOutcome(
        state="delivered",
        claim=claim,
        expires=int(NOW.timestamp()),
        at="2026-11-25T00:00:00Z",
        cloud="[/red]",
        vm="[bold]x",
        address="\x1b[2J",
    )
    store.create(outcomes.outcome_key(claim, held.expires), msgspec.json.encode(held))
    listed = CliRunner().invoke(cli, ["secrets", "list"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0, listed.output
    assert "[bold]x" in listed.output
    assert "?[2J" in listed.output
    assert "\x1b[2J" not in listed.output
