"""The checks of a round of alarms, of every subject. No check reads anything for another."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache

from msgspec import Struct

from skytally.alarms import job_checks, payload_checks, secret_checks, service_checks, vm_checks
from skytally.alarms.alarm_round import Check, Crash, Finding
from skytally.core.ports import Documents, Objects
from skytally.core.site_data import Site, SiteFault
from skytally.core.unreadable import Notes
from skytally.secrets import audit

SECRETS_DAYS = 3


class Sources(Struct, frozen=True, kw_only=True):
    """What checks read."""

    documents: Documents
    objects: Objects
    site: Site
    site_fault: SiteFault | None
    notes: Notes


def all_checks(sources: Sources, now: datetime) -> tuple[Check, ...]:
    """Return a check for each thing that can be wrong."""
    documents, objects = sources.documents, sources.objects
    newest = cache(lambda: vm_checks.newest_usages(documents, now))

    def secrets() -> Iterator[Finding | Crash]:
        return secret_checks.findings(audit.history(objects, now, SECRETS_DAYS, sources.notes), documents, now)

    return (
        Check("secrets", secret_checks.KINDS, lambda _: secrets()),
        Check("silent vms", vm_checks.SILENT_KINDS, lambda _: vm_checks.silent_vms(newest(), now)),
        Check("clocks", vm_checks.CLOCK_KINDS, lambda known: vm_checks.clock_offsets(newest(), known, now)),
        Check(
            "benchmarks",
            vm_checks.BENCHMARK_KINDS,
            lambda _: vm_checks.quarantined_benchmarks(newest(), documents, sources.site, now),
        ),
        Check("ended jobs", job_checks.KINDS, lambda known: job_checks.findings(known, documents, now)),
        Check("running jobs", payload_checks.KINDS, lambda _: payload_checks.findings(documents, now)),
        Check("timers", service_checks.TIMER_KINDS, lambda _: service_checks.stale_timers(documents, now)),
        Check("sources", service_checks.SOURCE_KINDS, lambda _: service_checks.stale_sources(documents, now)),
        Check(
            "disks of documents",
            service_checks.STORE_KINDS,
            lambda known: service_checks.full_stores(documents.rooms(), known),
        ),
        Check(
            "disks of objects",
            service_checks.STORE_KINDS,
            lambda known: service_checks.full_stores(objects.rooms(), known),
        ),
        Check(
            "what cannot be read",
            service_checks.UNREADABLE_KINDS,
            lambda _: service_checks.unreadable_things(documents, now),
        ),
        Check("site data", service_checks.SITE_KINDS, lambda _: service_checks.broken_site_data(sources.site_fault)),
    )
