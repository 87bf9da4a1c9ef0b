"""One sender stops nobody: whatever a caller of one cloud sends, what others see stays the same, byte for byte.

An example is a batch of requests into a copy of the site, so what one of them leaves behind meets the next, and a
failure shrinks to the requests that make it. Then the other cloud goes on, every timer does a round, and everything is
read and copied.
"""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from httpx2 import Response
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from skytally.app import wiring
from skytally.cli import cli
from skytally.core.documents import INDICES
from skytally.core.records import EARLIEST_MOMENT, LATEST_MOMENT
from tests.properties.beginning import Beginning
from tests.properties.bodies import BODIES, LISTS
from tests.properties.budget import budget, is_long, is_thorough
from tests.properties.deployment import MINUTE, NOW, A, Answer, B, Site, caller, paths_of
from tests.properties.generators import places
from tests.properties.sending import (
    SENDERS,
    UNSENT,
    Kept,
    Sending,
    Sent,
    any_sendings,
    names_of_others,
    send,
    sendings,
    stored,
    work_of_others,
)
from tests.properties.world import go_on

PAIRS = [(function, sender) for function, senders in SENDERS.items() for sender in senders]
# Batches of requests: how many in every run, and in the long one; there ten thousand requests are an example each.
BATCHES, BATCHES_ON_ENGINE = (20, 220), (4, 220)
MOST_TOGETHER = 120 if is_long() else 12
MANY = 10_000
# A batch takes seconds, a property minutes.
LONG = pytest.mark.skipif(not is_long(), reason="takes an hour: `make properties` tries it")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(0), pytest.mark.filterwarnings("ignore:Generating overly large")]
MOST_CORES = 65_536
# A benchmark that is refused costs itself: its sample counts.
OF_A_PART = {"malformed_benchmark"}


class Outcome(NamedTuple):
    """What there is to see after all: what the other cloud gets and reads, and whether all others can read."""

    of_b: dict[str, Answer]
    statuses: dict[str, int]


def outcome(site: Site) -> Outcome:
    """Let the other cloud go on and the timers do their rounds, then read everything."""
    replies = {f"reply {n} to the other cloud": answer_of(one) for n, one in enumerate(go_on(site, NOW + MINUTE))}
    rounds = {name: reply.status_code for name, reply in site.rounds(NOW + 5 * MINUTE).items()}
    read_at = NOW + 6 * MINUTE
    of_b = site.answers(read_at, paths_of(B), caller("reader", B))
    of_a = site.answers(read_at, paths_of(A, ("month",)), caller("reader", A))
    of_all = site.answers(read_at, paths_of(None, ("month",)), caller("reader"))
    own = {f"{path} of {A}": answer.status for path, answer in of_a.items()}
    everything = {f"{path} of all": answer.status for path, answer in of_all.items()}
    return Outcome(replies | of_b, rounds | own | everything)


def answer_of(reply: Response) -> Answer:
    """Return what is the same each time: a bundle of a secret never is."""
    media = reply.headers["content-type"]
    return Answer(reply.status_code, media, reply.text if media == "application/json" else "")


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what has changed, by name."""
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def check_reply(sent: Sent, kept: Kept) -> None:
    """Hold a reply to the contract: no crash, good neighbours are kept, and nothing of what was refused."""
    status = sent.reply.status_code
    assert status < 500, sent.reply.text
    if status >= 400:
        error = sent.reply.json()["error"]
        assert re.fullmatch("[a-z_]+", error["code"])
        assert error["message"]
        assert not sent.is_good_but_for_items, f"a bad item costs the whole request: {error}"
        assert not [item for item in sent.own if item.is_kept(kept)], f"refused and yet kept: {error}"
    elif sent.sending.function in LISTS:
        check_receipt(sent, sent.reply.json(), kept)


def check_receipt(sent: Sent, receipt: dict[str, Any], kept: Kept) -> None:
    """Hold a receipt to what became of each item."""
    items, good = sent.items, sent.good
    rejected = {one["index"] for one in receipt["rejected"] if one["code"] not in OF_A_PART}
    assert "internal" not in {one["code"] for one in receipt["rejected"]}, receipt
    assert not good & rejected, f"a good item is refused: {receipt}"
    assert all(items[n].is_kept(kept) for n in good), f"a good item is not kept: {receipt}"
    if items:
        assert receipt["accepted"] + receipt["stale"] + len(rejected) <= len(items), receipt
        accepted = {item.name for n, item in enumerate(items) if n not in rejected and isinstance(item.name, str)}
        refused = [items[n] for n in rejected if items[n] in sent.own and items[n].name not in accepted]
        assert not [item for item in refused if item.is_kept(kept)], f"refused and yet kept: {receipt}"


def check_moments() -> None:
    """Look into every document for a moment that no clock can show."""
    documents = wiring.documents()
    for index, kind in INDICES.items():
        for key, _, document in documents.stored(index, kind):
            moments = [value for value in structs.astuple(document) if isinstance(value, datetime)]
            possible = all(EARLIEST_MOMENT <= moment <= LATEST_MOMENT for moment in moments)
            assert possible, f"{index} {key} has an impossible time: {moments}"


def check_machines(site: Site) -> None:
    """Hold what the sender's own cloud is said to have done to what machines can do."""
    (seen,) = site.answers(NOW + 6 * MINUTE, ["statement?month=2026-11&detail=boots"], caller("reader", A)).values()
    for boot in json.loads(seen.text)["boots"]:
        # A vm may have had more cores for a while than it has now.
        assert boot["core_seconds"] <= at_most(boot["wall_seconds"] * MOST_CORES), f"more than cores can: {boot}"
        assert boot["cpu_seconds"] <= at_most(boot["core_seconds"]), f"more CPU time than core time: {boot}"


def at_most(seconds: float) -> float:
    """Return how much a sum may be whose parts are read one after another."""
    return seconds * 1.02 + 61


def check_copy(folder: Path) -> None:
    """Copy all documents, as a backup does."""
    source, target = wiring.config().documents_url, f"sqlite:///{folder}/copied.sqlite"
    done = CliRunner().invoke(cli, ["copy", "--from", source, "--to", target])
    assert done.exit_code == 0, done.output or done.exception


def hold(
    beginning: Beginning,
    undisturbed: Outcome,
    sending: st.SearchStrategy[Sending],
    batches: tuple[int, int] = BATCHES,
    *,
    shrink: bool = True,
) -> None:
    """Try batches of sendings, each on a fresh copy of the site."""
    tried = 0

    @budget(*batches, shrink=shrink)
    @given(st.integers(1, MOST_TOGETHER).flatmap(lambda n: st.lists(sending, min_size=n, max_size=n)))
    def property_of(batch):
        nonlocal tried
        tried += len(batch)
        folder, site = beginning.again(), beginning.site
        sent = [send(site, one, n) for n, one in enumerate(batch)]
        kept = stored()
        for one in sent:
            check_reply(one, kept)
        seen = outcome(site)
        assert differences(undisturbed.statuses, seen.statuses) == {}
        assert differences(undisturbed.of_b, seen.of_b) == {}
        check_moments()
        check_machines(site)
        check_copy(folder)

    property_of()
    print(f"{tried} requests")
    assert not is_thorough() or tried >= MANY


@pytest.fixture(scope="module")
def undisturbed(beginning) -> Outcome:
    """What there is to see where nobody sends anything odd: all of it is there."""
    beginning.again()
    seen = outcome(beginning.site)
    assert {answer.status for answer in seen.of_b.values()} | set(seen.statuses.values()) == {200}
    return seen


@pytest.mark.parametrize(("function", "sender"), PAIRS)
def test_a_body_without_edits_is_accepted_and_has_every_field(beginning, function, sender):
    beginning.again()
    sent = send(beginning.site, Sending(function, sender, ()), 0)
    assert sent.reply.status_code < 300, sent.reply.text
    if function in LISTS:
        assert (sent.reply.json()["accepted"], sent.reply.json()["rejected"]) == (len(sent.own), [])
    accepted = BODIES[function](beginning.site, sender, UNSENT)
    absent = {place.path for place in places(function, accepted) if place.value is None}
    # A deposit is for one vm or for several.
    assert absent == ({("vms",), ("vms", 0)} if function == "secret_deposit" else set())


@pytest.mark.parametrize(("function", "sender"), PAIRS)
@LONG
def test_any_value_in_any_field_costs_its_sender_alone(beginning, undisturbed, function, sender):
    hold(beginning, undisturbed, sendings(beginning.site, function, sender, names_of_others(beginning.site)))


@LONG
def test_naming_the_work_of_others_costs_its_sender_alone(beginning, undisturbed):
    hold(beginning, undisturbed, sendings(beginning.site, "placement_report", "a scheduler", work_of_others()))


@LONG
def test_anything_by_anybody_costs_its_sender_alone(beginning, undisturbed):
    hold(beginning, undisturbed, any_sendings(beginning.site))


@pytest.mark.servers
@LONG
def test_anything_by_anybody_costs_its_sender_alone_on_an_engine(beginning_on_engine):
    beginning_on_engine.again()
    site = beginning_on_engine.site
    hold(beginning_on_engine, outcome(site), any_sendings(site), BATCHES_ON_ENGINE, shrink=False)
