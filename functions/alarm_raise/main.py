"""Timer /alarm_raise: what a person must look at: secrets, vms, jobs, timers, sources and stores."""

import functions_framework.aio

from skytally import alarm, evidence, job_finding, payload_finding, secret_finding, service_finding, timer, vm_finding, web, wiring
from skytally.alarm import Look

SECRETS_DAYS = 3


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def alarm_raise(request: web.Request) -> web.Reply:
    """Do a round of the alarms if one is due."""
    return web.json_reply(timer.run("alarm_raise", lambda: work(request), wiring.documents(), wiring.config().timer_min_seconds, web.clock))


def work(request: web.Request) -> dict[str, int]:
    """Look at everything that can be wrong, and tell of what is new and what is over."""
    documents, objects, site, now = wiring.documents(), wiring.objects(), wiring.site(), request.received_at
    looks = (
        Look(secret_finding.KINDS, lambda _: secret_finding.findings(evidence.history(objects, now, SECRETS_DAYS), documents, now)),
        Look(vm_finding.KINDS, lambda known: vm_finding.findings(known, documents, site, now)),
        Look(job_finding.KINDS, lambda known: job_finding.findings(known, documents, now)),
        Look(payload_finding.KINDS, lambda _: payload_finding.findings(documents, now)),
        Look(service_finding.STALE_KINDS, lambda _: service_finding.stale_findings(documents, now)),
        Look(service_finding.STORE_KINDS, lambda known: service_finding.full_stores([*documents.rooms(), *objects.rooms()], known)),
    )
    return alarm.round_of(looks, wiring.alarm_teller(now), documents, site, now)
