"""Timer /panda_collect: what changed in PanDA since the last round, joined to clouds."""

from datetime import timedelta

import functions_framework.aio

from skytally import timer, web, wiring
from skytally.panda_collection import Collection

ROUND = timedelta(seconds=40)


@functions_framework.aio.http
@web.endpoint(methods=("POST",), max_bytes=64 * web.KIB)
def panda_collect(request: web.Request) -> web.Reply:
    """Do a round if one is due; what takes longer than a round is left to the next, and without a monitor it is off."""
    source = wiring.panda()
    if source is None:
        return web.json_reply({"state": "off"})
    round_of = Collection(source, wiring.panda_queues(), wiring.documents(), web.clock, request.received_at + ROUND)
    return web.json_reply(timer.run("panda_collect", round_of.run, wiring.documents(), wiring.config().timer_min_seconds, web.clock))
