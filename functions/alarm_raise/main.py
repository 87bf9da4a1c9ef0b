"""Timer /alarm_raise: what a person must look at: secrets, vms, jobs, timers, sources, stores, and what cannot be read."""

from collections.abc import Iterator
from datetime import datetime
from functools import cache

import functions_framework.aio

from skytally import alarm, evidence, job_finding, payload_finding, secret_finding, service_finding, timer, vm_finding, web, wiring
from skytally.alarm import Check, Crash, Finding
from skytally.timer import Deadline

SECRETS_DAYS = 3


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def alarm_raise(request: web.Request) -> web.Reply:
    """Do a round of the alarms if one is due."""

    def work(deadline: Deadline) -> alarm.AlarmCounts:
        return look(deadline, request.received_at)

    return web.json_reply(timer.run("alarm_raise", work, wiring.documents(), wiring.config().timer_min_seconds, web.clock))


def look(deadline: Deadline, now: datetime) -> alarm.AlarmCounts:
    """Look at everything that can be wrong, and tell of what is new and what is over; no check reads anything for another."""
    stored, site = deadline.guard(wiring.documents()), wiring.site()
    looking = deadline.sooner(alarm.TELLS_SECONDS)
    documents, objects = looking.guard_reading(stored), looking.guard_reading(wiring.objects())
    newest = cache(lambda: vm_finding.newest_usages(documents, now))

    def secrets() -> Iterator[Finding | Crash]:
        return secret_finding.findings(evidence.history(objects, now, SECRETS_DAYS, wiring.notes()), documents, now)

    checks = (
        Check("secrets", secret_finding.KINDS, lambda _: secrets()),
        Check("silent vms", vm_finding.SILENT_KINDS, lambda _: vm_finding.silent_vms(newest(), now)),
        Check("clocks", vm_finding.CLOCK_KINDS, lambda known: vm_finding.clock_offsets(newest(), known, now)),
        Check("benchmarks", vm_finding.BENCHMARK_KINDS, lambda _: vm_finding.quarantined_benchmarks(newest(), documents, site, now)),
        Check("ended jobs", job_finding.KINDS, lambda known: job_finding.findings(known, documents, now)),
        Check("running jobs", payload_finding.KINDS, lambda _: payload_finding.findings(documents, now)),
        Check("timers", service_finding.TIMER_KINDS, lambda _: service_finding.stale_timers(documents, now)),
        Check("sources", service_finding.SOURCE_KINDS, lambda _: service_finding.stale_sources(documents, now)),
        Check("disks of documents", service_finding.STORE_KINDS, lambda known: service_finding.full_stores(documents.rooms(), known)),
        Check("disks of objects", service_finding.STORE_KINDS, lambda known: service_finding.full_stores(objects.rooms(), known)),
        Check("what cannot be read", service_finding.UNREADABLE_KINDS, lambda _: service_finding.unreadable_things(documents, now)),
        Check("site data", service_finding.SITE_KINDS, lambda _: service_finding.broken_site_data(wiring.site_fault())),
    )
    return alarm.round_of(checks, wiring.alarm_teller(now), stored, site, now, deadline)
