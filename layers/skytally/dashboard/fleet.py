"""Fleets: how many vms of a cloud report, and how many are silent, added up by the stores.

A vm is what its newest boot is. A boot that said that it ends is none of either. One that did not is silent once it was
not heard of for `SILENT_AFTER`, and is expected to be heard of again for `EXPECTED_FOR`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct, structs

from skytally.accounting.statement_rows import SILENT_AFTER
from skytally.alarms.vm_checks import SILENT_UNTIL
from skytally.core.months import month_of
from skytally.core.ports import Documents, Query, Row

EXPECTED_FOR = SILENT_UNTIL
VmKey = tuple[str, str]


class Fleet(Struct, frozen=True):
    """How many vms of a cloud report, and how many are silent; None where that is not known any more."""

    reporting: int | None = 0
    silent: int | None = 0


NOT_KNOWN = Fleet(None, None)


def fleets(at: datetime, where: Mapping[str, Sequence[str]], documents: Documents) -> dict[str, Fleet]:
    """Return the fleet of each cloud at a moment."""
    months = sorted({month_of(at - EXPECTED_FOR), month_of(at), month_of(at + timedelta(days=1))})
    silent_from = at - SILENT_AFTER
    lately = Query(
        index="usage",
        moment="last_sampled_at",
        from_at=silent_from,
        until_at=at + timedelta(days=1),
        where={**where, "month": months},
        by=("cloud", "vm", "label", "final"),
        sums=("count",),
    )
    before = structs.replace(lately, from_at=at - EXPECTED_FOR, until_at=silent_from)
    went_back = Query(
        index="anomaly",
        moment="at",
        from_at=silent_from,
        until_at=at + timedelta(days=1),
        where=where,
        by=("cloud", "vm"),
        sums=("count",),
    )
    heard, quiet = documents.table(lately), documents.table(before)
    newest = _newest_boots([*heard, *quiet])
    ended = {row["label"] for row in (*heard, *quiet) if row["final"]}
    reporting = {row["label"] for row in heard}
    # An uptime that went back adds nothing to the month's document: the vm is heard of all the same.
    restored = {(row["cloud"], row["vm"]) for row in documents.table(went_back)}
    states = Counter(
        (vm[0], label in reporting or vm in restored) for vm, label in newest.items() if label not in ended
    )
    return {cloud: Fleet(states[cloud, True], states[cloud, False]) for cloud in {cloud for cloud, _ in newest}}


def _newest_boots(rows: Iterable[Row]) -> dict[VmKey, str]:
    """Return the label of each vm's newest boot: labels of a vm differ by the time of the boot alone."""
    newest: dict[VmKey, str] = {}
    for row in rows:
        vm = row["cloud"], row["vm"]
        newest[vm] = max(newest.get(vm, ""), row["label"])
    return newest
