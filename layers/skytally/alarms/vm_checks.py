"""What a person must look at among vms: silent ones, wrong clocks, and benchmarks that nobody can believe."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from skytally.accounting.hs23 import own_score, scores
from skytally.accounting.statement_rows import SILENT_AFTER, month_documents
from skytally.alarms.alarm_round import Crash, Finding, each
from skytally.core.documents import BootBenchmark, Usage
from skytally.core.months import month_of
from skytally.core.ports import Documents
from skytally.core.records import iso
from skytally.core.site_data import Site

SILENT_KINDS, CLOCK_KINDS, BENCHMARK_KINDS = ("silent_vm",), ("clock_offset",), ("benchmark_quarantine",)
KINDS = (*SILENT_KINDS, *CLOCK_KINDS, *BENCHMARK_KINDS)
# A vm that fell silent a week ago has ended without saying so: it stays on the statement, and nobody is woken for it
# any more.
SILENT_UNTIL = timedelta(days=7)
# Certificates and tokens begin to fail at five minutes; NTP holds a clock to a second. Once known, an offset is over at
# half of it.
OFFSET_SECONDS, OFFSET_STAYS_SECONDS = 60.0, 30.0


def newest_usages(documents: Documents, now: datetime) -> list[Usage]:
    """Return the newest month of each boot that was heard of within a week."""
    months = sorted({month_of(now), month_of(now - SILENT_UNTIL)})
    newest: dict[tuple[str, str], Usage] = {}
    for _, usage, _ in month_documents(months, {}, documents):
        known = newest.get((usage.cloud, usage.label))
        newest[usage.cloud, usage.label] = usage if known is None or usage.uptime_ms >= known.uptime_ms else known
    return [usage for usage in newest.values() if now - usage.last_sampled_at < SILENT_UNTIL]


def _about(usage: Usage) -> tuple[str, str]:
    return usage.label, usage.cloud


def silent_vms(newest: Sequence[Usage], now: datetime) -> Iterator[Finding | Crash]:
    """Find vms that fell silent without a last report, and have not booted again since."""
    last_boots = {(usage.cloud, usage.vm): usage.boot_at for usage in sorted(newest, key=lambda usage: usage.boot_at)}

    def find(usage: Usage) -> Iterator[Finding]:
        if is_silent(usage, now) and usage.boot_at == last_boots[usage.cloud, usage.vm]:
            message = (
                f"{usage.vm} has not reported since {iso(usage.last_sampled_at)}: see whether the cloud still runs it"
            )
            yield Finding("silent_vm", usage.label, usage.cloud, message, usage.vm)

    return each(newest, _about, find)


def clock_offsets(newest: Iterable[Usage], known: Collection[str], now: datetime) -> Iterator[Finding | Crash]:
    """Find vms whose clock is far from the server's, as they measured it,
    or so far ahead that their times do not count.
    """
    subjects = set(known)

    def find(usage: Usage) -> Iterator[Finding]:
        offset = usage.clock_offset_seconds or 0.0
        is_off = abs(offset) > (OFFSET_STAYS_SECONDS if usage.label in subjects else OFFSET_SECONDS)
        if _reports(usage, now) and (usage.clock_ahead or is_off):
            how = f"off by {offset:+.6g} s" if is_off else "ahead of the server's"
            message = f"the clock of {usage.vm} is {how}: start NTP in its image, before certificates and tokens fail"
            yield Finding("clock_offset", usage.label, usage.cloud, message, usage.vm)

    return each(newest, _about, find)


def quarantined_benchmarks(
    newest: Sequence[Usage], documents: Documents, site: Site, now: datetime
) -> Iterator[Finding | Crash]:
    """Find benchmarks that do not count because they are too far from their peers',
    or because no core can be worth so much.
    """
    looked_at = list(each(newest, _about, lambda usage: [usage] if _reports(usage, now) else []))
    yield from (one for one in looked_at if isinstance(one, Crash))
    reporting = [one for one in looked_at if isinstance(one, Usage)]
    benchmarks = documents.get_many("benchmark", [usage.boot_id for usage in reporting], BootBenchmark)
    credit = scores(benchmarks, site)

    def find(pair: tuple[Usage, BootBenchmark | None]) -> Iterator[Finding]:
        usage, benchmark = pair
        if benchmark is not None and credit[usage.boot_id].quarantined:
            counted = credit[usage.boot_id].hs23
            instead = (
                "nothing counts in its place" if counted is None else f"the {counted:.4g} of others like it counts"
            )
            told = f"the benchmark of {usage.vm} says {own_score(benchmark, site).hs23:.4g} HS23 a core"
            message = (
                f"{told}, which is not believed, and {instead}: if it is right, confirm boot {usage.boot_id} in the "
                "site data"
            )
            yield Finding("benchmark_quarantine", usage.label, usage.cloud, message, usage.vm)

    yield from each(zip(reporting, benchmarks, strict=True), lambda pair: _about(pair[0]), find)


def _reports(usage: Usage, now: datetime) -> bool:
    return not usage.final and not is_silent(usage, now)


def is_silent(usage: Usage, now: datetime) -> bool:
    """Say whether the newest that is known of a boot is old: one that lives reports in the next month, too."""
    return not usage.final and usage.last_sampled_at < now - SILENT_AFTER
