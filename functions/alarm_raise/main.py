"""Timer /alarm_raise: what a person must look at:
secrets, vms, jobs, timers, sources, stores, and what cannot be read.
"""

import functions_framework.aio

from skytally.alarms import alarm_round, checks
from skytally.app import wiring
from skytally.http import web
from skytally.operation.timer import Deadline


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def alarm_raise(request: web.Request) -> web.Reply:
    """Do a round of the alarms if one is due: tell of what is new and what is over."""
    now = request.received_at

    def work(deadline: Deadline) -> alarm_round.AlarmCounts:
        documents, site = deadline.guard(wiring.documents()), wiring.site()
        reading = deadline.sooner(alarm_round.TELLS_SECONDS)
        sources = checks.Sources(
            documents=reading.guard_reading(documents),
            objects=reading.guard_reading(wiring.objects()),
            site=site,
            site_fault=wiring.site_fault(),
            notes=wiring.notes(),
        )
        every = checks.all_checks(sources, now)
        return alarm_round.round_of(every, wiring.alarm_notifier(now), documents, site, now, deadline)

    return web.json_reply(wiring.timer_round("alarm_raise", work))
