"""Evidence: who left, took, let expire, withdrew or contested which secret,
when and from where; read from the object store itself.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct, structs

from skytally.core.documents import Usage
from skytally.core.errors import Changed, NotFound
from skytally.core.ports import Documents, Objects
from skytally.core.records import iso
from skytally.core.unreadable import Notes
from skytally.secrets.outcomes import CONTESTED, DELIVERED, DUPLICATE, Evidence, Mark, parse_evidence, parse_mark
from skytally.secrets.stored_deposits import deposits, prep_key, read_box

T = TypeVar("T")
REPORTS_WITHIN = timedelta(minutes=20)
# How far the boot of a secret's vm is: nobody came for it yet, one did, it was heard of since, or it was not in time.
WAITING, TAKEN, REPORTS, LOST = "waiting", "taken", "reports", "lost"
REPORTED = {REPORTS: True, LOST: False}
LONGEST_CLAIM_DAYS = 8
READERS = 16
VMS_A_QUERY = 500


class SecretRecord(Struct, frozen=True, kw_only=True):
    """One secret of one vm, with whoever else proved that it has the token.

    `state` is waiting, delivered, expired or revoked; damaged is a deposit that somebody changed in the store.
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
    contested: tuple[Evidence, ...] = ()


def history(objects: Objects, now: datetime, days: int, notes: Notes, claim: str | None = None) -> list[SecretRecord]:
    """List the secrets that wait and those whose time ended within some days, or one claim's, newest first.

    What is no record of ours is noted and left out. Raises Unavailable rather than list a part.
    """
    with ThreadPoolExecutor(READERS) as readers:
        reading = _Reading(objects, claim, notes, readers)
        others = reading.records(
            "audit", reading.keys("audit", _days(now, days + LONGEST_CLAIM_DAYS, 0)), parse_evidence
        )
        marks = reading.records("mark", reading.keys("mark", _days(now, days, LONGEST_CLAIM_DAYS)), parse_mark)
        waiting = reading.waiting(list(deposits(objects, notes)))
    held = _without_marked(marks, waiting)
    return sorted(_with_others(held, others), key=lambda one: (one.at, one.claim, one.vm or ""), reverse=True)


def booting(
    objects: Objects, documents: Documents, now: datetime, notes: Notes, most: int
) -> set[tuple[str, str | None]] | None:
    """Return the vms, by cloud and name, whose secret waits or was taken, and that have not reported yet.

    None where there are more than `most` records to read, which takes long.
    """
    with ThreadPoolExecutor(READERS) as readers:
        reading = _Reading(objects, None, notes, readers)
        keys, left = reading.keys("mark", _days(now, 1, LONGEST_CLAIM_DAYS)), list(deposits(objects, notes))
        if len(keys) + len(left) > most:
            return None
        marks, waiting = reading.records("mark", keys, parse_mark), reading.waiting(left)
    boots = _boots(_without_marked(marks, waiting), documents, now)
    return {(one.cloud, one.vm) for one, boot in boots if boot in {WAITING, TAKEN}}


def _without_marked(marks: list[Mark], waiting: list[SecretRecord]) -> list[SecretRecord]:
    """Return the secrets that have come to their end, and those that wait and have not."""
    marked = {(mark.claim, mark.vm) for mark in marks}
    return [_ended(mark) for mark in marks] + [one for one in waiting if (one.claim, one.vm) not in marked]


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
        """Name what lies in a folder's days."""
        listed = self.readers.map(lambda day: list(self.objects.list(f"{folder}/{day}/")), days)
        return [key for day in listed for key in day if self.claim in {None, key.split("/")[2].partition(".")[0]}]

    def records(self, folder: str, keys: list[str], parse: Callable[[str, bytes], T]) -> list[T]:
        """Read some keys of a folder; what is removed meanwhile is over and not missed."""

        def read(key: str) -> T | None:
            try:
                return parse(key, self.objects.get(key))
            except NotFound:
                return None
            except Changed as error:
                self.notes.add("object", folder, key, error.message)
                return None

        return [record for record in self.readers.map(read, keys) if record is not None]

    def waiting(self, left: list[tuple[int, str]]) -> list[SecretRecord]:
        """Read deposits that nobody took yet."""
        names = [found for found in left if self.claim in {None, found[1]}]
        return [one for few in self.readers.map(lambda found: self._deposit(*found), names) for one in few]

    def _deposit(self, expires: int, claim: str) -> list[SecretRecord]:
        try:
            prep = read_box(self.objects, claim, expires).open()
        except NotFound:
            return []
        except Changed as error:
            self.notes.add("object", "prep", prep_key(claim, expires), error.message)
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
        left = SecretRecord(
            claim=claim,
            vm=prep.vm,
            cloud=prep.cloud,
            state=WAITING,
            at=_moment(prep.deposited_at),
            expires_at=_moment(expires),
            expected_hostname=prep.hostname,
        )
        return [structs.replace(left, vm=vm) for vm in prep.names or (prep.vm,)]


def _ended(mark: Mark) -> SecretRecord:
    shared = {
        name: getattr(mark, name) for name in SecretRecord.__struct_fields__ if name not in {"expires_at", "contested"}
    }
    return SecretRecord(**shared, expires_at=_moment(mark.expires))


def _moment(unix_seconds: int) -> str:
    return iso(datetime.fromtimestamp(unix_seconds, UTC))


def _with_others(held: list[SecretRecord], evidence: list[Evidence]) -> Iterator[SecretRecord]:
    """Give each secret the evidence of its vm, and of any name that is none of its claim's:
    who holds the token may say anything.
    """
    by_claim: dict[str, list[Evidence]] = defaultdict(list)
    for other in evidence:
        if other.kind != DUPLICATE:
            by_claim[other.claim].append(other)
    names = {(one.claim, one.vm) for one in held}
    for one in held:
        others = tuple(
            other for other in by_claim[one.claim] if other.vm == one.vm or (one.claim, other.vm) not in names
        )
        yield structs.replace(one, contested=others)


def contested(held: Iterable[SecretRecord]) -> list[SecretRecord]:
    """Name the secrets whose token somebody else holds: another key, source or name came with a valid proof."""
    return [one for one in held if one.contested]


def unreported(held: Iterable[SecretRecord], documents: Documents, now: datetime) -> list[SecretRecord]:
    """Name the deliveries after which the vm never reported:
    its first report is the acknowledgement that the secret arrived.
    """
    return [one for one, boot in _boots(held, documents, now) if boot == LOST]


def on_another_host(held: Iterable[SecretRecord]) -> list[SecretRecord]:
    """Name the secrets that a machine took which calls itself something else than the scheduler expected."""
    return [one for one in held if _other_host(one)]


def _other_host(one: SecretRecord) -> str | None:
    """Return the host that the key's comment names, `USER@HOST` or `HOST`, where another was expected.

    Where one of the two is a host's short name, the other's domain is not compared. A comment such as `root@` names
    no host.
    """
    if not one.expected_hostname or not one.comment:
        return None
    names = one.comment.rpartition("@")[2], one.expected_hostname
    named, expected = (name.strip().casefold().rstrip(".") for name in names)
    named_short, expected_short = named.partition(".")[0], expected.partition(".")[0]
    if not named_short or not expected_short:
        return None
    is_same = named == expected if "." in named and "." in expected else named_short == expected_short
    return None if is_same else named


def _boots(held: Iterable[SecretRecord], documents: Documents, now: datetime) -> list[tuple[SecretRecord, str | None]]:
    """Say of each secret how far its vm's boot is; of one that nobody will take any more, nothing."""
    known = list(held)
    heard = _heard({one.vm or "" for one in known if one.state == DELIVERED}, documents)
    return [(one, _boot(one, heard.get((one.vm, one.cloud)), now)) for one in known]


def _boot(one: SecretRecord, heard_at: datetime | None, now: datetime) -> str | None:
    if one.state != DELIVERED:
        return WAITING if one.state == WAITING else None
    taken_at = datetime.fromisoformat(one.at)
    if heard_at is not None and heard_at >= taken_at:
        return REPORTS
    return LOST if now - taken_at > REPORTS_WITHIN else TAKEN


def _heard(vms: set[str], documents: Documents) -> dict[tuple[str | None, str], datetime]:
    """Return when each vm of each cloud was last heard of."""
    ordered, heard = sorted(vms), dict[tuple[str | None, str], datetime]()
    for start in range(0, len(ordered), VMS_A_QUERY):
        for _, usage in documents.find("usage", Usage, {"vm": ordered[start : start + VMS_A_QUERY]}):
            known = heard.get((usage.vm, usage.cloud), usage.last_sampled_at)
            heard[usage.vm, usage.cloud] = max(known, usage.last_sampled_at)
    return heard


def secrets_view(held: Iterable[SecretRecord], documents: Documents, now: datetime) -> dict[str, Any]:
    """Return the dashboard's table of secrets, and a count for each state."""
    documents.refresh()
    rows = [
        _row(one) | {"boot": boot, "reported": REPORTED.get(boot or "")} for one, boot in _boots(held, documents, now)
    ]
    return {"view": "secrets", "generated_at": iso(now), "table": rows, "series": [], "coverage": None}


def _row(one: SecretRecord) -> dict[str, Any]:
    row = {
        name: getattr(one, name)
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
    row["other_hostname"] = _other_host(one)
    return row | {"contested_count": sum(other.kind == CONTESTED for other in one.contested), "others": described(one)}


def described(one: SecretRecord) -> list[str]:
    """Say in a few words each who else proved that it has the token."""
    return [f"{o.kind}{f' ({o.reason})' if o.reason else ''} {o.address} {o.at}" for o in one.contested]
