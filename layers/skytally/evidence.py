"""Evidence: who left, took, let expire, withdrew or contested which secret, when and from where; read from the object store itself."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from skytally.deposit import Prep
from skytally.documents import Usage
from skytally.errors import NotFound
from skytally.ports import Documents, Objects
from skytally.records import iso
from skytally.secret import DELIVERED, Evidence, Mark

REPORTS_WITHIN = timedelta(minutes=20)


class Held(Struct, frozen=True, kw_only=True):
    """One secret of one vm, as it stands: `waiting`, `delivered`, `expired` or `revoked`; with whoever else wanted it."""

    claim: str
    vm: str | None
    cloud: str
    state: str
    at: str
    expires_at: str
    address: str | None = None
    spki_sha256: str | None = None
    comment: str | None = None
    contested: tuple[Evidence, ...] = ()


def history(objects: Objects, now: datetime, days: int) -> list[Held]:
    """List the secrets that wait and those that ended within some days, newest first; raises Unavailable rather than list a part."""
    evidence = _evidence(objects, now, days)
    marks = list(_marks(objects, now, days))
    marked = {(mark.claim, mark.vm) for _, mark in marks}
    held = [_held(mark, expires, evidence.get(mark.claim, ())) for expires, mark in marks]
    held += [waiting for waiting in _waiting(objects) if (waiting.claim, waiting.vm) not in marked]
    return sorted(held, key=lambda one: (one.at, one.claim, one.vm or ""), reverse=True)


def _days(now: datetime, days: int) -> Iterator[str]:
    return (f"{now.astimezone(UTC) - timedelta(days=back):%Y%m%d}" for back in range(-8, days))


def _marks(objects: Objects, now: datetime, days: int) -> Iterator[tuple[str, Mark]]:
    """Read the marks by the day of their expiry, which may be a week ahead."""
    for day in _days(now, days):
        for key in objects.list(f"mark/{day}/"):
            yield day, msgspec.json.decode(objects.get(key), type=Mark)


def _evidence(objects: Objects, now: datetime, days: int) -> dict[str, tuple[Evidence, ...]]:
    found: dict[str, tuple[Evidence, ...]] = {}
    for day in _days(now, days):
        for key in objects.list(f"audit/{day}/"):
            one = msgspec.json.decode(objects.get(key), type=Evidence)
            found[one.claim] = (*found.get(one.claim, ()), one)
    return found


def _held(mark: Mark, expiry_day: str, evidence: Iterable[Evidence]) -> Held:
    others = tuple(one for one in evidence if one.vm is None or one.vm == mark.vm)
    return Held(
        claim=mark.claim,
        vm=mark.vm,
        cloud=mark.cloud,
        state=mark.state,
        at=mark.at,
        expires_at=f"{expiry_day[:4]}-{expiry_day[4:6]}-{expiry_day[6:]}",
        address=mark.address,
        spki_sha256=mark.spki_sha256,
        comment=mark.comment,
        contested=tuple(one for one in others if one.kind != "duplicate"),
    )


def _waiting(objects: Objects) -> Iterator[Held]:
    for key in objects.list("prep/"):
        try:
            prep = msgspec.msgpack.decode(objects.get(key), type=Prep)
        except NotFound:
            continue
        for vm in prep.names or (prep.vm,):
            yield Held(
                claim=prep.claim,
                vm=vm,
                cloud=prep.cloud,
                state="waiting",
                at=iso(datetime.fromtimestamp(prep.deposited_at, UTC)),
                expires_at=iso(datetime.fromtimestamp(prep.expires, UTC)),
            )


def unreported(held: Iterable[Held], documents: Documents, now: datetime) -> list[Held]:
    """Name the deliveries after which the vm never reported: its first report is the acknowledgement that the secret arrived."""
    due = [one for one in held if one.state == DELIVERED and now - datetime.fromisoformat(one.at) > REPORTS_WITHIN]
    return [one for one in due if not _reported(one, documents)]


def _reported(one: Held, documents: Documents) -> bool:
    delivered_at = datetime.fromisoformat(one.at)
    where = {"vm": [one.vm or ""], "cloud": [one.cloud]}
    return any(usage.last_sampled_at >= delivered_at for _, usage in documents.find("usage", Usage, where))


def contested(held: Iterable[Held]) -> list[Held]:
    """Name the secrets that a second key with a valid proof wanted: two parties hold the claim token."""
    return [one for one in held if any(other.kind == "contested" for other in one.contested)]


def secrets_view(held: Iterable[Held], documents: Documents, now: datetime) -> dict[str, Any]:
    """Answer the dashboard's table of secrets, and a count for each state."""
    known = list(held)
    silent = {(one.claim, one.vm) for one in unreported(known, documents, now)}
    rows = [{**_row(one), "reported": None if one.state != DELIVERED else (one.claim, one.vm) not in silent} for one in known]
    return {"view": "secrets", "generated_at": iso(now), "table": rows, "series": [], "coverage": None}


def _row(one: Held) -> dict[str, Any]:
    row = {name: getattr(one, name) for name in ("vm", "cloud", "state", "at", "expires_at", "address", "spki_sha256", "comment", "claim")}
    others = [f"{other.kind} {other.address} {other.at}" for other in one.contested]
    return row | {"contested_count": sum(other.kind == "contested" for other in one.contested), "others": others}
