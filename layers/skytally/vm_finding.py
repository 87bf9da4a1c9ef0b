"""What a person must look at among vms: silent ones, wrong clocks, and benchmarks that nobody can believe."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from skytally.alarm import Finding
from skytally.cloud import Site
from skytally.credit import hs23, scores
from skytally.documents import BootBenchmark, Usage
from skytally.ports import Documents
from skytally.records import iso
from skytally.samples import month_of
from skytally.statement import is_silent

KINDS = ("silent_vm", "clock_offset", "benchmark_quarantine")
# A vm that fell silent a week ago has ended without saying so: it stays on the statement, and nobody is woken for it any more.
SILENT_UNTIL = timedelta(days=7)
# Certificates and tokens begin to fail at five minutes; NTP holds a clock to a second. Once known, an offset is over at half of it.
OFFSET_SECONDS, OFFSET_STAYS_SECONDS = 60.0, 30.0


def findings(known: Collection[str], documents: Documents, site: Site, now: datetime) -> Iterator[Finding]:
    """Find all of them in one pass over the months that matter."""
    newest = newest_usages(documents, now)
    yield from silent_vms(newest, now)
    reporting = [usage for usage in newest if not usage.final and not is_silent(usage, now)]
    yield from clock_offsets(reporting, known)
    yield from quarantined_benchmarks(reporting, documents, site)


def newest_usages(documents: Documents, now: datetime) -> list[Usage]:
    """Answer the newest month of each boot that was heard of within a week."""
    months = sorted({month_of(now), month_of(now - SILENT_UNTIL)})
    newest: dict[str, Usage] = {}
    for _, usage in documents.find("usage", Usage, {"month": months}):
        known = newest.get(usage.label)
        newest[usage.label] = usage if known is None or usage.uptime_ms >= known.uptime_ms else known
    return [usage for usage in newest.values() if now - usage.last_sampled_at < SILENT_UNTIL]


def silent_vms(newest: Iterable[Usage], now: datetime) -> Iterator[Finding]:
    """Find vms that fell silent without a last report."""
    for usage in newest:
        if is_silent(usage, now):
            message = f"{usage.vm} has not reported since {iso(usage.last_sampled_at)}: see whether the cloud still runs it"
            yield Finding("silent_vm", usage.label, usage.cloud, message)


def clock_offsets(reporting: Iterable[Usage], known: Collection[str]) -> Iterator[Finding]:
    """Find vms whose clock is far from the server's, as they measured it, or so far ahead that their times do not count."""
    for usage in reporting:
        offset, allowed = usage.clock_offset_seconds or 0.0, OFFSET_STAYS_SECONDS if usage.label in known else OFFSET_SECONDS
        if usage.clock_ahead or abs(offset) > allowed:
            how = f"off by {offset:+.0f} s" if abs(offset) > allowed else "ahead of the server's"
            message = f"the clock of {usage.vm} is {how}: start NTP in its image, before certificates and tokens fail"
            yield Finding("clock_offset", usage.label, usage.cloud, message)


def quarantined_benchmarks(reporting: Sequence[Usage], documents: Documents, site: Site) -> Iterator[Finding]:
    """Find benchmarks that do not count because they are too far from those of the same cloud and flavor."""
    found = documents.get_many("benchmark", [usage.boot_id for usage in reporting], BootBenchmark)
    credit = scores(found, site)
    for usage, benchmark in zip(reporting, found, strict=True):
        if benchmark is not None and credit[usage.boot_id].quarantined:
            message = (
                f"the benchmark of {usage.vm} says {hs23(benchmark, site):.4g} HS23 a core, where others of its flavor have "
                f"{credit[usage.boot_id].hs23:.4g}, which counts: if it is right, confirm boot {usage.boot_id} in the site data"
            )
            yield Finding("benchmark_quarantine", usage.label, usage.cloud, message)
