"""Doors: what the rules ask of the outside. Each comment is the contract that every adapter is tested against.

Absence is NotFound (or None where the signature says so); anything else that goes wrong is Unavailable. An outage is
never absence.
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
    """What became of one write."""

    STORED = "stored"
    """Durable: it survives the death of every process."""
    STALE = "stale"
    """A newer version, or for a create any version, was there; nothing changed."""
    REJECTED = "rejected"
    """The store will never take this document: nobody could read it again (see `storable`), or it cannot be parsed."""


class Write(Struct, frozen=True):
    """One document to keep.

    With `create`, only if the key is free; else unless a newer version is there (an equal one is replaced).
    """

    index: str
    key: str
    version: int
    document: Document
    create: bool = False


class Query(Struct, frozen=True, kw_only=True):
    """Sums over a window: documents that overlap [from_at, until_at), each counted by the part of it that lies inside.

    `by` are the dimensions of a row, `sums` the fields added up, `distinct` the fields counted; `where` holds a field
    to values. Where `moment` names a time of the documents, each counts whole if that lies in the window, `count` among
    the sums is how many they are and `count:<field>` how many have that field; `missing` holds to those without some
    field.
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
    """What setting a store up made new, and what is left for somebody with more rights, in words."""

    made: list[str]
    left: str = ""


class DiskUsage(Struct, frozen=True):
    """One disk of a store: its name, what is free, what there is,
    and how much must stay free for the store to go on well.
    """

    name: str
    free_bytes: int
    total_bytes: int
    needed_bytes: int

    @staticmethod
    def of_disk(name: str, free_bytes: int, total_bytes: int) -> "DiskUsage":
        """Describe a disk of files: a tenth of it must stay free, or ten GiB where that is less."""
        return DiskUsage(name, free_bytes, total_bytes, min(total_bytes // 10, 10 * 1_024**3))


# Called with the key of a document that cannot be read, and why.
Skipped = Callable[[str, str], object]


class Documents(Protocol):
    """A store of versioned documents.

    What it returns is whole or it raises Unavailable: no answer comes from a part of the store. A document that cannot
    be made into its record is skipped, noted in the index `unreadable` and counts in no sum of another; nothing beside
    it changes.
    """

    def write(self, writes: Sequence[Write]) -> Future[list[Outcome]]:
        """Keep documents; the future answers an outcome each, in order, once all are durable.

        Several calls may share one commit. Within one call a later write of the same key comes after an earlier one. A
        write that cannot be kept for good is REJECTED by itself. The future raises Unavailable where anything of this
        call, and not of another that shares its commit, is not known to be kept.
        """

    def get(self, index: str, key: str, kind: type[D]) -> D | None:
        """Read the newest version that any process was told is durable;
        None when there is none, or it cannot be read.
        """

    def get_many(self, index: str, keys: Sequence[str], kind: type[D]) -> list[D | None]:
        """Read several, in the order asked; None for each that is not there or cannot be read."""

    def find(self, index: str, kind: type[D], where: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, D]]:
        """List those that hold one of the values of each field, in key order; may lag behind writes until `refresh`."""

    def during(
        self,
        index: str,
        kind: type[D],
        moment: str,
        span: tuple[datetime, datetime],
        where: Mapping[str, Sequence[str]],
    ) -> Iterator[tuple[str, D]]:
        """List those among them of which a moment lies in [from, until), in its order; any number, a page at a time."""

    def table(self, query: Query) -> list[Row]:
        """Return a row for each combination of the dimensions that occurs, ordered by them."""

    def series(self, query: Query, step: timedelta) -> list[Row]:
        """Return the same per step of the window, its start as `at`.

        Steps of an hour or longer are UTC's, shorter ones are counted from the window's start.
        """

    def stored(
        self, index: str, kind: type[D], after: str = "", skipped: Skipped | None = None
    ) -> Iterator[tuple[str, int, D]]:
        """List key, version and document of all keys behind `after`, in key order;
        as of the last `refresh` or later.
        """

    def count(self, index: str) -> int:
        """Return how many documents an index holds, also those that cannot be read;
        as of the last `refresh` or later.
        """

    def forget(self, index: str, moment: str, before: datetime, is_over: Callable[[], bool] = lambda: False) -> int:
        """Remove documents whose moment is earlier, unless they were written anew meanwhile;
        answer how many, as far as the store tells.

        `is_over` is asked before each page; once it says so the rest stays.
        """

    def install(self, now: datetime) -> Installed:
        """Set the store up for this version; the same again changes nothing."""

    def refresh(self) -> None:
        """Make what was accepted before this call visible to find, table and series."""

    def rooms(self) -> list[DiskUsage]:
        """Return the disks on which the store lies."""

    def close(self) -> None:
        """Finish what was taken, and take nothing more: later writes are Unavailable."""


class Created(Struct, frozen=True):
    """This call made the object; with the store's own clock when it did."""

    at: datetime


class Exists(Struct, frozen=True):
    """The object was there already and is unchanged."""


_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
OBJECT_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
OBJECT_PREFIX = re.compile(rf"({_SEGMENT}/)*({_SEGMENT})?")


def checked_key(key: str) -> str:
    """Return an object's key, or raise ValueError: no key leads out of a store or means another one somewhere."""
    if not OBJECT_KEY.fullmatch(key):
        raise ValueError("an object key has segments of [A-Za-z0-9._-] that begin with no dot")
    return key


def checked_prefix(prefix: str) -> str:
    """Return the beginning of keys, which may be empty, or raise ValueError."""
    if not OBJECT_PREFIX.fullmatch(prefix):
        raise ValueError("an object prefix is the beginning of an object key")
    return prefix


class Objects(Protocol):
    """A store of small immutable objects whose create is exact under concurrency.

    Keys are `/`-separated segments of [A-Za-z0-9._-] that begin with no dot; any other raises ValueError and reaches no
    store. No key is the folder of another. What lies in the store under another name is not listed. Unavailable means
    that the outcome is not known: a create may or may not have happened.
    """

    def create(self, key: str, data: bytes) -> Created | Exists:
        """Make the object if the key is free:
        of any number of concurrent calls, in any number of processes, one is Created.
        """

    def get(self, key: str) -> bytes:
        """Read it whole, or raise NotFound; sees every create and delete that was answered before."""

    def delete(self, key: str) -> None:
        """Remove it; a key that is not there is success."""

    def list(self, prefix: str) -> Iterator[str]:
        """Name every key that starts with the prefix, in key order, lazily."""

    def rooms(self) -> Sequence[DiskUsage]:
        """Return the disks on which the store lies; none where it has no end."""


class ProbedObjects(Objects, Protocol):
    """An object store as the preflight needs to see it."""

    def versioned(self) -> bool:
        """Say whether anything overwritten or deleted is kept."""

    def create_streamed(self, key: str, body: BinaryIO) -> Created | Exists:
        """Create from a body of 512 KiB or more that is sent as it is read,
        the first half before the second is asked for.
        """


class JobState(Struct, frozen=True, kw_only=True):
    """What DIRAC says of one job; None is unknown to this door."""

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
    """What DIRAC says of a job cannot be read, and why; `key` names the row."""

    key: str
    reason: str


class JobStates(Protocol):
    """DIRAC, asked about jobs by their ids; it answers about `jobs_at_once` within some seconds."""

    jobs_at_once: int

    def states(self, job_ids: Sequence[int]) -> dict[int, JobState | UnreadState]:
        """Return the state of each job that DIRAC knows; one that it does not know is absent.

        Unavailable where any part of the answer is missing, so that absence is never an outage; nor is it a row that
        cannot be read, which costs its own job alone.
        """


class Specification(Struct, frozen=True, kw_only=True):
    """One function as it is wanted, in words that every platform's adapter understands.

    `settings` is its environment, `secrets` are names of what it mounts, `schedule` is a timer's cron expression in
    UTC.
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
        """Return the SHA-256 of all of it: what runs carries it,
        so that equality is not a comparison of what a platform adds.
        """
        return sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()

    @property
    def environment(self) -> dict[str, str]:
        """Return what the process is told: its settings,
        and which deployment it is, which it answers when it is ready.
        """
        return {**self.settings, "SKYTALLY_DEPLOYMENT": self.digest}


class Running(Struct, frozen=True):
    """A function as a platform has it: by the digest that it was deployed with, None where somebody else made it.

    `is_ready` says whether this very version answers. `is_final` says that waiting changes nothing. `words` are the
    platform's own.
    """

    digest: str | None
    image: str
    is_ready: bool = False
    is_final: bool = False
    words: str = ""


class FunctionPlatform(Protocol):
    """What runs functions.

    Everything may be repeated; Unavailable where the platform does not answer, Malformed where it says no.
    """

    def put(self, wanted: Specification) -> None:
        """Make a function, or change it; it need not answer yet. Of two who do so at once one wins whole."""

    def running(self, wanted: Specification) -> Running | None:
        """Look at one function now; None where there is none."""

    def services(self) -> dict[str, str | None]:
        """Return the digests of all functions that are deployed, by name;
        other things of the platform's are left out.
        """

    def remove(self, service: str) -> bool:
        """Remove a function; say whether it was there."""

    def secrets(self) -> set[str]:
        """Return the names of the secrets that the platform keeps."""

    def put_secret(self, name: str, value: str) -> None:
        """Keep a secret under a name, replacing what was there; its value is in no error and no log."""

    def remove_secret(self, name: str) -> bool:
        """Forget a secret; say whether it was there."""


@runtime_checkable
class TimerPlatform(Protocol):
    """A platform whose timers are objects of their own:
    they begin once their functions answer, or their first tick fails.
    """

    def put_timer(self, wanted: Specification) -> None:
        """Make a function's timer, or change it; remove it where the function has no schedule."""

    def has_timer(self, wanted: Specification) -> bool:
        """Return whether a function's timer is as it is wanted."""
