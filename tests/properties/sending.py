"""Sendings: what callers of one cloud send, edited or not, and what becomes of each item."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from httpx2 import Response
from hypothesis import strategies as st

from skytally.app import wiring
from skytally.core.documents import INDICES
from skytally.secrets import envelope
from tests.properties.bodies import BODIES, LISTS, Kind
from tests.properties.deployment import NOW, A, B, Headers, Site, caller
from tests.properties.generators import Edit, edited, edits
from tests.properties.json_edges import Literal, encoded
from tests.properties.world import batch_id, vm_1

# Who may send what; anybody may try.
SENDERS = {
    "usage_report": ("a vm", "a cloud's vms"),
    "job_heartbeat": ("a vm", "a cloud's vms"),
    "placement_report": ("a scheduler",),
    "secret_deposit": ("a scheduler",),
    "secret_claim": ("nobody",),
    "secret_revoke": ("a scheduler",),
}
EVERYBODY = ("a vm", "a cloud's vms", "a scheduler", "a reader", "nobody")
# The number of a body that nobody sends: what is near its values is the name of no other.
UNSENT = 500
# Index and name of items of which something is kept.
Kept = set[tuple[str, str]]


class Item(NamedTuple):
    """One item of a body."""

    kind: Kind
    value: Any

    @property
    def name(self) -> Any:
        """Return which item this is; a job of a heartbeat is its own name."""
        return self.value.get(self.kind.field) if isinstance(self.value, dict) else self.value

    def is_kept(self, kept: Kept) -> bool:
        """Say whether anything is kept of this item."""
        return isinstance(self.name, str) and any((index, self.name) in kept for index in self.kind.indices)

    def is_like(self, other: "Item") -> bool:
        """Say whether this is the very same item, down to how its numbers are written."""
        return self.kind == other.kind and encoded(self.value) == encoded(other.value)


@dataclass(frozen=True)
class Sending:
    """A request of a caller of cloud A: a body that is accepted, and what is changed in it."""

    function: str
    sender: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Sent:
    """A request that was sent: the body that would have been accepted, the one that went instead, and the reply."""

    sending: Sending
    accepted: Any
    body: Any
    reply: Response

    @property
    def items(self) -> list[Item]:
        """Return the items that were sent, as the function numbers them."""
        return self._items_of(self.body)

    @property
    def own(self) -> list[Item]:
        """Return the items that would have been accepted."""
        return self._items_of(self.accepted)

    @property
    def good(self) -> set[int]:
        """Return the numbers of the items that were sent as they would have been accepted."""
        return {n for n, item in enumerate(self.items) if any(map(item.is_like, self.own))}

    @property
    def is_good_but_for_items(self) -> bool:
        """Say whether nothing is wrong with the request itself: its sender may send it, and only items were edited."""
        lists = {kind.list_name for kind in LISTS.get(self.sending.function, ())}
        inside_items = all(len(edit.path) > 1 and edit.path[0] in lists for edit in self.sending.edits)
        return inside_items and self.sending.sender in SENDERS[self.sending.function]

    def _items_of(self, body: Any) -> list[Item]:
        fields = body if isinstance(body, dict) else {}
        lists = {kind: fields.get(kind.list_name) for kind in LISTS.get(self.sending.function, ())}
        if any(isinstance(values, Literal) for values in lists.values()):
            return []  # nobody knows how many items that is, and so which number is whose
        return [Item(kind, value) for kind, values in lists.items() if isinstance(values, list) for value in values]


def send(site: Site, sending: Sending, n: int) -> Sent:
    """Send a body, the nth of a batch."""
    accepted = BODIES[sending.function](site, sending.sender, n)
    body = edited(accepted, sending.edits)
    if sending.function == "secret_claim" and not any(edit.path == ("proof",) for edit in sending.edits):
        body = _proven(site, body)
    return Sent(sending, accepted, body, site.post(NOW, sending.function, encoded(body), _headers(sending.sender)))


def _headers(sender: str) -> Headers:
    if sender == "nobody":
        return {}
    if sender == "a vm":
        return caller("reporter", A, vm="vm-1")
    return caller({"a cloud's vms": "reporter", "a scheduler": "scheduler", "a reader": "reader"}[sender], A)


def _proven(site: Site, body: Any) -> Any:
    """Sign what is sent, as whoever holds the secret can sign anything."""
    signed = [body.get(name) for name in ("claim", "public_key", "vm")] if isinstance(body, dict) else [None]
    if not all(isinstance(text, str) and text.isascii() for text in signed):
        return body
    secret = site.claims[A, "batch"].rpartition(".")[2]
    return body | {"proof": envelope.proof_of(secret.encode(), *signed)}


def stored() -> Kept:
    """Return of which items something is kept."""
    documents = wiring.documents()
    documents.refresh()
    fields = {index: kind.field for kinds in LISTS.values() for kind in kinds for index in kind.indices}
    return {
        (index, getattr(document, field))
        for index, field in fields.items()
        for _, _, document in documents.stored(index, INDICES[index])
    }


def names_of_others(site: Site) -> tuple[str, ...]:
    """Name what is the other cloud's: whoever sends these can do no more with them than with any other text."""
    claims = (site.claims[B, name].partition(".")[0] for name in ("waiting", "coming", "batch"))
    return (B, vm_1(B).boot_id, *claims, "vm-2", "vm-3", "unknown", "elsewhere")


def work_of_others() -> tuple[str, ...]:
    """Name the other cloud's batch jobs, whose names say nothing of a cloud.

    DIRAC's jobs are left out: of two vms that name one the newest has it, for only so a rescheduled job moves.
    """
    return tuple(batch_id(B, n) for n in (5, 19))


def sendings(site: Site, function: str, sender: str, names: tuple[str, ...]) -> st.SearchStrategy[Sending]:
    """Draw any edits of a body that a sender may send."""
    accepted = BODIES[function](site, sender, UNSENT)
    return st.builds(Sending, st.just(function), st.just(sender), edits(function, accepted, names))


def any_sendings(site: Site) -> st.SearchStrategy[Sending]:
    """Draw any edits of any body, sent by anybody."""
    pairs = [(function, sender) for function, senders in SENDERS.items() for sender in senders]
    allowed = st.one_of([sendings(site, *pair, names_of_others(site)) for pair in pairs])
    others = st.builds(lambda sending, sender: replace(sending, sender=sender), allowed, st.sampled_from(EVERYBODY))
    return st.booleans().flatmap(lambda is_allowed: allowed if is_allowed else others)
