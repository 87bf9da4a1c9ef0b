"""What a month's records for APEL are made of: the statement,
the names that APEL knows clouds by, and a list of what cannot be sent.

Invariant: a fault costs what has it. What cannot be sent is left out by name, and no record of another cloud or vm is
missing for it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from skytally.accounting import apel_format
from skytally.accounting.apel_format import MessageType, Value
from skytally.accounting.statement_rows import FINAL
from skytally.core.errors import Code, SkytallyError
from skytally.core.ports import Documents
from skytally.core.site_data import Site

MOST_NAMED = 1_000

Record = dict[str, Value]
Boot = Mapping[str, Any]


class Unsendable(SkytallyError):
    """A record that APEL must not get; the message says why."""

    code: Code = "unsendable"


class LeftOut(Struct, frozen=True):
    """What was not sent of a cloud, or of one vm of it, why, and how many vms or jobs that are."""

    cloud: str
    vm: str | None
    reason: str
    count: int

    def __str__(self) -> str:
        """Write it in printable ASCII."""
        return apel_format.plain(f"{self.cloud}{'' if self.vm is None else f'/{self.vm}'}: {self.reason}")


def summary(left_out: Sequence[LeftOut]) -> str:
    """Say in one line what was left out: how many vms or jobs, and as many of them as there is room for."""
    line = str(sum(one.count for one in left_out))
    for number, one in enumerate(left_out):
        if len(line) + len(str(one)) > MOST_NAMED:
            return f"{line}; and {len(left_out) - number} more"
        line += f"; {one}"
    return line


class Source:
    """A month's statement on its way to APEL, and what had to be left out of it so far.

    `others` are the boots of other revisions of its closed clouds: what those put into other groups is taken back
    there.
    """

    def __init__(
        self,
        statement: Mapping[str, Any],
        others: Sequence[Boot],
        documents: Documents,
        site: Site,
        now: datetime,
        *,
        closed_only: bool,
    ) -> None:
        self.month: str = statement["month"]
        self.boots: Sequence[Boot] = statement["boots"]
        self.others, self.documents, self.now = others, documents, now
        self._site, self._closed_only = site, closed_only
        self._closed = {row["cloud"] for row in statement["clouds"] if row["state"] == FINAL}
        self._left_out: Counter[tuple[str, str | None, str]] = Counter()

    @property
    def left_out(self) -> list[LeftOut]:
        """Return what was left out, in the order of its names."""
        return [
            LeftOut(*key, count)
            for key, count in sorted(self._left_out.items(), key=lambda item: tuple(map(str, item[0])))
        ]

    def leave_out(self, cloud: str, vm: str | None, reason: str, count: int = 1) -> None:
        """Note what is not sent: one vm, or several vms or jobs of a cloud for the same reason."""
        self._left_out[cloud, vm, reason] += count

    def checked(self, kind: MessageType, records: Iterable[Record], cloud: str, number: str) -> list[Record]:
        """Return the summaries that may be sent, and leave out the others;
        two keys hold their cloud, and how many each adds up.
        """
        sendable = []
        for record in records:
            problem = apel_format.problem(kind, record, self.now)
            if problem is None:
                sendable.append(record)
            else:
                self.leave_out(str(record[cloud]), None, problem, int(str(record[number])))
        return sendable

    def site_name(self, cloud: str) -> str:
        """Return the name that GOCDB knows a cloud's site by, or raise Unsendable."""
        if self._closed_only and cloud not in self._closed:
            raise Unsendable(f"its {self.month} is not closed")
        name = self._site.cloud(cloud).apel_site
        if name is None:
            raise Unsendable("the site data name no apel_site for it")
        fault = apel_format.fault_of_name(name)
        if fault is not None:
            line = self._site.apel_lines.get(cloud)
            raise Unsendable(
                f"clouds.toml, {f'line {line}, ' if line else ''}clouds.{cloud}.apel_site: {name!r} {fault}"
            )
        return name

    def organisation(self, *names: str | None) -> str | None:
        """Return the virtual organisation of the first of some names (a system,
        a group, a cloud) that has one, or raise Unsendable.
        """
        known = self._site.apel.virtual_organisations
        name = next((name for name in names if name in known), None)
        if name is None:
            return None
        fault = apel_format.fault_of_organisation(known[name])
        if fault is not None:
            raise Unsendable(f"clouds.toml, apel.virtual_organisations.{name}: {known[name]!r} {fault}")
        return known[name]
