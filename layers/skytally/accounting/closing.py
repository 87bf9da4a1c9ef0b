"""Closing: a cloud's month is frozen and signed; later changes make a new revision that states them.

Invariant: a revision is created once and never written again, so what was signed is shown for ever. A statement shows
each cloud's newest revision and, beside it as unsettled, the changes since. An unreadable revision is noted and left
out, and hides no other cloud's.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count
from operator import itemgetter
from typing import Any, TypedDict

import msgspec

from skytally.accounting import cloud_names
from skytally.accounting.definitions import BOOTS, DEFINITIONS, TOTALS
from skytally.accounting.frozen import FORMAT, Frozen, read
from skytally.accounting.restatement import changes_to, words
from skytally.accounting.statement_rows import FINAL, BootMonth, LiveCloud, boot_row, document_of, live_clouds
from skytally.core.documents import Closing
from skytally.core.errors import Conflict, NotFound
from skytally.core.months import month_end_at, month_start_at
from skytally.core.ports import Documents, Outcome, Write
from skytally.core.records import iso
from skytally.core.rounding import rounded
from skytally.core.site_data import Site
from skytally.core.unreadable import Notes

# A new price or calibration changes these and the numbers of no vm.
UNSETTLED_SUMS = ("core_hours", "hs23_hours", "cost")
UNSETTLED = (*(f"unsettled_{name}" for name in UNSETTLED_SUMS), "unsettled_vms", "unsettled")
# The columns of a statement's rows, whichever version froze them.
COLUMNS = {"clouds": (*TOTALS, "state", "revision", *UNSETTLED), "boots": (*BOOTS,)}
Signer = Callable[[str], tuple[str, str]]


class SignedStatement(TypedDict):
    """A cloud's closed month: the text that was signed, its Ed25519 signature and the public key."""

    statement: str
    signature: str
    public_key: str


def statement(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime, revision: int | None = None
) -> dict[str, Any]:
    """Return a month's statement of some clouds or of all, with everything that was accepted before the call.

    A closed cloud shows its newest revision, or the requested one. Raise NotFound if no cloud has that revision.
    """
    totals, boots = statement_parts(month, clouds, documents, site, now, revision)
    return totals | {"boots": list(boots)}


def statement_parts(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime, revision: int | None = None
) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return a month's statement without its boots, and their rows, each made as it is taken: most of the work."""
    shown = list(_shown(month, clouds, documents, site, now, revision))
    return _totals(month, [row for row, _ in shown], now, revision), _boot_rows([cloud for _, cloud in shown])


def statement_totals(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime, revision: int | None = None
) -> dict[str, Any]:
    """Return a month's statement without its boots, which are forgotten once they are counted."""
    rows = [row for row, _ in _shown(month, clouds, documents, site, now, revision)]
    return _totals(month, rows, now, revision)


def _boot_rows(shown: Sequence[Frozen | LiveCloud]) -> Iterator[dict[str, Any]]:
    """Return the rows of boots in the order of their documents."""
    boots: list[tuple[str, BootMonth | dict[str, Any]]] = []
    for cloud in shown:
        if isinstance(cloud, Frozen):
            boots += [(str(row.get("document")), row) for row in cloud.boots]
        else:
            boots += [(document_of(boot), boot) for boot in cloud.boot_months]
    for _, boot in sorted(boots, key=itemgetter(0)):
        yield boot_row(boot) if isinstance(boot, BootMonth) else boot


def _shown(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime, revision: int | None
) -> Iterator[tuple[dict[str, Any], Frozen | LiveCloud]]:
    """Return the row of each cloud of a statement, in no order, and the month that it shows."""
    documents.refresh()
    chosen = {name: _chosen(of_cloud, revision) for name, of_cloud in closings(month, clouds, documents).items()}
    for live in live_clouds(month, clouds, documents, site, now):
        frozen = _newest(chosen.pop(live.name, ()), documents)
        if frozen is not None:
            yield _closed_row(frozen, live), frozen
        elif revision is None:
            yield _open_row(live), live
    for of_cloud in chosen.values():
        if (frozen := _newest(of_cloud, documents)) is not None:
            yield _closed_row(frozen, None), frozen


def _totals(month: str, shown: Sequence[dict[str, Any]], now: datetime, revision: int | None) -> dict[str, Any]:
    """Return a statement without its boots."""
    if revision is not None and not shown:
        raise NotFound(f"there is no revision {revision} of {month}")
    rows = sorted(shown, key=itemgetter("cloud"))
    return {
        "month": month,
        "state": FINAL if rows and all(row["state"] == FINAL for row in rows) else "provisional",
        "revision": max((row["revision"] for row in rows), default=0),
        "generated_at": now,
        "clouds": rows,
    }


def _open_row(live: LiveCloud) -> dict[str, Any]:
    return live.totals | {"state": "provisional", "revision": 0} | dict.fromkeys(UNSETTLED)


def _closed_row(frozen: Frozen, live: LiveCloud | None) -> dict[str, Any]:
    changes = changes_to(frozen, live)
    nothing = {name: None if frozen.totals[name] is None else 0.0 for name in UNSETTLED_SUMS}
    unsettled = {name: changes[name] for name in UNSETTLED_SUMS} if changes else nothing
    return rounded(
        frozen.totals
        | {"state": FINAL, "revision": frozen.revision}
        | {f"unsettled_{name}": value for name, value in unsettled.items()}
        | {"unsettled_vms": changes["vm_count"] if changes else 0}
        | {"unsettled": words(changes, live.totals) if changes and live else None}
    )


def closings(month: str, clouds: Sequence[str], documents: Documents) -> dict[str, list[Closing]]:
    """Return the revisions of each cloud's month, oldest first."""
    revisions: dict[str, list[Closing]] = {}
    for _, closing in documents.find("closing", Closing, {"month": [month], **({"cloud": clouds} if clouds else {})}):
        revisions.setdefault(closing.cloud, []).append(closing)
    return {cloud: sorted(of_cloud, key=lambda closing: closing.revision) for cloud, of_cloud in revisions.items()}


def all_revisions(month: str, clouds: Sequence[str], documents: Documents) -> Iterator[Frozen]:
    """Return every readable revision of a month, of some clouds or of all."""
    readable = (
        _frozen(closing, documents) for of_cloud in closings(month, clouds, documents).values() for closing in of_cloud
    )
    return (frozen for frozen in readable if frozen is not None)


def _chosen(revisions: Sequence[Closing], revision: int | None) -> list[Closing]:
    return [closing for closing in revisions if revision in {None, closing.revision}]


def _newest(revisions: Sequence[Closing], documents: Documents) -> Frozen | None:
    """Return the newest readable revision."""
    readable = (_frozen(closing, documents) for closing in reversed(revisions))
    return next((frozen for frozen in readable if frozen is not None), None)


def _frozen(closing: Closing, documents: Documents) -> Frozen | None:
    """Return the signed content; note a text that does not belong to this revision, and return None."""
    try:
        frozen = read(closing.text)
        if (frozen.month, frozen.cloud, frozen.revision) == (closing.month, closing.cloud, closing.revision):
            return frozen
        reason = "it is of another month, cloud or revision"
    except ValueError as error:
        reason = str(error)
    Notes(documents.write).add("document", "closing", key_of(closing), f"its text is no such statement: {reason}")
    return None


def close(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, sign: Signer, now: datetime
) -> list[Closing]:
    """Freeze and sign a month's clouds that are open or have changed; return the new revisions.

    Raise Conflict before the month is over, or if somebody else closes it at the same time.
    """
    new_revisions = revisions(month, clouds, documents, site, sign, now)
    writes = [Write("closing", key_of(closing), 0, closing, create=True) for closing in new_revisions]
    if Outcome.STALE in documents.write(writes).result():
        raise Conflict("somebody else is closing this month: look at it, then do this again", code="taken")
    return new_revisions


def revisions(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, sign: Signer, now: datetime
) -> list[Closing]:
    """Return the revisions that a month needs now, unsaved.

    Raise Conflict before the month is over, NotFound for an unknown cloud.
    """
    if now < month_end_at(month):
        raise Conflict(f"{month} is not over: close it from {iso(month_end_at(month))} on", code="not_over")
    cloud_names.check(clouds, documents, site)
    documents.refresh()
    closed = closings(month, clouds, documents)
    new_revisions = []
    for live in live_clouds(month, clouds, documents, site, now):
        existing = closed.get(live.name, [])
        newest = _newest(existing, documents)
        changes = changes_to(newest, live) if newest else None
        if newest is None or changes:
            frozen = _freeze(month, live, _free_number(newest, existing), changes, site, now)
            new_revisions.append(_signed(frozen, sign, now))
    return new_revisions


def _free_number(newest: Frozen | None, existing: Sequence[Closing]) -> int:
    """Return the first free number after the newest readable revision; unreadable revisions keep their numbers."""
    taken = {closing.revision for closing in existing}
    return next(number for number in count(newest.revision + 1 if newest else 1) if number not in taken)


def _freeze(
    month: str, live: LiveCloud, revision: int, changes: dict[str, Any] | None, site: Site, now: datetime
) -> Frozen:
    return Frozen(
        format=FORMAT,
        month=month,
        from_at=iso(month_start_at(month)),
        until_at=iso(month_end_at(month)),
        cloud=live.name,
        owner=site.cloud(live.name).owner,
        contact=site.operator.contact,
        revision=revision,
        closed_at=iso(now),
        rates=live.rates,
        calibration=live.calibration,
        totals=live.totals,
        changes=changes,
        definitions=DEFINITIONS,
        boots=live.boots,
    )


def _signed(frozen: Frozen, sign: Signer, now: datetime) -> Closing:
    text = msgspec.json.format(msgspec.json.encode(frozen), indent=1).decode() + "\n"
    signature, public_key = sign(text)
    return Closing(
        month=frozen.month,
        cloud=frozen.cloud,
        revision=frozen.revision,
        closed_at=now,
        text=text,
        signature=signature,
        public_key=public_key,
    )


def key_of(closing: Closing) -> str:
    """Return a closing's key."""
    return f"{closing.month}/{closing.revision:04}/{closing.cloud}"


def signed(month: str, cloud: str, documents: Documents, revision: int | None = None) -> SignedStatement:
    """Return a cloud's closed month as it was signed: the newest readable revision, or the requested one.

    Raise NotFound if there is none.
    """
    documents.refresh()
    chosen = _chosen(closings(month, [cloud], documents).get(cloud, []), revision)
    newest = next((closing for closing in reversed(chosen) if _frozen(closing, documents)), None)
    if newest is None:
        raise NotFound(f"{cloud} has no {'such ' if revision else ''}closed statement of {month}")
    return {"statement": newest.text, "signature": newest.signature, "public_key": newest.public_key}
