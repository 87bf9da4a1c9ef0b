"""Alarms: what a person must look at. Each has one identity, is raised once, stays until it is over, and ends by itself.

Invariant: an alarm's document says what was told to people; it is written after they were told. A round that dies in between tells them
again: at least once, never never.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from msgspec import Struct, structs

from skytally import catalog, evidence
from skytally.cloud import Site
from skytally.documents import Alarm, Cursor, Round, Usage
from skytally.evidence import Held
from skytally.ports import Documents, Write
from skytally.records import iso
from skytally.statement import is_silent
from skytally.usage import month_of

RAISED, RESOLVED = "raised", "resolved"
# A vm that fell silent a week ago has ended without saying so: it stays on the statement, and nobody is woken for it any more.
SILENT_UNTIL = timedelta(days=7)
OTHERS_NAMED = 5
STALE_ROUNDS = timedelta(hours=1)


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


def contested_secrets(held: Iterable[Held]) -> Iterator[Finding]:
    """Find secrets whose token somebody else holds, too."""
    for one in evidence.contested(held):
        taken = f"was taken from {one.address}" if one.address else f"is {one.state}"
        others = ", ".join(f"{other.address} at {other.at}" for other in one.contested[:OTHERS_NAMED])
        message = (
            f"the secret of {one.vm} {taken} and wanted by {others}: replace what it holds, and see `skytally secrets show {one.claim}`"
        )
        yield Finding("contested_secret", f"{one.claim}/{one.vm}", one.cloud, message)


def unreported_secrets(held: Iterable[Held], documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find secrets that left us and after which the vm was never heard of."""
    for one in evidence.unreported(held, documents, now):
        message = f"the secret of {one.vm} went to {one.address} at {one.at}, and the vm never reported: if it is lost, deposit anew"
        yield Finding("unreported_secret", f"{one.claim}/{one.vm}", one.cloud, message)


def silent_vms(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find vms that fell silent without a last report."""
    months = sorted({month_of(now), month_of(now - SILENT_UNTIL)})
    newest: dict[str, Usage] = {}
    for _, usage in documents.find("usage", Usage, {"month": months}):
        known = newest.get(usage.label)
        newest[usage.label] = usage if known is None or usage.uptime_ms >= known.uptime_ms else known
    for label, usage in newest.items():
        if is_silent(usage, now) and now - usage.last_sampled_at < SILENT_UNTIL:
            message = f"{usage.vm} has not reported since {iso(usage.last_sampled_at)}: see whether the cloud still runs it"
            yield Finding("silent_vm", label, usage.cloud, message)


def stale_timers(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find timer functions that have not succeeded for long."""
    timers = [function.name for function in catalog.FUNCTIONS if function.schedule]
    for name, last in zip(timers, documents.get_many("round", timers, Round), strict=True):
        well = None if last is None else last.succeeded_at
        if last is not None and (well is None or now - well > STALE_ROUNDS) and now - last.started_at < SILENT_UNTIL and last.error:
            yield Finding("stale_timer", name, None, f"{name} last succeeded {iso(well) if well else 'never'}: {last.error}")


def stale_sources(documents: Documents, now: datetime) -> Iterator[Finding]:
    """Find sources of which one part fails while the others answer; one that nobody asks any more is no alarm."""
    for name, cursor in documents.find("cursor", Cursor, {}):
        if cursor.error and now - cursor.stands_at > STALE_ROUNDS and now - cursor.asked_at < STALE_ROUNDS:
            yield Finding("stale_source", name, None, f"{name} is collected until {iso(cursor.stands_at)}: {cursor.error}")


def round_of(found: Iterable[Finding], tell: Callable[[Alarm], None], documents: Documents, site: Site, now: datetime) -> dict[str, int]:
    """Raise what is new, resolve what is over, tell people of both; answers counts. Raises Unavailable where they cannot be told."""
    documents.refresh()
    open_ones = dict(documents.find("alarm", Alarm, {"open": ["yes"]}))
    current = {finding.identity: finding for finding in found if not muted(finding, site)}
    told = {RAISED: 0, RESOLVED: 0}
    for identity, finding in current.items():
        alarm = _seen(open_ones.get(identity), finding, now)
        told[RAISED] += _keep(identity, alarm, tell, documents, now)
    for identity, alarm in open_ones.items():
        if identity not in current:
            told[RESOLVED] += _keep(identity, structs.replace(alarm, state=RESOLVED, resolved_at=now), tell, documents, now)
    return {"open": len(current), **told}


def muted(finding: Finding, site: Site) -> bool:
    """Say whether the site's data mute this alarm: patterns such as `silent_vm:uvic-*`."""
    return any(fnmatchcase(finding.identity, pattern) for pattern in site.alarms.muted)


def _seen(known: Alarm | None, finding: Finding, now: datetime) -> Alarm:
    if known is not None:
        return structs.replace(known, seen_at=now, message=finding.message)
    return Alarm(
        kind=finding.kind,
        subject=finding.subject,
        cloud=finding.cloud,
        message=finding.message,
        state=RAISED,
        told=None,
        open="yes",
        raised_at=now,
        seen_at=now,
        resolved_at=None,
    )


def _keep(identity: str, alarm: Alarm, tell: Callable[[Alarm], None], documents: Documents, now: datetime) -> bool:
    """Tell people where they do not know this state yet, then write down that they do."""
    news = alarm.told != alarm.state
    if news:
        tell(alarm)
    kept = structs.replace(alarm, told=alarm.state, open="no" if alarm.state == RESOLVED else "yes")
    documents.write([Write("alarm", identity, round(now.timestamp() * 1_000), kept)]).result()
    return news
