"""A month for APEL: messages in one of FORMATS, with every record checked as APEL does, and the list of omissions."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from skytally.accounting import apel_format, closing
from skytally.accounting.apel_format import MessageType
from skytally.accounting.apel_jobs import job_summaries
from skytally.accounting.apel_records import cloud_records, cloud_summaries
from skytally.accounting.apel_source import Boot, LeftOut, Record, Source
from skytally.core.ports import Documents
from skytally.core.site_data import Site

Make = Callable[[Source, Sequence[str]], Sequence[Record]]
FORMATS: dict[str, tuple[MessageType, Make]] = {
    "apel-cloud": (apel_format.CLOUD, lambda source, _: cloud_records(source)),
    "apel-cloud-summary": (apel_format.CLOUD_SUMMARY, lambda source, _: cloud_summaries(source)),
    "apel-job-summary": (apel_format.JOB_SUMMARY, job_summaries),
}


class Export(Struct, frozen=True):
    """A month's messages, at least one, their number of records, and what was left out."""

    messages: list[str]
    record_count: int
    left_out: list[LeftOut]


def export(
    form: str,
    statement: Mapping[str, Any],
    clouds: Sequence[str],
    documents: Documents,
    site: Site,
    now: datetime,
    *,
    closed_only: bool = False,
) -> Export:
    """Return the messages of a statement of some clouds or of all; with `closed_only`, of clouds with a closed month.

    Raise Conflict for a month whose jobs were partly removed.
    """
    kind, make = FORMATS[form]
    source = Source(statement, _others(statement, clouds, documents), documents, site, now, closed_only=closed_only)
    records = make(source, clouds)
    return Export(
        [apel_format.message(kind, part) for part in apel_format.parts(records)], len(records), source.left_out
    )


def _others(statement: Mapping[str, Any], clouds: Sequence[str], documents: Documents) -> list[Boot]:
    """Return the boots of all revisions of a statement's clouds but the one that it shows."""
    shown_revisions = {row["cloud"]: row["revision"] for row in statement["clouds"]}
    revisions = closing.all_revisions(statement["month"], clouds, documents)
    return [
        boot
        for frozen in revisions
        if shown_revisions.get(frozen.cloud) not in (None, frozen.revision)
        for boot in frozen.boots
    ]
