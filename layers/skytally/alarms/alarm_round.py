"""Alarms: what a person must look at.

Each has one identity, is raised once, stays until it is over, and ends by itself.

Invariants:

* An alarm's document says what people were told; it is written after they were told. A round that dies in between tells
  them again: at-least-once delivery.
* Checks stand alone: one that fails is an alarm itself, and what it would have found is not over. An item that makes a
  check crash costs itself alone.
* Of one kind and cloud at most `MOST_OPEN` alarms are open, and one more has the number of the rest. Every vm's first
  finding comes before any vm's second, so that no vm crowds out its neighbours; among equals an alarm that is open
  keeps its place. One that loses it all the same is `counted`: people are told that it is over only when it is.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Protocol, TypedDict, TypeVar

from msgspec import Struct, structs

from skytally.core import logs
from skytally.core.documents import Alarm
from skytally.core.errors import Unavailable
from skytally.core.plain_text import visible
from skytally.core.ports import Documents, Write
from skytally.core.site_data import Site
from skytally.core.timestamps import to_ms
from skytally.operation.timer import Deadline, shuffled

T = TypeVar("T")
F = TypeVar("F")
RAISED, COUNTED, RESOLVED = "raised", "counted", "resolved"
FAILED_CHECK = "failed_check"
KINDS = (FAILED_CHECK,)
# What rests on chance or on a level must be away for so long before it is over; anything else is over when it is not so
# any more.
STAYS_FOR = {
    "faulty_cloud": timedelta(hours=1),
    "black_hole_vm": timedelta(hours=2),
    "stuck_payload": timedelta(hours=1),
    "clock_offset": timedelta(minutes=30),
    "store_nearly_full": timedelta(minutes=30),
}
MOST_OPEN = 50
MOST_TOLD, MOST_FAILURES = 100, 2
# What checks leave of a round, however slow they are.
TELLS_SECONDS = 4.0
# Names in a message are others' words, of 255 characters each.
MOST_LETTERS = 1_000


class AlarmCounts(TypedDict, total=False):
    """How many alarms are open, and of how many people were told that they are raised or over."""

    open: int
    raised: int
    resolved: int


class Finding(Struct, frozen=True):
    """Something that is so now: what, of whom, and a sentence that says what to do;
    `vm` is whose it is where it is a vm's, and `error` the one that its jobs fail with most.
    """

    kind: str
    subject: str
    cloud: str | None
    message: str
    vm: str | None = None
    error: str | None = None

    @property
    def identity(self) -> str:
        """Name the alarm that this is, however often it is found."""
        return f"{self.kind}:{self.subject}"


class Crash(Struct, frozen=True):
    """A thing that a check could not look at: by its alarms' subject, its cloud, and the log line that says why."""

    subject: str
    cloud: str | None
    incident: str


class Check(Struct, frozen=True):
    """One way to look at things, and the kinds of alarms that it finds;
    `find` gets the subjects of those kinds that are open.
    """

    name: str
    kinds: tuple[str, ...]
    find: Callable[[Sequence[str]], Iterable[Finding | Crash]]


class Checked(Struct, frozen=True):
    """What all checks came to: findings, the kinds and the identities that nobody could look at, and the outages."""

    findings: list[Finding] = []
    kinds: set[str] = set()
    identities: set[str] = set()
    outages: list[Unavailable] = []

    def is_unknown(self, alarm: Alarm) -> bool:
        """Say whether nobody could look whether an alarm is over."""
        return alarm.kind in self.kinds or f"{alarm.kind}:{alarm.subject}" in self.identities


class Notifier(Protocol):
    """Who tells people of alarms."""

    def tell(self, alarm: Alarm) -> None:
        """Tell of an alarm that was raised or resolved, or raise Unavailable."""

    def remind(self, alarms: Sequence[Alarm]) -> None:
        """Say which alarms are open to a receiver that forgets what it does not hear of again, or raise Unavailable."""


class NullNotifier:
    """The notifier of a site that names no receiver: alarms are kept and shown only."""

    def tell(self, alarm: Alarm) -> None:
        """Do nothing."""

    def remind(self, alarms: Sequence[Alarm]) -> None:
        """Do nothing."""


def each(
    items: Iterable[T], about: Callable[[T], tuple[str, str | None]], find: Callable[[T], Iterable[F]]
) -> Iterator[F | Crash]:
    """Find what is so of each of many things;
    one that makes this crash costs itself, and is named by `about` (subject, cloud).
    """
    for item in items:
        try:
            yield from list(find(item))
        except Unavailable:
            raise
        except Exception as crash:  # noqa: BLE001  an item of a sender's costs itself
            yield Crash(*about(item), logs.incident(crash))


def round_of(
    checks: Sequence[Check], notifier: Notifier, documents: Documents, site: Site, now: datetime, deadline: Deadline
) -> AlarmCounts:
    """Raise what is new, resolve what is over, tell people of both; return counts.

    What is left when time is up is the next round's. Raises Unavailable at the end where a store was away from a check,
    or people could not be told: the rest is done all the same.
    """
    documents.refresh()
    known = dict(documents.find("alarm", Alarm, {"state": [RAISED, COUNTED]}))
    checked = run_checks(
        shuffled(checks, lambda check: check.name, now), known.values(), deadline.sooner(TELLS_SECONDS)
    )
    alarms = decided(checked, known, lambda identity: muted(identity, site), now)
    errors = list(checked.outages)
    kept = [
        _kept(identity, alarm, now)
        for identity, alarm in alarms.items()
        if not _is_news(alarm) and alarm != known.get(identity)
    ]
    _keep_history([identity for identity in alarms if identity not in known], documents, now)
    documents.write(kept).result()
    told = _told(alarms, notifier, documents, now, errors, deadline)
    if not deadline.is_over():
        _remind([alarm for alarm in alarms.values() if alarm.told and alarm.state != RESOLVED], notifier, errors)
    if errors:
        raise errors[0]
    states = Counter(alarm.state for alarm in alarms.values())
    return {"open": states[RAISED], "raised": told.count(RAISED), "resolved": told.count(RESOLVED)}


def _keep_history(raised_anew: Sequence[str], documents: Documents, now: datetime) -> None:
    """Give what is resolved a key of its own before its alarm is raised anew."""
    resolved = documents.get_many("alarm", raised_anew, Alarm)
    writes = [
        Write("alarm", f"{identity}@{to_ms(alarm.raised_at)}", to_ms(now), alarm)
        for identity, alarm in zip(raised_anew, resolved, strict=True)
        if alarm is not None
    ]
    documents.write(writes).result()


def muted(identity: str, site: Site) -> bool:
    """Say whether the site's data mute this alarm: patterns such as `silent_vm:uvic-*`."""
    return any(fnmatchcase(identity, pattern) for pattern in site.alarms.muted)


def run_checks(checks: Iterable[Check], known: Collection[Alarm], deadline: Deadline) -> Checked:
    """Do every check, whatever becomes of the others; what one has found before it fails counts.

    One for which no time is left is as if nobody could look.
    """
    checked = Checked()
    for check in checks:
        if deadline.is_over():
            checked.kinds.update(check.kinds)
            checked.identities.add(f"{FAILED_CHECK}:{check.name}")
            continue
        try:
            for one in check.find([alarm.subject for alarm in known if alarm.kind in check.kinds]):
                _note(one, check, checked)
        except Unavailable as outage:
            checked.outages.append(outage)
            _note_failure(check, outage.message, checked)
        except Exception as crash:  # noqa: BLE001  a check that crashes is one failed check
            _note_failure(check, f"this is a bug, incident {logs.incident(crash)} in the log", checked)
    return checked


def _note(one: Finding | Crash, check: Check, checked: Checked) -> None:
    if isinstance(one, Finding):
        checked.findings.append(one)
        return
    checked.identities.update(f"{kind}:{one.subject}" for kind in check.kinds)
    message = (
        f"{check.name} cannot look at {one.subject}: this is a bug, incident {one.incident} in the log; its alarms "
        "stay as they are"
    )
    checked.findings.append(Finding(FAILED_CHECK, f"{check.name}: {one.subject}", one.cloud, message))


def _note_failure(check: Check, why: str, checked: Checked) -> None:
    checked.kinds.update(check.kinds)
    message = f"the check of {check.name} failed, and its alarms stay as they are: {why}"
    checked.findings.append(Finding(FAILED_CHECK, check.name, None, message))


def decided(
    checked: Checked, known: Mapping[str, Alarm], is_muted: Callable[[str], bool], now: datetime
) -> dict[str, Alarm]:
    """Return each alarm that was open or is found, as it is from now on:
    raised, counted among the rest, or resolved.
    """
    groups: dict[tuple[str, str | None], dict[str, Finding]] = defaultdict(dict)
    for finding in checked.findings:
        if not is_muted(finding.identity):
            groups[finding.kind, finding.cloud][finding.identity] = finding
    alarms: dict[str, Alarm] = {}
    for (kind, cloud), findings in groups.items():
        ordered = _ordered(findings.values(), known)
        alarms |= {one.identity: _seen(known.get(one.identity), one, RAISED, now) for one in ordered[:MOST_OPEN]}
        rest = ordered[MOST_OPEN:]
        alarms |= {one.identity: _seen(known[one.identity], one, COUNTED, now) for one in rest if one.identity in known}
        if rest and not is_muted((more := _more(kind, cloud, len(rest))).identity):
            alarms[more.identity] = _seen(known.get(more.identity), more, RAISED, now)
    return alarms | _left(
        {one: alarm for one, alarm in known.items() if one not in alarms}, alarms, checked, is_muted, now
    )


def _ordered(findings: Iterable[Finding], known: Mapping[str, Alarm]) -> list[Finding]:
    """Put every vm's first finding before any vm's second;
    among equals what is open comes first, then what was, then what is new.
    """
    standing = {RAISED: 0, COUNTED: 1}

    def place(one: Finding) -> tuple[int, str]:
        alarm = known.get(one.identity)
        return (2 if alarm is None else standing[alarm.state]), one.identity

    return in_turn(sorted(findings, key=place), lambda one: one.vm or one.subject)


def in_turn(items: Iterable[T], owner: Callable[[T], Hashable]) -> list[T]:
    """Order items so that every owner's first comes before any owner's second, and so on;
    else they stay in their order.
    """
    turns = Counter[Hashable]()
    ranked: list[tuple[int, T]] = []
    for item in items:
        ranked.append((turns[owner(item)], item))
        turns[owner(item)] += 1
    return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]


def _more(kind: str, cloud: str | None, count: int) -> Finding:
    """Make the one alarm of all that have no place of their own."""
    where = f" of {cloud}" if cloud else ""
    message = (
        f"{count} more {kind}{where} beside the {MOST_OPEN} that are open: look for one cause, and whose token it is"
    )
    return Finding(kind, _more_subject(cloud), cloud, message)


def _more_subject(cloud: str | None) -> str:
    return f"{cloud}: more" if cloud else "more"


def _left(
    left: Mapping[str, Alarm],
    alarms: Mapping[str, Alarm],
    checked: Checked,
    is_muted: Callable[[str], bool],
    now: datetime,
) -> dict[str, Alarm]:
    """Say what becomes of alarms that are not found:
    over, or as they were while nobody could look or it is too soon to say.

    Those that only wait for their end take no place from what is found.
    """
    taken = Counter(
        (one.kind, one.cloud)
        for one in alarms.values()
        if one.state == RAISED and one.subject != _more_subject(one.cloud)
    )
    becomes: dict[str, Alarm] = {}
    for identity, alarm in sorted(left.items(), key=lambda item: (item[1].raised_at, item[0])):
        group = (alarm.kind, alarm.cloud)
        is_unknown = checked.is_unknown(alarm)
        if is_muted(identity) or (not is_unknown and now - alarm.seen_at >= STAYS_FOR.get(alarm.kind, timedelta(0))):
            becomes[identity] = structs.replace(alarm, state=RESOLVED, resolved_at=now)
        elif alarm.state == COUNTED or alarm.subject == _more_subject(alarm.cloud) or taken[group] < MOST_OPEN:
            becomes[identity] = alarm
            taken[group] += alarm.state == RAISED
        elif is_unknown:
            becomes[identity] = structs.replace(alarm, state=COUNTED)
        else:
            becomes[identity] = structs.replace(alarm, state=RESOLVED, resolved_at=now)
    return becomes


def _seen(known: Alarm | None, finding: Finding, state: str, now: datetime) -> Alarm:
    message = visible(finding.message)
    message = message if len(message) <= MOST_LETTERS else f"{message[: MOST_LETTERS - 1]}…"
    if known is not None:
        return structs.replace(known, seen_at=now, message=message, state=state, vm=finding.vm, error=finding.error)
    return Alarm(
        kind=finding.kind,
        subject=finding.subject,
        cloud=finding.cloud,
        message=message,
        state=state,
        told=None,
        raised_at=now,
        seen_at=now,
        resolved_at=None,
        vm=finding.vm,
        error=finding.error,
    )


def _is_news(alarm: Alarm) -> bool:
    """Say whether people were not yet told of an alarm's state; what is counted is part of another alarm."""
    return alarm.state not in {alarm.told, COUNTED}


def _told(
    alarms: Mapping[str, Alarm],
    notifier: Notifier,
    documents: Documents,
    now: datetime,
    errors: list[Unavailable],
    deadline: Deadline,
) -> list[str]:
    """Tell people what is new, and keep each alarm once they know;
    return the states that they were told of, in bounded number.

    What one receiver refuses holds up no other alarm; after some failures in a row, or when time is up, the rest waits
    for the next round.
    """
    told, failures = [], 0
    for identity, alarm in _news(alarms, now):
        if deadline.is_over():
            break
        error = _failure(notifier, alarm)
        if error is None:
            documents.write([_kept(identity, structs.replace(alarm, told=alarm.state), now)]).result()
            told.append(alarm.state)
            failures = 0
        else:
            errors.append(error)
            failures += 1
            if failures == MOST_FAILURES:
                break
    return told


def _failure(notifier: Notifier, alarm: Alarm) -> Unavailable | None:
    try:
        notifier.tell(alarm)
    except Unavailable as error:
        return error
    except Exception as crash:  # noqa: BLE001  an alarm that cannot be told costs itself
        return Unavailable(f"an alarm cannot be told: this is a bug, incident {logs.incident(crash)} in the log")
    return None


def _news(alarms: Mapping[str, Alarm], now: datetime) -> list[tuple[str, Alarm]]:
    """List what people do not know yet, as much as one round may tell: what is over first, and each cloud in its turn.

    Else the order is another in each round: what a receiver never takes does not stand before the same others for ever.
    """

    news = shuffled(
        ((identity, alarm) for identity, alarm in alarms.items() if _is_news(alarm)), lambda item: item[0], now
    )
    news = sorted(news, key=lambda item: item[1].state == RAISED)
    return in_turn(news, lambda item: item[1].cloud)[:MOST_TOLD]


def _kept(identity: str, alarm: Alarm, now: datetime) -> Write:
    return Write("alarm", identity, to_ms(now), alarm)


def _remind(alarms: Sequence[Alarm], notifier: Notifier, errors: list[Unavailable]) -> None:
    try:
        notifier.remind(alarms)
    except Unavailable as error:
        errors.append(error)
