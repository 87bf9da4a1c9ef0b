"""Closing: a cloud's month is frozen and signed; what becomes known later makes a new revision that says what it changes.

Invariant: a revision is created once and never written again, so what was signed is what is shown for ever. A statement shows the newest
revision of each cloud and beside it, as not settled, what is known by now and not in it. A revision that cannot be read is noted and left
out: it hides no other cloud's.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from skytally import cloud_name
from skytally.cloud import Calibration, Cloud, Site
from skytally.definition import BOOTS, DEFINITIONS, TOTALS
from skytally.documents import Closing
from skytally.errors import Conflict, NotFound
from skytally.ports import Documents, Outcome, Write
from skytally.records import iso
from skytally.rounding import DECIMALS, rounded
from skytally.samples import month_end_at, month_start_at
from skytally.statement import FINAL, LiveCloud, live_clouds, ratio
from skytally.unreadable import Notes

FORMAT: Literal["skytally statement 2"] = "skytally statement 2"
# What a statement's rows have, whichever version froze them.
COLUMNS = {"clouds": (*TOTALS, "state", "revision", "unsettled_core_hours", "unsettled_vms"), "boots": (*BOOTS,)}
# These are read from intervals and anomalies, which are forgotten after some time: that they are gone is no news of the month.
NO_NEWS = {"coverage", "anomalies", "last_sampled_at", "silent_vms"}
CHANGED_SUMS = ("wall_hours", "core_hours", "cpu_hours", "hs23_hours", "energy_kwh", "co2_kg", "cost")
Signer = Callable[[str], tuple[str, str]]


class Rates(Struct, frozen=True):
    """What the site's data said of the cloud when its month was closed; None is not known."""

    price_per_core_hour: float | None = None
    currency: str | None = None
    watts_per_core: float | None = None
    pue: float | None = None
    co2_grams_per_kwh: float | None = None


class Frozen(Struct, frozen=True, kw_only=True):
    """The text that is signed: the numbers of a cloud's month, what they rest on and mean, and what they change.

    Format 1 had no bounds, owner, contact, rates, calibration and definitions, and its numbers were not rounded.
    """

    format: Literal["skytally statement 1", "skytally statement 2"]
    month: str
    from_at: str | None = msgspec.field(default=None, name="from")
    until_at: str | None = msgspec.field(default=None, name="until")
    cloud: str
    owner: str | None = None
    contact: str | None = None
    revision: int
    closed_at: str
    rates: Rates = Rates()
    calibration: Calibration = Calibration()
    totals: dict[str, Any]
    changes: dict[str, Any] | None
    definitions: dict[str, dict[str, str]] = {}
    boots: list[dict[str, Any]]


def statement(
    month: str, clouds: Sequence[str], documents: Documents, site: Site, now: datetime, revision: int | None = None
) -> dict[str, Any]:
    """Answer a month's statement, of some clouds or of all; it holds everything that was accepted before the call.

    A cloud whose month was closed shows its newest revision, or the one asked for; raises NotFound where there is none such.
    """
    documents.refresh()
    live = {cloud.name: cloud for cloud in live_clouds(month, clouds, documents, site, now)}
    revisions = closings(month, clouds, documents)
    closed = {name: frozen for name, found in revisions.items() if (frozen := _newest(_chosen(found, revision), documents))}
    if revision is not None and not closed:
        raise NotFound(f"there is no revision {revision} of {month}")
    names = sorted(closed if revision is not None else live.keys() | closed.keys())
    rows = [_closed_row(closed[name], live.get(name)) if name in closed else _open_row(live[name]) for name in names]
    return {
        "month": month,
        "state": FINAL if rows and all(row["state"] == FINAL for row in rows) else "provisional",
        "revision": max((row["revision"] for row in rows), default=0),
        "generated_at": now,
        "clouds": rows,
        "boots": sorted(
            (boot for name in names for boot in (closed.get(name) or live[name]).boots),
            key=lambda boot: str(boot.get("document")),
        ),
    }


def _open_row(live: LiveCloud) -> dict[str, Any]:
    return live.totals | {"state": "provisional", "revision": 0, "unsettled_core_hours": None, "unsettled_vms": None}


def _closed_row(frozen: Frozen, live: LiveCloud | None) -> dict[str, Any]:
    changes = changes_to(frozen, live)
    unsettled = {
        "unsettled_core_hours": changes["core_hours"] if changes else 0.0,
        "unsettled_vms": changes["vm_count"] if changes else 0,
    }
    return frozen.totals | {"state": FINAL, "revision": frozen.revision} | unsettled


def closings(month: str, clouds: Sequence[str], documents: Documents) -> dict[str, list[Closing]]:
    """Return the revisions of each cloud's month, oldest first."""
    found: dict[str, list[Closing]] = {}
    for _, one in documents.find("closing", Closing, {"month": [month], **({"cloud": clouds} if clouds else {})}):
        found.setdefault(one.cloud, []).append(one)
    return {cloud: sorted(revisions, key=lambda one: one.revision) for cloud, revisions in found.items()}


def all_revisions(month: str, clouds: Sequence[str], documents: Documents) -> Iterator[Frozen]:
    """List every revision of a month that can be read, of some clouds or of all."""
    found = (_frozen(one) for revisions in closings(month, clouds, documents).values() for one in revisions)
    return (frozen for frozen in found if frozen is not None)


def _chosen(revisions: Sequence[Closing], revision: int | None) -> list[Closing]:
    return [one for one in revisions if revision in {None, one.revision}]


def _newest(revisions: Sequence[Closing], documents: Documents) -> Frozen | None:
    """Return the newest revision that can be read; one that cannot is noted."""
    for one in reversed(revisions):
        frozen = _frozen(one)
        if frozen is not None:
            return frozen
        Notes(documents.write).add("document", "closing", key_of(one), "its text is no statement of this cloud and month")
    return None


def _frozen(closing: Closing) -> Frozen | None:
    """Read what was signed; None where the text is not of this revision, whoever wrote it."""
    try:
        frozen = read(closing.text)
    except ValueError:
        return None
    is_same = (frozen.month, frozen.cloud, frozen.revision) == (closing.month, closing.cloud, closing.revision)
    return frozen if is_same else None


def read(text: str) -> Frozen:
    """Return what a signed text of any format says, with its numbers rounded; raises ValueError for any other text."""
    try:
        frozen = msgspec.json.decode(text, type=Frozen)
    except RecursionError as error:
        raise ValueError("too deep") from error
    totals = _with_completeness(rounded(frozen.totals))
    return msgspec.structs.replace(frozen, totals=totals, boots=[rounded(boot) for boot in frozen.boots])


def _with_completeness(totals: dict[str, Any]) -> dict[str, Any]:
    """Add `hs23_complete` where a text is older than it: what is not known to be complete is a lower bound."""
    hs23_hours, core_hours, scored = (totals.get(name) for name in ("hs23_hours", "core_hours", "scored_core_hours"))
    complete = None if hs23_hours is None else scored is not None and scored == core_hours
    return {"scored_core_hours": None, "hs23_complete": complete} | totals


def changes_to(frozen: Frozen, live: LiveCloud | None) -> dict[str, Any] | None:
    """Return what is known now and not in a revision: differences, and how many vms they are of; None where nothing is.

    Rows are compared by the numbers that both have, and their currency: a column that a later version adds, or a word,
    changes nothing. A cloud of which nothing is known any more changes nothing.
    """
    if live is None:
        return None
    before = {boot.get("document"): boot for boot in frozen.boots}
    vms = {boot["vm"] for boot in live.boots if _is_news(before.get(boot["document"]), boot)}
    if not vms and len(before) == len(live.boots) and not _is_news(frozen.totals, live.totals):
        return None
    sums = {name: _difference(frozen.totals.get(name), live.totals[name]) for name in CHANGED_SUMS}
    return {
        **sums,
        "core_hours_share": ratio(sums["core_hours"] or 0.0, frozen.totals.get("core_hours") or 0.0),
        "vm_count": len(vms),
    }


def _is_news(before: dict[str, Any] | None, after: dict[str, Any]) -> bool:
    """Say whether a row is new, or has another number or currency than before."""
    if before is None:
        return True
    changed = (name for name in before.keys() & after.keys() - NO_NEWS if before[name] != after[name])
    return any(name == "currency" or not isinstance(after[name], str) for name in changed)


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, DECIMALS)


def sentence(changes: dict[str, Any]) -> str:
    """Say what a revision changes: `restated +0.4 %: 12 vms`."""
    share = changes["core_hours_share"]
    by = "" if share is None else f" {share * 100:+.2g} %"
    return f"restated{by}: {changes['vm_count']} vm{'' if changes['vm_count'] == 1 else 's'}"


def close(month: str, clouds: Sequence[str], documents: Documents, site: Site, sign: Signer, now: datetime) -> list[Closing]:
    """Freeze and sign what a month's clouds have not had signed yet; answers the new revisions, none where nothing is new.

    Raises Conflict before the month is over, or where somebody else closes it at the same time.
    """
    made = revisions(month, clouds, documents, site, sign, now)
    writes = [Write("closing", key_of(one), 0, one, create=True) for one in made]
    if Outcome.STALE in documents.write(writes).result():
        raise Conflict("somebody else is closing this month: look at it, then do this again", code="taken")
    return made


def revisions(month: str, clouds: Sequence[str], documents: Documents, site: Site, sign: Signer, now: datetime) -> list[Closing]:
    """Return the revisions that a month needs now; raises Conflict before it is over, NotFound for a cloud that nobody knows."""
    if now < month_end_at(month):
        raise Conflict(f"{month} is not over: close it from {iso(month_end_at(month))} on", code="not_over")
    cloud_name.check(clouds, documents, site)
    documents.refresh()
    known = closings(month, clouds, documents)
    made = []
    for live in live_clouds(month, clouds, documents, site, now):
        before = known.get(live.name, [])
        last = _newest(before, documents)
        changes = changes_to(last, live) if last else None
        if last is None or changes:
            frozen = _freeze(month, live, before[-1].revision + 1 if before else 1, changes, site, now)
            made.append(_signed(frozen, sign, now))
    return made


def _freeze(month: str, live: LiveCloud, revision: int, changes: dict[str, Any] | None, site: Site, now: datetime) -> Frozen:
    cloud = site.cloud(live.name)
    return Frozen(
        format=FORMAT,
        month=month,
        from_at=iso(month_start_at(month)),
        until_at=iso(month_end_at(month)),
        cloud=live.name,
        owner=cloud.owner,
        contact=site.operator.contact,
        revision=revision,
        closed_at=iso(now),
        rates=_rates(cloud),
        calibration=live.calibration,
        totals=live.totals,
        changes=changes,
        definitions=DEFINITIONS,
        boots=live.boots,
    )


def _rates(cloud: Cloud) -> Rates:
    return Rates(**{name: getattr(cloud, name) for name in Rates.__struct_fields__})


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


def signed(month: str, cloud: str, documents: Documents, revision: int | None = None) -> dict[str, Any]:
    """Answer a cloud's closed month as it was signed, the newest revision or the one asked for; raises NotFound."""
    documents.refresh()
    chosen = _chosen(closings(month, [cloud], documents).get(cloud, []), revision)
    if not chosen:
        raise NotFound(f"{cloud} has no {'such ' if revision else ''}closed statement of {month}")
    return {"statement": chosen[-1].text, "signature": chosen[-1].signature, "public_key": chosen[-1].public_key}
