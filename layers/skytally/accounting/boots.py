"""Boots: one run of a vm's kernel, known by its boot_id,
named for good by its cloud, its vm and the boot time first reported for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import islice

from msgspec import Struct

from skytally.core.documents import Boot, BootCores, Label
from skytally.core.errors import NotYours, SkytallyError
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import Labels

CACHED_BOOTS = 200_000
# After so many taken names a boot gets one that nobody else can take, so that no crowd of boots makes another one wait.
PLAIN_NAMES = 3
# New boots that one reporter may name within an hour, in one process: of one vm, or of a whole cloud.
VM_BOOTS_AN_HOUR, CLOUD_BOOTS_AN_HOUR = 120, 100_000
REPORTERS = 100_000


class Candidate(Struct, frozen=True):
    """A boot as a sample describes it, with the labels that the reporter's token gives."""

    boot_id: str
    vm: str
    boot_at: datetime
    labels: Labels
    cores: int
    is_of_vm: bool


def label_of(cloud: str, vm: str, boot_at: datetime) -> str:
    """Name a boot as documents do: `{vm}-{20261102T081244Z}@{cloud}`.

    The last `@` begins the cloud, so no two clouds share a name.
    """
    return f"{vm}-{boot_at.astimezone(UTC):%Y%m%dT%H%M%SZ}{_at(cloud)}"


def within(cloud: str, name: str) -> str:
    """Return how a boot's name, or a key that begins with it, is told beside its cloud."""
    return "".join(name.rsplit(_at(cloud), 1))


def _at(cloud: str) -> str:
    return "@" + cloud.replace("%", "%25").replace("@", "%40")


def names_of(candidate: Candidate) -> Iterator[str]:
    """List the names that a boot may have: its own second, the next ones, and one that is free for certain.

    Two boots of one vm share a second when its clock starts at the same wrong moment each time. The last name ends in a
    digest of the boot, where every other name ends in `Z`.
    """
    cloud, vm = candidate.labels.cloud, candidate.vm
    for shift_seconds in range(PLAIN_NAMES):
        yield label_of(cloud, vm, candidate.boot_at + timedelta(seconds=shift_seconds))
    digest = sha256(f"{cloud}\n{candidate.boot_id}".encode()).hexdigest()
    yield f"{label_of(cloud, vm, candidate.boot_at)}~{digest[:16]}"


def check_owner(boot: Boot, candidate: Candidate) -> None:
    """Refuse a boot_id that is another vm's, or another cloud's."""
    if (boot.vm, boot.cloud) != (candidate.vm, candidate.labels.cloud):
        raise NotYours(
            f"boot {candidate.boot_id} belongs to another vm: a copied image must not keep the state of its original"
        )


class Allowance:
    """How many new boots each reporter may still name within the hour, in this process."""

    def __init__(self) -> None:
        self._hour: datetime | None = None
        self._named: dict[tuple[str, str | None], int] = {}

    def take(self, candidate: Candidate, now: datetime) -> bool:
        """Take one boot from the allowance of the candidate's reporter; say whether there was one left."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour or len(self._named) >= REPORTERS:
            self._hour, self._named = hour, {}
        reporter = (candidate.labels.cloud, candidate.vm if candidate.is_of_vm else None)
        self._named[reporter] = self._named.get(reporter, 0) + 1
        return self._named[reporter] <= (VM_BOOTS_AN_HOUR if candidate.is_of_vm else CLOUD_BOOTS_AN_HOUR)


class Register:
    """The boots known so far, one document each, created once; and the most cores that each was ever seen with.

    Invariants: all processes agree on a boot's document, whoever saw the boot first and however often any of them died
    in between, because each step is one atomic create whose loser reads the winner's. No boot document ever changes, so
    it may be cached for good. Naming a boot costs its reporter alone: a boot always gets a name, in a bounded number of
    steps, whoever took others.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._known: dict[str, Boot] = {}
        self._most_cores: dict[str, int] = {}
        self._allowance = Allowance()

    def known(self, boot_id: str) -> Boot | None:
        """Return a boot that this process has seen, without asking the store."""
        return self._known.get(boot_id)

    def enrol(self, candidates: Iterable[Candidate], now: datetime) -> dict[str, Boot | SkytallyError]:
        """Return the boot of each candidate, naming the new ones, or why it has none.

        Raises Unavailable, and then nothing is lost.
        """
        wanted = {candidate.boot_id: candidate for candidate in candidates}
        stored = self._read(wanted)
        new = [candidate for boot_id, candidate in wanted.items() if boot_id not in stored]
        allowed = [candidate for candidate in new if self._allowance.take(candidate, now)]
        named = self._create(allowed) if allowed else {}
        self._remember(stored | named)
        too_many = {candidate.boot_id: _too_many() for candidate in new}
        unreadable = {candidate.boot_id: _unreadable() for candidate in allowed}
        return {**too_many, **unreadable, **stored, **named}

    def _read(self, boot_ids: Iterable[str]) -> dict[str, Boot]:
        ordered = list(boot_ids)
        boots = zip(ordered, self._documents.get_many("boot", ordered, Boot), strict=True)
        return {boot_id: boot for boot_id, boot in boots if boot is not None}

    def _create(self, new: list[Candidate]) -> dict[str, Boot]:
        labels = self._take_labels(new)
        made = [boot_document(candidate, labels[candidate.boot_id]) for candidate in new if candidate.boot_id in labels]
        done(self._documents.write([Write("boot", boot.boot_id, 0, boot, create=True) for boot in made]))
        return self._read(boot.boot_id for boot in made)

    def _take_labels(self, new: list[Candidate]) -> dict[str, str]:
        """Give each boot the first of its names that is free; one that has got a name before has it again."""
        labels: dict[str, str] = {}
        names = {candidate.boot_id: names_of(candidate) for candidate in new}
        while tried := {
            boot_id: name for boot_id, left in names.items() if boot_id not in labels for name in islice(left, 1)
        }:
            done(
                self._documents.write(
                    [Write("label", name, 0, Label(boot_id=boot_id), create=True) for boot_id, name in tried.items()]
                )
            )
            holders = zip(tried.items(), self._documents.get_many("label", list(tried.values()), Label), strict=True)
            labels |= {boot_id: name for (boot_id, name), holder in holders if holder and holder.boot_id == boot_id}
        return labels

    def _remember(self, boots: Mapping[str, Boot]) -> None:
        if len(self._known) + len(boots) > CACHED_BOOTS:
            self._known.clear()
            self._most_cores.clear()
        self._known.update(boots)

    def most_cores(self, boot: Boot) -> int:
        """Return the most cores that this process knows of a boot, without asking the store."""
        return max(boot.cores or 0, self._most_cores.get(boot.boot_id, 0))

    def read_cores(self, boot_ids: list[str]) -> dict[str, int]:
        """Return the most cores that any process saw each of these boots with,
        as far as that was more than at first.
        """
        found = self._documents.get_many("boot_cores", boot_ids, BootCores)
        stored = {cores.boot_id: cores.most_cores for cores in found if cores is not None}
        self._most_cores.update(stored)
        return stored

    def more_cores(self, seen: Iterable[tuple[Boot, int]]) -> list[BootCores]:
        """Return what is to be kept of boots that were seen with more cores than is known."""
        more: dict[str, BootCores] = {}
        for boot, cores in seen:
            known = more[boot.boot_id].most_cores if boot.boot_id in more else self.most_cores(boot)
            if cores > known:
                more[boot.boot_id] = BootCores(boot_id=boot.boot_id, cloud=boot.cloud, most_cores=cores)
        return list(more.values())

    def remember_cores(self, kept: Iterable[BootCores]) -> None:
        """Take into account what is durable by now."""
        self._most_cores.update({cores.boot_id: cores.most_cores for cores in kept})


def cores_write(cores: BootCores) -> Write:
    """Keep a number of cores, unless a higher one is kept: the number is the version."""
    return Write("boot_cores", cores.boot_id, cores.most_cores, cores)


def _too_many() -> SkytallyError:
    return SkytallyError(
        "this token named too many new boots within the hour: send this again later", code="too_many_boots"
    )


def _unreadable() -> SkytallyError:
    return SkytallyError("this boot's document cannot be read: tell the operator", code="unreadable_boot")


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
        cores=candidate.cores,
    )


def done(future: Future[list[Outcome]]) -> list[Outcome]:
    """Wait until the writes are durable."""
    return future.result()
