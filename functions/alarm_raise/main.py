"""Timer /alarm_raise: what a person must look at:
secrets, vms, jobs, timers, sources, stores, and what cannot be read.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache

import functions_framework.aio

from skytally.alarms import alarm_round, job_checks, payload_checks, secret_checks, service_checks, vm_checks
from skytally.alarms.alarm_round import Check, Crash, Finding
from skytally.app import wiring
from skytally.core import clock
from skytally.http import web
from skytally.operation import timer
from skytally.operation.timer import Deadline
from skytally.secrets import audit

SECRETS_DAYS = 3


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def alarm_raise(request: web.Request) -> web.Reply:
    """Do a round of the alarms if one is due."""

    def work(deadline: Deadline) -> alarm_round.AlarmCounts:
        return look(deadline, request.received_at)

    return web.json_reply(
        timer.run("alarm_raise", work, wiring.documents(), wiring.config().timer_min_seconds, clock.now)
    )


def look(deadline: Deadline, now: datetime) -> alarm_round.AlarmCounts:
    """Look at everything that can be wrong, and tell of what is new and what is over;
    no check reads anything for another.
    """
    stored, site = deadline.guard(wiring.documents()), wiring.site()
    looking = deadline.sooner(alarm_round.TELLS_SECONDS)
    documents, objects = looking.guard_reading(stored), looking.guard_reading(wiring.objects())
    newest = cache(lambda: vm_checks.newest_usages(documents, now))

    def secrets() -> Iterator[Finding | Crash]:
        return secret_checks.findings(audit.history(objects, now, SECRETS_DAYS, wiring.notes()), documents, now)

    checks = (
        Check("secrets", secret_checks.KINDS, lambda _: secrets()),
        Check("silent vms", vm_checks.SILENT_KINDS, lambda _: vm_checks.silent_vms(newest(), now)),
        Check("clocks", vm_checks.CLOCK_KINDS, lambda known: vm_checks.clock_offsets(newest(), known, now)),
        Check(
            "benchmarks",
            vm_checks.BENCHMARK_KINDS,
            lambda _: vm_checks.quarantined_benchmarks(newest(), documents, site, now),
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
        Check("site data", service_checks.SITE_KINDS, lambda _: service_checks.broken_site_data(wiring.site_fault())),
    )
    return alarm_round.round_of(checks, wiring.alarm_notifier(now), stored, site, now, deadline)
