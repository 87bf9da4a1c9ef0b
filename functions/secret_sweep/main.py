"""Timer /secret_sweep: expired deposits get their terminal mark, and their payload goes."""

import functions_framework.aio

from skytally import secret, timer, web, wiring

DEPOSITS_A_ROUND = 1_000
RECORDS_A_ROUND = 5_000


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def secret_sweep(request: web.Request) -> web.Reply:
    """Do a round of the sweep if one is due."""

    def work() -> dict[str, int]:
        objects, now = wiring.objects(), request.received_at
        return {"expired": secret.sweep(objects, now, DEPOSITS_A_ROUND), "forgotten": secret.forget(objects, now, RECORDS_A_ROUND)}

    return web.json_reply(timer.run("secret_sweep", work, wiring.documents(), wiring.config().timer_min_seconds, web.clock))
