"""The source of a month's records for APEL: the statement, the APEL names of clouds, and a list of what was left out.

Invariant: a fault costs only what has it. A record that cannot be sent is left out by name, and no other cloud's or
vm's record is missing for it.
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
    """A record that must not be sent to APEL; the message says why."""

    code: Code = "unsendable"


class LeftOut(Struct, frozen=True):
    """An omission: a cloud or one of its vms, the reason, and how many vms or jobs it concerns."""

    cloud: str
    vm: str | None
    reason: str
    count: int

    def __str__(self) -> str:
        """Return the omission in printable ASCII."""
        return apel_format.plain(f"{self.cloud}{'' if self.vm is None else f'/{self.vm}'}: {self.reason}")


def summary(left_out: Sequence[LeftOut]) -> str:
    """Return one line: how many vms or jobs were left out, and as many omissions as fit."""
    line = str(sum(entry.count for entry in left_out))
    for number, entry in enumerate(left_out):
        if len(line) + len(str(entry)) > MOST_NAMED:
            return f"{line}; and {len(left_out) - number} more"
        line += f"; {entry}"
    return line


class Source:
    """A month's statement for APEL, and what was left out of it so far.

    `others` are the boots of other revisions of its closed clouds: groups that only these have are set to zero.
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
        """Return what was left out, ordered by cloud and vm."""
        return [
            LeftOut(*key, count)
            for key, count in sorted(self._left_out.items(), key=lambda item: tuple(map(str, item[0])))
        ]

    def leave_out(self, cloud: str, vm: str | None, reason: str, count: int = 1) -> None:
        """Note an omission: one vm, or several vms or jobs of a cloud for the same reason."""
        self._left_out[cloud, vm, reason] += count

    def checked(self, kind: MessageType, records: Iterable[Record], cloud: str, number: str) -> list[Record]:
        """Return the summaries that may be sent and leave out the others.

        `cloud` and `number` are the keys of a summary's cloud and of how many vms or jobs it sums up.
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
        """Return the GOCDB name of a cloud's site, or raise Unsendable."""
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
        """Return the virtual organisation of the first of these names that has one, or None.

        A name is a system's, a group's or a cloud's. Raise Unsendable for an organisation that APEL cannot take.
        """
        organisations = self._site.apel.virtual_organisations
        name = next((name for name in names if name in organisations), None)
        if name is None:
            return None
        fault = apel_format.fault_of_organisation(organisations[name])
        if fault is not None:
            raise Unsendable(f"clouds.toml, apel.virtual_organisations.{name}: {organisations[name]!r} {fault}")
        return organisations[name]
