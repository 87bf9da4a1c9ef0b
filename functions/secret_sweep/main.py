"""Timer /secret_sweep: expired deposits get their terminal mark, and their payload goes."""

import functions_framework.aio

from skytally.app import wiring
from skytally.http import web
from skytally.operation.timer import Deadline
from skytally.secrets import revocations


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def secret_sweep(_: web.Request) -> web.Reply:
    """Do a round of the sweep if one is due; what takes longer than a round is left to the next."""

    def work(deadline: Deadline) -> revocations.SweepCounts:
        objects, notes = deadline.guard(wiring.objects()), wiring.notes()
        return {
            "expired": revocations.sweep(objects, deadline, notes),
            "forgotten": revocations.forget(objects, deadline, notes),
        }

    return web.json_reply(wiring.timer_round("secret_sweep", work))
