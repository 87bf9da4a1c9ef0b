"""Boots: one run of a vm's kernel, known by its boot_id, named once and for all by the boot time first reported for it."""

from collections.abc import Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from skytally.documents import Boot, Label
from skytally.errors import NotYours, Unavailable
from skytally.ports import Documents, Outcome, Write
from skytally.records import Labels

CACHED_BOOTS = 200_000
LABEL_TRIES = 120


class Candidate(Struct, frozen=True):
    """A boot as a sample describes it, with the labels that the reporter's token gives."""

    boot_id: str
    vm: str
    boot_at: datetime
    labels: Labels


def label_of(vm: str, boot_at: datetime) -> str:
    """Name a boot as documents and people do: `{vm}-{20261102T081244Z}`."""
    return f"{vm}-{boot_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def check_owner(boot: Boot, candidate: Candidate) -> None:
    """Refuse a boot_id that is another vm's, or another cloud's."""
    if (boot.vm, boot.cloud) != (candidate.vm, candidate.labels.cloud):
        raise NotYours(f"boot {candidate.boot_id} belongs to another vm: a copied image must not keep the state of its original")


class Register:
    """The boots known so far, one document each, created once.

    Invariant: all processes agree on a boot's document, whoever saw the boot first and however often any of them died in between,
    because each step is one atomic create whose loser reads the winner's. No boot document ever changes, so it may be cached for good.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._known: dict[str, Boot] = {}

    def known(self, boot_id: str) -> Boot | None:
        """Answer a boot that this process has seen, without asking the store."""
        return self._known.get(boot_id)

    def enrol(self, candidates: Iterable[Candidate]) -> dict[str, Boot]:
        """Answer the boot of each candidate, naming the new ones; raises Unavailable and then nothing is lost."""
        wanted = {c.boot_id: c for c in candidates}
        boots = dict(zip(wanted, self._documents.get_many("boot", list(wanted), Boot), strict=True))
        fresh = [c for boot_id, c in wanted.items() if boots[boot_id] is None]
        boots.update(self._create(fresh))
        found = {boot_id: boot for boot_id, boot in boots.items() if boot is not None}
        self._remember(found)
        return found

    def _create(self, fresh: list[Candidate]) -> dict[str, Boot]:
        if not fresh:
            return {}
        labels = self._claim_labels(fresh)
        mine = [boot_document(c, labels[c.boot_id]) for c in fresh]
        done(self._documents.write([Write("boot", boot.boot_id, 0, boot, create=True) for boot in mine]))
        stored = self._documents.get_many("boot", [boot.boot_id for boot in mine], Boot)
        return {boot.boot_id: boot for boot in stored if boot is not None}

    def _claim_labels(self, fresh: list[Candidate]) -> dict[str, str]:
        """Give each boot the first free name from its boot time on, a second later where another boot has it.

        Two boots of one vm share a second when its clock starts at the same wrong moment each time.
        """
        labels: dict[str, str] = {}
        for shift_seconds in range(LABEL_TRIES):
            open_ones = [c for c in fresh if c.boot_id not in labels]
            if not open_ones:
                return labels
            tried = {c.boot_id: label_of(c.vm, c.boot_at + timedelta(seconds=shift_seconds)) for c in open_ones}
            done(self._documents.write([Write("label", label, 0, Label(boot_id=boot_id), create=True) for boot_id, label in tried.items()]))
            holders = self._documents.get_many("label", list(tried.values()), Label)
            labels |= {
                boot_id: label
                for (boot_id, label), holder in zip(tried.items(), holders, strict=True)
                if holder and holder.boot_id == boot_id
            }
        raise Unavailable("a vm booted more often within two minutes than names can be given: report again later")

    def _remember(self, boots: dict[str, Boot]) -> None:
        if len(self._known) + len(boots) > CACHED_BOOTS:
            self._known.clear()
        self._known.update(boots)


def boot_document(candidate: Candidate, label: str) -> Boot:
    """Describe a new boot under the name that it got."""
    where = candidate.labels
    return Boot(
        boot_id=candidate.boot_id,
        label=label,
        vm=candidate.vm,
        cloud=where.cloud,
        site=where.site,
        group=where.group,
        flavor=where.flavor,
        boot_at=candidate.boot_at,
    )


def done(future: Future[list[Outcome]]) -> list[Outcome]:
    """Wait until the writes are durable."""
    return future.result()
