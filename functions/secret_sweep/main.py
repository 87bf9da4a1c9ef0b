"""Timer /secret_sweep: expired deposits get their terminal mark, and their payload goes."""

from datetime import timedelta

import functions_framework.aio

from skytally import ending, timer, web, wiring

ROUND = timedelta(seconds=20)


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def secret_sweep(request: web.Request) -> web.Reply:
    """Do a round of the sweep if one is due; what takes longer than a round is left to the next."""

    def work() -> dict[str, int]:
        objects, notes, until = wiring.objects(), wiring.notes(), request.received_at + ROUND
        ended, gone = ending.sweep(objects, web.clock, until, notes), ending.forget(objects, web.clock, until, notes)
        return {"expired": ended, "forgotten": gone}

    return web.json_reply(timer.run("secret_sweep", work, wiring.documents(), wiring.config().timer_min_seconds, web.clock))
