"""Alarms: what a person must look at. Each has one identity, is raised once, stays until it is over, and ends by itself.

Invariant: an alarm's document says what was told to people; it is written after they were told. A round that dies in between tells them
again: at least once, never never. What could not be looked at is not over.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Protocol

from msgspec import Struct, structs

from skytally.cloud import Site
from skytally.documents import Alarm
from skytally.errors import Unavailable
from skytally.ports import Documents, Write

RAISED, RESOLVED = "raised", "resolved"
# What rests on chance or on a level must be away for so long before it is over; anything else is over when it is not so any more.
STAYS_FOR = {
    "faulty_cloud": timedelta(hours=1),
    "black_hole_vm": timedelta(hours=2),
    "stuck_payload": timedelta(hours=1),
    "clock_offset": timedelta(minutes=30),
    "store_nearly_full": timedelta(minutes=30),
}
MOST_TOLD, MOST_FAILURES = 100, 2


class Finding(Struct, frozen=True):
    """Something that is so now: what, of whom, and a sentence that says what to do."""

    kind: str
    subject: str
    cloud: str | None
    message: str

    @property
    def identity(self) -> str:
        """Name the alarm that this is, however often it is found."""
        return f"{self.kind}:{self.subject}"


class Look(Struct, frozen=True):
    """One way to look at things, and the kinds of alarms that it finds; `known` are the subjects of those kinds that are open."""

    kinds: tuple[str, ...]
    find: Callable[[Sequence[str]], Iterable[Finding]]


class Teller(Protocol):
    """Who tells people of alarms."""

    def tell(self, alarm: Alarm) -> None:
        """Tell of an alarm that was raised or resolved, or raise Unavailable."""

    def remind(self, alarms: Sequence[Alarm]) -> None:
        """Say which alarms are open to a receiver that forgets what it does not hear of again, or raise Unavailable."""


class Untold:
    """The teller of a site that names no receiver: alarms are kept and shown only."""

    def tell(self, alarm: Alarm) -> None:
        """Do nothing."""

    def remind(self, alarms: Sequence[Alarm]) -> None:
        """Do nothing."""


def round_of(looks: Sequence[Look], teller: Teller, documents: Documents, site: Site, now: datetime) -> dict[str, int]:
    """Raise what is new, resolve what is over, tell people of both; answers counts.

    Raises Unavailable at the end where something could not be looked at or told: the rest is done all the same.
    """
    documents.refresh()
    open_ones = dict(documents.find("alarm", Alarm, {"state": [RAISED]}))
    found, unseen, errors = _looked(looks, open_ones)
    current = {finding.identity: finding for finding in found if not muted(finding.identity, site)}
    raised = {identity: _seen(open_ones.get(identity), finding, now) for identity, finding in current.items()}
    over = {
        identity: structs.replace(alarm, state=RESOLVED, resolved_at=now)
        for identity, alarm in open_ones.items()
        if identity not in current and (muted(identity, site) or (alarm.kind not in unseen and _is_over(alarm, now)))
    }
    told = _told(raised | over, teller, documents, now, errors)
    still = {**open_ones, **raised}
    _remind([alarm for identity, alarm in still.items() if identity not in over and alarm.told], teller, errors)
    if errors:
        raise errors[0]
    return {"open": len(still) - len(over), RAISED: told.count(RAISED), RESOLVED: told.count(RESOLVED)}


def muted(identity: str, site: Site) -> bool:
    """Say whether the site's data mute this alarm: patterns such as `silent_vm:uvic-*`."""
    return any(fnmatchcase(identity, pattern) for pattern in site.alarms.muted)


def _looked(looks: Iterable[Look], open_ones: Mapping[str, Alarm]) -> tuple[list[Finding], set[str], list[Unavailable]]:
    """Look at everything; answer what is found, the kinds that could not be looked at, and why."""
    found, unseen, errors = [], set[str](), []
    for look in looks:
        known = [alarm.subject for alarm in open_ones.values() if alarm.kind in look.kinds]
        try:
            found += list(look.find(known))
        except Unavailable as error:
            unseen |= set(look.kinds)
            errors.append(error)
    return found, unseen, errors


def _is_over(alarm: Alarm, now: datetime) -> bool:
    return now - alarm.seen_at >= STAYS_FOR.get(alarm.kind, timedelta(0))


def _seen(known: Alarm | None, finding: Finding, now: datetime) -> Alarm:
    if known is not None:
        return structs.replace(known, seen_at=now, message=finding.message, state=RAISED)
    return Alarm(
        kind=finding.kind,
        subject=finding.subject,
        cloud=finding.cloud,
        message=finding.message,
        state=RAISED,
        told=None,
        raised_at=now,
        seen_at=now,
        resolved_at=None,
    )


def _told(alarms: Mapping[str, Alarm], teller: Teller, documents: Documents, now: datetime, errors: list[Unavailable]) -> list[str]:
    """Keep every alarm, once people know its state; answer the states that they were told of, in bounded number.

    What one receiver refuses holds up no other alarm; after some failures in a row the rest waits for the next round.
    """
    documents.write([_kept(key, alarm, now) for key, alarm in alarms.items() if alarm.told == alarm.state]).result()
    told, failures = [], 0
    for key, alarm in _news(alarms):
        try:
            teller.tell(alarm)
        except Unavailable as error:
            errors.append(error)
            failures += 1
            if failures == MOST_FAILURES:
                break
            continue
        failures = 0
        documents.write([_kept(key, structs.replace(alarm, told=alarm.state), now)]).result()
        told.append(alarm.state)
    return told


def _news(alarms: Mapping[str, Alarm]) -> Iterator[tuple[str, Alarm]]:
    """List what people do not know yet, as much as one round may tell, what is over first."""
    news = [(key, alarm) for key, alarm in alarms.items() if alarm.told != alarm.state]
    yield from sorted(news, key=lambda item: item[1].state == RAISED)[:MOST_TOLD]


def _kept(identity: str, alarm: Alarm, now: datetime) -> Write:
    return Write("alarm", identity, round(now.timestamp() * 1_000), alarm)


def _remind(alarms: Sequence[Alarm], teller: Teller, errors: list[Unavailable]) -> None:
    try:
        teller.remind(alarms)
    except Unavailable as error:
        errors.append(error)
