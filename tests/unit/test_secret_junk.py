"""Junk in the bucket: it is left out and noted,
stops nothing that stands beside it, and never lets a secret go twice.
"""

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytally.adapters.objects_filesystem import FilesystemObjects
from skytally.app import wiring
from skytally.cli import cli
from skytally.core.errors import Changed, IdempotencyKeyReused, Taken
from skytally.core.records import Revocation, iso
from skytally.operation.timer import Deadline
from skytally.secrets import audit, outcomes, preflight, revocations
from skytally.secrets.outcomes import ClaimOutcome
from tests.support import builders
from tests.support.secret_lab import NOW, OTHER_KEY, SCHEDULER, NoNotes, Noted, attempt, keys_of, left, parts, word

CLAIM = "c" * 26
LATER = NOW + timedelta(hours=2)
MARK = {
    "state": "delivered",
    "claim": CLAIM,
    "expires": int(NOW.timestamp()),
    "at": iso(NOW),
    "cloud": "uvic",
    "vm": "vm-1",
}
EVIDENCE = {
    "kind": "contested",
    "claim": CLAIM,
    "at": iso(NOW),
    "address": "192.0.2.1",
    "agent": "vm.py",
    "spki_sha256": "0" * 64,
}
CONTENTS = {
    "nothing": b"",
    "random bytes": bytes(range(256)),
    "no UTF-8": b'{"state": "\xff"}',
    "another shape": b"[1, 2]",
    "an empty object": b"{}",
    "a word": b'"delivered"',
    "a deep one": b"[" * 100_000,
    "a deep field": b'{"x": ' + b"[" * 100_000,
}
ODD = {
    "at": ["never", "", "2026-11-29T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 5, None],
    "expires": [9_999_999_999, 10**30, -1, "soon", 1.5, None],
    "state": ["free", "", None],
    "kind": ["praise", None],
    "claim": ["../x", "", None, 5],
    "cloud": ["", "a\nb", None],
    "vm": ["", "a\x00b", 5],
    "holder": [{}, 5, MARK | {"at": "never"}],
    "address": [None, 5],
}


def odd_ones(whole, *more):
    """Make records of which one field cannot be."""
    odd = [(field, value) for field in ODD if field in (*whole, *more) for value in ODD[field]]
    return {f"{field} {value!r}"[:40]: msgspec.json.encode(whole | {field: value}) for field, value in odd}


MARKS = CONTENTS | odd_ones(MARK) | {"another claim's": msgspec.json.encode(MARK | {"claim": "d" * 26})}
EVIDENCES = (
    CONTENTS | odd_ones(EVIDENCE, "holder") | {"another claim's": msgspec.json.encode(EVIDENCE | {"claim": "d" * 26})}
)


def history(store, notes, now=NOW + timedelta(seconds=5)):
    return audit.history(store, now, 3, notes)


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("names", [{}, {"vms": ("a", "b")}], ids=["a vm", "a batch"])
def test_a_mark_that_cannot_be_read_lets_nobody_have_the_secret(store, data, names):
    token = left(store, **names)
    vm = "a" if names else None
    key = outcomes.outcome_key(*parts(token), vm)
    store.create(key, data)
    for private_key in (builders.SHARED_KEY, OTHER_KEY):
        assert word(store, token, private_key, vm=vm) == "taken contested"
    if names:
        assert word(store, token, vm="b") == "delivered"
    notes = Noted()
    assert len(audit.contested(history(store, notes))) == 1
    assert notes.keys == [("mark", key)]
    with pytest.raises(Taken):
        revocations.revoke(Revocation(claim=parts(token)[0], expires=parts(token)[1]), SCHEDULER, store, NOW)
    assert store.get(key) == data


@pytest.mark.parametrize("data", [b"", b"junk"])
def test_a_sweep_ends_a_deposit_whose_mark_cannot_be_read_and_goes_on(store, data):
    first, second = left(store, expires_in_seconds=60), left(store)
    store.create(outcomes.outcome_key(*parts(first)), data)
    assert revocations.sweep(store, Deadline(lambda: LATER, LATER + timedelta(seconds=20)), NoNotes()) == 2
    assert keys_of(store, "prep") == []
    assert outcomes.read_outcome(store, outcomes.outcome_key(*parts(second))).state == "expired"
    assert word(store, first) in {"expired", "taken contested"}


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
def test_a_deposit_that_cannot_be_read_burns_nothing_and_hides_no_other(store, data):
    token, good = left(store), left(store, vm="vm-2")
    claim, expires = parts(token)
    key = f"prep/{expires}/{claim}"
    store.delete(key)
    store.create(key, data)
    assert word(store, token) == "forbidden"
    assert keys_of(store, "mark") == []
    notes = Noted()
    assert {(one.vm, one.state) for one in history(store, notes)} == {(None, "damaged"), ("vm-2", "waiting")}
    assert notes.keys == [("prep", key)]
    assert word(store, good) == "delivered"


@pytest.mark.parametrize(
    ("folder", "name", "data"),
    [
        *((("mark", CLAIM, data)) for data in MARKS.values()),
        *((("audit", f"{CLAIM}/contested-001", data)) for data in EVIDENCES.values()),
    ],
    ids=[*(f"mark {name}" for name in MARKS), *(f"audit {name}" for name in EVIDENCES)],
)
def test_a_record_that_is_none_is_left_out_and_noted(store, folder, name, data):
    attempt(store, left(store))
    word(store, left(store, vm="vm-2"), vm="vm-3")
    key = f"{folder}/{NOW:%Y%m%d}/{name}"
    before = history(store, NoNotes())
    store.create(key, data)
    notes = Noted()
    assert history(store, notes) == before
    assert notes.keys == [(folder, key)]


def test_a_whole_record_is_not_noted(store):
    store.create(f"mark/{NOW:%Y%m%d}/{CLAIM}", msgspec.json.encode(MARK))
    store.create(f"audit/{NOW:%Y%m%d}/{CLAIM}/contested-001", msgspec.json.encode(EVIDENCE))
    (one,) = history(store, NoNotes())
    assert (one.vm, one.state, len(one.contested)) == ("vm-1", "delivered", 1)


NAMES = (
    *(
        "mark/loose",
        "mark/20200102",
        "mark/0/x",
        f"mark/20200101/{CLAIM}/more",
        "mark/20200101/UPPER",
        f"mark/2020-01-01/{CLAIM}",
    ),
    *("audit/loose", "audit/20200102", f"audit/20200101/{CLAIM}/a/b", f"audit/20200101/{CLAIM}/UPPER", "audit/x/y/z"),
    *("begun/loose", "begun/20200101/short", "begun/20200101/a/b"),
    *(
        "prep/loose",
        f"prep/9999999999/{CLAIM}",
        f"prep/12/{CLAIM}",
        f"prep/0000000012/{CLAIM}/more",
        "prep/0000000012/short",
    ),
)


def test_names_that_are_none_of_ours_stay_and_stop_no_round(store):
    old = NOW - timedelta(days=400)
    for number, vm in enumerate(("gone-1", "gone-2")):
        left(store, vm=vm, now=old, request_key=f"key-{number}")
    revocations.sweep(store, Deadline(lambda: old + timedelta(days=1), old + timedelta(days=2)), NoNotes())
    for key in NAMES:
        store.create(key, b"x")
    recent = left(store)
    notes, until = Noted(), NOW + timedelta(seconds=20)
    assert revocations.sweep(store, Deadline(lambda: NOW, until), notes) == 0
    assert revocations.forget(store, Deadline(lambda: NOW, until), notes) == 6
    assert [one.vm for one in history(store, notes)] == ["vm-1"]
    assert sorted(key for _, key in notes.keys) == sorted(NAMES)
    assert {key for folder in ("mark", "audit", "begun", "prep") for key in keys_of(store, folder)} == {
        *NAMES,
        f"prep/{parts(recent)[1]}/{parts(recent)[0]}",
    }


def test_an_intent_that_cannot_be_read_stops_neither_deposits_nor_forgetting(store):
    old = NOW - timedelta(days=400)
    left(store, now=old, request_key="key")
    (intent,) = keys_of(store, "idempotency")
    store.delete(intent)
    store.create(intent, b"junk")
    with pytest.raises(IdempotencyKeyReused, match="use a new key"):
        left(store, request_key="key")
    assert left(store, request_key="another")
    notes = Noted()
    assert revocations.forget(store, Deadline(lambda: NOW, NOW + timedelta(seconds=20)), notes) == 1
    assert notes.keys == [("idempotency", intent)]


def test_a_deposit_that_makes_the_sweep_crash_costs_itself(store, monkeypatch):
    bad, good = left(store, vm="bad", expires_in_seconds=60), left(store)
    real = revocations.read_sealed
    monkeypatch.setattr(
        revocations,
        "read_sealed",
        lambda objects, claim, expires: 1 / 0 if claim in bad else real(objects, claim, expires),
    )
    notes = Noted()
    assert revocations.sweep(store, Deadline(lambda: LATER, LATER + timedelta(seconds=20)), notes) == 1
    assert [source for source, _ in notes.keys] == ["prep"]
    assert keys_of(store, "prep") == [f"prep/{parts(bad)[1]}/{parts(bad)[0]}"]
    assert keys_of(store, "mark") == [outcomes.outcome_key(*parts(good))]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
fields = st.dictionaries(
    st.sampled_from([*MARK, *EVIDENCE]), json_values | st.sampled_from([*MARK.values(), *EVIDENCE.values()])
)


@given(
    st.binary()
    | st.builds(lambda whole, odd: msgspec.json.encode(whole | odd), st.sampled_from([MARK, EVIDENCE, {}]), fields)
)
def test_whatever_lies_there_is_a_record_or_changed(data):
    for parse, key in (
        (outcomes.parse_outcome, f"mark/{NOW:%Y%m%d}/{CLAIM}"),
        (outcomes.parse_failed_claim, f"audit/{NOW:%Y%m%d}/{CLAIM}/x-000"),
    ):
        try:
            record = parse(key, data)
        except Changed:
            continue
        assert record.claim == CLAIM
        assert datetime.fromisoformat(record.at) < datetime(2100, 1, 2, tzinfo=UTC)
        if isinstance(record, ClaimOutcome):
            assert audit._ended(record).expires_at


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.binary(max_size=64))
def test_no_bytes_at_a_marks_name_free_the_claim(tmp_path_factory, data):
    store = FilesystemObjects(tmp_path_factory.mktemp("junk"))
    token = left(store)
    store.create(outcomes.outcome_key(*parts(token)), data)
    assert word(store, token) == "taken contested"


@given(
    st.binary()
    | st.builds(
        lambda at, checks: msgspec.json.encode({"at": at, "checks": checks}),
        json_values
        | st.sampled_from(
            [
                iso(NOW),
                "2026-11-25T00:00:00",
                "0001-01-01T00:00:00+14:00",
                "9999-12-31T23:59:59-14:00",
                iso(NOW + timedelta(days=99)),
            ]
        ),
        json_values,
    )
)
def test_a_verdict_that_is_none_is_none(data):
    class Store:
        def list(self, _):
            return iter(["preflight/x"])

        def get(self, _):
            return data

    verdict = preflight.kept(Store(), NOW)
    assert verdict is None or abs(verdict.at - NOW) < preflight.VERDICT_KEPT


def test_the_command_line_lists_the_others_and_says_how_many_are_left_out(home):
    left(wiring.objects(), vm="good")
    for key in ("prep/loose", f"mark/{NOW:%Y%m%d}/{CLAIM}", f"audit/{NOW:%Y%m%d}/x/y"):
        wiring.objects().create(key, b"junk")
    listed = CliRunner().invoke(cli, ["secrets", "list", "--json"])
    assert (listed.exit_code, [one["vm"] for one in json.loads(listed.stdout)]) == (0, ["good"])
    assert "3 objects are no records of ours" in listed.stderr
