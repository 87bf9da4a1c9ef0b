"""Timer /alarm_raise: what a person must look at: contested and unreported secrets, silent vms, timers and sources that fail."""

from itertools import chain

import functions_framework.aio

from skytally import alarm, evidence, timer, web, wiring

SECRETS_DAYS = 3


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def alarm_raise(request: web.Request) -> web.Reply:
    """Do a round of the alarms if one is due."""
    return web.json_reply(timer.run("alarm_raise", lambda: work(request), wiring.documents(), wiring.config().timer_min_seconds, web.clock))


def work(request: web.Request) -> dict[str, int]:
    """Look at everything that can be wrong, and tell of what is new and what is over."""
    documents, now = wiring.documents(), request.received_at
    held = evidence.history(wiring.objects(), now, SECRETS_DAYS)
    found = chain(
        alarm.contested_secrets(held),
        alarm.unreported_secrets(held, documents, now),
        alarm.silent_vms(documents, now),
        alarm.stale_timers(documents, now),
        alarm.stale_sources(documents, now),
    )
    return alarm.round_of(found, wiring.alarm_teller(), documents, wiring.site(), now)
