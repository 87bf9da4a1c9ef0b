"""Alarms as rules: checks stand alone, one token raises a bounded number,
and nothing is told as over that is still so.
"""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.alarms import alarm_round
from skytally.alarms.alarm_round import (
    COUNTED,
    FAILED_CHECK,
    RAISED,
    RESOLVED,
    Check,
    Checked,
    Crash,
    Finding,
    NullNotifier,
    each,
    in_turn,
    run_checks,
)
from skytally.core.documents import Alarm
from skytally.core.errors import Unavailable
from skytally.core.site_data import Site
from skytally.operation.timer import Deadline

NOW = datetime(2026, 11, 25, tzinfo=UTC)
STEP = timedelta(minutes=5)
MOST = 4


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Let so few alarms be open that an example of a few findings shows what becomes of many."""
    monkeypatch.setattr(alarm_round, "MOST_OPEN", MOST)


class Rounds:
    """Rounds without a store or a receiver that fails: each is told whatever is new."""

    def __init__(self, muted=()):
        self.known, self.now, self.told, self.muted = {}, NOW, [], muted

    def round(self, *findings, kinds=(), identities=()):
        self.now += STEP
        checked = Checked(list(findings), set(kinds), set(identities))
        after = alarm_round.decided(checked, self.known, lambda identity: identity in self.muted, self.now)
        self.told = [(identity, one.state) for identity, one in after.items() if one.state not in {one.told, COUNTED}]
        after = {
            identity: structs.replace(one, told=one.state) if one.state != COUNTED else one
            for identity, one in after.items()
        }
        self.known = {identity: one for identity, one in after.items() if one.state != RESOLVED}
        return self

    def in_state(self, state):
        return {identity for identity, one in self.known.items() if one.state == state}


def finding(vm, number=0, kind="silent_vm", cloud="uvic"):
    return Finding(kind, f"{vm}-{number}", cloud, f"{vm} {number} is silent", vm)


def many(vm, count, **more):
    return [finding(vm, number, **more) for number in range(count)]


def test_the_rest_is_one_alarm_with_its_number():
    rounds = Rounds().round(*many("bad", 10))
    assert len(rounds.in_state(RAISED)) == MOST + 1
    more = rounds.known["silent_vm:uvic: more"]
    assert (more.cloud, more.kind, more.message[:19]) == ("uvic", "silent_vm", "6 more silent_vm of")
    rounds.round(*many("bad", MOST))
    assert rounds.told == [("silent_vm:uvic: more", RESOLVED)]
    assert Rounds().round(*many("x", 10, kind="stale_source", cloud=None)).known["stale_source:more"].cloud is None


def test_a_vm_of_many_boots_leaves_its_neighbours_their_places():
    rounds = Rounds().round(*many("bad", 1_000), finding("zz"), finding("a"))
    assert {"silent_vm:zz-0", "silent_vm:a-0"} < rounds.in_state(RAISED)
    late = Rounds().round(*many("bad", 1_000)).round(*many("bad", 1_000), finding("zz"))
    assert "silent_vm:zz-0" in late.in_state(RAISED)
    assert late.told == [("silent_vm:zz-0", RAISED)]
    assert len(late.in_state(COUNTED)) == 1


def test_kinds_and_clouds_have_places_of_their_own():
    rounds = Rounds().round(
        *many("bad", 10), *many("good", MOST, cloud="cern"), *many("bad", MOST, kind="clock_offset")
    )
    assert len(rounds.in_state(RAISED)) == 3 * MOST + 1


def test_what_lost_its_place_is_told_as_over_when_it_is():
    rounds = Rounds().round(*many("bad", MOST)).round(*many("bad", MOST), *(finding(f"vm-{n}") for n in range(MOST)))
    (lost, *_) = sorted(rounds.in_state(COUNTED))
    assert not [told for told in rounds.told if told[1] == RESOLVED]
    rounds.round(
        *(one for one in many("bad", MOST) if one.identity != lost), *(finding(f"vm-{n}") for n in range(MOST))
    )
    assert rounds.told == [(lost, RESOLVED)]


def test_what_has_its_place_again_is_not_told_twice():
    rounds = Rounds().round(*many("bad", MOST)).round(*many("bad", MOST), finding("other"))
    assert len(rounds.in_state(COUNTED)) == 1
    rounds.round(*many("bad", MOST))
    assert sorted(rounds.told) == [("silent_vm:other-0", RESOLVED), ("silent_vm:uvic: more", RESOLVED)]
    assert (len(rounds.in_state(RAISED)), rounds.in_state(COUNTED)) == (MOST, set())


def test_what_waits_for_its_end_takes_no_place_and_is_bounded_too():
    rounds = Rounds()
    for n in range(5):
        rounds.round(*(finding(f"vm-{n}-{m}", kind="clock_offset") for m in range(MOST)))
        assert len(rounds.in_state(RAISED)) == MOST
    rounds.round()
    assert len(rounds.in_state(RAISED)) == MOST


def test_what_nobody_can_look_at_is_not_over():
    rounds = Rounds().round(finding("a"), finding("b")).round(kinds={"silent_vm"})
    assert len(rounds.in_state(RAISED)) == 2
    rounds.round(identities={"silent_vm:a-0"})
    assert (rounds.in_state(RAISED), rounds.told) == ({"silent_vm:a-0"}, [("silent_vm:b-0", RESOLVED)])
    rounds.round(*many("c", 10), kinds={"silent_vm"})
    assert len(rounds.in_state(RAISED)) == MOST + 1
    assert not [told for told in rounds.told if told[1] == RESOLVED]


def test_what_is_muted_takes_no_place():
    rounds = Rounds(muted={one.identity for one in many("bad", 9)}).round(*many("bad", 10), finding("good"))
    assert rounds.in_state(RAISED) == {"silent_vm:bad-9", "silent_vm:good-0"}


def test_words_of_others_are_bounded_and_are_text():
    told = (
        Rounds().round(Finding("silent_vm", "x", "uvic", "a\n\u202e" + "b" * 5_000, "x")).known["silent_vm:x"].message
    )
    assert (len(told), told[:9], told[-1]) == (alarm_round.MOST_LETTERS, "a\\u000a\\u", "…")


vms = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), unique=True, max_size=30)
rounds_of_findings = st.lists(st.tuples(vms, st.sampled_from(["silent_vm", "clock_offset"]), st.booleans()), max_size=6)


@pytest.mark.slow
@settings(max_examples=200)
@given(rounds_of_findings)
def test_in_every_round_the_alarms_are_few_fair_and_true(steps):
    rounds = Rounds()
    for pairs, kind, fails in steps:
        findings = [finding(vm, number, kind=kind) for vm, number in pairs]
        unknown = {"silent_vm", "clock_offset"} if fails else {"clock_offset", "silent_vm"} - {kind}
        rounds.round(*findings, kinds=unknown)
        mine = {
            identity
            for identity in rounds.in_state(RAISED)
            if identity.startswith(kind) and not identity.endswith(": more")
        }
        current = {one.identity for one in findings}
        assert len(mine) <= MOST
        assert len(mine & current) == min(MOST, len(current))
        with_alarm = {one.vm for one in findings if one.identity in mine}
        assert len(with_alarm) == min(MOST, len({one.vm for one in findings}))
        assert not [identity for identity, state in rounds.told if state == RESOLVED and identity in current]
        more = rounds.known.get(f"{kind}:uvic: more")
        if len(current) > MOST:
            assert more.message.startswith(f"{len(current) - MOST} more")
        elif more:
            assert fails or kind in alarm_round.STAYS_FOR
        before = {identity: one.state for identity, one in rounds.known.items()}
        rounds.round(*findings, kinds=unknown)
        if fails or kind not in alarm_round.STAYS_FOR:
            assert (rounds.told, {identity: one.state for identity, one in rounds.known.items()}) == ([], before)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers())))
def test_in_turn_everybodys_first_comes_before_anybodys_second(items):
    ordered = in_turn(items, lambda item: item[0])
    assert sorted(ordered) == sorted(items)
    places = {}
    for place, (owner, _) in enumerate(ordered):
        places.setdefault(owner, []).append(place)
    for mine in places.values():
        for others in places.values():
            assert all(mine[turn] > others[turn - 1] for turn in range(1, min(len(mine), len(others) + 1)))
    assert all(
        [item for item in ordered if item[0] == owner] == [item for item in items if item[0] == owner]
        for owner in "abc"
    )


def unhurried():
    return Deadline(lambda: NOW, NOW + timedelta(seconds=10))


def opened(kind, subject):
    times = {"raised_at": NOW, "seen_at": NOW, "resolved_at": None}
    return Alarm(kind=kind, subject=subject, cloud=None, message="", state=RAISED, told=RAISED, **times)


def test_a_check_that_fails_is_one_failed_check():
    def breaks_off(known):
        yield finding(f"vm of {known}")
        raise ZeroDivisionError

    def away(_):
        raise Unavailable("the store is away")

    checks = [
        Check("crashes at once", ("a",), lambda _: 1 / 0),
        Check("breaks off", ("b",), breaks_off),
        Check("is away", ("c",), away),
        Check("works", ("d",), lambda _: [finding("good")]),
    ]
    checked = run_checks(checks, [opened("b", "mine"), opened("a", "another's")], unhurried())
    assert (checked.kinds, [str(one) for one in checked.outages]) == ({"a", "b", "c"}, ["the store is away"])
    assert [(one.kind, one.subject) for one in checked.findings] == [
        (FAILED_CHECK, "crashes at once"),
        ("silent_vm", "vm of ['mine']-0"),
        (FAILED_CHECK, "breaks off"),
        (FAILED_CHECK, "is away"),
        ("silent_vm", "good-0"),
    ]
    assert "incident" in checked.findings[0].message
    assert checked.findings[3].message.endswith("the store is away")


def test_a_check_for_which_no_time_is_left_is_as_if_nobody_could_look_and_is_among_the_first_before_long(tmp_path):
    documents, moment, looked = SqliteDocuments(tmp_path / "documents.sqlite"), [NOW], []
    names = [f"check {n}" for n in range(12)]

    def find(name):
        moment[0] += timedelta(seconds=4)
        looked.append(name)
        return [Finding(name, "vm", None, "so it is")]

    checks = [Check(name, (name,), lambda _, name=name: find(name)) for name in names]
    for minutes in range(0, 300, 5):
        now = moment[0] = NOW + timedelta(minutes=minutes)
        deadline = Deadline(lambda: moment[0], now + timedelta(seconds=10))
        before = len(looked)
        alarm_round.round_of(checks, NullNotifier(), documents, Site(), now, deadline)
        assert len(looked) - before == 2
    assert set(looked) == set(names)
    found = dict(documents.find("alarm", Alarm, {}))
    assert {one.state for one in found.values()} == {RAISED}
    documents.close()


def test_people_are_told_until_time_is_up_and_the_rest_in_the_next_round(tmp_path):
    documents, moment = SqliteDocuments(tmp_path / "documents.sqlite"), [NOW]

    class SlowTeller(NullNotifier):
        told, reminded = [], 0

        def tell(self, alarm):
            moment[0] += timedelta(seconds=8)
            self.told.append(alarm.subject)

        def remind(self, _):
            self.reminded += 1

    notifier = SlowTeller()
    checks = [Check("vms", ("silent_vm",), lambda _: [finding("vm", n) for n in range(5)])]
    for minutes, count, reminded in ((0, 2, 0), (5, 4, 0), (10, 5, 1)):
        now = moment[0] = NOW + timedelta(minutes=minutes)
        alarm_round.round_of(
            checks, notifier, documents, Site(), now, Deadline(lambda: moment[0], now + timedelta(seconds=10))
        )
        assert (len(set(notifier.told)), len(notifier.told), notifier.reminded) == (count, count, reminded)
    documents.close()


def test_an_item_that_crashes_costs_itself():
    def find(number):
        yield finding("vm", 10 // number)

    items = [5, 0, 2]
    found = list(each(items, lambda number: (f"vm-{number}", "uvic"), find))
    assert [type(one) for one in found] == [Finding, Crash, Finding]
    checked = run_checks([Check("numbers", ("a", "b"), lambda _: found)], [], unhurried())
    assert (checked.kinds, checked.identities) == (set(), {"a:vm-0", "b:vm-0"})
    assert [(one.kind, one.subject, one.cloud) for one in checked.findings][1] == (
        FAILED_CHECK,
        "numbers: vm-0",
        "uvic",
    )
    with pytest.raises(Unavailable):
        list(each(items, lambda number: (f"vm-{number}", None), lambda _: (_ for _ in ()).throw(Unavailable("away"))))


class Picky:
    """A receiver that never takes what some clouds' names are in."""

    def __init__(self):
        self.taken = []

    def tell(self, alarm):
        if alarm.cloud != "good":
            raise Unavailable("the receiver answered 400")
        self.taken.append(alarm.subject)

    def remind(self, alarms):
        """Do nothing."""


def test_what_a_receiver_never_takes_stands_before_no_other_for_ever(tmp_path):
    documents, notifier = SqliteDocuments(tmp_path / "documents.sqlite"), Picky()
    findings = [finding("vm", number, cloud=f"bad-{number}") for number in range(8)] + [finding("vm", 9, cloud="good")]
    for minutes in range(60):
        with pytest.raises(Unavailable):
            alarm_round.round_of(
                [Check("vms", ("silent_vm",), lambda _: findings)],
                notifier,
                documents,
                Site(),
                NOW + timedelta(minutes=minutes),
                unhurried(),
            )
        if notifier.taken:
            break
    documents.close()
    assert notifier.taken == ["vm-9"]
