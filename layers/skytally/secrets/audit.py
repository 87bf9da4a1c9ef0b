"""Audit: who deposited, took, revoked or contested which secret, when and from where; read from the object store."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct, structs

from skytally.core.documents import Usage
from skytally.core.errors import Changed, NotFound
from skytally.core.ports import Documents, Objects
from skytally.core.records import iso
from skytally.core.unreadable import Notes
from skytally.secrets.outcomes import (
    CONTESTED,
    DELIVERED,
    DUPLICATE,
    ClaimOutcome,
    FailedClaim,
    parse_failed_claim,
    parse_outcome,
)
from skytally.secrets.stored_deposits import deposit_key, deposits, read_sealed

A = TypeVar("A")
T = TypeVar("T")
REPORTS_WITHIN = timedelta(minutes=20)
# How far the boot of a secret's vm is: not taken yet, taken, reporting since, or without a report in time.
WAITING, TAKEN, REPORTS, LOST = "waiting", "taken", "reports", "lost"
REPORTED = {REPORTS: True, LOST: False}
LONGEST_CLAIM_DAYS = 8
READERS = 16
# How many reads wait at once: each takes two kilobytes until it is done.
READS_WAITING = 16 * READERS
VMS_A_QUERY = 500


class SecretRecord(Struct, frozen=True, kw_only=True):
    """One secret of one vm, with the failed claims of others who hold its token.

    `state` is waiting, delivered, expired, revoked, or damaged for a deposit that was changed in the store.
    """

    claim: str
    vm: str | None
    cloud: str
    state: str
    at: str
    expires_at: str
    address: str | None = None
    agent: str | None = None
    spki_sha256: str | None = None
    comment: str | None = None
    expected_hostname: str | None = None
    contested: tuple[FailedClaim, ...] = ()


def history(objects: Objects, now: datetime, days: int, notes: Notes, claim: str | None = None) -> list[SecretRecord]:
    """Return the waiting secrets and those that ended within some days, or one claim's, newest first.

    An object that is no record of ours is noted and left out. Raise Unavailable rather than return a part.
    """
    with ThreadPoolExecutor(READERS) as readers:
        reading = _Reading(objects, claim, notes, readers)
        keys = reading.keys("audit", _days(now, days + LONGEST_CLAIM_DAYS, 0))
        failed_claims = reading.records("audit", keys, parse_failed_claim)
        # Deposits first: an outcome exists before its deposit is deleted, so a secret taken meanwhile shows in one.
        waiting = reading.waiting(list(deposits(objects, notes)))
        outcomes = reading.records("mark", reading.keys("mark", _days(now, days, LONGEST_CLAIM_DAYS)), parse_outcome)
    records = _without_decided(outcomes, waiting)
    return sorted(
        _with_others(records, failed_claims),
        key=lambda record: (record.at, record.claim, record.vm or ""),
        reverse=True,
    )


def booting(
    objects: Objects, documents: Documents, now: datetime, notes: Notes, most: int
) -> set[tuple[str, str | None]] | None:
    """Return the vms, by cloud and name, whose secret waits or was taken, and that have not reported yet.

    None where there are more than `most` records to read, which takes long.
    """
    with ThreadPoolExecutor(READERS) as readers:
        reading = _Reading(objects, None, notes, readers)
        # Deposits first, as in `history`.
        left = list(deposits(objects, notes))
        waiting = reading.waiting(left) if len(left) <= most else []
        keys = reading.keys("mark", _days(now, 1, LONGEST_CLAIM_DAYS))
        if len(keys) + len(left) > most:
            return None
        outcomes = reading.records("mark", keys, parse_outcome)
    boots = _boots(_without_decided(outcomes, waiting), documents, now)
    return {(record.cloud, record.vm) for record, boot in boots if boot in {WAITING, TAKEN}}


def _without_decided(outcomes: list[ClaimOutcome], waiting: list[SecretRecord]) -> list[SecretRecord]:
    """Return the secrets that have come to their end, and those that wait and have not."""
    decided = {(outcome.claim, outcome.vm) for outcome in outcomes}
    return [_ended(outcome) for outcome in outcomes] + [
        record for record in waiting if (record.claim, record.vm) not in decided
    ]


def _days(now: datetime, back: int, ahead: int) -> list[str]:
    today = now.astimezone(UTC)
    return [f"{today + timedelta(days=day):%Y%m%d}" for day in range(-back, ahead + 1)]


class _Reading(Struct, frozen=True):
    """One reading of the object store, of all claims or of one, by several threads."""

    objects: Objects
    claim: str | None
    notes: Notes
    readers: ThreadPoolExecutor

    def keys(self, folder: str, days: list[str]) -> list[str]:
        """Return the keys of a folder's days."""
        listed = self._each(lambda day: list(self.objects.list(f"{folder}/{day}/")), days)
        return [key for day in listed for key in day if self.claim in {None, key.split("/")[2].partition(".")[0]}]

    def records(self, folder: str, keys: list[str], parse: Callable[[str, bytes], T]) -> list[T]:
        """Return the records of some keys of a folder; one that is deleted meanwhile is left out."""

        def read(key: str) -> T | None:
            try:
                return parse(key, self.objects.get(key))
            except NotFound:
                return None
            except Changed as error:
                self.notes.add("object", folder, key, error.message)
                return None

        return [record for record in self._each(read, keys) if record is not None]

    def waiting(self, entries: list[tuple[int, str]]) -> list[SecretRecord]:
        """Return the deposits among some that nobody took yet."""
        names = [entry for entry in entries if self.claim in {None, entry[1]}]
        return [record for records in self._each(lambda entry: self._deposit(*entry), names) for record in records]

    def _each(self, read: Callable[[A], T], items: Sequence[A]) -> Iterator[T]:
        """Yield what is read for each item, in order."""
        for start in range(0, len(items), READS_WAITING):
            yield from self.readers.map(read, items[start : start + READS_WAITING])

    def _deposit(self, expires: int, claim: str) -> list[SecretRecord]:
        try:
            deposit = read_sealed(self.objects, claim, expires).open()
        except NotFound:
            return []
        except Changed as error:
            self.notes.add("object", "prep", deposit_key(claim, expires), error.message)
            return [
                SecretRecord(
                    claim=claim,
                    vm=None,
                    cloud="unknown",
                    state="damaged",
                    at=_moment(expires),
                    expires_at=_moment(expires),
                )
            ]
        waiting = SecretRecord(
            claim=claim,
            vm=deposit.vm,
            cloud=deposit.cloud,
            state=WAITING,
            at=_moment(deposit.deposited_at),
            expires_at=_moment(expires),
            expected_hostname=deposit.hostname,
        )
        return [structs.replace(waiting, vm=vm) for vm in deposit.names or (deposit.vm,)]


def _ended(outcome: ClaimOutcome) -> SecretRecord:
    shared = {
        name: getattr(outcome, name)
        for name in SecretRecord.__struct_fields__
        if name not in {"expires_at", "contested"}
    }
    return SecretRecord(**shared, expires_at=_moment(outcome.expires))


def _moment(unix_seconds: int) -> str:
    return iso(datetime.fromtimestamp(unix_seconds, UTC))


def _with_others(records: list[SecretRecord], evidence: list[FailedClaim]) -> Iterator[SecretRecord]:
    """Return each secret with the failed claims of its vm, and of names that its claim does not have.

    A holder of the token may claim under any name.
    """
    by_claim: dict[str, list[FailedClaim]] = defaultdict(list)
    for other in evidence:
        if other.kind != DUPLICATE:
            by_claim[other.claim].append(other)
    names = {(record.claim, record.vm) for record in records}
    for record in records:
        failed_claims = tuple(
            other for other in by_claim[record.claim] if other.vm == record.vm or (record.claim, other.vm) not in names
        )
        yield structs.replace(record, contested=failed_claims)


def contested(records: Iterable[SecretRecord]) -> list[SecretRecord]:
    """Return the secrets whose token somebody else holds: another key, source or name came with a valid proof."""
    return [record for record in records if record.contested]


def unreported(records: Iterable[SecretRecord], documents: Documents, now: datetime) -> list[SecretRecord]:
    """Return the deliveries after which the vm never reported: its first report confirms that the secret arrived."""
    return [record for record, boot in _boots(records, documents, now) if boot == LOST]


def on_another_host(records: Iterable[SecretRecord]) -> list[SecretRecord]:
    """Return the secrets that were taken by a machine with another host name than the scheduler expected."""
    return [record for record in records if _other_host(record)]


def _other_host(record: SecretRecord) -> str | None:
    """Return the host of the key's comment, `USER@HOST` or `HOST`, where another was expected; else None.

    A short name is compared with the other's name without its domain. A comment such as `root@` names no host.
    """
    if not record.expected_hostname or not record.comment:
        return None
    names = record.comment.rpartition("@")[2], record.expected_hostname
    named, expected = (name.strip().casefold().rstrip(".") for name in names)
    named_short, expected_short = named.partition(".")[0], expected.partition(".")[0]
    if not named_short or not expected_short:
        return None
    is_same = named == expected if "." in named and "." in expected else named_short == expected_short
    return None if is_same else named


def _boots(
    records: Iterable[SecretRecord], documents: Documents, now: datetime
) -> list[tuple[SecretRecord, str | None]]:
    """Return each secret with how far its vm's boot is, or None where nobody will take the secret."""
    all_records = list(records)
    last_sampled = _last_sampled({record.vm or "" for record in all_records if record.state == DELIVERED}, documents)
    return [(record, _boot(record, last_sampled.get((record.vm, record.cloud)), now)) for record in all_records]


def _boot(record: SecretRecord, heard_at: datetime | None, now: datetime) -> str | None:
    if record.state != DELIVERED:
        return WAITING if record.state == WAITING else None
    taken_at = datetime.fromisoformat(record.at)
    if heard_at is not None and heard_at >= taken_at:
        return REPORTS
    return LOST if now - taken_at > REPORTS_WITHIN else TAKEN


def _last_sampled(vms: set[str], documents: Documents) -> dict[tuple[str | None, str], datetime]:
    """Return the last sample time of each vm of each cloud."""
    ordered, last_sampled = sorted(vms), dict[tuple[str | None, str], datetime]()
    for start in range(0, len(ordered), VMS_A_QUERY):
        for _, usage in documents.find("usage", Usage, {"vm": ordered[start : start + VMS_A_QUERY]}):
            latest = last_sampled.get((usage.vm, usage.cloud), usage.last_sampled_at)
            last_sampled[usage.vm, usage.cloud] = max(latest, usage.last_sampled_at)
    return last_sampled


def secrets_view(records: Iterable[SecretRecord], documents: Documents, now: datetime) -> dict[str, Any]:
    """Return the dashboard's table of secrets, and a count for each state."""
    documents.refresh()
    rows = [
        _row(record) | {"boot": boot, "reported": REPORTED.get(boot or "")}
        for record, boot in _boots(records, documents, now)
    ]
    return {"view": "secrets", "generated_at": iso(now), "table": rows, "series": [], "coverage": None}


def _row(record: SecretRecord) -> dict[str, Any]:
    row = {
        name: getattr(record, name)
        for name in (
            "vm",
            "cloud",
            "state",
            "at",
            "expires_at",
            "address",
            "spki_sha256",
            "comment",
            "expected_hostname",
            "claim",
        )
    }
    row["other_hostname"] = _other_host(record)
    return row | {
        "contested_count": sum(other.kind == CONTESTED for other in record.contested),
        "others": described(record),
    }


def described(record: SecretRecord) -> list[str]:
    """Return a short description of each failed claim."""
    return [f"{o.kind}{f' ({o.reason})' if o.reason else ''} {o.address} {o.at}" for o in record.contested]
