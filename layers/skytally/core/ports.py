"""Ports: the interfaces to outside systems. The docstrings are the contracts that every adapter is tested against.

Absence is NotFound, or None where the signature says so. Any other failure is Unavailable: an outage is never absence.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256
from typing import Any, BinaryIO, Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec import Struct

from skytally.core.documents import Document

D = TypeVar("D", bound=Document)


class Outcome(Enum):
    """The outcome of one write."""

    STORED = "stored"
    """Durable: it survives the end of every process."""
    STALE = "stale"
    """A newer version, or for a create any version, exists; nothing changed."""
    REJECTED = "rejected"
    """The store refuses this document for good: it could not be read again (see `storable`), or cannot be parsed."""


class Write(Struct, frozen=True, gc=False):
    """The write of one document.

    With `create` it is stored only if the key is free; else unless a newer version exists. An equal one is replaced.
    """

    index: str
    key: str
    version: int
    document: Document
    create: bool = False


class Query(Struct, frozen=True, kw_only=True):
    """Sums over a window: documents that overlap [from_at, until_at), each counted by its share in the window.

    `by` are the dimensions of a row, `sums` the fields to sum up, `distinct` the fields whose values are counted.
    `where` filters fields by values. If `moment` names a time field, a document counts whole if its time lies in the
    window; then the sum `count` is the number of documents, `count:<field>` the number that have a field, and `missing`
    filters documents without a field.
    """

    index: str
    from_at: datetime
    until_at: datetime
    by: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    distinct: tuple[str, ...] = ()
    where: Mapping[str, Sequence[str]] = {}
    moment: str | None = None
    missing: str | None = None


Row = dict[str, Any]


class Installed(Struct, frozen=True):
    """The result of setting a store up: what was created, and what needs somebody with more rights, in words."""

    made: list[str]
    left: str = ""


class DiskUsage(Struct, frozen=True):
    """One disk of a store: its name, its free and total bytes, and the bytes that must stay free."""

    name: str
    free_bytes: int
    total_bytes: int
    needed_bytes: int

    @staticmethod
    def of_disk(name: str, free_bytes: int, total_bytes: int) -> "DiskUsage":
        """Return the usage of a disk of files: a tenth must stay free, or 10 GiB if that is less."""
        return DiskUsage(name, free_bytes, total_bytes, min(total_bytes // 10, 10 * 1_024**3))


# Called with the key of an unreadable document and the reason.
Skipped = Callable[[str, str], object]


class Documents(Protocol):
    """A store of versioned documents.

    A result is complete, or Unavailable is raised: no answer comes from a part of the store. An unreadable document is
    skipped, noted in the index `unreadable` and counts in no sum; the others are unaffected.
    """

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Write documents; the future returns their outcomes, in order, once all are durable.

        Several calls may share one commit. Within a call, writes of the same key are applied in order. A write that the
        store refuses for good is REJECTED alone. The future raises Unavailable if a write of this call may be lost;
        another call in the same commit does not matter.
        """

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Return the newest durable version of a document, or None where there is none or it is unreadable."""

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Return several documents in the order of the keys; None for each that is absent or unreadable."""

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """Return documents with one of the values of each field, in key order; may lag behind until `refresh`."""

    def during(
        self,
        index: str,
        kind: type[D],
        moment: str,
        span: tuple[datetime, datetime],
        where: Mapping[str, Sequence[str]],
    ) -> Iterator[tuple[str, D]]:
        """Return such documents with a time in [from, until), in the order of that time, read page by page."""

    def table(self, query: Query) -> list[Row]:
        """Return a row for each existing combination of the dimensions, ordered by them."""

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Return such rows for each step of the window; `at` is the step's start.

        Steps of an hour or longer are aligned to UTC, shorter ones to the window's start.
        """

    def stored(
        self, index: str, kind: type[D], after: str = "", skipped: Skipped | None = None
    ) -> Iterator[tuple[str, int, D]]:
        """Return key, version and document of all keys after `after`, in key order, as of the last `refresh`."""

    def count(self, index: str) -> int:
        """Return an index's number of documents, including unreadable ones, as of the last `refresh` or later."""

    def forget(self, index: str, moment: str, before: datetime, is_over: Callable[[], bool] = lambda: False) -> int:
        """Remove documents with an earlier time, unless they were written again meanwhile; return how many.

        `is_over` is called before each page; once it returns True the rest stays.
        """

    def install(self, now: datetime) -> Installed:
        """Set the store up for this version; idempotent."""

    def refresh(self) -> None:
        """Make all writes before this call visible to find, table and series."""

    def rooms(self) -> list[DiskUsage]:
        """Return the store's disks."""

    def close(self) -> None:
        """Finish pending writes; later writes raise Unavailable."""


class Created(Struct, frozen=True):
    """This call created the object, at this time by the store's clock."""

    at: datetime


class Exists(Struct, frozen=True):
    """The object existed already and is unchanged."""


_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
OBJECT_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
OBJECT_PREFIX = re.compile(rf"({_SEGMENT}/)*({_SEGMENT})?")


def checked_key(key: str) -> str:
    """Return an object's key, or raise ValueError for one that might leave the store or equal another key."""
    if not OBJECT_KEY.fullmatch(key):
        raise ValueError("an object key has segments of [A-Za-z0-9._-] that begin with no dot")
    return key


def checked_prefix(prefix: str) -> str:
    """Return a prefix of keys, which may be empty, or raise ValueError."""
    if not OBJECT_PREFIX.fullmatch(prefix):
        raise ValueError("an object prefix is the beginning of an object key")
    return prefix


class Objects(Protocol):
    """A store of small immutable objects whose create is exact under concurrency.

    Keys are `/`-separated segments of [A-Za-z0-9._-] that begin with no dot; any other raises ValueError. No key is the
    folder of another. Objects under other names are not listed. Unavailable means that the result is unknown: a
    create may or may not have happened.
    """

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Create the object if the key is free: of all concurrent calls, in all processes, exactly one is Created."""

    def get(self, key: str) -> bytes:
        """Return the whole object, or raise NotFound; every create and delete that returned before is visible."""

    def delete(self, key: str) -> None:
        """Delete the object; an absent key is success."""

    def list(self, prefix: str) -> Iterator[str]:
        """Return every key with the prefix, in key order, lazily."""

    def rooms(self) -> Sequence[DiskUsage]:
        """Return the store's disks; none for a store without a limit."""


class ProbedObjects(Objects, Protocol):
    """An object store as the preflight needs it."""

    def versioned(self) -> bool:
        """Return whether overwritten or deleted objects are kept."""

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create from a body of 512 KiB or more, sent as it is read: the first half before the second is read."""


class JobState(Struct, frozen=True, kw_only=True):
    """DIRAC's state of one job; None is a value that this source does not know."""

    job_id: int
    status: str
    minor_status: str | None = None
    application_status: str | None = None
    site: str | None = None
    last_update_at: datetime | None = None
    heartbeat_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    rescheduled_at: datetime | None = None
    reschedule_count: int | None = None


class UnreadState(Struct, frozen=True):
    """An unreadable row of DIRAC's, and the reason; `key` names the row."""

    key: str
    reason: str


class JobStates(Protocol):
    """A source of DIRAC job states by job id; it answers for `jobs_at_once` jobs within some seconds."""

    jobs_at_once: int

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState | UnreadState]:
        """Return the state of each job that DIRAC knows; an unknown job is absent.

        Raise Unavailable if any part of the answer is missing: an outage is never absence. An unreadable row is an
        UnreadState of its own job.
        """


class Specification(Struct, frozen=True, kw_only=True):
    """One function's desired state, independent of the platform.

    `settings` is its environment, `secrets` are the names of the secrets that it mounts, `schedule` is a timer's cron
    expression in UTC.
    """

    service: str
    image: str
    settings: Mapping[str, str]
    secrets: tuple[str, ...]
    schedule: str | None
    memory_limit: str
    memory_request: str

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the specification; deployed functions carry it, whatever a platform adds to them."""
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def environment(self) -> dict[str, str]:
        """Return the process's environment: its settings, and the deployment that its readiness answer shows."""
        return {**self.settings, "SKYTALLY_DEPLOYMENT": self.digest}


class Running(Struct, frozen=True):
    """A function as deployed on a platform; the digest is None if somebody else deployed it.

    `is_ready`: this version answers. `is_final`: waiting changes nothing. `words` are the platform's own.
    """

    digest: str | None
    image: str
    is_ready: bool = False
    is_final: bool = False
    words: str = ""


class FunctionPlatform(Protocol):
    """A platform that runs functions.

    All calls are idempotent. They raise Unavailable if the platform does not answer, Malformed if it refuses.
    """

    def put(self, specification: Specification) -> None:
        """Create or change a function; it need not answer yet. Of two concurrent calls one wins as a whole."""

    def running(self, specification: Specification) -> Running | None:
        """Return one function as it is now, or None."""

    def services(self) -> dict[str, str | None]:
        """Return the digests of all deployed functions by name, without the platform's other services."""

    def remove(self, service: str) -> bool:
        """Remove a function; return whether it existed."""

    def secrets(self) -> set[str]:
        """Return the names of the platform's secrets."""

    def put_secret(self, name: str, value: str) -> None:
        """Create or replace a secret; its value is in no error and no log."""

    def remove_secret(self, name: str) -> bool:
        """Remove a secret; return whether it existed."""


@runtime_checkable
class TimerPlatform(Protocol):
    """A platform whose timers are objects of their own; they start after their functions answer."""

    def put_timer(self, specification: Specification) -> None:
        """Create or change a function's timer; remove it if the function has no schedule."""

    def has_timer(self, specification: Specification) -> bool:
        """Return whether a function's timer matches its specification."""
