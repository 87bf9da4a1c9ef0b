"""Credentials that renew themselves: no refresh token is sent twice,
and what it was exchanged for is found by every process.
"""

import contextlib
import json
import sqlite3
import threading
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from skytally.access.credentials import FAILING, WELL, Credential, NotExchanged, Refused, Tokens, described
from skytally.adapters.documents_sqlite import SqliteDocuments
from skytally.core.documents import RenewedCredential
from skytally.core.errors import Unavailable
from skytally.core.ports import Outcome, Write
from tests.support.credential_lab import KEYS, NEW, OLD, credential

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SIGN_IN = "sign the robot in again"


class Source:
    """A server that replaces refresh tokens at each use and ends all sessions where one comes again, as DiracX does."""

    def __init__(self):
        self.count, self.valid, self.used, self.is_robbed = 0, set(), [], False

    def sign_in(self):
        self.count += 1
        self.valid.add(f"r{self.count}")
        return Tokens(f"a{self.count}", f"r{self.count}")

    def exchange(self, refresh_token):
        self.used.append(refresh_token)
        if refresh_token not in self.valid:
            self.is_robbed = True
            self.valid.clear()
            raise Refused(f"refused: {SIGN_IN}")
        self.valid.remove(refresh_token)
        return self.sign_in()


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def file(tmp_path, source):
    """A token file that nobody can write."""
    return signed_in(tmp_path / "token", source)


def signed_in(path, source):
    path.unlink(missing_ok=True)
    tokens = source.sign_in()
    path.write_text(
        json.dumps({"access_token": tokens.access_token, "refresh_token": tokens.refresh_token, "expires_in": 1_200})
    )
    path.chmod(0o444)
    return path


class At:
    """A clock that a test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return At()


@pytest.fixture
def process(file, documents, clock):
    """Start another process on the same file and store."""
    return lambda **how: credential(file, documents, **{"now": clock} | how)


def renew(one, source):
    return one.renewed(one.tokens(), source.exchange)


def stored(documents):
    return sorted(
        (known for _, known in documents.find("credential", RenewedCredential, {})), key=lambda known: known.used_since
    )


def test_the_file_s_own_is_used_until_it_is_renewed_and_then_every_process_uses_the_renewed_one(process, source, clock):
    first, second = process(), process()
    assert first.tokens() == second.tokens() == Tokens("a1", "r1")
    clock.now += SECOND
    assert renew(first, source) == Tokens("a2", "r2")
    assert first.tokens() == second.tokens() == process().tokens() == Tokens("a2", "r2")
    clock.now += SECOND
    assert renew(second, source) == Tokens("a3", "r3")
    assert first.tokens() == process().tokens() == Tokens("a3", "r3")
    assert source.used == ["r1", "r2"]


def test_a_token_that_another_process_renewed_meanwhile_is_taken_and_nothing_is_sent(process, source):
    first, second = process(), process()
    refused = second.tokens()
    renew(first, source)
    assert second.renewed(refused, source.exchange) == Tokens("a2", "r2")
    assert source.used == ["r1"]


def test_of_many_processes_and_threads_one_sends_it(process, source):
    processes = [process() for _ in range(8)]
    refused = processes[0].tokens()

    def attempt(n):
        try:
            return processes[n % 8].renewed(refused, source.exchange)
        except Unavailable as error:
            assert "another process renews" in error.message  # noqa: PT017
            return None

    with ThreadPoolExecutor(32) as threads:
        told = list(threads.map(attempt, range(64)))
    assert set(told) <= {None, Tokens("a2", "r2")}
    assert (source.used, source.is_robbed) == (["r1"], False)
    assert process().tokens() == Tokens("a2", "r2")


def test_a_file_that_a_person_replaced_counts_at_once_and_the_older_one_s_successors_no_more(
    process, source, file, clock
):
    one = process()
    renew(one, source)
    clock.now += SECOND
    signed_in(file, source)
    assert one.tokens() == process().tokens() == Tokens("a3", "r3")
    clock.now += SECOND
    assert renew(process(), source) == Tokens("a4", "r4")
    assert one.tokens() == Tokens("a4", "r4")
    assert not source.is_robbed


def test_a_process_that_still_sees_the_older_file_takes_nothing_from_those_that_see_the_newer(
    process, source, file, documents, tmp_path, clock
):
    old, new = process(), credential(signed_in(tmp_path / "newer", source), documents, now=clock)
    renew(new, source)
    clock.now += SECOND
    renew(old, source)
    assert (new.tokens(), process().tokens(), source.is_robbed) == (Tokens("a3", "r3"), Tokens("a4", "r4"), False)


def test_a_file_that_is_mounted_anew_with_the_same_content_changes_nothing(process, source, file):
    renew(process(), source)
    text = file.read_text()
    file.unlink()
    file.write_text(f"{text}\n")
    assert process().tokens() == Tokens("a2", "r2")


def test_what_is_stored_shows_no_token_and_opens_only_where_it_lies(process, source, documents):
    pair = Tokens("a-new-access-token", "a-new-refresh-token")  # long: two letters stand in ciphertext by chance
    one = process()
    one.renewed(one.tokens(), lambda _: pair)
    (known,) = stored(documents)
    assert known.wrapping_key == OLD.name
    assert not any(
        token in shown for token in ("a-new", "-token") for shown in (str(known), str(b64decode(known.sealed)))
    )
    assert process().tokens() == pair
    assert "a-new" not in repr(process().tokens())
    key = next(key for key, _ in documents.find("credential", RenewedCredential, {}))
    moved = structs.replace(known, changed_at=known.changed_at + SECOND)
    file = process()._file
    file.chmod(0o644)
    file.write_text(json.dumps({"access_token": "x"}))
    process().tokens()
    other = next(found for found, _ in documents.find("credential", RenewedCredential, {}) if found != key)
    documents.write([Write("credential", other, 2**50, moved)]).result()
    with pytest.raises(Unavailable, match="changed outside skytally"):
        process().tokens()


class TestKeys:
    @pytest.fixture
    def rotated(self):
        return structs.replace(KEYS, wrapping=(NEW, OLD))

    def test_a_pair_under_an_older_key_is_sealed_anew_when_it_is_looked_at(self, process, source, documents, rotated):
        renew(process(), source)
        assert process(keys=lambda: rotated).tokens() == Tokens("a2", "r2")
        assert stored(documents)[0].wrapping_key == NEW.name
        assert process(keys=lambda: structs.replace(KEYS, wrapping=(NEW,))).tokens() == Tokens("a2", "r2")

    def test_sealing_anew_overwrites_nothing_newer(self, process, source, rotated, clock):
        renew(process(), source)
        one = process(keys=lambda: rotated)
        opened = one._opened

        def overtaken(key, known):
            tokens = opened(key, known)
            clock.now += SECOND
            renew(process(), source)
            return tokens

        one._opened = overtaken
        assert one.tokens() == Tokens("a2", "r2")
        assert process().tokens() == Tokens("a3", "r3")

    def test_a_pair_is_renewed_in_the_same_round_in_which_a_key_was_rotated(self, process, source, rotated, clock):
        renew(process(), source)
        clock.now += SECOND
        assert renew(process(keys=lambda: rotated), source) == Tokens("a3", "r3")

    def test_without_keys_nothing_is_sent_and_keys_that_go_meanwhile_lose_nothing(self, process, source):
        def no_keys():
            raise Unavailable("keys are missing")

        with pytest.raises(Unavailable, match="keys are missing"):
            renew(process(keys=no_keys), source)
        assert source.used == []
        keys = [KEYS]
        one = process(keys=lambda: keys[0] or no_keys())

        def exchange(refresh_token):
            keys[0] = None
            return source.exchange(refresh_token)

        assert one.renewed(one.tokens(), exchange) == process().tokens() == Tokens("a2", "r2")

    def test_a_key_that_is_missing_is_named(self, process, source):
        renew(process(), source)
        gone = process(keys=lambda: structs.replace(KEYS, wrapping=(NEW,)))
        for look in (gone.tokens, gone.state):
            with pytest.raises(Unavailable, match=f"{OLD.name} is missing"):
                look()


def killed_at(monkeypatch, credential, step):
    """Let a process die before (0) or after (1) its write of the beginning, or before its write of the end (2)."""
    real, steps = credential._write, []

    def write(key, known):
        steps.append(known)
        is_begin = len(steps) == 1
        if (step, is_begin) in {(0, True), (2, False)}:
            raise Killed
        outcome = real(key, known)
        if (step, is_begin) == (1, True):
            raise Killed
        return outcome

    monkeypatch.setattr(credential, "_write", write)


@pytest.mark.parametrize(("step", "used"), [(0, []), (1, []), (2, ["r1"])])
def test_a_process_that_is_killed_on_its_way_never_makes_another_send_the_same_again(
    process, source, clock, monkeypatch, step, used
):
    one = process()
    one.tokens()
    killed_at(monkeypatch, one, step)
    with pytest.raises(Killed):
        renew(one, source)
    assert source.used == used
    other = process()
    with pytest.raises(Unavailable, match="another process renews"):
        renew(other, source)
    clock.now += 30 * SECOND
    if step == 0:
        assert renew(other, source) == Tokens("a2", "r2")
        return
    for _ in range(3):
        with pytest.raises(Unavailable, match=SIGN_IN):
            renew(process(), source)
    assert (source.used, source.is_robbed) == (used, False)
    assert process().state()[0] == FAILING
    assert SIGN_IN in process().state()[1]


def test_after_a_loss_a_file_of_a_person_works_again(process, source, clock, monkeypatch, file):
    one = process()
    one.tokens()
    killed_at(monkeypatch, one, 2)
    with pytest.raises(Killed):
        renew(one, source)
    clock.now += 60 * SECOND
    signed_in(file, source)
    assert process().state() == (WELL, "the token file's own is used, since 2026-11-25T12:01:00Z")
    assert renew(process(), source).access_token == "a4"


def test_a_process_that_was_frozen_before_it_began_sends_nothing_once_another_has_done_it(
    process, source, clock, monkeypatch
):
    slow = process()
    refused = slow.tokens()
    real = slow._write

    def frozen(key, known):
        clock.now += 31 * SECOND
        assert renew(process(), source) == Tokens("a2", "r2")
        return real(key, known)

    monkeypatch.setattr(slow, "_write", frozen)
    with pytest.raises(Unavailable, match="another process renews"):
        slow.renewed(refused, source.exchange)
    monkeypatch.undo()
    assert (slow.tokens(), source.used) == (Tokens("a2", "r2"), ["r1"])


def test_an_answer_that_comes_late_ends_the_doubt(process, source, clock):
    slow = process()

    def late(refresh_token):
        clock.now += 40 * SECOND
        assert process().state()[0] == FAILING
        with pytest.raises(Unavailable, match=SIGN_IN):
            renew(process(), source)
        return source.exchange(refresh_token)

    assert slow.renewed(slow.tokens(), late) == Tokens("a2", "r2")
    assert (process().tokens(), process().state()[0], source.used) == (Tokens("a2", "r2"), WELL, ["r1"])


def test_where_nothing_was_exchanged_the_same_is_sent_again(process, source):
    def away(_):
        raise NotExchanged("away")

    one = process()
    with pytest.raises(NotExchanged):
        one.renewed(one.tokens(), away)
    assert one.state()[0] == WELL
    assert renew(process(), source) == Tokens("a2", "r2")


def test_where_it_is_not_known_what_became_of_it_nothing_is_sent_again(process, source, clock):
    def lost(refresh_token):
        source.exchange(refresh_token)
        raise Unavailable("no answer")

    one = process()
    with pytest.raises(Unavailable, match="no answer"):
        one.renewed(one.tokens(), lost)
    clock.now += 3_600 * SECOND
    with pytest.raises(Unavailable, match=SIGN_IN):
        renew(process(), source)
    assert (source.used, source.is_robbed) == (["r1"], False)


def test_a_refusal_is_remembered_and_nothing_is_sent_again(process, source, clock):
    source.valid.clear()
    with pytest.raises(Refused):
        renew(process(), source)
    for _ in range(3):
        clock.now += 900 * SECOND
        with pytest.raises(Unavailable, match=SIGN_IN):
            renew(process(), source)
    assert source.used == ["r1"]
    assert process().state()[0] == FAILING


def test_a_source_that_replaces_no_refresh_token_is_asked_with_the_same_again(process, clock):
    asked = []

    def exchange(refresh_token):
        asked.append(refresh_token)
        return Tokens(f"b{len(asked)}")

    for n in range(1, 4):
        one = process()
        assert one.renewed(one.tokens(), exchange) == Tokens(f"b{n}", "r1")
        clock.now += SECOND
    assert asked == ["r1"] * 3


def test_what_the_store_does_not_take_is_used_and_stored_as_soon_as_it_does(
    process, source, documents, monkeypatch, clock
):
    one = process()
    real, tries = one._write, []

    def away(key, known):
        if known.sealed is None:
            return real(key, known)
        tries.append(1)
        raise Unavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(one, "_write", away)
        assert renew(one, source) == Tokens("a2", "r2")
        assert one.tokens() == Tokens("a2", "r2")
        assert len(tries) == 6
    assert stored(documents)[0].sealed is None
    assert one.tokens() == process().tokens() == Tokens("a2", "r2")
    clock.now += SECOND
    assert renew(process(), source) == Tokens("a3", "r3")
    assert one.tokens() == Tokens("a3", "r3")


def test_what_one_thread_stores_late_takes_nothing_from_what_another_renewed_meanwhile(
    process, source, documents, monkeypatch, clock
):
    one, away, held, writing = process(), [True], threading.Event(), threading.Event()
    real = one._write

    def write(key, known):
        if known.sealed is not None and away[0]:
            raise Unavailable("away")
        if threading.current_thread().name == "late":
            writing.set()
            assert held.wait(30)
        return real(key, known)

    monkeypatch.setattr(one, "_write", write)
    renew(one, source)
    away[0] = False
    late = threading.Thread(target=one.tokens, name="late")
    late.start()
    assert writing.wait(30)
    clock.now += SECOND

    def exchange(refresh_token):
        new = source.exchange(refresh_token)
        away[0] = True
        return new

    assert one.renewed(one.tokens(), exchange) == Tokens("a3", "r3")
    held.set()
    late.join()
    away[0] = False
    assert one.tokens() == process().tokens() == Tokens("a3", "r3")


def test_a_bare_token_cannot_be_renewed_and_a_new_one_counts_at_once(documents, tmp_path, source):
    (tmp_path / "bare").write_text("a-token\n")
    one = credential(tmp_path / "bare", documents)
    assert one.tokens() == Tokens("a-token")
    with pytest.raises(Unavailable, match="cannot be renewed"):
        renew(one, source)
    (tmp_path / "bare").write_text("another")
    assert one.tokens() == Tokens("another")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "{",
        '{"access_token": 5}',
        '{"access_token": ""}',
        '{"access_token": "a\\nb"}',
        "two\nlines",
        "\u00fc",
    ],
)
def test_a_file_without_a_token_is_an_outage_and_leaves_nothing_behind(documents, tmp_path, text):
    if text is not None:
        (tmp_path / "bad").write_text(text)
    one = credential(tmp_path / "bad", documents)
    for look in (one.tokens, one.state):
        with pytest.raises(Unavailable, match="SKYTALLY_DIRAC_TOKEN_FILE"):
            look()
    assert stored(documents) == []


def test_what_is_stored_and_cannot_be_read_is_an_outage_that_says_what_to_do(process, source, tmp_path):
    renew(process(), source)
    with sqlite3.connect(tmp_path / "documents.sqlite") as file:
        file.execute("UPDATE credential SET used_since = 'noon'")
    file.close()
    with pytest.raises(Unavailable, match=SIGN_IN):
        process().tokens()


def test_to_look_at_the_state_writes_nothing(process, source, documents):
    assert process().state() == (WELL, "the token file's own is used, since 2026-11-25T12:00:00Z")
    assert stored(documents) == []
    renew(process(), source)
    assert process().state() == (
        WELL,
        "renewed 2026-11-25T12:00:00Z, from a token file that is used since 2026-11-25T12:00:00Z",
    )


class Story:
    """One token file, processes that start anew for each step, and what they sent."""

    def __init__(self, folder):
        self.documents, self.source, self.clock, self.sent = SqliteDocuments(folder / "d.sqlite"), Source(), At(), []
        self.file = signed_in(folder / "token", self.source)

    def process(self):
        return credential(self.file, self.documents, now=self.clock)

    def play(self, steps):
        for kind, what in steps:
            with contextlib.suppress(Unavailable, Killed), pytest.MonkeyPatch.context() as monkeypatch:
                getattr(self, kind)(what, monkeypatch)

    def wait(self, seconds, _):
        self.clock.now += seconds * SECOND

    def sign_in(self, _, __):
        signed_in(self.file, self.source)

    def renew(self, how, _):
        one = self.process()
        one.renewed(one.tokens(), lambda refresh_token: self.exchange(how, refresh_token))

    def die(self, step, monkeypatch):
        one = self.process()
        one.tokens()
        killed_at(monkeypatch, one, step)
        one.renewed(one.tokens(), lambda refresh_token: self.exchange("well", refresh_token))

    def freeze(self, seconds, monkeypatch):
        one = self.process()
        one.tokens()
        real = one._write

        def frozen(key, known):
            self.clock.now += seconds * SECOND
            with contextlib.suppress(Unavailable):
                self.renew("well" if seconds else "lost", None)
            return real(key, known)

        monkeypatch.setattr(one, "_write", frozen)
        one.renewed(one.tokens(), lambda refresh_token: self.exchange("well", refresh_token))

    def exchange(self, how, refresh_token):
        if how == "away":
            raise NotExchanged("away")
        self.sent.append(refresh_token)
        if how == "refused":
            raise Refused(SIGN_IN)
        made = self.source.exchange(refresh_token)
        if how == "lost":
            raise Unavailable("lost")
        return made


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 29, 30, 31, 1_000])),
        st.tuples(st.just("renew"), st.sampled_from(["well", "lost", "away", "refused"])),
        st.tuples(st.just("die"), st.sampled_from([0, 1, 2])),
        st.tuples(st.just("sign_in"), st.none()),
        st.tuples(st.just("freeze"), st.sampled_from([0, 1, 31, 100])),
    ),
    max_size=12,
)


def check(steps, folder):
    story = Story(folder)
    try:
        story.play(steps)
        assert len(story.sent) == len(set(story.sent))
        assert not story.source.is_robbed
        story.wait(1_000, None)
        story.sign_in(None, None)
        one = story.process()
        assert one.renewed(one.tokens(), story.source.exchange).access_token == f"a{story.source.count}"
    finally:
        story.documents.close()


@pytest.mark.slow
@settings(max_examples=100)
@given(steps=STEPS)
def test_whatever_happens_no_refresh_token_is_sent_twice_and_a_new_file_works(steps, tmp_path_factory):
    check(steps, tmp_path_factory.mktemp("credential"))


def forget_what_began(monkeypatch):
    monkeypatch.setattr("skytally.access.credentials.described", lambda *_: (WELL, ""))


def believe_every_write(monkeypatch):
    real = Credential._write
    monkeypatch.setattr(Credential, "_write", lambda self, *asked: real(self, *asked) and Outcome.STORED)


def take_every_turn(monkeypatch):
    monkeypatch.setattr("skytally.access.credentials.take_turn", lambda *_: True)


@pytest.mark.parametrize(
    ("mutate", "steps"),
    [
        (forget_what_began, [("renew", "lost"), ("wait", 31), ("renew", "well")]),
        (forget_what_began, [("die", 2), ("wait", 31), ("renew", "well")]),
        (believe_every_write, [("freeze", 31)]),
        (take_every_turn, [("freeze", 0)]),
    ],
)
def test_a_mutant_is_caught(monkeypatch, tmp_path, mutate, steps):
    for name in ("as it is", "mutant"):
        (tmp_path / name).mkdir()
    check(steps, tmp_path / "as it is")
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(steps, tmp_path / "mutant")


def test_described_says_nothing_of_doubt_while_an_exchange_may_still_end():
    known = RenewedCredential(source="dirac", used_since=NOW, changed_at=NOW, begun_at=NOW)
    assert described(known, NOW + 29 * SECOND)[0] == WELL
    assert described(known, NOW + 30 * SECOND)[0] == FAILING
