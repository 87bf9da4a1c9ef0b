"""What a person must look at among jobs that ended:
clouds that break more of them than others do, and vms that swallow them.

What people or servers killed is no failure. A vm that swallows jobs is left out before its cloud is judged.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from math import log

from msgspec import Struct, structs

from skytally.alarms.alarm_round import Crash, Finding, each
from skytally.alarms.failure_rate_test import Cell, Comparison, Evidence, faulty
from skytally.core.documents import Cursor
from skytally.core.job_outcomes import STATUSES
from skytally.core.ports import Documents, Query, Row
from skytally.jobs import dirac_state
from skytally.jobs.placement_join import UNKNOWN

KINDS = ("faulty_cloud", "black_hole_vm")
FAILED, WELL = STATUSES["failed"], STATUSES["finished"]
NOT_OURS = (UNKNOWN, dirac_state.ELSEWHERE)
HOUR, LONGER = timedelta(hours=1), timedelta(hours=6)
WORK = ("system", "processing_type", "task_id")
# Ten jobs an hour that fail within ten minutes each, and hardly one that does not; while it is known, half of that.
SWALLOWED, SWALLOWED_SHARE, SWALLOWED_MS = 10, 0.8, 600_000
LOOKS_A_MONTH = 4 * 24 * 30
# Where more of a cloud's vms are so than this, it is the cloud.
MOST_VMS = 0.5


class Vm(Struct, frozen=True):
    """What ended on one vm within the hour."""

    cloud: str
    vm: str
    jobs: int
    failed: int
    failed_ms: int


def findings(known: Collection[str], documents: Documents, now: datetime) -> Iterator[Finding | Crash]:
    """Find vms that swallow jobs, then clouds that break them all the same;
    `known` are the subjects that were found before.
    """
    from_at = known_until(documents, now) - HOUR
    ended = Query(
        index="job",
        moment="final_at",
        from_at=from_at,
        until_at=now,
        where={"status": [*FAILED, *WELL]},
        sums=("count",),
    )
    swallowing = black_holes(ended, documents, known)
    yield from each(swallowing, lambda pair: (f"{pair[0].cloud}/{pair[0].vm}", pair[0].cloud), _swallowing)
    yield from _faulty_clouds(ended, documents, known, [one for one, _ in swallowing])


def _swallowing(found: tuple[Vm, Evidence]) -> Iterator[Finding]:
    one, evidence = found
    minutes = one.failed_ms / one.failed / 60_000
    message = (
        f"{one.vm} swallows jobs: {one.failed} of {one.jobs} failed within the hour, after {minutes:.1f} min each, "
        "where "
        f"{evidence.expected:.1f} would elsewhere: drain it"
    )
    yield Finding("black_hole_vm", f"{one.cloud}/{one.vm}", one.cloud, message, one.vm)


def known_until(documents: Documents, now: datetime) -> datetime:
    """Return until when any source is collected: while none can be,
    the last hour that is known stays the one that counts.
    """
    cursors = [cursor.stands_at for _, cursor in documents.find("cursor", Cursor, {}) if now - cursor.asked_at < LONGER]
    return max(min(max(cursors, default=now), now), now - LONGER + HOUR)


def _faulty_clouds(
    ended: Query, documents: Documents, known: Collection[str], without: list[Vm]
) -> Iterator[Finding | Crash]:
    longer = structs.replace(ended, from_at=ended.until_at - LONGER)
    hour, six = (Comparison(cells(query, documents, without)) for query in (ended, longer))

    def find(found: tuple[str, Evidence]) -> Iterator[Finding]:
        cloud, evidence = found
        error, words = _commonest_error(ended, documents, cloud)
        message = (
            f"jobs fail on {cloud}: {evidence.failed} of {evidence.jobs} in the last hour, where "
            f"{evidence.expected:.1f} would elsewhere, "
            f"most with {words}: stop sending it jobs until that is understood"
        )
        yield Finding("faulty_cloud", cloud, cloud, message, error=error)

    found = sorted(faulty(hour, six, [place for place in hour.places if place in known]).items())
    return each(found, lambda pair: (pair[0], pair[0]), find)


def cells(ended: Query, documents: Documents, without: Collection[Vm] = ()) -> list[Cell]:
    """Return what ended, by cloud and task, but on some vms."""
    rows = documents.table(structs.replace(ended, by=("cloud", *WORK, "status")))
    if without:
        rows += [row | {"count": -row["count"]} for row in _of_vms(ended, documents, without)]
    return _cells((row["cloud"], row) for row in rows)


def black_holes(ended: Query, documents: Documents, known: Collection[str]) -> list[tuple[Vm, Evidence]]:
    """Find vms that swallow jobs, where the others of the fleet do not fail at the like work."""
    vms = _vms(documents.table(structs.replace(ended, by=("cloud", "vm", "status"), sums=("count", "wall_ms"))))
    swallowing = [one for one in _few_of_a_cloud(vms, known) if one.cloud not in NOT_OURS]
    if not swallowing:
        return []
    own = _cells((f"{row['cloud']}/{row['vm']}", row) for row in _of_vms(ended, documents, swallowing))
    compared = Comparison([*own, *cells(ended, documents, swallowing)])
    level, names = log(LOOKS_A_MONTH * len(vms)), {f"{one.cloud}/{one.vm}" for one in swallowing}
    judged = [(one, compared.evidence(f"{one.cloud}/{one.vm}", names)) for one in swallowing]
    return [
        (one, evidence)
        for one, evidence in judged
        if evidence.nats >= (level / 2 if f"{one.cloud}/{one.vm}" in known else level)
    ]


def _vms(rows: Iterable[Row]) -> list[Vm]:
    found: dict[tuple[str, str], Vm] = {}
    for row in rows:
        if row["vm"] is not None:
            one = found.get((row["cloud"], row["vm"]), Vm(row["cloud"], row["vm"], 0, 0, 0))
            failed = row["status"] in FAILED
            found[one.cloud, one.vm] = structs.replace(
                one,
                jobs=one.jobs + row["count"],
                failed=one.failed + failed * row["count"],
                failed_ms=one.failed_ms + failed * row["wall_ms"],
            )
    return list(found.values())


def _few_of_a_cloud(vms: list[Vm], known: Collection[str]) -> Iterator[Vm]:
    """Find vms whose jobs fail fast, unless most of their cloud's do."""
    clouds: dict[str, list[Vm]] = defaultdict(list)
    for one in vms:
        clouds[one.cloud].append(one)
    for cloud, here in clouds.items():
        fast = [one for one in here if _swallows(one, f"{cloud}/{one.vm}" in known)]
        if len(fast) <= max(1, MOST_VMS * len(here)):
            yield from fast


def _swallows(one: Vm, is_known: bool) -> bool:
    needed = SWALLOWED / 2 if is_known else SWALLOWED
    return one.failed >= max(needed, SWALLOWED_SHARE * one.jobs) and one.failed_ms <= SWALLOWED_MS * one.failed


def _of_vms(ended: Query, documents: Documents, vms: Collection[Vm]) -> list[Row]:
    """Return the rows of some vms; names repeat between clouds."""
    wanted = {(one.cloud, one.vm) for one in vms}
    where = {**ended.where, "vm": sorted({one.vm for one in vms})}
    rows = documents.table(structs.replace(ended, where=where, by=("cloud", "vm", *WORK, "status")))
    return [row for row in rows if (row["cloud"], row["vm"]) in wanted]


def _cells(placed: Iterable[tuple[str, Row]]) -> list[Cell]:
    counts: dict[tuple[str, str, str | None], list[int]] = defaultdict(lambda: [0, 0])
    for place, row in placed:
        if row["cloud"] not in NOT_OURS:
            task = None if row["task_id"] is None else f"{row['system']}/{row['task_id']}"
            count = counts[place, f"{row['system']}/{row['processing_type']}", task]
            count[0] += row["count"]
            count[1] += row["count"] * (row["status"] in FAILED)
    return [Cell(place, kind, task, jobs, failed) for (place, kind, task), (jobs, failed) in counts.items() if jobs > 0]


def _commonest_error(ended: Query, documents: Documents, cloud: str) -> tuple[str | None, str]:
    """Return the error that most failed jobs of a cloud have, and it with its message in words."""
    where = {"status": FAILED, "cloud": [cloud]}
    rows = documents.table(structs.replace(ended, by=("error", "error_message"), where=where))
    if not rows:
        return None, "no error"
    most = max(rows, key=lambda row: row["count"])
    return most["error"], f"{most['error'] or 'no error'} ({most['error_message'] or 'no words'})"
