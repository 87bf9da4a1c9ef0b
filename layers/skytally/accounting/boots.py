"""Boots: runs of a vm's kernel, identified by boot_id.

A boot's label never changes: it is made of its vm, its cloud and the boot time that was first reported.
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
# After so many taken names a boot gets a name that no other boot can take, so the number of tries is bounded.
PLAIN_NAMES = 3
# New boots that one reporter may name per hour and process, with a vm's token or with a whole cloud's.
VM_BOOTS_AN_HOUR, CLOUD_BOOTS_AN_HOUR = 120, 100_000
REPORTERS = 100_000
# How much uptime passes until a benchmark is stored again that every sample repeats.
BENCHMARK_STORED_FOR_MS = 86_400_000


class Candidate(Struct, frozen=True):
    """A boot as a sample describes it, with the labels of the reporter's token."""

    boot_id: str
    vm: str
    boot_at: datetime
    labels: Labels
    cores: int
    is_of_vm: bool


def label_of(cloud: str, vm: str, boot_at: datetime) -> str:
    """Return a boot's label: `{vm}-{20261102T081244Z}@{cloud}`.

    The last `@` begins the cloud, so no two clouds share a label.
    """
    return f"{vm}-{boot_at.astimezone(UTC):%Y%m%dT%H%M%SZ}{_at(cloud)}"


def within(cloud: str, name: str) -> str:
    """Return a boot's label, or a key that begins with it, without its cloud."""
    return "".join(name.rsplit(_at(cloud), 1))


def _at(cloud: str) -> str:
    return "@" + cloud.replace("%", "%25").replace("@", "%40")


def names_of(candidate: Candidate) -> Iterator[str]:
    """Return a boot's possible labels: its own second, the next ones, and one with a digest that is always free.

    Two boots of one vm share a second when its clock starts at the same wrong time. The label with the digest cannot
    equal another label: those end in `Z`.
    """
    cloud, vm = candidate.labels.cloud, candidate.vm
    for shift_seconds in range(PLAIN_NAMES):
        yield label_of(cloud, vm, candidate.boot_at + timedelta(seconds=shift_seconds))
    digest = sha256(f"{cloud}\n{candidate.boot_id}".encode()).hexdigest()
    yield f"{label_of(cloud, vm, candidate.boot_at)}~{digest[:16]}"


def check_owner(boot: Boot, vm: str, cloud: str) -> None:
    """Refuse a boot_id that is another vm's, or another cloud's."""
    if boot.vm != vm or boot.cloud != cloud:
        raise NotYours(
            f"boot {boot.boot_id} belongs to another vm: a copied image must not keep the state of its original"
        )


class Allowance:
    """The number of new boots that each reporter has named in this hour, in this process."""

    def __init__(self) -> None:
        self._hour: datetime | None = None
        self._named_counts: dict[tuple[str, str | None], int] = {}

    def take(self, candidate: Candidate, now: datetime) -> bool:
        """Take one boot from the allowance of the candidate's reporter; return whether there was one left."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        if hour != self._hour or len(self._named_counts) >= REPORTERS:
            self._hour, self._named_counts = hour, {}
        reporter = (candidate.labels.cloud, candidate.vm if candidate.is_of_vm else None)
        self._named_counts[reporter] = self._named_counts.get(reporter, 0) + 1
        return self._named_counts[reporter] <= (VM_BOOTS_AN_HOUR if candidate.is_of_vm else CLOUD_BOOTS_AN_HOUR)


class StoredBenchmark(Struct):
    """A boot's benchmark as this process stored it: at which uptime, and the newest uptime of a sample that had it.

    Its JSON may be as long as a report, so only the digest is kept.
    """

    digest: bytes
    stored_ms: int
    newest_ms: int


class Register:
    """The register of boots: one document each, created once, and the most cores that each was seen with.

    Invariants:

    * All processes agree on a boot's document, even if some die in between: each step is one atomic create, and whoever
      loses it reads the winner's.
    * A boot document never changes, so it is cached for good.
    * A benchmark counts as stored for a day of its boot's uptime after this process has stored it. So one that is lost,
      or that another process has replaced in between, is stored again within a day.
    * A boot always gets a label, in a bounded number of steps, whatever labels other boots have.
    """

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._boots: dict[str, Boot] = {}
        self._most_cores: dict[str, int] = {}
        self._benchmarks: dict[str, StoredBenchmark] = {}
        self._allowance = Allowance()

    def cached(self, boot_id: str) -> Boot | None:
        """Return a boot that this process has cached, or None; query no store."""
        return self._boots.get(boot_id)

    def enrol(self, candidates: Iterable[Candidate], now: datetime) -> dict[str, Boot | SkytallyError]:
        """Return each candidate's boot, creating new ones, or the error for which it has none.

        Raise Unavailable; the same call may then be repeated.
        """
        by_boot_id = {candidate.boot_id: candidate for candidate in candidates}
        stored = self._read(by_boot_id)
        new_boots = [candidate for boot_id, candidate in by_boot_id.items() if boot_id not in stored]
        allowed = [candidate for candidate in new_boots if self._allowance.take(candidate, now)]
        named = self._create(allowed) if allowed else {}
        self._remember(stored | named)
        too_many = {candidate.boot_id: _too_many() for candidate in new_boots}
        unreadable = {candidate.boot_id: _unreadable() for candidate in allowed}
        return {**too_many, **unreadable, **stored, **named}

    def _read(self, boot_ids: Iterable[str]) -> dict[str, Boot]:
        ordered = list(boot_ids)
        boots = zip(ordered, self._documents.get_many("boot", ordered, Boot), strict=True)
        return {boot_id: boot for boot_id, boot in boots if boot is not None}

    def _create(self, new: list[Candidate]) -> dict[str, Boot]:
        labels = self._take_labels(new)
        boots = [
            boot_document(candidate, labels[candidate.boot_id]) for candidate in new if candidate.boot_id in labels
        ]
        done(self._documents.write([Write("boot", boot.boot_id, 0, boot, create=True) for boot in boots]))
        return self._read(boot.boot_id for boot in boots)

    def _take_labels(self, new: list[Candidate]) -> dict[str, str]:
        """Return each boot's label: the one that it has already, else the first free one of its labels."""
        labels: dict[str, str] = {}
        names = {candidate.boot_id: names_of(candidate) for candidate in new}
        while next_names := {
            boot_id: name
            for boot_id, names_left in names.items()
            if boot_id not in labels
            for name in islice(names_left, 1)
        }:
            done(
                self._documents.write(
                    [
                        Write("label", name, 0, Label(boot_id=boot_id), create=True)
                        for boot_id, name in next_names.items()
                    ]
                )
            )
            holders = zip(
                next_names.items(), self._documents.get_many("label", list(next_names.values()), Label), strict=True
            )
            labels |= {boot_id: name for (boot_id, name), holder in holders if holder and holder.boot_id == boot_id}
        return labels

    def _remember(self, boots: Mapping[str, Boot]) -> None:
        if len(self._boots) + len(boots) > CACHED_BOOTS:
            self._boots.clear()
            self._most_cores.clear()
            self._benchmarks.clear()
        self._boots.update(boots)

    def most_cores(self, boot: Boot) -> int:
        """Return the most cores of a boot that this process has cached; query no store."""
        return max(boot.cores or 0, self._most_cores.get(boot.boot_id, 0))

    def read_cores(self, boot_ids: list[str]) -> dict[str, int]:
        """Return the stored most cores of these boots; a boot that never had more cores than at first has none."""
        documents = self._documents.get_many("boot_cores", boot_ids, BootCores)
        stored = {cores.boot_id: cores.most_cores for cores in documents if cores is not None}
        self._most_cores.update(stored)
        return stored

    def more_cores(self, seen: Iterable[tuple[Boot, int]]) -> list[BootCores]:
        """Return the documents of boots that were seen with more cores than before."""
        increased: dict[str, BootCores] = {}
        for boot, cores in seen:
            known_cores = increased[boot.boot_id].most_cores if boot.boot_id in increased else self.most_cores(boot)
            if cores > known_cores:
                increased[boot.boot_id] = BootCores(boot_id=boot.boot_id, cloud=boot.cloud, most_cores=cores)
        return list(increased.values())

    def remember_cores(self, written: Iterable[BootCores]) -> None:
        """Cache numbers of cores that are stored now."""
        self._most_cores.update({cores.boot_id: cores.most_cores for cores in written})

    def has_benchmark(self, boot_id: str, benchmark: bytes, uptime_ms: int) -> bool:
        """Return whether a sample's benchmark, as its JSON, counts as stored. Query no store."""
        seen = self._benchmarks.get(boot_id)
        if seen is None or seen.digest != sha256(benchmark).digest():
            return False
        seen.newest_ms = max(seen.newest_ms, uptime_ms)
        return uptime_ms - seen.stored_ms < BENCHMARK_STORED_FOR_MS

    def takes_benchmark(self, boot_id: str, uptime_ms: int) -> bool:
        """Return whether a benchmark may be written: no later sample had another. Forget the one that it replaces."""
        seen = self._benchmarks.get(boot_id)
        if seen is not None and uptime_ms < seen.newest_ms:
            return False
        self._benchmarks.pop(boot_id, None)
        return True

    def remember_benchmark(self, boot_id: str, benchmark: bytes, uptime_ms: int) -> None:
        """Cache a benchmark that is stored now, unless a later one is: commits may end out of order."""
        seen = self._benchmarks.get(boot_id)
        if seen is None or uptime_ms >= seen.newest_ms:
            self._benchmarks[boot_id] = StoredBenchmark(sha256(benchmark).digest(), uptime_ms, uptime_ms)


def cores_write(cores: BootCores) -> Write:
    """Return the write of a boot's most cores; the number is the version, so a higher stored one stays."""
    return Write("boot_cores", cores.boot_id, cores.most_cores, cores)


def _too_many() -> SkytallyError:
    return SkytallyError(
        "this token named too many new boots within the hour: send this again later", code="too_many_boots"
    )


def _unreadable() -> SkytallyError:
    return SkytallyError("this boot's document cannot be read: tell the operator", code="unreadable_boot")


def boot_document(candidate: Candidate, label: str) -> Boot:
    """Return the document of a new boot under its label."""
    labels = candidate.labels
    return Boot(
        boot_id=candidate.boot_id,
        label=label,
        vm=candidate.vm,
        cloud=labels.cloud,
        site=labels.site,
        group=labels.group,
        flavor=labels.flavor,
        boot_at=candidate.boot_at,
        cores=candidate.cores,
    )


def done(future: Future[list[Outcome]]) -> list[Outcome]:
    """Wait until the writes are durable."""
    try:
        return future.result()
    finally:
        del future  # Its error references this frame: the cycle would keep the request until a rare garbage collection.
